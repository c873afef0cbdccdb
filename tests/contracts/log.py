"""The log: what is appended is there, once, in order."""

from __future__ import annotations

import copy
import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import events
from hub.events import EventRecord, upcast
from hub.store import AppendResult, ContentRef, Cursor, EventStore
from tests.contracts.case import Follower, Store, StoreCase, same, whole_log
from tests.factories import Factory

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), _text
)
json_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=12
)
payloads = st.dictionaries(_text | st.sampled_from(["messages", "wire", "tools", "summary", "error"]), json_values)
contents = st.none() | payloads | st.fixed_dictionaries({"messages": st.lists(json_values, max_size=5)})


class LogContract(StoreCase):
    def test_it_is_an_event_store(self, store: Store) -> None:
        assert isinstance(store, EventStore)

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        assert store.append([]) == AppendResult(0)
        assert store.read_all().events == ()

    def test_an_empty_log_has_no_next_cursor(self, store: Store) -> None:
        assert store.read_all().next is None

    def test_events_come_back_as_they_went_in(self, store: Store, factory: Factory) -> None:
        whole: dict[str, Any] = {
            "session_id": "s",
            "user_id": "u",
            "tags": {"a": "b"},
            "tracestate": "x=y",
            "parent_is_remote": False,
        }
        records = factory.call(wire=True, tools=[{"name": "look"}], **whole) + factory.call(error="no")
        records[0]["parent_span_id"] = records[0]["causation_id"] = "x"
        before = copy.deepcopy(records)
        assert store.append(records) == AppendResult(len(records))
        assert same(list(store.read_all().events), before)
        assert same(records, before), "append must not change what it was given"

    def test_any_payload_and_content_come_back_equal(self, store: Store) -> None:
        factory = Factory()

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.tuples(payloads, contents), min_size=1, max_size=3))
        def check(drawn: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> None:
            stream = factory.new_id()
            kinds = ("llm:request:debug", "llm:response:debug", "acme:thing")
            records = [
                factory.event(kind, stream=stream, version=version, data=data, content=content)
                for version, (kind, (data, content)) in enumerate(zip(kinds, drawn, strict=False), 1)
            ]
            assert store.append(records).new == len(records)
            assert same(list(store.read_stream(UUID(stream))), records)

        check()

    def test_writing_again_is_harmless(self, store: Store, factory: Factory) -> None:
        records = factory.calls(3)
        store.append(records)
        assert store.append(records) == AppendResult(0, duplicates=12)
        assert store.append(records[6:] + factory.call()) == AppendResult(4, duplicates=6)
        assert len(store.read_all().events) == 16

    def test_an_event_twice_in_a_batch_counts_once(self, store: Store, factory: Factory) -> None:
        records = factory.call()
        assert store.append([*records, records[0], records[3]]) == AppendResult(4, duplicates=2)
        assert list(store.read_all().events) == records

    def test_a_batch_may_be_retried_whole_and_cut_differently(self, store: Store, factory: Factory) -> None:
        records = factory.calls(5)
        store.append(records[:13])
        assert store.append(records[:13]) == AppendResult(0, duplicates=13)
        for size, new in ((7, 7), (1, 0), (3, 0), (20, 0)):
            results = [store.append(records[start : start + size]) for start in range(0, 20, size)]
            assert sum(result.new for result in results) == new
            assert sum(result.duplicates for result in results) == 20 - new
        overlapping = [store.append(records[start : start + 6]) for start in range(0, 20, 2)]
        assert {(result.new, result.conflicts) for result in overlapping} == {(0, ())}
        assert whole_log(store) == records

    def test_a_conflict_is_returned_and_fails_nobody_else(self, store: Store, factory: Factory) -> None:
        first, other = factory.call(), factory.call()
        store.append(first)
        stranger: EventRecord = {**first[2], "id": factory.new_id(), "data": {"status": "error"}}
        assert store.append([*other, stranger]) == AppendResult(4, conflicts=(stranger,))
        assert list(store.read_stream(UUID(first[0]["stream_id"]))) == first

    def test_of_two_in_a_batch_for_one_place_the_first_stays(self, store: Store, factory: Factory) -> None:
        records = factory.call()
        stranger: EventRecord = {**records[1], "id": factory.new_id()}
        assert store.append([*records, stranger]).conflicts == (stranger,)
        assert list(store.read_all().events) == records

    def test_a_conflict_comes_back_each_time_its_batch_is_retried(self, store: Store, factory: Factory) -> None:
        first, other = factory.call(), factory.call()
        stranger: EventRecord = {**first[2], "id": factory.new_id()}
        store.append(first)
        assert store.append([stranger, *other]) == AppendResult(4, conflicts=(stranger,))
        assert store.append([stranger, *other]) == AppendResult(0, duplicates=4, conflicts=(stranger,))
        assert store.append([stranger]) == AppendResult(0, conflicts=(stranger,))

    @pytest.mark.parametrize("seed", range(4))
    def test_repeated_conflicting_and_new_events_stand_in_one_batch_in_any_order(
        self, store: Store, factory: Factory, seed: int
    ) -> None:
        held, new = factory.call(), factory.call()
        rivals: list[EventRecord] = [{**held[1], "id": factory.new_id()}, {**held[2], "id": factory.new_id()}]
        store.append(held)
        batch = [*held, *rivals, *new, *new[:2]]
        random.Random(seed).shuffle(batch)
        result = store.append(batch)
        assert (result.new, result.duplicates) == (4, 6)
        assert list(result.conflicts) == [one for one in batch if one in rivals]
        assert list(store.read_stream(UUID(held[0]["stream_id"]))) == held
        assert list(store.read_stream(UUID(new[0]["stream_id"]))) == new

    def test_events_of_one_id_in_two_places_keep_their_own_content(self, store: Store, factory: Factory) -> None:
        one, two = (
            factory.call([{"role": "user", "content": "one"}]),
            factory.call([{"role": "user", "content": "two"}]),
        )
        two[1]["id"] = one[1]["id"]
        store.append(one + two)
        assert list(store.read_all().events) == one + two

    def test_a_stream_is_read_by_version_and_from_a_version(self, store: Store, factory: Factory) -> None:
        one, two = factory.call(), factory.call()
        store.append([*one[2:], *two, *one[:2]])
        assert list(store.read_stream(UUID(one[0]["stream_id"]))) == one
        assert list(store.read_stream(UUID(one[0]["stream_id"]), after=3)) == one[3:]
        assert list(store.read_stream(UUID(factory.new_id()))) == []

    def test_a_long_stream_is_read_whole(self, store: Store, factory: Factory) -> None:
        stream = factory.new_id()
        records = [
            factory.event("acme:tick", stream=stream, version=version, call_id=None) for version in range(1, 601)
        ]
        store.append(records)
        assert list(store.read_stream(UUID(stream))) == records

    @pytest.mark.parametrize("limit", [1, 3, 1000])
    def test_pages_cover_the_log_without_gap_or_overlap(self, store: Store, factory: Factory, limit: int) -> None:
        records = factory.calls(4)
        store.append(records)
        seen: list[EventRecord] = []
        cursor: Cursor | None = None
        while (page := store.read_all(cursor, limit=limit)).events:
            assert len(page.events) <= limit
            seen += page.events
            cursor = page.next
        assert seen == records
        assert page.next == cursor

    def test_a_cursor_moves_past_what_a_filter_leaves_out(self, store: Store, factory: Factory) -> None:
        records = factory.calls(3)
        store.append(records)
        page = store.read_all(types=["llm:response"], limit=2)
        assert [record["type"] for record in page.events] == ["llm:response"] * 2
        rest = store.read_all(page.next, types=["llm:response"], limit=2)
        assert len(rest.events) == 1
        assert store.read_all(rest.next).events == ()
        none = store.read_all(types=["acme:nothing"])
        assert none.events == ()
        assert store.read_all(none.next).events == ()

    def test_a_cursor_goes_on_where_it_was_whatever_came_since(self, store: Store, factory: Factory) -> None:
        records = factory.calls(3)
        store.append(records)
        kept: list[Cursor | None] = [None]
        for _ in records:
            kept.append(store.read_all(kept[-1], limit=1).next)
        more = factory.calls(2)
        store.append(more)
        for place, cursor in enumerate(kept):
            assert list(store.read_all(cursor).events) == [*records, *more][place:]
            assert list(store.read_all(cursor, limit=3).events) == [*records, *more][place : place + 3]

    @pytest.mark.parametrize("limit", [1, 2, 1000])
    def test_a_filtered_reader_that_waits_misses_nothing_that_comes_later(
        self, store: Store, factory: Factory, limit: int
    ) -> None:
        wanted = ["llm:response", "acme:tick"]
        reader, written = Follower(store, types=wanted, limit=limit), list[EventRecord]()
        for number in range(6):
            tick = factory.event("acme:tick", stream=factory.new_id(), version=1, call_id=None)
            batch = factory.calls(number % 3) + [tick] * (number % 2)
            store.append(batch)
            written += batch
            assert reader.read() == len([one for one in batch if one["type"] in wanted])
        assert reader.seen == [one for one in written if one["type"] in wanted]

    def test_a_cursor_of_a_filtered_page_serves_without_the_filter(self, store: Store, factory: Factory) -> None:
        records = factory.calls(3)
        store.append(records)
        page = store.read_all(types=["llm:response"], limit=1)
        assert list(store.read_all(page.next).events) == records[3:]

    def test_who_asks_for_no_type_or_no_event_is_given_none(self, store: Store, factory: Factory) -> None:
        store.append(records := factory.calls(2))
        nothing = store.read_all(types=[])
        assert nothing.events == ()
        assert store.read_all(nothing.next).events == ()
        for types in (None, ["llm:response"]):
            none = store.read_all(types=types, limit=0)
            assert none.events == ()
            assert list(store.read_all(none.next).events) == records

    def test_a_cursor_of_somebody_else_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="cursor"):
            store.read_all(Cursor("not ours"))

    def test_content_is_found_by_reference(self, store: Store, factory: Factory) -> None:
        records = factory.call([{"role": "user", "content": "hello"}], tools=[{"name": "t"}])
        store.append(records)
        refs = store.references(UUID(records[1]["stream_id"]), 2)
        found = store.content(refs)
        assert [found[ref] for ref in refs] == [{"role": "user", "content": "hello"}, [{"name": "t"}]]
        assert store.references(UUID(records[0]["stream_id"]), 1) == ()
        assert store.references(UUID(factory.new_id()), 1) == ()

    def test_a_reference_never_given_is_a_key_error(self, store: Store, factory: Factory) -> None:
        store.append(factory.call())
        for unknown in ("999999", "nonsense", "-1", ""):
            with pytest.raises(KeyError):
                store.content([ContentRef(unknown)])

    def test_an_unknown_projection_has_no_checkpoint(self, store: Store) -> None:
        assert store.checkpoint("nobody") is None

    def test_open_calls_are_those_of_the_producer_without_response(self, store: Store) -> None:
        ours, theirs = Factory("ours"), Factory("theirs")
        begun, ended, other = ours.call(), ours.call(), theirs.call()
        retry = ours.event("provider:retry", stream=begun[0]["stream_id"], version=3, data={"attempt": 1})
        store.append([*begun[:2], *ended, *other[:2], retry])
        (found,) = store.open_calls("ours")
        assert (found.stream_id, found.version, found.request) == (begun[0]["stream_id"], 3, begun[0])
        store.append([{**begun[2], "version": 4}])
        assert list(store.open_calls("ours")) == []
        assert len(store.open_calls("theirs")) == 1

    def test_a_call_whose_answer_came_first_was_never_open(self, store: Store, factory: Factory) -> None:
        call = factory.call()
        store.append(call[2:])
        assert list(store.open_calls("p1")) == []
        store.append(call[:2])
        assert list(store.open_calls("p1")) == []

    def test_a_call_that_somebody_else_ended_is_not_open(self, store: Store, factory: Factory) -> None:
        call = factory.call()
        store.append(call[:2])
        assert len(store.open_calls("p1")) == 1
        store.append([{**call[2], "producer": "its recovery", "data": {"status": "lost"}}])
        assert list(store.open_calls("p1")) == []
        assert list(store.open_calls("its recovery")) == []

    def test_what_was_written_before_an_upcaster_is_stored_as_it_was_and_read_as_it_is_now(
        self, store: Store, factory: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = factory.new_id()
        old = factory.event("acme:price", stream=stream, version=1, call_id=None, data={"euros": 2})
        store.append([old])
        monkeypatch.setattr(events, "_upcasters", {})
        events.upcaster("acme:price", from_version=1)(lambda data: {"cents": data["euros"] * 100})
        new = factory.event("acme:price", stream=stream, version=2, call_id=None, data={"cents": 300}, schema_version=2)
        store.append([new])
        found = whole_log(store)
        assert found == [old, new]
        assert [(one["schema_version"], one["data"]) for one in map(upcast, found)] == [
            (2, {"cents": 200}),
            (2, {"cents": 300}),
        ]
        assert store.append([old]).duplicates == 1

    def test_closing_twice_is_harmless(self, store: Store, factory: Factory) -> None:
        store.append(kept := factory.call())
        store.close()
        store.close()
        assert list(store.read_all().events) == kept
