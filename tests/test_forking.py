from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from hub import forking
from hub.errors import StoreUnavailable
from hub.spool.folder import let_go, make_folder, take_lock
from storage.sqlite import SQLiteStore
from storage.sqlite_file import write_lock
from tests.spools import new_id


def in_child(work: str, **names: object) -> int:
    """The exit code of a forked child that evaluates *work*: 0 if that is true."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if eval(work, dict(names)) else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_waits_until_our_threads_are_at_a_good_place() -> None:
    inside, left = threading.Event(), threading.Event()

    def work() -> None:
        with forking.undivided():
            inside.set()
            time.sleep(0.05)
            left.set()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    assert in_child("left.is_set()", left=left) == 0
    thread.join()


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "LONGEST_WAIT", 0.05)
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with forking.undivided():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    began = time.monotonic()
    assert in_child("True") == 0
    assert time.monotonic() - began < 5
    leave.set()
    thread.join()
    with forking.undivided():
        pass


def test_a_child_inherits_no_connection_and_the_parent_opens_its_own_again(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "calls.db")
    assert store.checkpoint("none") is None
    folder = Path("/proc/self/fd")
    opened = "[name for fd in folder.iterdir() if (name := os.path.realpath(fd)).startswith(str(tmp_path))]"
    names = {"folder": folder, "os": os, "tmp_path": tmp_path}
    assert eval(opened, names)
    assert in_child(f"not {opened}", **names) == 0
    assert store.checkpoint("none") is None
    store.close()
    with closing(sqlite3.connect(tmp_path / "calls.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@contextmanager
def child() -> Iterator[None]:
    """A forked child that lives as long as the block, or as we do."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(pid, 0)


def test_a_child_does_not_keep_the_lock_of_a_spool_beyond_its_holders_end(tmp_path: Path) -> None:
    folder, held = make_folder(tmp_path, new_id(), lambda _: None)
    with child():
        assert take_lock(folder) is None
        let_go(held)
        taken = take_lock(folder)
        assert taken is not None
        let_go(taken)
        let_go(taken)  # harmless


def test_a_child_forked_while_the_store_was_written_does_not_keep_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with ExitStack() as ends:
        with write_lock(path):
            ends.enter_context(child())
            assert not can_be_written(path)
        assert can_be_written(path)


def can_be_written(path: Path) -> bool:
    try:
        with write_lock(path, wait=0):
            return True
    except StoreUnavailable:
        return False
