"""Erasure: what is erased is gone and stays so, and nothing else is."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from hub.events import EventRecord
from hub.store import AppendResult, Erased, Erasure
from tests.contracts.case import LATER, Store, StoreCase, whole_log
from tests.factories import Factory


class ErasureContract(StoreCase):
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

    @pytest.mark.parametrize("kind", ["call_id", "session_id", "user_id"])
    def test_another_project_keeps_what_it_says_of_the_same_call_session_and_user(
        self, store: Store, factory: Factory, kind: str
    ) -> None:
        who: dict[str, Any] = {"session_id": "s1", "user_id": "u1", "tags": {"k": "v"}}
        elsewhere = Factory("b", project="other")
        call = factory.call(**who)
        stream, told = elsewhere.new_id(), {"text": "of another project"}
        notes = [
            elsewhere.event("acme:note", stream=stream, version=version, call_id=call[0]["call_id"], data=told, **who)
            for version in (1, 2)
        ]
        theirs = elsewhere.call(**who)
        store.append([*call, notes[0], *theirs])
        target: Any = UUID(call[0]["stream_id"]) if kind == "call_id" else call[0][kind]  # type: ignore[literal-required]
        report = store.erase(Erasure(project="shop", before_ns=LATER, **{kind: target}))
        assert (report.calls, report.events_redacted) == (1, 4)
        store.append(notes)
        assert [one for one in whole_log(store) if one["project"] == "other"] == [notes[0], *theirs, notes[1]]

    def test_an_event_of_another_project_that_lost_its_place_is_erased_by_its_own(
        self, store: Store, factory: Factory
    ) -> None:
        lost = [Factory(project, project=project).call(user_id="u1")[1] for project in ("shop", "other")]
        carried = [
            factory.event("hub:conflict", stream=factory.new_id(), version=1, call_id=None, content={"original": one})
            for one in map(dict, lost)
        ]
        store.append(carried)
        store.erase(Erasure(project="other", before_ns=LATER, user_id="u1"))
        assert [one["content"] is None for one in _carrying(store)] == [False, True]
        again = [{**one, "stream_id": factory.new_id(), "id": factory.new_id()} for one in carried]
        store.append(again)  # type: ignore[arg-type]
        assert [one["content"] is None for one in _carrying(store)[2:]] == [False, True]

    def test_calls_begun_later_and_other_projects_are_left_alone(self, store: Store) -> None:
        early, elsewhere = Factory("a"), Factory("b", project="other")
        late = Factory("c", start=LATER)
        kept = elsewhere.call(user_id="u1") + late.call(user_id="u1")
        store.append(early.call(user_id="u1") + kept)
        assert store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1")).calls == 1
        assert [one for one in store.read_all().events if one["user_id"] == "u1"] == kept

    def test_an_erasure_counts_nothing_of_the_ones_before_it(self, store: Store, factory: Factory) -> None:
        one, two = factory.call(user_id="u1"), factory.call(user_id="u2")
        store.append(one + two)
        whole = Erasure(project="shop", before_ns=LATER, call_id=UUID(one[0]["stream_id"]))
        store.erase(whole)
        report = store.erase(Erasure(project="shop", before_ns=LATER, user_id="u2"))
        assert (report.calls, report.contents, report.events_redacted) == (1, 2, 4)
        again = store.erase(whole)
        assert (again.calls, again.contents, again.events_redacted) == (1, 0, 4)

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
        told = [one for one in store.read_all().events if one["type"] != "hub:redacted"]
        assert told[4:] == anew


def _carrying(store: Store) -> list[EventRecord]:
    return [one for one in whole_log(store) if one["type"] == "hub:conflict"]
