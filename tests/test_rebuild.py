"""Projections made again from events equal the live ones, row for row."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.store import Erasure
from storage import projector, rebuilding
from storage.projections import repeated
from storage.sqlite import SQLiteStore
from tests.factories import START, Factory
from tests.store_rows import projections, rows
from tests.stories import story


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), shuffled=st.booleans(), batch=st.integers(1, 60))
def test_a_rebuild_equals_the_live_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shuffled: bool, batch: int
) -> None:
    store = SQLiteStore(tmp_path_factory.mktemp("rebuild") / "calls.db")
    records = story(seed)
    if shuffled:
        random.Random(seed).shuffle(records)
    for start in range(0, len(records), batch):
        store.append(records[max(start - 3, 0) : start + batch])
    live = projections(store.path)
    assert len(live["hub_calls"]) >= 20
    assert store.rebuild() == len(records)
    assert projections(store.path) == live
    store.close()


def test_who_counts_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    records = story(3)
    found = []
    for number in range(4):
        store = SQLiteStore(tmp_path / f"{number}.db")
        if number:
            random.Random(number).shuffle(records)
        for start in range(0, len(records), 7):
            store.append(records[start : start + 7])
        found.append(rows(store.path, "SELECT call_id, counted FROM llm_calls ORDER BY 1"))
        store.close()
    assert found[0] == found[1] == found[2] == found[3]
    assert {row["counted"] for row in found[0]} == {0, 1}


def test_who_counts_does_not_depend_on_batches_when_all_answers_have_one_id(tmp_path: Path) -> None:
    chance = random.Random(5)
    factory, records = Factory(), []
    for _ in range(60):
        factory.now = START + chance.randrange(400) * 10**7
        told = {"response_id": "chatcmpl-1", "duration_ms": 1.0}
        source = chance.choice(("traced", "transport", "emitted"))
        records += factory.call(took_ms=chance.choice((10, 100, 900)), request={"source": source}, response=told)
    stores = []
    for number in range(4):
        store = SQLiteStore(tmp_path / f"{number}.db")
        stores.append(store)
        if number > 1:
            chance.shuffle(records)
        size = (len(records), 4, 7, 30)[number]
        for start in range(0, len(records), size):
            store.append(records[start : start + size])
    found = [rows(store.path, "SELECT call_id, counted FROM llm_calls ORDER BY 1") for store in stores]
    assert found[0] == found[1] == found[2] == found[3]
    assert {row["counted"] for row in found[0]} == {0, 1}
    for store in stores:
        live = projections(store.path)
        store.rebuild()
        assert projections(store.path) == live
        store.close()


def test_calls_whose_answers_all_have_one_id_are_not_compared_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []

    def counted(calls: Collection[Mapping[str, Any]]) -> set[str]:
        compared.append(len(calls))
        return repeated(calls)

    monkeypatch.setattr(projector, "repeated", counted)
    factory, store = Factory(), SQLiteStore(tmp_path / "calls.db")
    for _ in range(12):
        store.append(factory.calls(10, response={"response_id": "chatcmpl-1"}))
    assert max(compared) <= 11
    compared.clear()
    store.append(factory.calls(10, response={"response_id": ""}))
    assert compared == [], "an empty id names nothing"
    store.close()


@pytest.mark.parametrize("what", [{"session_id": "s1"}, {"user_id": "u1"}])
def test_a_rebuild_after_an_erasure_equals_the_live_rows(tmp_path: Path, what: dict[str, str]) -> None:
    store = SQLiteStore(tmp_path / "calls.db")
    records = story(5)
    store.append(records[:-30])
    report = store.erase(Erasure(project="shop", before_ns=START * 2, **what))  # type: ignore[arg-type]
    assert report.calls
    store.append(records)
    live = projections(store.path)
    store.rebuild()
    assert projections(store.path) == live
    store.close()


def test_progress_reaches_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 10)
    store = SQLiteStore(tmp_path / "calls.db")
    store.append(Factory().calls(10))
    told: list[tuple[int, int]] = []
    store.rebuild(lambda done, total: told.append((done, total)))
    assert told[0] == (10, 40)
    assert told[-1] == (40, 40)
    store.close()


def test_an_empty_store_is_rebuilt(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "calls.db")
    assert store.rebuild() == 0
    store.close()


def test_events_written_during_a_rebuild_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 10)
    store, factory = SQLiteStore(tmp_path / "calls.db"), Factory()
    store.append(factory.calls(8))

    def write_more(done: int, total: int) -> None:
        if total <= 40:
            store.append(factory.calls(3))

    store.rebuild(write_more)
    live = projections(store.path)
    assert len(live["hub_calls"]) >= 11
    store.rebuild()
    assert projections(store.path) == live
    store.close()


def test_what_is_erased_during_a_rebuild_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 4)
    store, factory = SQLiteStore(tmp_path / "calls.db"), Factory()
    store.append([one for _ in range(4) for one in factory.call([{"role": "user", "content": "secret"}], user_id="u1")])
    erased: list[int] = []

    def erase(done: int, total: int) -> None:
        if not erased:
            erased.append(store.erase(Erasure(project="shop", before_ns=START * 2, user_id="u1")).calls)

    store.rebuild(erase)
    assert erased == [4]
    found = rows(store.path, "SELECT user_id, request_summary FROM llm_calls")
    assert found == [{"user_id": None, "request_summary": None}] * 4
    store.close()


def test_a_rebuild_that_is_stopped_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 4)
    store = SQLiteStore(tmp_path / "calls.db")
    store.append(story(1))
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("UPDATE hub_calls SET provider = 'changed by hand'")
        connection.commit()
    before = projections(store.path)
    last = store.read_all().next

    class Stop(Exception):
        pass

    def stop_at(limit: int) -> None:
        seen = 0

        def progress(done: int, total: int) -> None:
            nonlocal seen
            seen += 1
            if seen == limit:
                raise Stop

        with pytest.raises(Stop):
            store.rebuild(progress)

    for limit in (1, 5):
        stop_at(limit)
        assert projections(store.path) == before
    assert store.read_all().next == last
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not any("rebuil" in name for name in names)
    store.rebuild()
    assert rows(store.path, "SELECT count(*) AS n FROM llm_calls WHERE provider = 'changed by hand'") == [{"n": 0}]
    store.close()


def test_the_views_of_contributed_events_are_made_again(tmp_path: Path) -> None:
    store, factory = SQLiteStore(tmp_path / "calls.db"), Factory()
    schema = {"type": "acme:limit", "schema_version": 1, "fields": {"retry_after_ms": "real"}}
    stream = factory.new_id()
    store.append([factory.event("hub:schema", stream=stream, version=1, call_id=None, data=schema)])
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DROP VIEW llm_event_acme_limit")
    store.rebuild()
    assert rows(store.path, "SELECT retry_after_ms FROM llm_event_acme_limit") == []
    store.close()


def test_appends_of_another_thread_go_on_during_a_rebuild(tmp_path: Path) -> None:
    store, factory = SQLiteStore(tmp_path / "calls.db"), Factory()
    store.append(factory.calls(100))
    batches = [factory.calls(5) for _ in range(20)]
    thread = threading.Thread(target=lambda: [store.append(batch) for batch in batches])
    thread.start()
    store.rebuild()
    thread.join()
    live = projections(store.path)
    assert len(live["hub_calls"]) == 200
    store.rebuild()
    assert projections(store.path) == live
    store.close()
