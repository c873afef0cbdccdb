"""A log that is a list, and a recorder on it with a clock and ids that count."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hub.bus import EventBus
from hub.content import Cleaner
from hub.events import Constants, EventRecord, decode_frame
from hub.facts import Capture
from hub.log import Appended, Stream
from hub.recorder import Recorder
from hub.tracing_context import Mint, sampler_from
from hub.writer import Clock


class ListLog:
    """Keeps every frame as decoded records."""

    max_frame_bytes = 1 << 24
    pressure = 0
    syncer: Any = None

    def __init__(self) -> None:
        self.constants: Constants = {
            "project": "shop",
            "environment": "test",
            "service": "till",
            "producer": "0190aaaa-0000-7000-8000-00000000beef",
        }
        self.notes: deque[Callable[[], None]] = deque()
        self.records: list[EventRecord] = []
        self.unsampled = 0

    def append(self, body: bytes, count: int, stream: Stream, priority: int) -> Appended | None:
        placed = Appended(len(self.records) + 1, stream.version + 1)
        stream.version += count
        self.records += decode_frame(
            body, first_seq=placed.first_seq, first_version=placed.first_version, constants=self.constants
        )
        return placed

    def count_unsampled(self) -> None:
        self.unsampled += 1

    def types(self) -> list[str]:
        return [record["type"] for record in self.records]

    def only(self, event_type: str) -> EventRecord:
        (record,) = [record for record in self.records if record["type"] == event_type]
        return record


class Ticking:
    """A clock that moves one millisecond each time it is read, from 2026-01-01."""

    def __init__(self) -> None:
        self.now = 1_767_225_600 * 10**9

    def __call__(self) -> int:
        self.now += 1_000_000
        return self.now


def counting_ids() -> Callable[[], str]:
    """UUIDv7-shaped ids that count up, with room for those that follow from a frame's first."""
    count = iter(range(16, 1 << 40, 16))
    return lambda: f"019b7000-0000-7000-8000-{next(count):012x}"


class OwnTrace:
    """Ids minted within the ambient trace; no spans."""

    live = False

    def __init__(self) -> None:
        self.mint = Mint(sampler_from({}))

    def begin(self, request: Any) -> Any:
        return self.mint.start()

    def observe(self, records: Any) -> None:
        return


def recorder_on(log: ListLog, *, capture: Capture = "full", sample_rate: float = 1.0) -> Recorder:
    """A recorder that writes to *log*."""
    return Recorder(
        log,
        bus=EventBus(),
        cleaner=Cleaner(),
        tracing=OwnTrace(),
        capture=capture,
        sample_rate=sample_rate,
        clock=Clock(wall=Ticking(), monotonic=Ticking()),
        new_id=counting_ids(),
    )
