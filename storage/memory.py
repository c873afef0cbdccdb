"""An event store that lasts as long as its process: for tests and short experiments."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import orjson

from hub.events import EventRecord
from hub.polite import no_rest
from hub.store import AppendResult, Content, ContentRef, Cursor, Erased, Erasure, ErasureReport, OpenCall, Page
from storage.batch import Batch
from storage.bodies import Outline, hashes_in
from storage.own_events import own_event
from storage.reading import place
from storage.tombstones import CONFLICT, begun_ns, just_after, predicate, stripped, subjects, value_of


class _Kept(NamedTuple):
    record: EventRecord
    outline: Outline | None


class MemoryStore:
    """An `EventStore` without views. It gives out copies: nobody can change what it holds."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._log: list[_Kept] = []
        self._places: dict[tuple[str, int], int] = {}
        self._contents: dict[str, bytes] = {}
        self._given: set[str] = set()
        self._tombstones: dict[tuple[str, str, str], int] = {}

    def append(self, events: Sequence[EventRecord]) -> AppendResult:
        with self._lock:
            batch = Batch(events)
            spots = [(record["stream_id"], record["version"]) for record in batch.records]
            batch.settle((*spot, self._log[self._places[spot]].record["id"]) for spot in spots if spot in self._places)
            batch.records = [stripped(one) if self._is_erased(one) else one for one in batch.records]
            keys = {record["project"]: _key(record["project"]) for record in batch.records}
            batch.take_content_apart(keys, batch.pieces, no_rest)
            for record in batch.records:
                bare: EventRecord = {**record, "content": None}
                self._places[record["stream_id"], record["version"]] = len(self._log)
                self._log.append(_Kept(orjson.loads(orjson.dumps(bare)), batch.outline_of(record)))
            for piece in batch.pieces.values():
                self._contents[piece.hash.hex()] = piece.raw
            self._given.update(self._contents)
            return AppendResult(len(batch.records), batch.duplicates, tuple(batch.conflicts))

    def read_stream(self, stream_id: UUID, *, after: int = 0) -> Iterator[EventRecord]:
        with self._lock:
            found = [
                kept
                for kept in self._log
                if kept.record["stream_id"] == str(stream_id) and kept.record["version"] > after
            ]
            found.sort(key=lambda kept: kept.record["version"])
            return iter([self._whole(kept) for kept in found])

    def read_all(self, after: Cursor | None = None, *, types: Collection[str] | None = None, limit: int = 1000) -> Page:
        with self._lock:
            end, events = place(after), list[EventRecord]()
            for kept in self._log[end:]:
                if len(events) == limit:
                    break
                end += 1
                if types is None or kept.record["type"] in types:
                    events.append(self._whole(kept))
            return Page(tuple(events), Cursor(str(end)) if end or after is not None else None)

    def content(self, refs: Sequence[ContentRef]) -> Mapping[ContentRef, Content | Erased]:
        with self._lock:
            for ref in refs:
                if ref not in self._given:
                    raise KeyError(ref)
            return {ref: orjson.loads(self._contents[ref]) if ref in self._contents else Erased() for ref in refs}

    def references(self, stream_id: UUID, version: int) -> tuple[ContentRef, ...]:
        """The pieces that an event's content is made of, for `content`; nothing for an unknown event."""
        with self._lock:
            index = self._places.get((str(stream_id), version))
            outline = None if index is None else self._log[index].outline
            return tuple(ContentRef(ref) for ref in _refs(outline))

    def erase(self, what: Erasure) -> ErasureReport:
        kind, value = predicate(what)
        with self._lock:
            before_ns = self._bound(what, kind, value)
            self._bury(what.project, kind, value, before_ns)
            named = {
                index
                for index, kept in enumerate(self._log)
                if _covers(what.project, kind, value, before_ns, self._told(kept))
            }
            calls = {call for index in named if (call := self._log[index].record["call_id"]) is not None}
            for call_id in calls:
                of_call = [one.record for one in self._log if one.record["call_id"] == call_id]
                mine = [one for one in of_call if one["project"] == what.project]
                if any(value_of(one, kind) != value for one in mine) or not _has_ended(mine):
                    self._bury(what.project, "call", call_id, before_ns)
            hit = [
                index
                for index, kept in enumerate(self._log)
                if index in named or (kept.record["call_id"] in calls and kept.record["project"] == what.project)
            ]
            changed = [index for index in hit if self._log[index] != _Kept(stripped(self._log[index].record), None)]
            freed = {ref for index in hit for ref in _refs(self._log[index].outline)}
            for index in hit:
                self._log[index] = _Kept(stripped(self._log[index].record), None)
            freed -= {ref for kept in self._log for ref in _refs(kept.outline)}
            for ref in freed:
                del self._contents[ref]
            if changed:
                facts = {"kind": kind, "calls": len(calls), "events": len(changed)}
                self.append([own_event("hub:redacted", what.project, facts, time.time_ns())])
            return ErasureReport(len(calls), len(freed), len(hit))

    def checkpoint(self, name: str) -> Cursor | None:
        return None

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        with self._lock:
            requests: dict[str, _Kept] = {}
            versions: dict[str, int] = {}
            answered = set()
            for kept in self._log:
                record, stream = kept.record, kept.record["stream_id"]
                versions[stream] = max(record["version"], versions.get(stream, 0))
                if record["type"] == "llm:request" and record["producer"] == producer:
                    requests.setdefault(stream, kept)
                elif record["type"] == "llm:response":
                    answered.add(stream)
            return [
                OpenCall(stream, versions[stream], self._whole(requests[stream]))
                for stream in sorted(requests.keys() - answered)
            ]

    def close(self) -> None:
        return

    def _is_erased(self, record: EventRecord) -> bool:
        return any(_covers(*key, before_ns, record) for key, before_ns in self._tombstones.items())

    def _bury(self, project: str, kind: str, value: str, before_ns: int) -> None:
        key = (project, kind, value)
        self._tombstones[key] = max(before_ns, self._tombstones.get(key, before_ns))

    def _bound(self, what: Erasure, kind: str, value: str) -> int:
        """Before which what is erased began."""
        if what.before_ns is not None:
            return what.before_ns
        told = [one for kept in self._log for one in subjects(self._told(kept))]
        meant = [one for one in told if one["project"] == what.project and value_of(one, kind) == value]
        return max([time.time_ns(), *(just_after(begun_ns(one)) for one in meant)])

    def _told(self, kept: _Kept) -> EventRecord:
        """With content where it tells of another event."""
        return self._whole(kept) if kept.record["type"] == CONFLICT else kept.record

    def _whole(self, kept: _Kept) -> EventRecord:
        record: EventRecord = orjson.loads(orjson.dumps(kept.record))
        if kept.outline is not None:
            record["content"] = {
                name: [self._load(one) for one in found] if isinstance(found, list) else self._load(found)
                for name, found in kept.outline.items()
            }
        return record

    def _load(self, digest: bytes) -> Content:
        return orjson.loads(self._contents[digest.hex()])


def _has_ended(records: Sequence[EventRecord]) -> bool:
    return any(record["type"] == "llm:response" for record in records)


def _key(project: str) -> bytes:
    return hashlib.sha256(project.encode()).digest()


def _covers(project: str, kind: str, value: str, before_ns: int, record: EventRecord) -> bool:
    return any(
        one["project"] == project and value_of(one, kind) == value and begun_ns(one) < before_ns
        for one in subjects(record)
    )


def _refs(outline: Outline | None) -> Iterator[str]:
    return (digest.hex() for digest in hashes_in(outline or {}))
