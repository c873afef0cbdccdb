"""The spool: the queue between those who emit and the sinks, in files of this process's own.

`append` copies a frame into a shared mapping and makes no system call but getpid; everything slow (making segments,
deleting them, bringing them to the disk) belongs to the keeper's thread, which calls `housekeeping`.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hub.events import Constants
from hub.log import Appended, Pressure, Stream
from hub.polite import Rest, no_rest, rest
from hub.spool.bounds import DISK_BYTES, DISK_SEGMENT, MEBIBYTE, MEMORY_BYTES, MEMORY_SEGMENT, Bounds
from hub.spool.control import (
    DEFERRED,
    DURABLE_TIMEOUTS,
    EMITTED,
    MADE_IN_APPEND,
    MEMORY_FALLBACKS,
    UNSAMPLED,
    Accounting,
    Reason,
)
from hub.spool.cursor import SinkCursor
from hub.spool.drops import DropLedger
from hub.spool.durability import Syncer
from hub.spool.folder import discard, let_go
from hub.spool.home import Home, make_home
from hub.spool.housekeeping import STORE, Housekeeping
from hub.spool.segments import CRC_SLICE, DATA, FORMAT, FRAME, LENGTH, MAX_COUNT, REST, Segment, checksum, frame_size
from hub.spool.shelf import Shelf

Durability = Literal["memory", "crash_safe", "durable"]

LOCK_WAIT = 0.1
DEFERRED_MAX = 4096

_crc32, _getpid = zlib.crc32, os.getpid
_pack_header, _pack_rest, _pack_length = FRAME.pack_into, REST.pack, LENGTH.pack_into
_HEADER = FRAME.size


class Spool:
    """The log of one process (`hub.log.Log`). Make it with `create`; a forked child makes one of its own."""

    def __init__(
        self,
        home: Home,
        *,
        constants: Constants,
        durability: Durability,
        max_bytes: int,
        max_frame_bytes: int,
        segment_bytes: int,
        durable_timeout: float,
        rest: Rest,
    ) -> None:
        self.folder = folder = home.folder
        """None: even the counters are in memory, because no folder could be made."""
        self.control = control = home.control
        self.constants = constants
        self.durability = durability
        self.max_frame_bytes = max_frame_bytes
        self.pressure: int = 0
        self.notes: deque[Callable[[], None]] = deque()
        self.trouble: list[dict[str, Any]] = []
        """What the keeper is to report as hub:degraded."""
        self._lock_fd = home.lock_fd
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self.closed = False
        self._deferred: deque[tuple[bytes, int, Stream, int]] = deque()
        self._draining = False
        self._overflow = 0
        self._drops = DropLedger(control)
        self._words = control.words
        self._seq = 0
        self.floor = DATA
        """Bytes before this count as passed: the store's place, or where memory took over from a full disk."""
        self._final: Accounting | None = None
        sinks = len(control.sinks)
        in_files = durability != "memory" and folder is not None
        self.shelf = Shelf(
            folder if in_files else None,
            segment_bytes=segment_bytes,
            max_frame_bytes=max_frame_bytes,
        )
        self.bounds = self.full_bounds = Bounds.of(max_bytes, segment_bytes, sinks=sinks)
        self._memory_bounds = Bounds.of(min(max_bytes, MEMORY_BYTES), MEMORY_SEGMENT, sinks=sinks)
        self.housekeeping = Housekeeping(self, rest)
        self._segment = self.shelf.use(self._make())
        self._map = self._segment.open_map()
        self._limit = 0
        self.cursors = {name: SinkCursor(self, name, rest) for name in control.sinks}
        self.weigh()
        self.syncer = Syncer(
            lambda: self._seq, self.housekeeping.sync_files, self._count_timeout, timeout=durable_timeout
        )
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
        max_frame_bytes: int = 24 * MEBIBYTE,
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
        max_bytes = max_bytes or (MEMORY_BYTES if in_memory else DISK_BYTES)
        segment_bytes = segment_bytes or (MEMORY_SEGMENT if in_memory else DISK_SEGMENT)
        said = {
            **(meta or {}),
            "constants": dict(constants),
            "durability": durability,
            "max_bytes": max_bytes,
            "pid": os.getpid(),
        }
        home = make_home(root, said, sinks)
        spool = cls(
            home,
            constants=constants,
            durability=durability,
            max_bytes=max_bytes,
            max_frame_bytes=max_frame_bytes,
            segment_bytes=segment_bytes,
            durable_timeout=durable_timeout,
            rest=rest,
        )
        if home.error is not None:
            spool.fall_back(home.error)
            spool.weigh()
        return spool

    # Appending.

    def append(self, body: bytes, count: int, stream: Stream, priority: int) -> Appended | None:
        """Keep a frame of *count* events; they get the stream's next versions.

        None: dropped whole and counted, or left for later because this call interrupted another of its own thread (a
        signal handler, a finaliser) or waited 0.1 s for one of another thread.
        """
        if self._deferred and not self._draining:  # else a response might come before its request
            self.write_deferred()
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

    @property
    def has_deferred(self) -> bool:
        return bool(self._deferred or self._overflow)

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
            with self.exclusive():
                lost, self._overflow = self._overflow, 0
                self._drop(Reason.NOTES_FULL, lost)

    def _admit(self, size: int, count: int, priority: int) -> Segment | None:
        """The segment for a frame for which the fast path found no room or right; None: it is dropped."""
        if self.closed or _getpid() != self._pid:
            return None
        if size > self.max_frame_bytes or not 0 < count <= MAX_COUNT or size == 0:
            self._drop(Reason.TOO_LARGE if size else Reason.FAULT, count)
            return None
        segment, needed = self._segment, frame_size(size)
        fits = segment.end + needed <= segment.allocated
        fresh = segment.end == DATA
        start = segment.base + (segment.end if fits or fresh else segment.allocated + DATA)
        if not self.bounds.admits(start + needed - self.floor, priority):
            self.pressure = Pressure.ESSENTIAL_ONLY
            self._drop(Reason.SPOOL_FULL, count)
            return None
        try:
            if not fits:
                segment = self._roll(needed)
        except OSError:
            self.weigh()  # the segment may be another one by now
            self._drop(Reason.NO_SPACE, count)
            return None
        self.weigh(needed)
        return segment

    def _roll(self, needed: int) -> Segment:
        segment = self._segment
        if segment.end > DATA:
            try:
                ready = self.shelf.ready.popleft()
            except IndexError:
                ready = self._make()
                self._words[MADE_IN_APPEND] += 1
            self.shelf.retire(no_rest)  # only when the keeper fell behind a burst, which would map all of the spool
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
            self.fall_back(error)
            return self.shelf.make()

    def weigh(self, coming: int = 0) -> None:
        """Set pressure and how far appends go unchecked, with *coming* bytes about to be appended."""
        segment = self._segment
        waiting = segment.base + segment.end + coming - self.floor
        self.pressure = self.bounds.pressure(waiting)
        gate = self.bounds.next_gate(waiting) + self.floor - segment.base
        self._limit = -1 if self.closed else min(segment.allocated, gate)

    def _drop(self, reason: Reason, count: int) -> None:
        first, last = self._seq + 1, self._seq + count
        self._seq = self._words[EMITTED] = last
        self._drops.add(reason, first, last)

    def fall_back(self, error: OSError) -> None:
        """From now on in memory: there is no room on the disk, or no folder."""
        self.shelf.use_memory()
        self.bounds = self._memory_bounds
        newest = self.shelf.newest
        if newest is not None:  # what waits on the disk does not count against the memory
            self.floor = max(self.floor, newest.base + newest.allocated)
        self.housekeeping.fell_back()
        self._words[MEMORY_FALLBACKS] += 1
        self.trouble.append({"reason": "memory_mode", "error": type(error).__name__, "errno": error.errno})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody appends meanwhile; who does so from within leaves it for later."""
        with self._lock:
            before, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = before

    # Waiting for the disk.

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
            with self.exclusive():
                self.floor = max(self.floor, cursor.position)
                self.weigh()

    @property
    def waiting_bytes(self) -> int:
        """Of the spool's files, before the store has had them."""
        return self._segment.base + self._segment.end - self.floor

    def counters(self) -> Accounting:
        """Every counter: emitted = stored + waiting + dropped, for each sink. After `close` the last ones."""
        if self._final is not None:
            return self._final
        with self.exclusive():
            return self.control.accounting()

    def take_drops(self) -> list[dict[str, Any]]:
        """Payloads of hub:dropped events for what was dropped and not named yet. `reported` says that they are out."""
        with self.exclusive():
            return self._drops.take()

    def reported(self, drop: Mapping[str, Any]) -> None:
        """A hub:dropped event with this payload was appended."""
        self.control.reported(drop)

    def room_for_report(self) -> bool:
        """Whether a short frame of the hub's own would get in."""
        segment = self._segment
        waiting = segment.base + segment.allocated + DATA - self.floor
        return not self.closed and self.bounds.admits(waiting + 4096, 2)

    def count_unsampled(self) -> None:
        with self.exclusive():
            if not self.closed:
                self._words[UNSAMPLED] += 1

    def _count_timeout(self) -> None:
        with self.exclusive():
            self._words[DURABLE_TIMEOUTS] += 1

    # The end.

    def after_fork_in_child(self) -> None:
        """Let go of everything inherited, at once and without touching the parent's files."""
        self.closed, self._limit, self._pid = True, -1, -1
        self._final = Accounting(emitted=0, sinks={})
        self._lock = threading.RLock()
        self._deferred.clear()
        self.notes.clear()
        self.syncer.forget_in_child()
        lock_fd, self._lock_fd = self._lock_fd, -1
        let_go(lock_fd)
        for cursor in self.cursors.values():
            cursor.close()
        for segment in self.shelf.all():
            segment.forget_in_child()
        self.control.close()

    def close(self, *, keep: bool = False) -> bool:
        """Take nothing more and let go of the files; True when nothing was left to do and the folder is deleted.

        What waits stays on the disk for the next process. Nobody may use the spool's cursors any more.

        Args:
            keep: Leave the folder to a recovery even if nothing waits.
        """
        with self.exclusive():
            if self.closed:
                return self.folder is None
            self.closed = True
            self.weigh()
        self.syncer.stop()
        self._final = counted = self.control.accounting()
        done = not keep and not any(sink.waiting for sink in counted.sinks.values()) and not self.take_drops()
        done = done and not self.control.untold_unsampled
        try:
            for cursor in self.cursors.values():
                cursor.close()
            self.shelf.drop_ready()
            for segment in self.shelf.all():
                segment.close()
            self.control.close()
            if done and self.folder is not None:
                discard(self.folder)
        except OSError:  # the folder was deleted, or is read-only by now: what is left of it is a recovery's
            done = False
        finally:
            lock_fd, self._lock_fd = self._lock_fd, -1
            let_go(lock_fd)
        return done


def _nothing() -> None:
    pass


def _let_go(lock: threading.RLock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was not taken


__all__ = ["STORE", "Accounting", "Durability", "Reason", "SinkCursor", "Spool"]
