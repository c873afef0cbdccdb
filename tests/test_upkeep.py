"""Long work beside writers: short steps, and turns for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import sweeping, upkeep
from storage.append import read_counters
from storage.sqlite import SQLiteStore
from tests.contracts.retention import unreferenced, user
from tests.factories import Factory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "calls.db")
    yield store
    store.close()


def test_a_step_takes_as_much_as_fits_into_its_time(store: SQLiteStore) -> None:
    with store._upkeep(None) as work:
        work.phase("Trying")
        first = work.size
        with work.step():
            pass
        assert work.size == 2 * first
        for _ in range(20):
            with work.step():
                pass
        most = work.size
        with work.step():
            time.sleep(upkeep.STEP * 1.2)
        assert work.size == most // 2
        for _ in range(20):
            with work.step():
                time.sleep(upkeep.STEP * 1.2)
        assert work.size == 1
        work.phase("Something else")
        assert work.size == first


def test_a_step_that_fails_changes_nothing(store: SQLiteStore) -> None:
    store.append(Factory().call())
    with store._upkeep(None) as work:
        before = read_counters(work.connection)
        with pytest.raises(ZeroDivisionError):
            fail_in(work)
        assert read_counters(work.connection) == before
    assert len(store.read_all().events) == 4


def fail_in(work: upkeep.Upkeep) -> None:
    with work.step():
        work.count(upkeep.REMOVALS)
        work.tell("hub:redacted", "shop", {})
        raise ZeroDivisionError


def test_others_write_between_steps(store: SQLiteStore) -> None:
    factory, other = Factory(), SQLiteStore(store.path)
    store.append(factory.call())
    waited: list[float] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            began = time.monotonic()
            other.append(factory.call())
            waited.append(time.monotonic() - began)

    thread = threading.Thread(target=write)
    thread.start()
    with store._upkeep(None) as work:
        for _ in range(20):
            with work.step():
                time.sleep(upkeep.STEP)
    done.set()
    thread.join()
    assert len(waited) >= 15, "at least one between two steps, but for bad luck"
    other.close()


def test_large_contents_are_deleted_a_few_at_a_time(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_MOST_BYTES", 50_000)
    factory, told = Factory(), list[tuple[str, int, int]]()
    for number in range(12):
        store.append(factory.call([{"role": "user", "content": f"{number}" + "x" * 20_000}], "yes", user_id="u1"))
    report = store.erase(user(), progress=lambda *now: told.append(now))
    assert report.contents == 13
    assert len([one for one in told if one[0] == "Deleting what nothing refers to"]) >= 6
    assert unreferenced(store) == set()
