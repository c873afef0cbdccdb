"""A producer's own account, in a mapped file: counters and cursors that survive the process.

Numbers are 64-bit words. Each is changed by one thread at a time; a cursor is written beside the old one and then
switched to, so that a kill between two words leaves the old one standing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import orjson

from hub.errors import HubError

MAGIC = int.from_bytes(b"hubctl\x00\x01", "little")
NAME = "control"


class Reason(IntEnum):
    """Why events were dropped whole. The lower-case name stands in `hub:dropped`. Numbers are on disk: only add."""

    SPOOL_FULL = 0
    NO_SPACE = 1
    """The disk is full, and so is the memory used in its stead."""
    TOO_LARGE = 2
    FAULT = 3
    """An error of the spool's own."""
    NOTES_FULL = 4
    """Too much was emitted from within signal handlers and finalisers."""
    BEHIND = 5
    """One sink only: it was so slow that its cursor was moved forward."""
    REJECTED = 6
    """One sink only: it takes other events, but not this one, even without its content."""
    CONFLICT = 7
    """The store only: another event holds the place in the stream. `hub:conflict` carries this one."""
    UNREADABLE = 8
    """What stood in the spool was damaged."""
    PROCESS_DIED = 9
    """It was in memory, or a sink that is not the store had not had it yet."""


_MAGIC, _WORDS, EMITTED, MADE_IN_APPEND, DURABLE_TIMEOUTS, MEMORY_FALLBACKS, DEFERRED, REPORTED_RECOVERY = range(8)
PASSED_AT_DEATH, OPEN_AT_DEATH, EMITTED_BEFORE_CLOSING, PASSED_BEFORE_CLOSING = range(8, 12)
"""For recovery, which may itself be killed and begun again: each one more than its value, 0 is not known yet."""
UNSAMPLED, TOLD_UNSAMPLED = 12, 13
_REASONS = 16
_DROPPED, _REPORTED = 16, 32
_SINKS, _SINK = 64, 64
_SLOT = 3 + _REASONS
_SLOTS = (1, 1 + _SLOT)
_SINK_REPORTED = 1 + 2 * _SLOT


class ControlUnreadable(HubError):
    """A control file that is damaged or was written by a newer version."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; a newer version of llm-hub may be able to read it")
        self.path, self.reason = path, reason


@dataclass(frozen=True, slots=True)
class SinkState:
    """How far a sink has come."""

    ordinal: int
    """Of the segment it is in."""
    offset: int
    passed: int
    """Events before the cursor, those dropped for this sink among them."""
    dropped: tuple[int, ...] = (0,) * _REASONS


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """What became of the events, seen from one sink: emitted = stored + waiting + the sum of dropped."""

    stored: int
    waiting: int
    dropped: Mapping[str, int]
    """By reason; those that no sink got are in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """What a producer emitted and what became of it."""

    emitted: int
    sinks: Mapping[str, SinkCounts]
    made_in_append: int = 0
    """Segments that were not ready when they were needed."""
    durable_timeouts: int = 0
    """Waits for the disk that were given up."""
    memory_fallbacks: int = 0
    """Times the disk was full."""
    deferred: int = 0
    """Frames emitted from within a signal handler or finaliser."""
    unsampled: int = 0
    """Calls that sampling left out. They emitted nothing."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the producer said of itself when it began: constants, durability, max_bytes, pid, started_at."""


