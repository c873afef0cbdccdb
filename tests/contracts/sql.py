"""What stores in SQL promise beside the log: views, projections and what stands in their tables."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hub.delivery import Splitter, is_outage
from hub.errors import SchemaMismatch
from hub.price_list import PriceList, Prices
from hub.store import Erasure
from storage import event_views
from storage.migrate import REVISION, VERSION_TABLE
from storage.sql_store import SqlStore
from tests.contracts.case import LATER, Follower, StoreCase, whole_log
from tests.factories import SECOND, Factory
from tests.store_rows import connected, projections, rows
from tests.stories import story


class Listed(PriceList):
    """A price list that tests can change."""

    source = "ours"

    def __init__(self, version: str, rate: str | None) -> None:
        self.version = version
        self.rate = rate

    def load(self) -> None:
        return

    def card(self, provider: str | None, model: str) -> list[dict[str, object]] | None:
        return None if self.rate is None else [{"rates": {"input": self.rate, "output": self.rate}}]


class Steps:
    """Counts the steps of a store's work, and does something at one of them."""

    def __init__(self) -> None:
        self.done = 0
        self.at: int | None = None
        self.act: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.at:
            self.act()

    def begin_again(self, at: int | None = None) -> None:
        self.done, self.at = 0, at


class Cut(Exception):
    """What fails in the midst of an append."""


def cut() -> None:
    raise Cut


def ns(year: int) -> int:
    return int(datetime(year, 6, 15, tzinfo=UTC).timestamp()) * SECOND


