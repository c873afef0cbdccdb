"""Stores do at random what programs, recoveries, erasures and readers do to them, and are held to the model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.events import EventRecord
from hub.store import ContentRef, Cursor, Erased, Erasure
from storage.sql_store import SqlStore
from tests.contracts.case import Follower, whole_log
from tests.factories import SECOND, START, Factory
from tests.store_model import Model, Piece, encoded, pieces_of
from tests.store_rows import projections, rows
from tests.stores import Opening

PROJECTS = ("shop", "other")
PRODUCERS = ("p1", "p2")
TYPES = ("llm:request", "llm:response", "acme:note", "hub:conflict", "hub:redacted", "acme:nothing")
END = 2**63 - 1

picks = st.lists(st.integers(0, 400), min_size=1, max_size=12)
one_pick = st.integers(0, 400)
who = st.sampled_from((0, 1))
"""Which of the two stores does it."""
people = st.fixed_dictionaries(
    {"session_id": st.sampled_from((None, "s1", "s2")), "user_id": st.sampled_from((None, "u1", "u2"))}
)


def machine(opening: Opening) -> type[RuleBasedStateMachine]:
    """A machine of stores that *opening* makes."""
    return type("Machine", (StoreMachine,), {"opening": staticmethod(opening)})


class StoreMachine(RuleBasedStateMachine):
    opening: Opening

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        self.open_store = self.stack.enter_context(self.opening())
        self.stores = [self.open_store(), self.open_store()]
        self.model = Model()
        self.factories = {
            (producer, project): Factory(f"{producer}", project=project, seed=index)
            for index, (producer, project) in enumerate((one, two) for one in PRODUCERS for two in PROJECTS)
        }
        self.pool: list[EventRecord] = []
        """Every event that anybody made, whether it was written or not."""
        self.next_version: dict[str, int] = {}
        self.cursors: list[tuple[Cursor | None, int]] = [(None, 0)]
        self.references: list[tuple[ContentRef, Piece]] = []
        self.tail = Follower(self.stores[1], limit=50)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            try:
                self.same_log()
                self.rebuild(0)
            finally:
                for store in self.stores:
                    store.close()
                self.stack.close()

    # Writing.

    def append(self, store: int, batch: Sequence[EventRecord]) -> None:
        new, duplicates, conflicts = self.model.append(batch)
        result = self.stores[store].append(batch)
        assert (result.new, result.duplicates) == (new, duplicates)
        assert list(result.conflicts) == conflicts

    @rule(
        store=who,
        producer=st.sampled_from(PRODUCERS),
        project=st.sampled_from(PROJECTS),
        people=people,
        history=st.integers(0, 40),
        topic=st.integers(0, 2),
        ending=st.sampled_from(("ok", "error", "none", "lost", "retried")),
        order=st.sampled_from(("whole", "cut", "backwards", "kept back", "beside another")),
    )
    def call(
        self,
        store: int,
        producer: str,
        project: str,
        people: dict[str, Any],
        history: int,
        topic: int,
        ending: str,
        order: str,
    ) -> None:
        """A call, written at once, in pieces, or not yet."""
        factory = self.factories[producer, project]
        records = made_call(factory, self.factories[PRODUCERS[0], project], people, history, topic, ending)
        self.next_version[records[0]["stream_id"]] = 10
        self.pool += records
        if order == "whole":
            self.append(store, records)
        elif order == "cut":
            self.append(store, records[:1])
            self.append(1 - store, records[:3])
            self.append(store, records[1:])
        elif order == "backwards":
            for record in reversed(records):
                self.append(store, [record])
        elif order == "beside another":
            other = factory.call([{"role": "user", "content": f"beside {topic}"}], "an answer", **people)
            self.pool += other
            self.append(store, records[:2] + other[:2])
            self.append(store, other[2:] + records[2:])

    @precondition(lambda self: self.pool)
    @rule(store=who, picks=picks)
    def write_again(self, store: int, picks: list[int]) -> None:
        """Any events there are, some for the first time, some twice in one batch."""
        self.append(store, [self.pool[pick % len(self.pool)] for pick in picks])

    @precondition(lambda self: self.pool)
    @rule(store=who, picks=picks, seed=one_pick)
    def write_rivals(self, store: int, picks: list[int], seed: int) -> None:
        """Others for the places of events, among these; some are told of as the pipeline does."""
        chance, batch, factory = random.Random(seed), list[EventRecord](), self.factories[PRODUCERS[0], PROJECTS[0]]
        for pick in picks:
            record = self.pool[pick % len(self.pool)]
            batch.append(record)
            if chance.random() < 0.4 and record["type"] not in ("llm:request", "llm:response"):
                rival: EventRecord = {**record, "id": factory.new_id(), "content": {"error": f"a rival {seed % 7}"}}
                batch.insert(chance.randrange(len(batch) + 1), rival)
            if chance.random() < 0.2 and record["type"] != "hub:conflict":
                teller = self.factories[chance.choice(PRODUCERS), chance.choice(PROJECTS)]
                batch.append(self.told_of(teller, record))
        self.pool += batch[-1:] if batch[-1]["type"] == "hub:conflict" else []
        self.append(store, batch)

    def told_of(self, teller: Factory, record: EventRecord) -> EventRecord:
        own = teller.new_id()
        content = {"original": dict(record)}
        return teller.event("hub:conflict", stream=own, version=1, call_id=record["call_id"], content=content)

    @precondition(lambda self: self.pool)
    @rule(
        store=who,
        pick=one_pick,
        producer=st.sampled_from(PRODUCERS),
        project=st.sampled_from(PROJECTS),
        people=people,
        text=st.integers(0, 3),
        inside=st.booleans(),
    )
    def note(
        self, store: int, pick: int, producer: str, project: str, people: dict[str, Any], text: int, inside: bool
    ) -> None:
        """A contributed event: in a call's stream, or in one of its own and naming a call or none."""
        factory, about = self.factories[producer, project], self.pool[pick % len(self.pool)]["call_id"]
        stream = about if inside and about is not None else factory.new_id()
        version = self.next_version.setdefault(stream, 1)
        self.next_version[stream] += 1
        data, content = {"text": f"note {text}"}, {"body": f"long note {text}"} if text else None
        call_id = None if text == 3 and stream != about else about
        record = factory.event(
            "acme:note", stream=stream, version=version, call_id=call_id, data=data, content=content, **people
        )
        self.pool.append(record)
        self.append(store, [record])

    @precondition(lambda self: self.pool)
    @rule(
        store=who,
        pick=one_pick,
        kind=st.sampled_from(("call_id", "session_id", "user_id")),
        project=st.sampled_from((None, *PROJECTS)),
        before=st.sampled_from((START, START + SECOND, END, END)),
    )
    def erase(self, store: int, pick: int, kind: str, project: str | None, before: int) -> None:
        record: dict[str, Any] = dict(self.pool[pick % len(self.pool)])
        value = record[kind]
        if value is None:
            return
        what: dict[str, Any] = {kind: UUID(value) if kind == "call_id" else value}
        erasure = Erasure(project=project or record["project"], before_ns=before, **what)
        log = [*self.model.log]
        calls, contents, events = self.model.erase(erasure)
        report = self.stores[store].erase(erasure)
        assert (report.calls, report.contents, report.events_redacted) == (calls, contents, events)
        self.hear_of_erasure(erasure.project, str(value), has_changed=self.model.log != log)
        self.same_log()

    def hear_of_erasure(self, project: str, value: str, *, has_changed: bool) -> None:
        """What the store wrote of it itself is in the log from now on."""
        told = whole_log(self.stores[0])[len(self.model.log) :]
        assert bool(told) is has_changed
        assert {(one["type"], one["project"], one["content"]) for one in told} <= {("hub:redacted", project, None)}
        assert value not in repr(told)
        assert self.model.append(told) == (len(told), 0, [])

    # Reading.

    @precondition(lambda self: self.pool)
    @rule(store=who, pick=one_pick, after=st.integers(0, 8))
    def stream(self, store: int, pick: int, after: int) -> None:
        stream_id = self.pool[pick % len(self.pool)]["stream_id"]
        found = list(self.stores[store].read_stream(UUID(stream_id), after=after))
        assert found == self.model.stream(stream_id, after)

    @rule(
        store=who,
        pick=one_pick,
        types=st.none() | st.lists(st.sampled_from(TYPES), unique=True),
        limit=st.sampled_from((0, 1, 2, 5, 1000)),
    )
    def page(self, store: int, pick: int, types: list[str] | None, limit: int) -> None:
        cursor, place = self.cursors[pick % len(self.cursors)]
        page = self.stores[store].read_all(cursor, types=types, limit=limit)
        events, end = self.model.page(place, types, limit)
        assert list(page.events) == events
        assert page.next is not None or end == 0
        self.cursors.append((page.next, end))

    @precondition(lambda self: self.model.log)
    @rule(store=who, pick=one_pick)
    def refer(self, store: int, pick: int) -> None:
        """Ask what an event's content is made of, and keep the references."""
        record = self.model.log[pick % len(self.model.log)]
        pieces = list(pieces_of(record))
        found = self.stores[store].references(UUID(record["stream_id"]), record["version"])
        assert len(found) == len(pieces)
        self.references += zip(found, pieces, strict=True)

    @rule(store=who)
    def content(self, store: int) -> None:
        """What all references that were ever given stand for now: the same, or nothing any more."""
        found = self.stores[store].content([ref for ref, _ in self.references])
        for ref, (project, kind, raw) in self.references:
            if found[ref] == Erased():
                continue
            assert (project, kind, raw) in self.model.pieces
            assert encoded(found[ref]) == raw
        for record in self.model.log[-3:]:
            refs = self.stores[store].references(UUID(record["stream_id"]), record["version"])
            values = self.stores[store].content(refs)
            assert [encoded(values[ref]) for ref in refs] == [raw for _, _, raw in pieces_of(record)]

    @rule(store=who, producer=st.sampled_from(PRODUCERS))
    def open_calls(self, store: int, producer: str) -> None:
        found = self.stores[store].open_calls(producer)
        assert [(one.stream_id, one.version, one.request) for one in found] == self.model.open_calls(producer)

    @rule(store=who)
    def calls(self, store: int) -> None:
        if isinstance(one := self.stores[store], SqlStore):
            found = {row["call_id"]: row["status"] for row in rows(one, "SELECT call_id, status FROM llm_calls")}
            assert found == self.model.statuses()

    # The store's life.

    @rule(store=who)
    def reopen(self, store: int) -> None:
        self.stores[store].close()
        self.stores[store] = self.open_store()
        self.tail = Follower(self.stores[store], limit=50)

    @rule(store=who)
    def rebuild(self, store: int) -> None:
        if isinstance(one := self.stores[store], SqlStore):
            live = projections(one)
            assert one.rebuild() == len(self.model.log)
            assert projections(one) == live

    @invariant()
    def nothing_is_missed(self) -> None:
        if hasattr(self, "tail"):
            had = len(self.tail.seen)
            self.tail.read()
            assert [place_of(one) for one in self.tail.seen[had:]] == [place_of(one) for one in self.model.log[had:]]

    @invariant()
    def the_projections_are_at_the_end_of_the_log(self) -> None:
        if hasattr(self, "stores") and isinstance(one := self.stores[0], SqlStore):
            reached = one.checkpoint("calls")
            assert one.read_all(reached).events == ()
            assert not self.model.log or reached == self.tail.cursor

    def same_log(self) -> None:
        for store in self.stores:
            assert whole_log(store) == self.model.log