class Control:
    """The words of one producer, and what it said of itself when it began."""

    def __init__(self, buffer: mmap.mmap | bytearray, path: Path, fd: int = -1) -> None:
        self._buffer = buffer
        self._fd = fd
        words = memoryview(buffer)[: len(buffer) & ~7].cast("Q")
        if len(words) < _SINKS or words[_MAGIC] != MAGIC or not _SINKS <= words[_WORDS] <= len(words):
            raise ControlUnreadable(path, "not a control file this version knows")
        count = words[_WORDS]
        try:
            self.meta: dict[str, Any] = orjson.loads(bytes(buffer[8 * count :]).rstrip(b"\0"))
            self.sinks: tuple[str, ...] = tuple(self.meta["sinks"])
        except (ValueError, KeyError, TypeError) as error:
            raise ControlUnreadable(path, f"its description cannot be read ({type(error).__name__})") from error
        self.words = words

    @classmethod
    def create(cls, folder: Path | None, meta: Mapping[str, Any], sinks: Sequence[str]) -> Control:
        """A new control file in *folder*, or in memory. Raises: OSError"""
        count = _SINKS + _SINK * len(sinks)
        text = orjson.dumps({**meta, "sinks": list(sinks)})
        size = 8 * count + (len(text) + 7 & ~7)
        fd = -1
        if folder is None:
            buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                buffer = mmap.mmap(fd, size)
            except BaseException:
                os.close(fd)
                raise
        buffer[8 * count : 8 * count + len(text)] = text
        buffer[0:16] = MAGIC.to_bytes(8, "little") + count.to_bytes(8, "little")
        return cls(buffer, folder or Path("memory"), fd)

    @classmethod
    def open(cls, folder: Path, *, write: bool = False) -> Control:
        """The control file in *folder*; without *write* a copy of it as it is now.

        Raises: ControlUnreadable, OSError
        """
        path = folder / NAME
        if not write:
            return cls(bytearray(path.read_bytes()), path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size == 0:
                raise ControlUnreadable(path, "it is empty")
            return cls(mmap.mmap(fd, 0), path)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the mapping. Every later use raises ValueError."""
        self.words.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def sync(self) -> None:
        """Bring it to the disk. Raises: OSError"""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    # Counters of the whole spool.

    def dropped(self, reason: Reason) -> int:
        return self.words[_DROPPED + reason]

    def drop(self, reason: Reason, count: int) -> None:
        """Count events that no sink will get. Count them as emitted first."""
        self.words[_DROPPED + reason] += count

    @property
    def dropped_by_all(self) -> int:
        return sum(self.words[_DROPPED : _DROPPED + _REASONS])

    @property
    def admitted(self) -> int:
        """Events that sinks get, or would have got."""
        return self.words[EMITTED] - self.dropped_by_all

    def unreported(self, sink: str | None = None) -> dict[Reason, int]:
        """Drops, of the whole spool or of one sink, that no hub:dropped event has named yet."""
        if sink is None:
            counts: Sequence[int] = self.words[_DROPPED : _DROPPED + _REASONS]
            start = _REPORTED
        else:
            counts, start = self.sink(sink).dropped, self._place(sink) + _SINK_REPORTED
        return {reason: left for reason in Reason if (left := counts[reason] - self.words[start + reason]) > 0}

    def report(self, reason: Reason, count: int, sink: str | None = None) -> None:
        """A hub:dropped event has named *count* more of these."""
        start = _REPORTED if sink is None else self._place(sink) + _SINK_REPORTED
        self.words[start + reason] += count

    def reports(self) -> list[dict[str, Any]]:
        """Payloads of the hub:dropped events that are due. `reported` says that one is out."""
        return [
            {
                "reason": reason.name.lower(),
                "count": count,
                "sink": sink,
                "producer": self.meta["constants"]["producer"],
                "producer_seqs": [],
            }
            for sink in (None, *self.sinks)
            for reason, count in self.unreported(sink).items()
        ]

    def reported(self, report: Mapping[str, Any]) -> None:
        """The hub:dropped event with this payload was appended."""
        self.report(Reason[report["reason"].upper()], report["count"], report["sink"])

    @property
    def untold_unsampled(self) -> int:
        """Calls that sampling left out, and that no hub:unsampled event has counted yet."""
        return self.words[UNSAMPLED] - self.words[TOLD_UNSAMPLED]

    def told_unsampled(self, calls: int) -> None:
        """A hub:unsampled event has counted these."""
        self.words[TOLD_UNSAMPLED] += calls

    # Cursors.

    def _place(self, sink: str) -> int:
        return _SINKS + _SINK * self.sinks.index(sink)

    def sink(self, name: str) -> SinkState:
        place = self._place(name)
        slot = place + _SLOTS[self.words[place] & 1]
        ordinal, offset, passed, *dropped = self.words[slot : slot + _SLOT]
        return SinkState(ordinal, offset, passed, tuple(dropped))

    def move(self, name: str, state: SinkState) -> None:
        place, words = self._place(name), self.words
        other = 1 - (words[place] & 1)
        slot = place + _SLOTS[other]
        words[slot], words[slot + 1], words[slot + 2] = state.ordinal, state.offset, state.passed
        for number, count in enumerate(state.dropped, slot + 3):
            words[number] = count
        words[place] = other

    def accounting(self) -> Accounting:
        """All counters. Exact when nothing is being emitted or written at this moment."""
        emitted, everywhere = self.words[EMITTED], self.words[_DROPPED : _DROPPED + _REASONS].tolist()
        admitted = emitted - sum(everywhere)
        sinks = {}
        for name in self.sinks:
            state = self.sink(name)
            dropped = {
                reason.name.lower(): count
                for reason in Reason
                if (count := everywhere[reason] + state.dropped[reason]) > 0
            }
            sinks[name] = SinkCounts(state.passed - sum(state.dropped), admitted - state.passed, dropped)
        return Accounting(
            emitted=emitted,
            sinks=sinks,
            made_in_append=self.words[MADE_IN_APPEND],
            durable_timeouts=self.words[DURABLE_TIMEOUTS],
            memory_fallbacks=self.words[MEMORY_FALLBACKS],
            deferred=self.words[DEFERRED],
            unsampled=self.words[UNSAMPLED],
            meta=self.meta,
        )
