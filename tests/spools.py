"""Spools, frames and stores for the tests of spool, pipeline and recovery."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.events import Constants, Data, EventRecord, encode_frame
from hub.log import Appended, Priority, Stream
from hub.spool import Accounting, Durability, Spool
from hub.store import AppendResult, OpenCall

KB = 1024


def new_id() -> str:
    """A UUIDv7-shaped id."""
    number = uuid.uuid4().int
    return str(uuid.UUID(int=number & ~(0xF << 76) | 7 << 76))


def constants(producer: str | None = None) -> Constants:
    return {"project": "shop", "environment": None, "service": "till", "producer": producer or new_id()}


def make_spool(
    root: Path | None,
    *,
    sinks: Sequence[str] = ("store",),
    durability: Durability = "crash_safe",
    segment_bytes: int = 64 * KB,
    max_bytes: int = 4096 * KB,
    max_frame_bytes: int = 256 * KB,
    **options: Any,
) -> Spool:
    """A small spool."""
    return Spool.create(
        root,
        constants=constants(),
        durability=durability,
        sinks=sinks,
        segment_bytes=segment_bytes,
        max_bytes=max_bytes,
        max_frame_bytes=max_frame_bytes,
        **options,
    )


def body(stream: Stream, count: int = 1, *, event_type: str = "test:event", size: int = 0, **data: Any) -> bytes:
    """A frame of *count* events, with about *size* bytes of content."""
    content = {"text": "x" * size} if size else None
    return encode_frame(
        stream.id,
        1_700_000_000_000_000_000,
        {},
        [{"id": new_id(), "type": event_type, "data": data, "content": content} for _ in range(count)],
    )


def put(
    spool: Spool, stream: Stream, count: int = 1, *, priority: int = Priority.EVENT, size: int = 0, **data: Any
) -> Appended | None:
    return spool.append(body(stream, count, size=size, **data), count, stream, priority)


def assert_exact(counted: Accounting) -> None:
    """emitted = stored + waiting + dropped, for each sink."""
    for name, sink in counted.sinks.items():
        assert counted.emitted == sink.stored + sink.waiting + sum(sink.dropped.values()), (name, counted)
        assert sink.waiting >= 0


class ListStore:
    """An event store in a list, by the identity rules of the real ones."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], EventRecord] = {}
        self.log: list[EventRecord] = []
        self.closed = False

    def append(self, events: Sequence[EventRecord]) -> AppendResult:
        new, duplicates, conflicts = 0, 0, []
        for event in events:
            there = self.records.setdefault((event["stream_id"], event["version"]), event)
            if there is event:
                self.log.append(event)
                new += 1
            elif there["id"] == event["id"]:
                duplicates += 1
            else:
                conflicts.append(event)
        return AppendResult(new, duplicates, tuple(conflicts))

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        last: dict[str, int] = {}
        for stream_id, version in self.records:
            last[stream_id] = max(last.get(stream_id, 0), version)
        answered = {record["stream_id"] for record in self.log if record["type"] == "llm:response"}
        return [
            OpenCall(record["stream_id"], last[record["stream_id"]], record)
            for record in self.log
            if record["type"] == "llm:request"
            and record["producer"] == producer
            and record["stream_id"] not in answered
        ]

    def of_type(self, event_type: str) -> list[EventRecord]:
        return [record for record in self.log if record["type"] == event_type]

    def streams(self) -> dict[str, list[int]]:
        """Versions by stream, sorted."""
        found: dict[str, list[int]] = {}
        for stream_id, version in sorted(self.records):
            found.setdefault(stream_id, []).append(version)
        return found

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


class ListSink:
    """A sink that keeps what it gets; it can be held, and can be told to fail."""

    def __init__(self, name: str = "store") -> None:
        self.name = name
        self.store = ListStore()
        self.batches: list[int] = []
        self.errors: list[BaseException] = []
        self.poison: set[Any] = set()
        self.free = threading.Event()
        self.free.set()
        self.closed = False

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        self.free.wait()
        if self.errors:
            raise self.errors.pop(0)
        for record in records:
            if record["data"].get("n") in self.poison and record["content"] is not None:
                raise ValueError("a secret")
            if -1 in self.poison and record["data"].get("n") == -1:
                raise ValueError("a secret")
        self.batches.append(len(records))
        conflicts = self.store.append(records).conflicts
        return conflicts if self.name == "store" else ()

    def close(self) -> None:
        self.closed = True

    @property
    def log(self) -> list[EventRecord]:
        return self.store.log


class Emitter:
    """Appends the hub's own events to a spool, as the recorder does."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.stream = Stream(new_id())
        self.refusal: BaseException | None = None
        """Raised instead, as by a subscriber."""

    def __call__(self, event_type: str, data: Data, *, call_id: str | None = None, content: Data | None = None) -> None:
        if self.refusal is not None:
            raise self.refusal
        frame = encode_frame(
            self.stream.id,
            1,
            {"call_id": call_id},
            [{"id": new_id(), "type": event_type, "data": data, "content": content}],
        )
        self.spool.append(frame, 1, self.stream, Priority.RESERVED)
