"""Troubles of backends, for the tests: each lasts for a `with` block. And a program that lives through one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hub import traced
from hub.runtime import Hub
from storage.sqlite import SQLiteStore
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_file import LOCK_SUFFIX

Trouble = Callable[[Path], Any]
"""Makes a context manager that gives the database at a path some trouble."""

WORDS = "the quick brown fox jumps over the lazy dog " * 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program's transaction holds the database."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def lock_held(database: Path) -> Iterator[None]:
    """Another process of ours never ends its write."""
    descriptor = os.open(f"{database}{LOCK_SUFFIX}", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def a_folder_there(database: Path) -> Iterator[None]:
    """Somebody put a folder where the database was, and puts that back."""
    away = database.with_suffix(".away")
    database.rename(away)
    database.mkdir()
    try:
        yield
    finally:
        database.rmdir()
        away.rename(database)


@contextmanager
def not_permitted(database: Path) -> Iterator[None]:
    """The database and its folder may be read only. Root first has to `obey_modes`."""
    files = [path for path in database.parent.iterdir() if path.name.startswith(database.name)]
    for path in files:
        path.chmod(0o400)
    database.parent.chmod(0o500)
    try:
        yield
    finally:
        database.parent.chmod(0o700)
        for path in files:
            path.chmod(0o600)


def obey_modes() -> None:
    """Give up root's right to pass over file modes, in this thread and those it starts. Others never had it."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    version_3 = 0x20080522
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of the higher bits
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    keep = ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
    sets[0] &= keep
    sets[1] &= keep
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def no_room(database: Path) -> Iterator[None]:
    """No file of this process may become longer than the database's log is, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = max(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class BoundedStore(SQLiteStore):
    """Its database may have so many pages and no more, once there is a bound."""

    pages = 2**32 - 2

    def _ready(self) -> SQLiteConnection:
        connection = super()._ready()
        connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection


def answer(prompt: str) -> str:
    return prompt[:200]


class Caller:
    """Calls a traced function and takes the time it adds. No two prompts are equal."""

    def __init__(self, hub: Hub, words: int = len(WORDS)) -> None:
        self.hub = hub
        self.calls = 0
        self.worst = 0.0
        """Seconds, of all calls."""
        self._traced = traced(answer, provider="acme", model="acme-1", hub=hub)
        self._words = WORDS[:words]

    def burst(self, count: int, pause: float = 0.001) -> list[float]:
        """Seconds that tracing added to each of *count* calls, with a pause after each."""
        taken = []
        for _ in range(count):
            self.calls += 1
            prompt = f"{self.calls} {self._words}"
            started = time.perf_counter()
            answer(prompt)
            between = time.perf_counter()
            self._traced(prompt)
            ended = time.perf_counter()
            taken.append(ended - between - (between - started))
            time.sleep(pause)
        self.worst = max(self.worst, *taken)
        return taken

    def p99(self, rounds: int = 3, calls: int = 100, *, enough: float = 0.0) -> float:
        """Seconds; of several rounds the best, so that a machine busy with other things does not count. Rounds end
        where one is good *enough*."""
        best = 1e9
        for _ in range(rounds):
            best = min(best, sorted(self.burst(calls))[calls * 99 // 100 - 1])
            if best <= enough:
                break
        return best


def complete(database: Path) -> int:
    """How many calls the database has, each of them whole: four events in a row.

    Raises: AssertionError
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        calls = connection.execute(
            "SELECT count(*), max(version), min(version) FROM llm_events WHERE type LIKE 'llm:%' GROUP BY stream_id"
        ).fetchall()
        (whole,) = connection.execute("SELECT count(*) FROM llm_calls WHERE status = 'ok'").fetchone()
    assert set(calls) <= {(4, 4, 1)}, set(calls)
    assert whole == len(calls)
    return len(calls)
