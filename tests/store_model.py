"""What an event store does, said as simply as possible: lists, and no care for time or room."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hub.events import EventRecord
from hub.store import Erasure

Place = tuple[str, int]
Piece = tuple[str, str, bytes]
"""Project, whether it is a message, and its JSON."""


@dataclass(frozen=True)
class Tombstone:
    project: str
    kind: str
    value: str
    before_ns: int

    def covers(self, record: EventRecord) -> bool:
        """Whether it is about *record*, or about the event that *record* carries because it lost its place."""
        return any(
            one["project"] == self.project and _value(one, self.kind) == self.value and _begun(one) < self.before_ns
            for one in _subjects(record)
        )


class Model:
    def __init__(self) -> None:
        self.log: list[EventRecord] = []
        self.tombstones: list[Tombstone] = []
        self.pieces: set[Piece] = set()
        """What is in the store, of all events."""
        self._held: dict[Place, str] = {}

    # Writing.

    def append(self, batch: Sequence[EventRecord]) -> tuple[int, int, list[EventRecord]]:
        """Returns: How many were new, how many repetitions, and those that conflict."""
        duplicates, conflicts, before = 0, [], len(self.log)
        for record in batch:
            holder = self._held.get(_place(record))
            if holder is None:
                self._held[_place(record)] = record["id"]
                kept = copy.deepcopy(record)
                self.log.append(_stripped(kept) if any(one.covers(kept) for one in self.tombstones) else kept)
                self.pieces.update(pieces_of(self.log[-1]))
            elif holder == record["id"]:
                duplicates += 1
            else:
                conflicts.append(record)
        return len(self.log) - before, duplicates, conflicts

    def erase(self, what: Erasure) -> tuple[int, int, int]:
        """Returns: How many calls, pieces of content and events it was about."""
        kind, value = next(
            (kind, str(value))
            for kind, value in (("call_id", what.call_id), ("session_id", what.session_id), ("user_id", what.user_id))
            if value is not None
        )
        assert what.before_ns is not None
        tombstone = Tombstone(what.project, kind, value, what.before_ns)
        self.tombstones.append(tombstone)
        named = [place for place, record in enumerate(self.log) if tombstone.covers(record)]
        calls = {call for place in named if (call := self.log[place]["call_id"]) is not None}
        for call in calls:
            mine = [one for one in self.log if one["call_id"] == call and one["project"] == what.project]
            has_ended = any(one["type"] == "llm:response" for one in mine)
            if not has_ended or any(_value(one, kind) != value for one in mine):
                self.tombstones.append(Tombstone(what.project, "call_id", call, what.before_ns))
        hit = set(named) | {
            place
            for place, record in enumerate(self.log)
            if record["call_id"] in calls and record["project"] == what.project
        }
        for place in hit:
            self.log[place] = _stripped(self.log[place])
        freed = self.pieces - {piece for record in self.log for piece in pieces_of(record)}
        self.pieces -= freed
        return len(calls), len(freed), len(hit)

    # Reading.

    def stream(self, stream_id: str, after: int = 0) -> list[EventRecord]:
        found = [one for one in self.log if one["stream_id"] == stream_id and one["version"] > after]
        return sorted(found, key=lambda record: record["version"])

    def page(self, start: int, types: Collection[str] | None, limit: int) -> tuple[list[EventRecord], int]:
        """Events from the place *start* in the log. Returns: them, and the place to go on from."""
        found: list[EventRecord] = []
        for place, record in enumerate(self.log[start:], start):
            if len(found) == limit:
                return found, place
            if types is None or record["type"] in types:
                found.append(record)
        return found, max(len(self.log), start)

    def open_calls(self, producer: str) -> list[tuple[str, int, EventRecord]]:
        """Stream, last version and request of each."""
        answered = {record["stream_id"] for record in self.log if record["type"] == "llm:response"}
        return sorted(
            (one["stream_id"], self.stream(one["stream_id"])[-1]["version"], one)
            for one in self.log
            if one["type"] == "llm:request" and one["producer"] == producer and one["stream_id"] not in answered
        )

    def statuses(self) -> dict[str, str]:
        """Of each call that the log has heard of."""
        found: dict[str, str] = {}
        for record in self.log:
            if record["type"].startswith(("llm:", "provider:")) and record["call_id"] is not None:
                found.setdefault(record["call_id"], "running")
                if record["type"] == "llm:response":
                    found[record["call_id"]] = record["data"]["status"]
        return found


def pieces_of(record: EventRecord) -> Iterator[Piece]:
    """The pieces of an event's content, in order."""
    for name, value in (record["content"] or {}).items():
        are_messages = name == "messages" and isinstance(value, list)
        for one in value if are_messages else [value]:
            yield record["project"], "message" if are_messages else "other", encoded(one)


def encoded(value: object) -> bytes:
    return orjson.dumps(value)


def _place(record: EventRecord) -> Place:
    return record["stream_id"], record["version"]


def _value(record: EventRecord, kind: str) -> Any:
    return dict(record)[kind]


def _begun(record: EventRecord) -> int:
    """A call's id says when the call began; what is about none happened when it happened."""
    call_id = record["call_id"]
    return record["occurred_at"] if call_id is None else int(call_id.replace("-", "")[:12], 16) * 10**6


def _subjects(record: EventRecord) -> list[EventRecord]:
    carried = (record["content"] or {}).get("original") if record["type"] == "hub:conflict" else None
    return [record] if carried is None else [record, carried]


def _stripped(record: EventRecord) -> EventRecord:
    bare: dict[str, Any] = {**record, "session_id": None, "user_id": None, "tags": None, "content": None}
    if record["type"].partition(":")[0] not in ("llm", "provider", "hub"):
        bare["data"] = {}
    return bare  # type: ignore[return-value]  # the keys are the same
