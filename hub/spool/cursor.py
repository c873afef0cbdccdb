"""A sink's place in the spool."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hub.events import EventRecord, decode_frame
from hub.polite import Rest
from hub.spool.control import Reason, SinkState
from hub.spool.segments import DATA, BlockReader, Segment

if TYPE_CHECKING:
    from hub.spool import Spool

BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order of the spool, and where the cursor goes once they are safe."""

    records: list[EventRecord]
    start: SinkState
    ordinal: int
    offset: int
    count: int
    """Events passed with this batch: the records, and those that cannot be read."""
    unreadable: int
    size: int
    """Bytes of the frames."""


class SinkCursor:
    """Read by one thread; moved forward by the keeper when the sink is too slow."""

    def __init__(self, spool: Spool, sink: str, rest: Rest) -> None:
        self.sink = sink
        self._spool = spool
        self._rest = rest
        self._state = SinkState(1, DATA, 0)
        self._lock = threading.Lock()
        self._reader: BlockReader | None = None
        self._reader_ordinal = 0
        spool.control.move(sink, self._state)

    @property
    def state(self) -> SinkState:
        return self._state

    @property
    def waiting(self) -> int:
        """Events appended and not passed yet."""
        return self._spool.admitted - self._state.passed

    def read_batch(self, max_events: int = 1000, max_bytes: int = 4 << 20) -> Batch | None:
        """What comes next, from the cursor; None: nothing. The same again until `commit`.

        One frame that is beyond the bounds alone makes a batch of its own.
        """
        while True:
            start = self._state
            try:
                return self._read(start, max_events, max_bytes)
            except (OSError, ValueError):
                if start is self._state:  # else the keeper moved the cursor and deleted what was being read
                    raise

    def _read(self, start: SinkState, max_events: int, max_bytes: int) -> Batch | None:
        ordinal, offset = start.ordinal, start.offset
        records: list[EventRecord] = []
        count = unreadable = size = 0
        constants = self._spool.constants
        while True:
            segment = self._segment(ordinal)
            sealed, limit, events_end = segment.sealed, segment.end, segment.events_before + segment.events
            if offset >= limit:
                if not sealed:
                    break
                ordinal, offset = ordinal + 1, DATA
                continue
            frame = self._blocks(segment).frame(offset, limit, verify=False)
            if frame is None:  # damaged: the rest of the segment with it
                lost = events_end - start.passed - count
                count, unreadable, offset = count + lost, unreadable + lost, limit
                continue
            frame_bytes = frame.end - offset
            if count and (count + frame.count > max_events or size + frame_bytes > max_bytes):
                break
            try:
                records += decode_frame(
                    frame.body, first_seq=frame.first_seq, first_version=frame.first_version, constants=constants
                )
            except ValueError:
                unreadable += frame.count
            count, size, offset = count + frame.count, size + frame_bytes, frame.end
            self._rest()
        if count == 0 and (ordinal, offset) == (start.ordinal, start.offset):
            return None
        return Batch(records, start, ordinal, offset, count, unreadable, size)

    def _segment(self, ordinal: int) -> Segment:
        try:
            return self._spool.shelf.in_use[ordinal]
        except KeyError:
            raise ValueError("the segment was passed") from None

    def _blocks(self, segment: Segment) -> BlockReader:
        if self._reader is None or self._reader_ordinal != segment.ordinal:
            self.close()
            self._reader = BlockReader(segment.open_source(), block_bytes=BLOCK)
            self._reader_ordinal = segment.ordinal
        return self._reader

    def commit(self, batch: Batch, *, rejected: int = 0, conflicts: int = 0) -> None:
        """*batch* is safe, but for *rejected* events that the sink will not take and *conflicts*."""
        with self._lock:
            now = self._state
            end = batch.start.passed + batch.count
            dropped = list(now.dropped)
            # What the keeper skipped meanwhile has reached the sink after all.
            dropped[Reason.BEHIND] -= max(0, min(now.passed, end) - batch.start.passed)
            for reason, count in (
                (Reason.REJECTED, rejected),
                (Reason.CONFLICT, conflicts),
                (Reason.UNREADABLE, batch.unreadable),
            ):
                dropped[reason] += count
            if (batch.ordinal, batch.offset) > (now.ordinal, now.offset):
                now = SinkState(batch.ordinal, batch.offset, end)
            self._set(replace(now, dropped=tuple(dropped)))
        self._spool.passed(self)

    def skip_to(self, segment: Segment) -> int:
        """Move forward to the beginning of *segment*. Gives the number of events left out; 0 when already there."""
        with self._lock:
            now = self._state
            if now.ordinal >= segment.ordinal:
                return 0
            skipped = segment.events_before - now.passed
            dropped = list(now.dropped)
            dropped[Reason.BEHIND] += skipped
            self._set(SinkState(segment.ordinal, DATA, segment.events_before, tuple(dropped)))
        return skipped

    def _set(self, state: SinkState) -> None:
        self._state = state
        self._spool.control.move(self.sink, state)

    @property
    def position(self) -> int:
        """Bytes of the spool before the cursor."""
        state = self._state
        segment = self._spool.shelf.in_use.get(state.ordinal)
        return 0 if segment is None else segment.base + state.offset

    def close(self) -> None:
        """Let go of the file being read."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
