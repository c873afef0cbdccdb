"""What erasing and pruning promise on every engine. A backend's tests inherit from `RetentionContract`."""

from __future__ import annotations

import functools
import itertools
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any
from uuid import UUID

import orjson
import pytest

from hub.events import EventRecord
from hub.store import AppendResult, Erased, Erasure, ErasureReport, PruneReport
from storage import reading
from storage.bodies import ids_in
from storage.engine import Connection
from storage.sequences import expand, sequences_in
from storage.sql_store import SqlStore
from storage.views import VIEWS
from tests.contracts.case import LATER
from tests.factories import SECOND, START, Factory
from tests.stories import story

DAY = 86_400 * SECOND
HOUR = 3_600 * SECOND
TABLES = ("hub_calls", "hub_parts", "hub_attempts", "hub_tool_calls", "hub_tool_results", "hub_event_schemas")
HOURLY = ("llm_costs_hourly", "llm_latency_hourly")


def select(store: SqlStore, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What a query gives, in an order of its own."""
    with store._apart() as connection:
        return _rows(connection, sql, values)


def _rows(connection: Connection, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in connection.execute(sql, values).fetchall()), key=repr)


def everything(store: SqlStore) -> dict[str, list[tuple[Any, ...]]]:
    """All projections, views and references."""
    with store._apart() as connection:
        found = {name: _rows(connection, f"SELECT * FROM {name}") for name in (*TABLES, *VIEWS)}
        found["references"] = _rows(connection, "SELECT position, content FROM hub_events")
    return found


def hourly(store: SqlStore) -> list[list[tuple[Any, ...]]]:
    return [select(store, f"SELECT * FROM {view}") for view in HOURLY]


def dangling(store: SqlStore) -> set[int]:
    """Contents that an event refers to and that are not there."""
    return _referred_to(store) - {content_id for (content_id,) in select(store, "SELECT id FROM hub_contents")}


def unreferenced(store: SqlStore) -> set[int]:
    """Contents that no event refers to."""
    return {content_id for (content_id,) in select(store, "SELECT id FROM hub_contents")} - _referred_to(store)


def _referred_to(store: SqlStore) -> set[int]:
    texts = select(store, "SELECT content FROM hub_events WHERE content IS NOT NULL")
    manifests = [orjson.loads(text) for (text,) in texts]
    named = {sequence_id for manifest in manifests for sequence_id in sequences_in(manifest)}
    assert named == {sequence_id for (sequence_id,) in select(store, "SELECT id FROM hub_sequences")}
    with store._using() as connection:
        expand(connection, manifests)
    return {content_id for manifest in manifests for content_id in ids_in(manifest)}


def user(name: str = "u1") -> Erasure:
    return Erasure(project="shop", before_ns=LATER, user_id=name)


_CONTRIBUTED: dict[str, dict[str, Any]] = {
    "provider:retry": {
        "attempt": 1,
        "delay_ms": 5.0,
        "provider": "openai",
        "usage": {"input_tokens": 3},
        "error": "ann was wrong",
        "note": "ann",
    },
    "provider:error": {"message": "ann is not known", "detail": "ann"},
    "provider:moderation": {"flagged": "ann"},
    "llm:note": {"text": "ann"},
}


class Interrupted(Exception):
    """Stands for whatever ends a piece of work in the middle."""


class InterruptedAfter:
    """A progress that ends the work when it has been told of it so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, words: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.left -= 1
        if self.left < 0:
            raise Interrupted


class InterruptedAt:
    """A progress that ends the work in a phase."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __call__(self, words: str, done: int, total: int) -> None:
        if words == self.words:
            raise Interrupted


class RetentionContract:
    @pytest.fixture
    def open_store(self) -> Callable[[], SqlStore]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: Callable[[], SqlStore]) -> Iterator[SqlStore]:
        store = open_store()
        yield store
        store.close()

    @pytest.fixture
    def factory(self) -> Factory:
        return Factory()

    # Erasing.

    def test_an_erasure_is_recorded_without_what_was_erased(self, store: SqlStore, factory: Factory) -> None:
        store.append(factory.call(user_id="somebody-9") + factory.call(user_id="somebody-9"))
        store.erase(user("somebody-9"))
        (told,) = store.read_all(types=["hub:redacted"]).events
        assert told["data"] == {"kind": "user", "calls": 2, "events": 8}
        assert (told["project"], told["version"], told["call_id"]) == ("shop", 1, None)
        assert UUID(told["stream_id"]).version == 7
        assert "somebody-9" not in repr(told)
        assert store.checkpoint("calls") == store.read_all().next
        assert list(store.read_stream(UUID(told["stream_id"]))) == [told]

    def test_an_erasure_that_finds_nothing_records_nothing(self, store: SqlStore, factory: Factory) -> None:
        store.append(factory.call(user_id="u2"))
        assert store.erase(user()) == ErasureReport()
        assert len(store.read_all().events) == 4

    def test_an_erasure_asked_for_again_tells_the_same_and_rewrites_nothing(
        self, store: SqlStore, factory: Factory
    ) -> None:
        call = factory.call(user_id="u1")
        store.append(call + factory.call())
        what = Erasure(project="shop", before_ns=LATER, call_id=UUID(call[0]["stream_id"]))
        store.erase(what)
        log = store.read_all().events
        again = store.erase(what)
        assert (again.calls, again.contents, again.events_redacted) == (1, 0, 4)
        assert store.read_all().events == log

    def test_what_is_read_while_it_is_erased_is_there_in_whole_or_gone(
        self, store: SqlStore, open_store: Callable[[], SqlStore], factory: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.append([*_long_call(factory, user_id="u1"), *factory.call()])
        read = store.read_all().events
        with closing(open_store()) as other:
            erased = _erase_within_a_page(other, monkeypatch)
            assert store.read_all().events == read
            assert erased.pop().calls == 1
            [_, request, *_] = store.read_all().events
            assert request["content"] is None

    def test_a_rebuild_beside_an_erasure_begins_anew(
        self, store: SqlStore, open_store: Callable[[], SqlStore], factory: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.append([*_long_call(factory, user_id="u1"), *factory.call()])
        with closing(open_store()) as other:
            erased = _erase_within_a_page(other, monkeypatch)
            store.rebuild()
        assert erased.pop().calls == 1
        live = everything(store)
        store.rebuild()
        assert everything(store) == live
        assert (unreferenced(store), dangling(store)) == (set(), set())

    def test_messages_that_a_killed_erasure_left_unswept_are_seen_when_they_come_again(
        self, store: SqlStore, factory: Factory
    ) -> None:
        shared = [{"role": "user", "content": "the same for all"}]
        store.append(factory.call(shared, user_id="u1"))
        messages = "SELECT content FROM llm_messages WHERE direction = 'input'"
        before = select(store, messages)
        with pytest.raises(Interrupted):
            store.erase(user(), progress=InterruptedAt("Looking for what is still referred to"))
        assert unreferenced(store)
        store.rebuild()
        store.append(factory.call(shared))
        assert select(store, messages) == before
        live = everything(store)
        store.rebuild()
        assert everything(store) == live

    def test_what_another_project_noted_of_an_erased_call_stays(self, store: SqlStore, factory: Factory) -> None:
        call, other = factory.call(user_id="u1"), Factory("p2", project="lab")
        note = other.event("acme:note", stream=other.new_id(), version=1, call_id=call[0]["stream_id"], data={"n": 1})
        store.append([*call, note])
        before = everything(store)["hub_calls"]
        erase = functools.partial(Erasure, before_ns=LATER, call_id=UUID(call[0]["stream_id"]))
        assert store.erase(erase(project="lab")).events_redacted == 1
        assert everything(store)["hub_calls"] == before
        assert list(store.read_stream(UUID(call[0]["stream_id"]))) == call
        store.append([{**note, "version": 2, "id": other.new_id()}])
        assert store.erase(erase(project="shop")).events_redacted == 4
        assert [one["data"] for one in store.read_all(types=["acme:note"]).events] == [{}, {}]
        live = everything(store)
        store.rebuild()
        assert everything(store) == live

    def test_a_call_that_said_how_much_was_captured_nowhere_else_has_it_no_more(
        self, store: SqlStore, factory: Factory
    ) -> None:
        store.append(factory.call(request={"capture": None}, user_id="u1") + factory.call(user_id="u2"))
        assert [row[0] for row in select(store, "SELECT capture FROM llm_calls")] == ["full", "full"]
        store.erase(user())
        live = everything(store)
        store.rebuild()
        assert everything(store) == live
        assert select(store, "SELECT capture FROM llm_calls") == [("full",), (None,)]

    @pytest.mark.parametrize("late", [False, True], ids=["here", "late"])
    def test_of_what_a_call_s_events_say_an_erasure_leaves_only_what_the_hub_itself_says(
        self, store: SqlStore, factory: Factory, late: bool
    ) -> None:
        call = factory.call(user_id="u1", request={"customer": "ann@example.com"}, response={"verdict": "ann"})
        stream = call[0]["stream_id"]
        for version, (kind, data) in enumerate(_CONTRIBUTED.items(), 5):
            call.append(factory.event(kind, stream=stream, version=version, data=data, user_id="u1"))
        store.append(factory.call(user_id="u1") if late else call)
        store.erase(user())
        if late:
            store.append(call)
        left = {record["type"]: record["data"] for record in store.read_stream(UUID(stream))}
        assert "ann" not in repr(left)
        attempt = {"attempt": 1, "delay_ms": 5.0, "provider": "openai", "usage": {"input_tokens": 3}}
        assert left["provider:retry"] == attempt
        assert left["provider:error"] == left["provider:moderation"] == left["llm:note"] == {}
        assert left["llm:response"] == {key: value for key, value in call[2]["data"].items() if key != "verdict"}
        before = everything(store)
        store.rebuild()
        assert everything(store) == before

    def test_what_comes_of_a_call_after_its_erasure_is_stripped_whoever_it_names(
        self, store: SqlStore, factory: Factory
    ) -> None:
        call = factory.call()
        running, ended = factory.call(user_id="u1"), factory.call(user_id="u1")
        stream = call[0]["stream_id"]
        note = factory.event("acme:note", stream=stream, version=9, data={"text": "hello"}, user_id="u1")
        store.append([*call[:2], note, *running[:2], *ended])
        assert store.erase(user()).calls == 3
        for record in running[2:]:
            record["user_id"] = None
        store.append([*call[2:], *running[2:]])
        for one in (call, running):
            assert {record["content"] is None for record in store.read_stream(UUID(one[0]["stream_id"]))} == {True}
        kinds = select(store, "SELECT kind FROM hub_tombstones")
        assert kinds == [("call",), ("call",), ("user",)]  # none for the call of which nothing else can come

    @pytest.mark.parametrize("ahead", [3 * 10**9, 2**61 // SECOND], ids=["years", "a century"])
    def test_an_erasure_without_a_time_takes_what_clocks_ahead_have_written(self, store: SqlStore, ahead: int) -> None:
        factory = Factory("ahead", start=START + ahead * SECOND)
        call, more = factory.call(user_id="u1"), factory.call(user_id="u1")
        more = [{**one, "call_id": call[0]["stream_id"], "stream_id": call[0]["stream_id"]} for one in more]
        for version, record in enumerate(more, 5):
            record["version"] = version
        store.append([*call, *Factory().call(user_id="u1")])
        what = Erasure(project="shop", before_ns=None, user_id="u1")
        assert store.erase(what, dry_run=True).calls == store.erase(what).calls == 2
        store.append(more)
        assert {record["user_id"] for record in store.read_stream(UUID(call[0]["stream_id"]))} == {None}

    def test_an_id_of_the_last_of_all_times_can_be_erased(self, store: SqlStore, factory: Factory) -> None:
        stream = "ffffffff-ffff-7fff-bfff-ffffffffffff"
        call = factory.call(user_id="u1", stream=stream)
        store.append(call[:2])
        assert store.erase(Erasure(project="shop", before_ns=None, user_id="u1")).calls == 1
        store.append(call[2:])
        assert {record["user_id"] for record in store.read_stream(UUID(stream))} == {None}

    @pytest.mark.parametrize(
        "wrong", [{"call_id": 7}, {"user_id": ["u1"]}, {"occurred_at": "now"}, {"project": {}}, {"session_id": 1.5}]
    )
    def test_a_conflict_that_carries_no_event_hinders_no_erasure(
        self, store: SqlStore, factory: Factory, wrong: dict[str, Any]
    ) -> None:
        call = factory.call(user_id="u1")
        original = {**call[0], **wrong}
        told = factory.event("hub:conflict", stream=factory.new_id(), version=1, content={"original": original})
        store.append([*call, told])
        assert store.erase(user()).calls == 1
        store.append([{**told, "id": factory.new_id(), "version": 2}])

    def test_a_dry_run_of_an_erasure_tells_what_it_would_do_and_does_nothing(
        self, store: SqlStore, factory: Factory
    ) -> None:
        shared = [{"role": "system", "content": "be nice"}]
        store.append(factory.call(shared, "one", user_id="u1") + factory.call(shared, "two", user_id="u2"))
        before, log = everything(store), store.read_all().events
        told = store.erase(user(), dry_run=True)
        assert (told.calls, told.contents, told.events_redacted) == (1, 1, 4)
        assert (everything(store), store.read_all().events) == (before, log)
        again = factory.call(user_id="u1")
        store.append(again)
        assert list(store.read_stream(UUID(again[0]["stream_id"]))) == again, "there is no tombstone"
        done = store.erase(user())
        assert (done.calls, done.contents, done.events_redacted) == (2, 3, 8)

    def test_counts_and_costs_outlast_an_erasure(self, store: SqlStore, factory: Factory) -> None:
        store.append(factory.calls(5, user_id="u1") + factory.calls(5))
        sums = "SELECT call_id, cost_nanos, input_tokens, duration_ms, counted FROM llm_calls"
        before, hours = select(store, sums), hourly(store)
        store.erase(user())
        assert (select(store, sums), hourly(store)) == (before, hours)
        store.rebuild()
        assert (select(store, sums), hourly(store)) == (before, hours)

    def test_an_erasure_interrupted_anywhere_holds_and_the_same_again_finishes_it(
        self, open_store: Callable[[], SqlStore], factory: Factory
    ) -> None:
        kept = factory.calls(3, user_id="u")
        store = open_store()
        store.append(kept)
        for after in itertools.count():
            name = f"u{after}"
            store.append(factory.calls(70, user_id=name))
            try:
                store.erase(user(name), progress=InterruptedAfter(after))
            except Interrupted:
                late = factory.call(user_id=name)
                store.append(late)
                assert all(one["content"] is None for one in store.read_stream(UUID(late[0]["stream_id"])))
                store.close()
                store = open_store()
                assert store.erase(user(name)).complete
            else:
                break
            assert select(store, "SELECT 1 FROM hub_events WHERE user_id = ?", (name,)) == []
            assert (unreferenced(store), dangling(store)) == (set(), set())
            assert sum(one["data"]["calls"] for one in _redactions(store)) == 70 * (after + 1)
            assert store.erase(user(name)) == ErasureReport()
        assert after >= 6
        assert [one for one in store.read_all().events if one["user_id"] == "u"] == kept
        store.close()

    @pytest.mark.parametrize("kind", ["call_id", "session_id", "user_id"])
    def test_after_an_erasure_a_rebuild_equals_the_live_rows(self, store: SqlStore, kind: str) -> None:
        records = story(11)
        store.append(records)
        value: Any = {"session_id": "s1", "user_id": "u1", "call_id": UUID(records[20]["stream_id"])}[kind]
        assert store.erase(Erasure(project="shop", before_ns=LATER, **{kind: value})).calls
        live = everything(store)
        store.rebuild()
        assert everything(store) == live
        assert (unreferenced(store), dangling(store)) == (set(), set())

    def test_others_write_while_an_erasure_is_under_way(
        self, open_store: Callable[[], SqlStore], factory: Factory
    ) -> None:
        store, other = open_store(), open_store()
        shared = [{"role": "system", "content": "be nice"}]
        for _ in range(20):
            store.append([one for _ in range(15) for one in factory.call(shared, "yes", user_id="u1")])
        written = _while_writing(other, shared, lambda: store.erase(user()))
        assert dangling(store) == set()
        assert unreferenced(store) == set()
        for call in written:
            assert list(store.read_stream(UUID(call[0]["stream_id"]))) == call
        store.close()
        other.close()

    # Pruning bodies.

    def test_bodies_of_older_calls_go_and_what_newer_ones_share_stays(self, store: SqlStore, factory: Factory) -> None:
        shared, own = {"role": "system", "content": "be nice"}, {"role": "user", "content": "old news"}
        old = factory.call([shared, own], "old answer", session_id="s1", error="no")
        bound = factory.now + HOUR
        factory.now += DAY
        new = factory.call([shared], "new answer", session_id="s1")
        store.append(old + new)
        before, refs = hourly(store), store.references(UUID(old[1]["stream_id"]), 2)
        report = store.prune(bodies_before_ns=bound)
        assert (report.calls, report.events, report.bodies, report.contents) == (0, 0, 2, 2)
        bare = [{**record, "content": None} for record in old]
        assert list(store.read_all().events) == bare + new
        assert list(store.content(refs).values()) == [shared, Erased()]
        (row,) = select(
            store,
            "SELECT request_summary, response_summary, error_message, status, cost_nanos > 0 FROM llm_calls"
            " WHERE call_id = ?",
            (old[0]["stream_id"],),
        )
        assert [bool(value) for value in row] == [False, False, False, True, True]
        assert hourly(store) == before
        live = everything(store)
        store.rebuild()
        assert everything(store) == live

    def test_content_that_comes_after_its_time_is_not_kept(self, store: SqlStore, factory: Factory) -> None:
        late, early = factory.call(), factory.call()
        bound = factory.now + HOUR
        store.append(early)
        store.prune(bodies_before_ns=bound)
        assert store.append(late) == AppendResult(4)
        assert all(record["content"] is None for record in store.read_stream(UUID(late[0]["stream_id"])))
        assert unreferenced(store) == set()
        factory.now = bound
        newer = factory.call()
        store.append(newer)
        assert list(store.read_stream(UUID(newer[0]["stream_id"]))) == newer

    def test_content_of_no_call_goes_by_its_own_time(self, store: SqlStore, factory: Factory) -> None:
        stream = factory.new_id()
        notes = [
            factory.event(
                "hub:conflict", stream=stream, version=version, call_id=None, at=at, content={"original": version}
            )
            for version, at in ((1, START), (2, START + DAY))
        ]
        store.append(notes)
        assert store.prune(bodies_before_ns=START + HOUR).bodies == 1
        assert [record["content"] for record in store.read_all().events] == [None, {"original": 2}]

    # Pruning calls.

    def test_the_hourly_views_do_not_change_by_a_digit(self, store: SqlStore) -> None:
        for seed in (1, 2, 3):
            store.append(story(seed, size=20))
        before = hourly(store)
        moments = sorted(one["occurred_at"] for one in store.read_all(types=["llm:request"]).events)
        total = len(moments)
        for share in (0.2, 0.5, 0.9):
            report = store.prune(calls_before_ns=moments[int(total * share)] + 1)
            assert report.calls > 0
            assert hourly(store) == before
            live = everything(store)
            store.rebuild()
            assert everything(store) == live
            assert hourly(store) == before
            assert (unreferenced(store), dangling(store)) == (set(), set())
        assert store.prune(calls_before_ns=LATER).calls > 0
        for table in ("hub_calls", "hub_attempts", "hub_tool_calls", "hub_tool_results", "hub_contents", "hub_parts"):
            assert select(store, f"SELECT 1 FROM {table}") == [], table
        assert hourly(store) == before
        store.rebuild()
        assert hourly(store) == before

    def test_prices_keys_tombstones_and_fields_of_events_stay(self, store: SqlStore, factory: Factory) -> None:
        told = {"type": "acme:note", "schema_version": 1, "fields": {"text": "text"}}
        stream = factory.new_id()
        schema = factory.event("hub:schema", stream=stream, version=1, call_id=None, data=told)
        store.append([schema, *factory.calls(3, user_id="u1")])
        store.erase(user("u2"))
        tables = ("hub_prices", "hub_keys", "hub_event_schemas")
        before = [select(store, f"SELECT * FROM {table}") for table in tables]
        store.prune(calls_before_ns=LATER)
        assert store.read_all().events == ()
        store.rebuild()
        assert [select(store, f"SELECT * FROM {table}") for table in tables] == before
        assert len(select(store, "SELECT 1 FROM hub_tombstones WHERE kind = 'user'")) == 1

    def test_of_a_call_that_was_recorded_twice_both_or_none_are_pruned(self, store: SqlStore, factory: Factory) -> None:
        one = factory.call(response={"response_id": "r1"}, took_ms=900.0)
        factory.now -= 890 * 10**6
        two = factory.call(request={"source": "transport"}, response={"response_id": "r1"}, took_ms=800.0)
        assert two[0]["occurred_at"] > one[0]["occurred_at"] + 5 * 10**6
        store.append(one + two)
        assert select(store, "SELECT counted FROM llm_calls ORDER BY 1") == [(0,), (1,)]
        before = hourly(store)
        between = one[0]["occurred_at"] + 5 * 10**6
        assert store.prune(calls_before_ns=between) == PruneReport()
        store.rebuild()
        assert hourly(store) == before
        assert store.prune(calls_before_ns=LATER).calls == 2
        assert hourly(store) == before

    def test_a_call_that_was_recorded_three_times_in_a_row_goes_as_one(self, store: SqlStore, factory: Factory) -> None:
        """The third overlaps the second alone, which does not count either."""
        told: list[EventRecord] = []
        for source, start_ms, took_ms in (("traced", 0, 900.0), ("transport", 500, 900.0), ("emitted", 1_000, 900.0)):
            factory.now = START + start_ms * 10**6
            told += factory.call(took_ms=took_ms, request={"source": source}, response={"response_id": "r1"})
        store.append(told)
        assert select(store, "SELECT counted FROM llm_calls ORDER BY call_id") == [(0,), (0,), (1,)]
        before = hourly(store)
        for moment in (250, 750):
            assert store.prune(calls_before_ns=START + moment * 10**6) == PruneReport()
            store.rebuild()
            assert hourly(store) == before
        assert store.prune(calls_before_ns=START + 1_250 * 10**6).calls == 3
        store.rebuild()
        assert hourly(store) == before

    def test_a_pruned_call_that_comes_again_is_refused_and_counted(self, store: SqlStore, factory: Factory) -> None:
        old = factory.calls(3)
        bound = factory.now + HOUR
        store.append(old)
        before = hourly(store)
        store.prune(calls_before_ns=bound)
        assert store.append(old) == AppendResult(0, expired=12)
        assert store.append(old) == AppendResult(0, expired=12)
        (told,) = store.read_all().events
        assert told["type"] == "hub:dropped"
        named = told["data"].pop("producer_seqs")
        assert told["data"] == {"reason": "expired", "count": 12, "sink": "store", "producer": "p1"}
        assert all(any(first <= one["producer_seq"] <= last for first, last in named) for one in old)
        assert (hourly(store), select(store, "SELECT 1 FROM llm_calls")) == (before, [])
        newer, about_none = (
            factory.call(),
            factory.event("hub:started", stream=factory.new_id(), version=1, call_id=None),
        )
        factory.now = bound
        newer = factory.call()
        assert store.append([*old[:4], *newer, about_none]) == AppendResult(5, expired=4)
        assert list(store.read_stream(UUID(newer[0]["stream_id"]))) == newer

    def test_a_late_event_about_a_pruned_call_brings_it_not_back(self, store: SqlStore, factory: Factory) -> None:
        call = factory.call()
        bound = factory.now + HOUR
        store.append(call[:2])
        assert store.prune(calls_before_ns=bound).calls == 1
        before = hourly(store)
        factory.now = bound + DAY
        retry = factory.event("provider:retry", stream=factory.new_id(), version=1, call_id=call[0]["stream_id"])
        assert store.append([*call[2:], retry]).expired == 3
        assert (hourly(store), select(store, "SELECT 1 FROM hub_calls")) == (before, [])

    def test_older_calls_of_a_project_that_was_not_pruned_are_welcome(self, store: SqlStore, factory: Factory) -> None:
        store.append(factory.calls(2))
        bound = factory.now + HOUR
        store.prune(calls_before_ns=bound)
        others = Factory("p2", project="lab").calls(2)
        assert store.append(others) == AppendResult(8)
        before = hourly(store)
        assert store.prune(calls_before_ns=bound).calls == 2
        assert hourly(store) == before

    def test_a_stream_of_no_call_goes_event_by_event(self, store: SqlStore, factory: Factory) -> None:
        stream = factory.new_id()
        ticks = [
            factory.event("acme:tick", stream=stream, version=number, call_id=None, at=START + number * HOUR)
            for number in range(1, 7)
        ]
        store.append(ticks)
        assert store.prune(calls_before_ns=START + 4 * HOUR) == PruneReport(events=3)
        assert list(store.read_stream(UUID(stream))) == ticks[3:]

    @pytest.mark.parametrize("before", [0, 40])
    def test_a_tool_s_answer_finds_the_next_call_that_carries_it(
        self, store: SqlStore, factory: Factory, before: int
    ) -> None:
        """*before*: messages that come first, so that the answer stands in a stretch that requests share, or not."""
        tool = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
        said: list[Any] = [{"role": "user", "content": f"{number}"} for number in range(before)]
        answered = [*said, asks, {"role": "tool", "tool_call_id": "c1", "content": "found"}]
        more = [{"role": "user", "content": f"more {number}"} for number in range(before)]
        first = factory.call(answered + more, "so", session_id="s1")
        factory.now += DAY
        asked = factory.call(answered[:-1], asks, session_id="s1")
        factory.now += DAY
        later = factory.call(answered + more, "again", session_id="s1")
        store.append(first + asked + later)
        store.prune(calls_before_ns=START + HOUR)
        live = everything(store)
        assert [row[-1] for row in live["hub_tool_results"]] == [later[0]["stream_id"]]
        store.rebuild()
        assert everything(store) == live

    @pytest.mark.parametrize("both", [False, True])
    def test_a_dry_run_of_a_pruning_tells_what_it_would_do_and_does_nothing(self, store: SqlStore, both: bool) -> None:
        records = story(4, size=20)
        store.append(records)
        moments = sorted(one["occurred_at"] for one in store.read_all(types=["llm:request"]).events)
        prune = functools.partial(
            store.prune, calls_before_ns=moments[10] if both else None, bodies_before_ns=moments[25]
        )
        before, log = everything(store), store.read_all().events
        told = prune(dry_run=True)
        assert (everything(store), store.read_all().events) == (before, log)
        assert told.contents > 0
        assert told.content_bytes > told.contents
        assert bool(told.calls) is both
        assert prune() == told

    def test_a_pruning_interrupted_anywhere_leaves_everything_right_and_the_next_one_finishes(
        self, open_store: Callable[[], SqlStore], factory: Factory
    ) -> None:
        store = open_store()
        for after in itertools.count():
            store.append(factory.calls(70))
            calls_before = factory.now
            store.append(factory.calls(70))
            bodies_before = factory.now
            store.append(factory.calls(3))
            before = hourly(store)
            prune = functools.partial(SqlStore.prune, calls_before_ns=calls_before, bodies_before_ns=bodies_before)
            try:
                prune(store, progress=InterruptedAfter(after))
            except Interrupted:
                assert (hourly(store), dangling(store)) == (before, set())
                if after % 3 == 0:
                    store.rebuild()
                    assert hourly(store) == before
                store.close()
                store = open_store()
                prune(store)
            else:
                break
            assert len(select(store, "SELECT 1 FROM llm_calls")) == 73
            assert len(select(store, "SELECT 1 FROM llm_calls WHERE request_summary IS NOT NULL")) == 3
            assert len(store.read_all().events) == 4 * 73
            assert (unreferenced(store), dangling(store)) == (set(), set())
            assert hourly(store) == before
            assert prune(store) == PruneReport()
        assert after >= 8
        store.close()

    def test_others_write_while_a_pruning_is_under_way(
        self, open_store: Callable[[], SqlStore], factory: Factory
    ) -> None:
        store, other = open_store(), open_store()
        shared = [{"role": "system", "content": "be nice"}]
        for _ in range(20):
            store.append([one for _ in range(15) for one in factory.call(shared, "yes")])
        bound = factory.now
        told: list[str] = []

        def work() -> None:
            store.prune(bodies_before_ns=bound, progress=lambda words, *_: told.append(words))
            store.prune(calls_before_ns=bound, progress=lambda words, *_: told.append(words))

        written = _while_writing(other, shared, work, start=bound + DAY)
        assert {"Pruning calls", "Pruning bodies", "Pruning events"} <= set(told)
        assert (dangling(store), unreferenced(store)) == (set(), set())
        for call in written:
            assert list(store.read_stream(UUID(call[0]["stream_id"]))) == call
        (sums,) = select(store, "SELECT sum(calls) FROM llm_costs_hourly")
        assert int(sums[0]) == 300 + len(written)
        assert len(select(store, "SELECT 1 FROM llm_calls")) == len(written)
        live = everything(store)
        store.rebuild()
        assert everything(store) == live
        store.close()
        other.close()

    def test_whatever_happens_the_sums_and_the_rebuild_agree(self, store: SqlStore) -> None:
        chance = random.Random(7)
        records = story(21, size=40)
        chance.shuffle(records)
        moments = sorted(one["occurred_at"] for one in records if one["type"] == "llm:request")
        arrived = 0
        for start in range(0, len(records), 40):
            arrived += store.append(records[start : start + 40]).new
            bound = moments[min(len(moments) - 1, start // 40 * 3)]
            if chance.random() < 0.7:
                store.prune(calls_before_ns=bound - HOUR if chance.random() < 0.3 else bound)
            if chance.random() < 0.5:
                store.prune(bodies_before_ns=bound + SECOND)
            if chance.random() < 0.3:
                store.erase(Erasure(project="shop", before_ns=bound, session_id="s2"))
            live = everything(store)
            store.rebuild()
            assert everything(store) == live
            assert (unreferenced(store), dangling(store)) == (set(), set())


def _long_call(factory: Factory, **envelope: Any) -> list[EventRecord]:
    """So many messages that some are kept as a stretch."""
    return factory.call([{"role": "user", "content": f"message {number}"} for number in range(60)], **envelope)


def _erase_within_a_page(other: SqlStore, monkeypatch: pytest.MonkeyPatch) -> list[ErasureReport]:
    """The next page of events that anybody reads is read while *other* erases. Returns: What that did, once done."""
    done: list[ErasureReport] = []

    def erase_first(connection: Connection, manifests: Iterable[dict[str, Any]]) -> None:
        monkeypatch.setattr(reading, "expand", expand)
        done.append(other.erase(user(), rewrite=False))
        expand(connection, manifests)

    monkeypatch.setattr(reading, "expand", erase_first)
    return done


def _redactions(store: SqlStore) -> Sequence[EventRecord]:
    return store.read_all(types=["hub:redacted"]).events


def _while_writing(
    store: SqlStore, shared: Sequence[Any], work: Callable[[], object], *, start: int = START + DAY
) -> list[list[EventRecord]]:
    """What another wrote while *work* was done, and it had to be some."""
    factory = Factory("p2", start=start)
    written: list[list[EventRecord]] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def write() -> None:
        try:
            while not done.is_set():
                call = factory.call(shared, "yes" if len(written) % 2 else "no")
                store.append(call)
                written.append(call)
                done.wait(0.002)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    assert failed == []
    assert len(written) > 3
    return written
