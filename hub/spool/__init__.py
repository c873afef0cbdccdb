"""The spool: the queue between those who emit and the sinks, in files of this process's own.

`append` copies a frame into a shared mapping and makes no system call but getpid; everything slow (making segments,
deleting them, bringing them to the disk) belongs to the keeper's thread, which calls `tend`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hub.events import Constants
from hub.log import Appended, Pressure, Stream
from hub.polite import Rest, rest
from hub.spool import bounds as limits
from hub.spool.bounds import Bounds
from hub.spool.control import (
    DEFERRED,
    DURABLE_TIMEOUTS,
    EMITTED,
    MADE_IN_APPEND,
    MEMORY_FALLBACKS,
    Accounting,
    Control,
    Reason,
)
from hub.spool.cursor import SinkCursor
from hub.spool.durability import Syncer
from hub.spool.folder import discard, make_folder
from hub.spool.segments import CRC_SLICE, DATA, FORMAT, FRAME, LENGTH, MAX_COUNT, REST, Segment, checksum, frame_size
from hub.spool.shelf import Shelf

Durability = Literal["memory", "crash_safe", "durable"]

STORE = "store"
"""The sink whose cursor alone holds segments back."""
LOCK_WAIT = 0.1
DISK_RETRY = 5.0
DEFERRED_MAX = 4096
DROP_RANGES = 32

_crc32, _getpid = zlib.crc32, os.getpid
_pack_header, _pack_rest, _pack_length = FRAME.pack_into, REST.pack, LENGTH.pack_into
_HEADER = FRAME.size


class Spool:
    """The log of one process (`hub.log.Log`). Make it with `create`; a forked child makes one of its own."""

    def __init__(
        self,
        folder: Path | None,
        lock_fd: int,
        control: Control,
        *,
        constants: Constants,
        durability: Durability,
        max_bytes: int,
        max_frame_bytes: int,
        segment_bytes: int,
        durable_timeout: float,
        rest: Rest,
    ) -> None:
        self.folder = folder
        """None: even the counters are in memory, because no folder could be made."""
        self.control = control
        self.constants = constants
        self.durability = durability
        self.max_frame_bytes = max_frame_bytes
        self.pressure: int = 0
        self.notes: deque[Callable[[], None]] = deque()
        self.trouble: list[dict[str, Any]] = []
        """What the keeper is to report as hub:degraded."""
        self._rest = rest
        self._lock_fd = lock_fd
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._closed = False
        self._deferred: deque[tuple[bytes, int, Stream, int]] = deque()
        self._draining = False
        self._overflow = 0
        self._drops: dict[Reason, list[list[int]]] = {}
        self._words = control.words
        self._seq = 0
        self._floor = DATA
        self._disk_again = 0.0
        self._final: Accounting | None = None
        sinks = len(control.sinks)
        in_files = durability != "memory" and folder is not None
        self.shelf = Shelf(
            folder if in_files else None,
            segment_bytes=segment_bytes,
            max_frame_bytes=max_frame_bytes,
        )
        self._bounds = self._full_bounds = Bounds.of(max_bytes, segment_bytes, sinks=sinks)
        self._memory_bounds = Bounds.of(min(max_bytes, limits.MEMORY_BYTES), limits.MEMORY_SEGMENT, sinks=sinks)
        self._segment = self.shelf.use(self._make())
        self._map = self._segment.open_map()
        self._limit = 0
        self.cursors = {name: SinkCursor(self, name, rest) for name in control.sinks}
        self._weigh()
        self.syncer = Syncer(lambda: self._seq, self.sync_files, self._count_timeout, timeout=durable_timeout)
        self.keeper_gate: Callable[[], None] = _nothing
        """Wakes the keeper; the pipeline puts its own here."""

    @classmethod
    def create(
        cls,
        root: Path | None,
        *,
        constants: Constants,
        durability: Durability = "crash_safe",
        sinks: Sequence[str] = (STORE,),
        max_bytes: int | None = None,
        max_frame_bytes: int = 24 * limits.MEBIBYTE,
        segment_bytes: int | None = None,
        durable_timeout: float = 1.0,
        meta: Mapping[str, Any] | None = None,
        rest: Rest = rest,
    ) -> Spool:
        """A new spool in a folder of its own under *root*, named by the producer.

        Where no folder can be made everything is in memory, and `trouble` says why.

        Args:
            root: The folder of one database's spools. None: memory only.
            sinks: Names; one of them is "store".
            max_bytes: Of all files together; 1 GiB, in memory 32 MiB.
            segment_bytes: Of one file; 16 MiB, in memory 2 MiB.
            meta: What else the control file says of this producer.
        Raises: OSError: There is not even memory.
        """
        if STORE not in sinks:
            raise ValueError(f"one of the sinks must be called {STORE!r}")
        in_memory = durability == "memory" or root is None
        max_bytes = max_bytes or (limits.MEMORY_BYTES if in_memory else limits.DISK_BYTES)
        segment_bytes = segment_bytes or (limits.MEMORY_SEGMENT if in_memory else limits.DISK_SEGMENT)
        said = {
            **(meta or {}),
            "constants": dict(constants),
            "durability": durability,
            "max_bytes": max_bytes,
            "pid": os.getpid(),
        }
        folder, lock_fd, control, error = _home(root, said, sinks)
        spool = cls(
            folder,
            lock_fd,
            control,
            constants=constants,
            durability=durability,
            max_bytes=max_bytes,
            max_frame_bytes=max_frame_bytes,
            segment_bytes=segment_bytes,
            durable_timeout=durable_timeout,
            rest=rest,
        )
        if error is not None:
            spool._fell_back(error)
        return spool

    # Appending.

    def append(self, body: bytes, count: int, stream: Stream, priority: int) -> Appended | None:
        """Keep a frame of *count* events; they get the stream's next versions.

        None: dropped whole and counted, or left for later because this call interrupted another of its own thread (a
        signal handler, a finaliser) or waited 0.1 s for one of another thread.
        """
        size = len(body)
        crc = _crc32(body) if size <= CRC_SLICE else checksum(body)
        lock = self._lock
        try:
            taken = lock.acquire(False) or lock.acquire(True, LOCK_WAIT)
        except BaseException:  # an interrupt, perhaps after the lock was taken
            _let_go(lock)
            raise
        if not taken or self._busy:
            if taken:
                lock.release()
            self._defer(body, count, stream, priority)
            return None
        self._busy = True
        try:
            segment = self._segment
            start = segment.end
            end = (start + size + _HEADER + 7) & ~7
            if end > self._limit or not 0 < size <= self.max_frame_bytes or _getpid() != self._pid:
                admitted = self._admit(size, count, priority)
                if admitted is None:
                    return None
                segment = admitted
                start = segment.end
                end = (start + size + _HEADER + 7) & ~7
            seq, version, mapped = self._seq + 1, stream.version + 1, self._map
            crc = _crc32(_pack_rest(seq, version, count, FORMAT), crc)
            _pack_header(mapped, start, 0, crc, seq, version, count, FORMAT)
            mapped[start + _HEADER : start + _HEADER + size] = body
            _pack_length(mapped, start, size)
            # Interrupts and thread switches come at calls only, and there is none among these: all of them or none.
            stream.version += count
            segment.end = end
            segment.events += count
            self._seq = last = seq + count - 1
            self._words[EMITTED] = last
        except Exception:
            self._drop(Reason.FAULT, count)
            return None
        finally:
            self._busy = False
            lock.release()
        if self._deferred and not self._draining:
            self.write_deferred()
        return Appended(seq, version)

    def _defer(self, body: bytes, count: int, stream: Stream, priority: int) -> None:
        if len(self._deferred) < DEFERRED_MAX:
            self._deferred.append((body, count, stream, priority))
        else:
            self._overflow += count

    def write_deferred(self) -> None:
        """Append what was left for later."""
        self._draining = True
        try:
            for _ in range(len(self._deferred)):
                frame = self._deferred.popleft()
                self.append(*frame)
                self._words[DEFERRED] += 1
        except IndexError:  # another thread took the last one
            pass
        finally:
            self._draining = False
        if self._overflow:
            with self._exclusive():
                lost, self._overflow = self._overflow, 0
                self._drop(Reason.NOTES_FULL, lost)

    def _admit(self, size: int, count: int, priority: int) -> Segment | None:
        """The segment for a frame for which the fast path found no room or right; None: it is dropped."""
        if self._closed or _getpid() != self._pid:
            return None
        if size > self.max_frame_bytes or not 0 < count <= MAX_COUNT or size == 0:
            self._drop(Reason.TOO_LARGE if size else Reason.FAULT, count)
            return None
        segment, needed = self._segment, frame_size(size)
        fits = segment.end + needed <= segment.allocated
        fresh = segment.end == DATA
        start = segment.base + (segment.end if fits or fresh else segment.allocated + DATA)
        if not self._bounds.admits(start + needed - self._floor, priority):
            self.pressure = Pressure.ESSENTIAL_ONLY
            self._drop(Reason.SPOOL_FULL, count)
            return None
        try:
            if not fits:
                segment = self._roll(needed)
        except OSError:
            self._drop(Reason.NO_SPACE, count)
            return None
        self._weigh(needed)
        return segment

    def _roll(self, needed: int) -> Segment:
        segment = self._segment
        if segment.end > DATA:
            try:
                ready = self.shelf.ready.popleft()
            except IndexError:
                ready = self._make()
                self._words[MADE_IN_APPEND] += 1
            segment = self.shelf.use(ready)
            self._segment, self._map = segment, segment.open_map()
            self.keeper_gate()
        if DATA + needed > segment.allocated:
            segment.reserve(DATA + needed)
        return segment

    def _make(self) -> Segment:
        try:
            return self.shelf.make()
        except OSError as error:
            if self.shelf.folder is None:
                raise
            self._fell_back(error)
            return self.shelf.make()

    def _weigh(self, coming: int = 0) -> None:
        """Set pressure and how far appends go unchecked, with *coming* bytes about to be appended."""
        segment = self._segment
        waiting = segment.base + segment.end + coming - self._floor
        self.pressure = self._bounds.pressure(waiting)
        gate = self._bounds.next_gate(waiting) + self._floor - segment.base
        self._limit = -1 if self._closed else min(segment.allocated, gate)

    def _drop(self, reason: Reason, count: int) -> None:
        first, last = self._seq + 1, self._seq + count
        self._seq = self._words[EMITTED] = last
        self.control.drop(reason, count)
        ranges = self._drops.setdefault(reason, [])
        if ranges and (ranges[-1][1] == first - 1 or len(ranges) >= DROP_RANGES):
            ranges[-1][1] = last
        else:
            ranges.append([first, last])

    def _fell_back(self, error: OSError) -> None:
        """From now on in memory: there is no room on the disk, or no folder."""
        self.shelf.use_memory()
        self._bounds = self._memory_bounds
        newest = self.shelf.newest
        if newest is not None:  # what waits on the disk does not count against the memory
            self._floor = max(self._floor, newest.base + newest.allocated)
        self._disk_again = time.monotonic() + DISK_RETRY
        self._words[MEMORY_FALLBACKS] += 1
        self.trouble.append({"reason": "memory_mode", "error": type(error).__name__, "errno": error.errno})

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Nobody appends meanwhile; who does so from within leaves it for later."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = before

    # Waiting for the disk.

    def sync(self) -> None:
        """Wait until the frames appended so far are on the disk, at most `durable_timeout`."""
        self.syncer.wait()

    async def async_sync(self) -> None:
        """`sync` without holding up the running loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a loop that is not asyncio's
            self.syncer.wait()
        else:
            await self.syncer.future(loop)

    # The sinks' side.

    @property
    def admitted(self) -> int:
        """Events appended so far."""
        segment = self._segment
        return segment.events_before + segment.events

    def reader(self, sink: str) -> SinkCursor:
        """The cursor of one sink. For one thread."""
        return self.cursors[sink]

    def passed(self, cursor: SinkCursor) -> None:
        """A cursor has moved."""
        if cursor.sink == STORE:
            with self._exclusive():
                self._floor = max(self._floor, cursor.position)
                self._weigh()

    def counters(self) -> Accounting:
        """Every counter: emitted = stored + waiting + dropped, for each sink. After `close` the last ones."""
        if self._final is not None:
            return self._final
        with self._exclusive():
            return self.control.accounting()

    def take_drops(self) -> list[dict[str, Any]]:
        """Payloads of hub:dropped events for what was dropped and not named yet. `reported` says that they are out."""
        with self._exclusive():
            ranges, self._drops = self._drops, {}
            reports = self.control.reports()
        for report in reports:
            if report["sink"] is None:
                report["producer_seqs"] = ranges.get(Reason[report["reason"].upper()], [])
        return reports

    def reported(self, drop: Mapping[str, Any]) -> None:
        """A hub:dropped event with this payload was appended."""
        self.control.reported(drop)

    def room_for_report(self) -> bool:
        """Whether a short frame of the hub's own would get in."""
        segment = self._segment
        waiting = segment.base + segment.allocated + DATA - self._floor
        return not self._closed and self._bounds.admits(waiting + 4096, 2)

    # The keeper's side.

    def tend(self) -> None:
        """Do the slow work that appends left: deferred frames, mappings, passed files, segments ahead."""
        if self._deferred or self._overflow:
            self.write_deferred()
        self.shelf.retire(self._rest)
        self._reclaim()
        if not self._closed:
            self._prepare()

    def _reclaim(self) -> None:
        store = self.cursors[STORE].position
        for cursor in self.cursors.values():
            if store - cursor.position > self._bounds.lag:
                self._hurry(cursor, store - self._bounds.lag)
        self.shelf.remove_before(min(cursor.state.ordinal for cursor in self.cursors.values()), self._rest)

    def _hurry(self, cursor: SinkCursor, position: int) -> None:
        for segment in list(self.shelf.in_use.values()):
            if segment.base >= position:
                cursor.skip_to(segment)
                return

    def _prepare(self) -> None:
        if self.shelf.in_memory_only_now and time.monotonic() > self._disk_again:
            self._try_disk()
        try:
            self.shelf.prepare(self._rest, sync=self.durability == "durable")
        except OSError as error:
            if self.shelf.folder is not None:
                with self._exclusive():
                    self._fell_back(error)
                    self._weigh()

    def _try_disk(self) -> None:
        self._disk_again = time.monotonic() + DISK_RETRY
        try:
            self.shelf.use_disk()
        except OSError:
            return
        with self._exclusive():
            self._bounds = self._full_bounds
            self._floor = self.cursors[STORE].position
            self._weigh()
        self.trouble.append({"reason": "disk_again"})

    def sync_files(self) -> bool:
        """Bring what was appended so far to the disk; False: part of it is in memory. Raises: OSError"""
        if self.shelf.dirty:
            self.shelf.sync()
            self.control.sync()
        return self.shelf.folder is not None

    def _count_timeout(self) -> None:
        with self._exclusive():
            self._words[DURABLE_TIMEOUTS] += 1

    # The end.

    def after_fork_in_child(self) -> None:
        """Let go of everything inherited, at once and without touching the parent's files."""
        self._closed, self._limit, self._pid = True, -1, -1
        self._lock = threading.RLock()
        self._deferred.clear()
        self.notes.clear()
        self.syncer.forget_in_child()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        for cursor in self.cursors.values():
            cursor.close()
        for segment in self.shelf.all():
            segment.forget_in_child()
        self.control.close()

    def close(self) -> bool:
        """Take nothing more and let go of the files; True when nothing was left to do and the folder is deleted.

        What waits stays on the disk for the next process. Nobody may use the spool's cursors any more.
        """
        with self._exclusive():
            if self._closed:
                return self.folder is None
            self._closed = True
            self._weigh()
        self.syncer.stop()
        self._final = counted = self.control.accounting()
        done = not any(sink.waiting for sink in counted.sinks.values()) and not self.take_drops()
        for cursor in self.cursors.values():
            cursor.close()
        self.shelf.drop_ready()
        for segment in self.shelf.all():
            segment.close()
        self.control.close()
        if done and self.folder is not None:
            discard(self.folder)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        return done


def _nothing() -> None:
    pass


def _let_go(lock: threading.RLock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was not taken


def _home(
    root: Path | None, meta: Mapping[str, Any], sinks: Sequence[str]
) -> tuple[Path | None, int, Control, OSError | None]:
    made: list[Control] = []
    error: OSError | None = None
    if root is not None:
        try:
            folder, fd = make_folder(
                root, meta["constants"]["producer"], lambda young: made.append(Control.create(young, meta, sinks))
            )
            return folder, fd, made[0], None
        except OSError as raised:
            error = raised
    return None, -1, Control.create(None, meta, sinks), error


__all__ = ["Accounting", "Durability", "Reason", "SinkCursor", "Spool"]