class SqlContract(StoreCase):
    def open_store(self, folder: Path, **options: Any) -> SqlStore:
        """*options*: see `SqlStore`."""
        raise NotImplementedError

    # Projections.

    def test_what_is_appended_is_in_the_views_at_once(self, store: SqlStore, factory: Factory) -> None:
        messages = [{"role": "user", "content": "hello"}]
        store.append(factory.call(messages, "goodbye", session_id="s1"))
        store.append(factory.call(messages)[:2])
        calls = rows(store, "SELECT status, session_id, cost_nanos FROM llm_calls ORDER BY started_at")
        assert calls == [
            {"status": "ok", "session_id": "s1", "cost_nanos": 337_500},
            {"status": "running", "session_id": None, "cost_nanos": None},
        ]
        told = rows(store, "SELECT content FROM llm_messages ORDER BY call_id, direction, position")
        assert [one["content"] for one in told] == ["hello", "goodbye", "hello"]

    def test_the_checkpoint_of_the_projections_is_the_end_of_the_log(self, store: SqlStore, factory: Factory) -> None:
        assert store.checkpoint("calls") is None
        for _ in range(3):
            store.append(factory.calls(2))
            assert store.checkpoint("calls") == store.read_all().next
        store.rebuild()
        assert store.checkpoint("calls") == store.read_all().next

    def test_an_append_that_fails_at_any_step_moves_neither_log_nor_projections_nor_checkpoint(
        self, tmp_path: Path
    ) -> None:
        steps, records = Steps(), story(3, 2)
        store = self.open_store(tmp_path, rest=steps)
        store.append(records[:8])
        before = whole_log(store), store.checkpoint("calls"), projections(store)
        steps.act = cut
        cuts = 0
        while True:
            cuts += 1
            steps.begin_again(cuts)
            try:
                assert store.append(records).new == len(records) - 8
            except Cut:
                assert (whole_log(store), store.checkpoint("calls")) == before[:2]
                if cuts % 10 == 0:
                    assert projections(store) == before[2]
            else:
                break
        assert cuts > 20
        steps.begin_again()
        live = projections(store)
        store.rebuild()
        assert projections(store) == live
        store.close()

    @pytest.mark.parametrize("seed", range(2))
    def test_a_rebuild_equals_the_live_rows(self, store: SqlStore, seed: int) -> None:
        records = story(seed)
        for start in range(0, len(records), 17):
            store.append(records[max(start - 3, 0) : start + 17])
        live = projections(store)
        assert len(live["hub_calls"]) >= 20
        assert store.rebuild() == len(records)
        assert projections(store) == live

    def test_a_rebuild_after_an_erasure_equals_the_live_rows(self, store: SqlStore) -> None:
        records = story(5)
        store.append(records[:-30])
        for what in ({"session_id": "s1"}, {"user_id": "u1"}):
            assert store.erase(Erasure(project="shop", before_ns=LATER, **what)).calls  # type: ignore[arg-type]
        store.append(records)
        live = projections(store)
        store.rebuild()
        assert projections(store) == live

    def test_an_erasure_leaves_counts_and_costs(self, store: SqlStore) -> None:
        store.append(story(5))
        counted = "SELECT status, count(*) AS n, sum(cost_nanos) AS cost FROM llm_calls GROUP BY 1 ORDER BY 1"
        hourly = "SELECT * FROM llm_costs_hourly ORDER BY hour, project, service, provider, model"
        before = rows(store, counted), rows(store, hourly)
        assert store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1")).calls
        assert (rows(store, counted), rows(store, hourly)) == before

    def test_what_another_project_noted_of_a_call_is_erased_without_harm_to_the_call(
        self, store: SqlStore, factory: Factory
    ) -> None:
        tool = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        call = factory.call([{"role": "user", "content": "hello"}, asks, result], asks)
        elsewhere = Factory("elsewhere", project="other")
        note = elsewhere.event("acme:note", stream=elsewhere.new_id(), version=1, call_id=call[0]["call_id"])
        store.append(call)
        before = projections(store)
        store.append([note])
        store.erase(Erasure(project="other", before_ns=LATER, call_id=UUID(call[0]["stream_id"])))
        after = projections(store)
        for table in ("hub_calls", "hub_tool_calls", "hub_tool_results", "llm_messages"):
            assert after[table] == before[table]

    def test_a_rebuild_while_others_append_has_all_of_it(self, tmp_path: Path, factory: Factory) -> None:
        store, other = self.open_store(tmp_path), self.open_store(tmp_path)
        store.append(factory.calls(200))
        batches = [factory.calls(5) for _ in range(10)]
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(lambda: [other.append(batch) for batch in batches])
            store.rebuild()
            writing.result()
        live = projections(store)
        assert len(live["hub_calls"]) == 250
        store.rebuild()
        assert projections(store) == live
        store.close()
        other.close()

    @pytest.mark.parametrize("before", ["1", None])
    def test_a_changed_price_list_is_for_new_calls_and_a_rebuild_keeps_what_was_used(
        self, tmp_path: Path, factory: Factory, before: str | None
    ) -> None:
        for prices in (Listed("1", before), Listed("2", "3"), Listed("3", "3")):
            store = self.open_store(tmp_path, prices=Prices(listed=prices), wall=lambda: factory.now - 1)
            factory.now += SECOND
            store.append(factory.call())
            live = projections(store)
            store.rebuild()
            assert projections(store) == live
            costs = rows(store, "SELECT cost_nanos, price_version FROM llm_calls ORDER BY started_at")
            store.close()
        old = None if before is None else 750
        assert [row["cost_nanos"] for row in costs] == [old, 2250, 2250]
        assert costs[2]["price_version"] == "2", "the same rates in a newer list are no new price"

    # Who writes meanwhile.

    def test_a_reader_misses_nothing_of_a_writer_that_stands_still_before_its_commit(self, tmp_path: Path) -> None:
        steps, paused, go_on = Steps(), threading.Event(), threading.Event()
        late, other, reading = self.open_store(tmp_path, rest=steps), *(self.open_store(tmp_path) for _ in range(2))
        reader, ours, theirs = Follower(reading), Factory("late"), Factory("other")

        def pause() -> None:
            paused.set()
            assert go_on.wait(30)

        written = ours.calls(3)
        late.append(written)
        steps.begin_again()
        late.append(more := ours.calls(3))
        reader.read()
        steps.act = pause
        steps.begin_again(at=steps.done)
        with ThreadPoolExecutor(2) as pool:
            slow = ours.calls(3)
            first = pool.submit(late.append, slow)
            assert paused.wait(30)
            second = pool.submit(other.append, quick := theirs.calls(3))
            for _ in range(5):
                assert reader.read() == 0, "what is not committed is not there"
            go_on.set()
            while not (first.done() and second.done()):
                reader.read()
            assert (first.result().new, second.result().new) == (12, 12)
        reader.read()
        assert reader.seen == [*written, *more, *slow, *quick] == whole_log(reading)
        for store in (late, other, reading):
            store.close()

    # What is in the tables.

    def test_projects_do_not_share_content(self, store: SqlStore) -> None:
        messages = [{"role": "user", "content": "equal"}]
        for project in ("a", "b"):
            store.append(Factory(project, project=project).call(messages) * 2)
        found = rows(store, "SELECT hash, project FROM hub_contents WHERE body LIKE '%equal%' ORDER BY project")
        assert [row["project"] for row in found] == ["a", "b"]
        assert found[0]["hash"] != found[1]["hash"]
        keys = rows(store, "SELECT project, key FROM hub_keys ORDER BY 1")
        assert [key["project"] for key in keys] == ["a", "b"]
        assert keys[0]["key"] != keys[1]["key"]

    def test_equal_content_is_stored_once_whoever_writes_it(self, tmp_path: Path) -> None:
        for producer in ("a", "b"):
            store = self.open_store(tmp_path)
            store.append(Factory(producer).call([{"role": "system", "content": "be brief"}]))
            store.append(Factory(f"{producer}2").call([{"role": "system", "content": "be brief"}]))
            store.close()
        assert rows(store, "SELECT count(*) AS n FROM hub_contents WHERE body LIKE '%be brief%'") == [{"n": 1}]

    def test_a_tombstone_does_not_tell_what_was_erased(self, store: SqlStore, factory: Factory) -> None:
        store.append(call := factory.call(user_id="the user", session_id="the session"))
        erasures: list[dict[str, Any]] = [
            {"user_id": "the user"}, {"session_id": "the session"}, {"call_id": UUID(call[0]["stream_id"])}
        ]  # fmt: skip
        for what in erasures * 2:
            store.erase(Erasure(project="shop", before_ns=LATER, **what))
        kept = rows(store, "SELECT project, kind, hash FROM hub_tombstones ORDER BY kind")
        assert [(one["project"], one["kind"]) for one in kept] == [
            ("shop", "call"),
            ("shop", "session"),
            ("shop", "user"),
        ]
        assert {len(one["hash"]) for one in kept} == {16}

    def test_large_wire_bodies_are_packed_and_messages_are_not(self, store: SqlStore, factory: Factory) -> None:
        store.append(factory.call(wire=True))
        found = rows(store, "SELECT body IS NULL AS packed, bytes, length(packed) AS length FROM hub_contents")
        assert sorted(bool(row["packed"]) for row in found) == [False, False, False, True]
        (packed,) = (row for row in found if row["packed"])
        assert packed["length"] < packed["bytes"]

    # What goes wrong.

    @pytest.mark.parametrize(
        "poison",
        [{"service": None}, {"session_id": ["a"]}, {"trace_flags": 2**70}, {"user_id": "\ud800"}, {"data": {1}}],
    )
    def test_a_value_that_cannot_be_stored_is_no_outage_and_costs_nobody_else(
        self, store: SqlStore, factory: Factory, poison: dict[str, Any]
    ) -> None:
        before, bad, after = (
            factory.event("acme:tick", stream=factory.new_id(), version=1, call_id=None) for _ in range(3)
        )
        bad.update(poison)  # type: ignore[typeddict-item]
        with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is, but
            store.append([before, bad, after])
        assert not is_outage(caught.value), "it would be tried again for ever"
        delivered = Splitter(lambda records: store.append(records).conflicts).deliver([before, bad, after])
        assert delivered.rejected == [bad]
        assert whole_log(store) == [before, after]

    def test_integers_of_contributed_events_are_those_of_64_bits(self, store: SqlStore, factory: Factory) -> None:
        told = {"type": "acme:n", "schema_version": 1, "fields": {"n": "integer"}}
        store.append([factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data=told)])
        values = [2**63 - 1, 10**18, 1_790_000_000_000_000_001, -(2**63), 0, 2**63, 2**64 - 1, 1.5, "7", True]
        for value in values:
            store.append([factory.event("acme:n", stream=factory.new_id(), version=1, call_id=None, data={"n": value})])
        with connected(store) as connection, store._writing(connection):
            event_views.make_all(connection)
        found = rows(store, "SELECT n FROM llm_event_acme_n ORDER BY position")
        assert [row["n"] for row in found] == [*values[:5], *[None] * 5]

    def test_one_schema_newer_is_refused_untouched_and_works_again_when_it_is_ours(
        self, store: SqlStore, factory: Factory
    ) -> None:
        store.append(written := factory.calls(2))
        before = projections(store)
        newer = f"{int(REVISION) + 1:04d}"
        with connected(store) as connection:
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (newer,))
            store.close()
            for method in (lambda: store.append(factory.call()), store.read_all, store.rebuild):
                with pytest.raises(SchemaMismatch, match="upgrade llm-hub") as caught:
                    method()
                assert (caught.value.found, caught.value.expected) == (newer, REVISION)
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (REVISION,))
        assert projections(store) == before
        assert whole_log(store) == written

    def test_an_upgrade_under_a_writers_feet_is_noticed_before_it_writes(
        self, store: SqlStore, factory: Factory
    ) -> None:
        store.append(written := factory.calls(2))
        before, late = projections(store), factory.calls(2)
        newer = f"{int(REVISION) + 1:04d}"
        with connected(store) as connection:
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (newer,))
            for _ in range(2):
                with pytest.raises(SchemaMismatch, match="upgrade llm-hub") as caught:
                    store.append(late)
                assert (caught.value.url, caught.value.found, caught.value.expected) == (store.url, newer, REVISION)
                assert is_outage(caught.value), "or the events would be dropped"
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (REVISION,))
        assert projections(store) == before
        assert store.append(late).new == len(late)
        assert whole_log(store) == written + late

    @pytest.mark.parametrize("year", [1970, 2014, 2100, 2200])
    def test_a_clock_decades_off_loses_nothing(self, tmp_path: Path, year: int) -> None:
        wrong, right = Factory("wrong", start=ns(year)), Factory("right")
        off, store = self.open_store(tmp_path, wall=lambda: ns(year)), self.open_store(tmp_path)
        written = [*right.call(), *wrong.call(), *right.call(), *wrong.call()]
        for start, one in ((0, off), (4, store), (8, off), (12, store)):
            assert one.append(written[start : start + 4]).new == 4
        assert off.append(written).duplicates == 16
        assert whole_log(store) == written
        assert list(store.read_stream(UUID(written[4]["stream_id"]))) == written[4:8]
        found = rows(store, "SELECT started_unix, producer FROM llm_calls WHERE status = 'ok' ORDER BY started_unix")
        assert len(found) == 4
        assert next(one["started_unix"] for one in found if one["producer"] == "wrong") == ns(year) / SECOND
        live = projections(store)
        off.rebuild()
        assert projections(store) == live
        assert off.erase(Erasure(project="shop", before_ns=2**63 - 1, call_id=UUID(written[4]["stream_id"]))).calls == 1
        off.close()
        store.close()