def place_of(record: EventRecord) -> tuple[str, int, str]:
    return record["stream_id"], record["version"], record["id"]


def made_call(
    factory: Factory, recovery: Factory, people: dict[str, Any], history: int, topic: int, ending: str
) -> list[EventRecord]:
    """A call in a conversation of *history* messages, which all calls on one topic share."""
    tool = {"id": f"call_{topic}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
    result = {"role": "tool", "tool_call_id": f"call_{topic}", "content": f"result {topic}"}
    messages: list[Any] = [{"role": "user", "content": f"{topic}: {number}"} for number in range(history)]
    if topic == 2:
        messages += [asks, result]
    records = factory.call(
        messages,
        asks if topic == 1 else f"answer {topic}",
        error="it broke" if ending == "error" else None,
        response={"status": "error", "usage": None} if ending == "error" else None,
        tools=[{"name": "look"}] if topic else None,
        wire=topic == 2,
        **people,
    )
    if ending == "none":
        return records[:2]
    stream = records[0]["stream_id"]
    if ending == "lost":
        lost = recovery.event("llm:response", stream=stream, version=3, data={"status": "lost"}, **people)
        return [*records[:2], lost]
    if ending == "retried":
        retry = {"attempt": 1, "delay_ms": 20.0, "usage": {"input_tokens": 3, "output_tokens": 1}}
        records.insert(2, factory.event("provider:retry", stream=stream, version=7, data=retry, **people))
    return records
