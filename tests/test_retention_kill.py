"""Erasing and pruning by a process that is killed again and again, while another writes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import open_store
from storage.sql_store import SqlStore
from tests.contracts.retention import DAY, dangling, everything, hourly, select, unreferenced
from tests.factories import START, Factory

REPOSITORY = Path(__file__).parents[1]
_WORKS = """
import sys
from hub.store import Erasure
from storage import open_store
url, bodies, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(url)
print("begun", flush=True)
store.prune(bodies_before_ns=bodies, calls_before_ns=calls)
store.erase(Erasure(project="shop", before_ns=2**62, user_id="u1"))
print("done", flush=True)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    return str(request.getfixturevalue("own_migrated_url"))


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = open_store(url)
    yield store
    store.close()


def test_killed_again_and_again_it_gets_done_and_nothing_is_counted_wrong(url: str, store: SqlStore) -> None:
    factory, chance = Factory(), random.Random(4)
    for number in range(10):
        store.append(factory.calls(60, user_id=f"u{number % 3}"))
    calls, bodies = START + 200 * 250 * 10**6, START + 400 * 250 * 10**6
    before = hours_of(store)
    with writing(url) as written:
        kills = 0
        while not lived(url, bodies, calls, chance.uniform(0.0, 0.2 + 0.5 * kills)):
            kills += 1
            assert (dangling(store), hours_of(store)) == (set(), before)
    assert kills >= 2
    assert (unreferenced(store), dangling(store), hours_of(store)) == (set(), set(), before)
    old = f"call_id < '{Factory(start=START + DAY).new_id()[:13]}'"
    assert len(select(store, f"SELECT 1 FROM llm_calls WHERE {old}")) == 400
    assert len(select(store, f"SELECT 1 FROM hub_events WHERE {old}")) == 1_600
    assert select(store, "SELECT 1 FROM hub_events WHERE user_id = 'u1'") == []
    whole = select(store, f"SELECT 1 FROM hub_events WHERE {old} AND content IS NOT NULL AND user_id IS NOT NULL")
    assert len(whole) == 2 * len(select(store, f"SELECT 1 FROM llm_calls WHERE {old} AND request_summary IS NOT NULL"))
    assert len(written) == len(select(store, f"SELECT 1 FROM llm_calls WHERE NOT {old}"))
    live = everything(store)
    store.rebuild()
    assert everything(store) == live


def hours_of(store: SqlStore) -> list[tuple[object, ...]]:
    """The hours of what was there at first."""
    return [row for row in hourly(store)[0] if "w" not in str(row[2])]


def lived(url: str, bodies: int, calls: int, seconds: float) -> bool:
    """Whether the work was done before it was killed, so many seconds after it began."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKS, url, str(bodies), str(calls)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    return "done" in process.communicate()[0]


class writing:
    """Another process's calls, one after the other."""

    def __init__(self, url: str) -> None:
        self._store, self._done = open_store(url), threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.calls: list[str] = []

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self.calls

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()
        self._store.close()

    def _write(self) -> None:
        factory = Factory("p2", start=START + 2 * DAY)
        while not self._done.wait(0.01):
            call = factory.call(service="w")
            self._store.append(call)
            self.calls.append(call[0]["stream_id"])
