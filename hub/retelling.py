"""Calls that others recorded, told to a recorder of ours as if they were made again: at their own times, and under ids
that follow from theirs. So they have the shape, the redaction and the capture of calls that were traced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.bus import EventBus
from hub.config import Settings
from hub.content import Cleaner
from hub.events import Constants, EventRecord, decode_frame
from hub.ids import uuid7_at
from hub.log import Appended, Pressure, Stream
from hub.outcomes import RequestFacts, ResponseFacts
from hub.recorder import Recorder
from hub.session import session
from hub.tracing_context import Minted
from hub.writer import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A call as another program recorded it."""

    key: str
    """Names it among all calls of such programs."""
    began_ns: int
    """UTC Unix ns."""
    duration_ms: float | None
    request: RequestFacts
    response: ResponseFacts
    ttft_ms: float | None = None
    status: str = "ok"
    session_id: str | None = None
    user_id: str | None = None
    trace: Mapping[str, Any] = field(default_factory=dict)
    """Of the envelope: the call's place in a trace."""
    call_id: str | None = None
    """Follows from `key` where there is none."""


class Retelling:
    """Makes events of calls that are told. For one thread."""

    max_frame_bytes: int
    pressure: int = Pressure.NONE
    syncer: Any = None

    def __init__(self, settings: Settings, *, service: str, producer: str, environment: str | None = None) -> None:
        """*service*, *environment*: of the program whose calls these are."""
        self.max_frame_bytes = int(settings.max_body_bytes) + (1 << 20)
        self.constants: Constants = {
            "project": settings.project,
            "environment": environment,
            "service": service,
            "producer": producer,
        }
        self.notes: deque[Callable[[], None]] = deque()
        self._records: list[EventRecord] = []
        self._now = self._seq = 0
        self._call_id = ""
        self._trace: Mapping[str, Any] = {}
        self._recorder = Recorder(
            self,
            bus=EventBus(),
            cleaner=Cleaner(patterns=settings.redact_patterns, max_body_bytes=int(settings.max_body_bytes)),
            tracing=_Told(lambda: self._trace),
            capture=settings.capture,
            clock=Clock(wall=lambda: self._now, monotonic=lambda: self._now),
            new_id=lambda: self._call_id,
        )

    def events(self, told: Told) -> list[EventRecord]:
        """The events of a call, the same each time. Raises: ValueError: It cannot be recorded."""
        began, seed = told.began_ns, told.key.encode("utf-8", "replace")
        self._records, self._now, self._call_id = [], began, told.call_id or uuid7_at(began, seed)
        self._trace = told.trace
        with session(told.session_id, user_id=told.user_id):
            call = self._recorder.begin(told.request)
            call.sent()
            self._now += round((told.duration_ms or 0.0) * 1e6)
            call.end(told.response, status=told.status)
        types = {record["type"] for record in self._records}
        if not {"llm:request", "llm:response"} <= types:
            raise ValueError("it cannot be recorded")
        for record in self._records:
            record["id"] = uuid7_at(began, seed + b"\0" + record["type"].encode())
            if record["type"] == "llm:response":
                record["data"]["ttft_ms"] = told.ttft_ms
                if told.duration_ms is None:
                    record["data"]["duration_ms"] = None
        return self._records

    def next_seq(self) -> int:
        """The number of an event of the same producer that the caller makes."""
        self._seq += 1
        return self._seq

    # What the recorder writes to.

    def append(self, body: bytes, count: int, stream: Stream, priority: int) -> Appended | None:
        if len(body) > self.max_frame_bytes:
            return None
        placed = Appended(self._seq + 1, stream.version + 1)
        self._seq, stream.version = self._seq + count, stream.version + count
        self._records += decode_frame(
            body, first_seq=placed.first_seq, first_version=placed.first_version, constants=self.constants
        )
        return placed

    def count_unsampled(self) -> None:
        return


class _Told:
    """The place in a trace that the call had, if anybody knows of it."""

    live = False

    def __init__(self, trace: Callable[[], Mapping[str, Any]]) -> None:
        self._trace = trace

    def begin(self, request: Mapping[str, Any]) -> Minted:
        return Minted(dict(self._trace()), None)

    def observe(self, records: Sequence[EventRecord]) -> None:
        return
