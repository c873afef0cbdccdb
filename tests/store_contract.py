"""What every event store promises. A backend's tests inherit from `StoreContract` and supply `open_store`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.events import EventRecord
from hub.store import AppendResult, ContentRef, Cursor, Erased, Erasure, EventStore
from tests.factories import SECOND, START, Factory

LATER = START + 10**6 * SECOND

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), _text
)
json_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=12
)
payloads = st.dictionaries(_text | st.sampled_from(["messages", "wire", "tools", "summary", "error"]), json_values)
contents = st.none() | payloads | st.fixed_dictionaries({"messages": st.lists(json_values, max_size=5)})


class Store(EventStore, Protocol):
    """What our own stores have beside the contract."""

    def references(self, stream_id: UUID, version: int) -> tuple[ContentRef, ...]: ...


def same(found: object, expected: object) -> bool:
    """Equal, and of the same types: True is not 1, and 1 not 1.0."""
    return found == expected and repr(found) == repr(expected)


class StoreContract:
    def open_store(self, folder: Path) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open_store(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def factory(self) -> Factory:
        return Factory()

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

    def test_any_payload_and_content_come_back_equal(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        factory, store = Factory(), self.open_store(tmp_path_factory.mktemp("any"))

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
        store.close()

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

    def test_closing_twice_is_harmless(self, store: Store, factory: Factory) -> None:
        store.append(kept := factory.call())
        store.close()
        store.close()
        assert list(store.read_all().events) == kept

    # Erasure.

    @pytest.mark.parametrize("kind", ["call_id", "session_id", "user_id"])
    def test_erasure_takes_content_and_who_it_was(self, store: Store, factory: Factory, kind: str) -> None:
        who: dict[str, Any] = {"session_id": "s1", "user_id": "u1", "tags": {"k": "v"}}
        told = factory.call([{"role": "user", "content": "a secret"}], "another", error=None, **who)
        note = factory.event("acme:note", stream=told[0]["stream_id"], version=5, data={"text": "private"}, **who)
        kept = factory.call(session_id="s2", user_id="u2")
        store.append([*told, note, *kept])
        refs = store.references(UUID(told[1]["stream_id"]), 2)
        target: Any = UUID(told[0]["call_id"] or "") if kind == "call_id" else told[0]["session_id"]
        target = "u1" if kind == "user_id" else target
        report = store.erase(Erasure(project="shop", before_ns=LATER, **{kind: target}))
        assert (report.calls, report.events_redacted) == (1, 5)
        assert report.contents == 2
        for record in store.read_stream(UUID(told[0]["stream_id"])):
            assert (record["content"], record["session_id"], record["user_id"], record["tags"]) == (None,) * 4
            assert record["trace_id"] == (told[0]["trace_id"] if record["type"].startswith("llm") else None)
        assert store.read_all(types=["acme:note"]).events[0]["data"] == {}
        assert store.content(refs) == dict.fromkeys(refs, Erased())
        assert list(store.read_stream(UUID(kept[0]["stream_id"]))) == kept

    def test_content_that_another_call_refers_to_stays(self, store: Store, factory: Factory) -> None:
        shared = [{"role": "system", "content": "be nice"}]
        gone, stays = factory.call(shared, "one", user_id="u1"), factory.call(shared, "two", user_id="u2")
        store.append(gone + stays)
        report = store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        assert report.contents == 1
        assert list(store.read_stream(UUID(stays[0]["stream_id"]))) == stays

    def test_what_was_erased_stays_so_for_late_events(self, store: Store, factory: Factory) -> None:
        call = factory.call([{"role": "user", "content": "late"}], "later", session_id="s1")
        store.append(call[:2])
        store.erase(Erasure(project="shop", before_ns=LATER, session_id="s1"))
        assert store.append(call).new == 2
        for record in store.read_stream(UUID(call[0]["stream_id"])):
            assert (record["content"], record["session_id"]) == (None, None)
        assert store.append(call) == AppendResult(0, duplicates=4)

    def test_an_event_that_lost_its_place_takes_its_erasure_along(self, store: Store, factory: Factory) -> None:
        call = factory.call([{"role": "user", "content": "late"}], session_id="s1")
        store.erase(Erasure(project="shop", before_ns=LATER, session_id="s1"))
        told = {"original": dict(call[1])}
        conflict = factory.event("hub:conflict", stream=factory.new_id(), version=1, call_id=None, content=told)
        store.append([conflict])
        assert store.read_all().events[0]["content"] is None

    @pytest.mark.parametrize("kind", ["call_id", "session_id", "user_id"])
    def test_an_event_that_lost_its_place_before_is_erased_too(self, store: Store, factory: Factory, kind: str) -> None:
        call = factory.call([{"role": "user", "content": "a secret"}], session_id="s1", user_id="u1")
        conflicts = [
            factory.event("hub:conflict", stream=factory.new_id(), version=1, call_id=None, content={"original": one})
            for one in (dict(call[1]), dict(factory.call(session_id="s2", user_id="u2")[1]))
        ]
        store.append(conflicts)
        target: Any = UUID(call[0]["stream_id"]) if kind == "call_id" else call[0][kind]  # type: ignore[literal-required]
        report = store.erase(Erasure(project="shop", before_ns=LATER, **{kind: target}))
        assert (report.contents, report.events_redacted) == (1, 1)
        erased, kept = store.read_all(types=["hub:conflict"]).events
        assert erased["content"] is None
        assert kept == conflicts[1]

    def test_erasing_before_anything_arrived_holds_too(self, store: Store, factory: Factory) -> None:
        call = factory.call(user_id="u1")
        report = store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        assert (report.calls, report.contents, report.events_redacted) == (0, 0, 0)
        store.append(call)
        assert all(record["content"] is None for record in store.read_all().events)

    def test_calls_begun_later_and_other_projects_are_left_alone(self, store: Store) -> None:
        early, elsewhere = Factory("a"), Factory("b", project="other")
        late = Factory("c", start=LATER)
        kept = elsewhere.call(user_id="u1") + late.call(user_id="u1")
        store.append(early.call(user_id="u1") + kept)
        assert store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1")).calls == 1
        assert [one for one in store.read_all().events if one["user_id"] == "u1"] == kept

    def test_an_erasure_must_say_what(self, store: Store) -> None:
        for what in (
            Erasure(project="shop", before_ns=1),
            Erasure(project="shop", before_ns=1, session_id="s", user_id="u"),
        ):
            with pytest.raises(ValueError, match="exactly one"):
                store.erase(what)

    def test_the_same_content_written_after_an_erasure_is_there(self, store: Store, factory: Factory) -> None:
        messages = [{"role": "user", "content": "again"}]
        store.append(factory.call(messages, "x", user_id="u1"))
        store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        anew = list(itertools.chain(factory.call(messages, "x"), factory.call(messages, "y")))
        store.append(anew)
        kept = [record for record in store.read_all().events if record["type"] != "hub:redacted"]
        assert kept[4:] == anew
