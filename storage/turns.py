"""Turns in the order in which they were asked for: of threads that share a store, of processes that share a file.

The locks of Python and of the kernel go to whoever comes by when they are free, which is often the one that just had
them: of many writers some wait ten times as long as others.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections import deque
from types import TracebackType

_FLOCK = "hhqqi"  # struct flock of Linux: type, whence, start, length, pid
_HAS_LINES = hasattr(fcntl, "F_OFD_SETLK")
"""Whether a lock can belong to a descriptor, not to the process. Where it cannot, everybody is first."""


class Turns:
    """A lock that a thread may hold several times over, and that goes to the thread which has waited longest."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._holder: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._mutex:
            if self._holder in (None, me):
                self._holder = me
                self._depth += 1
                return
            entry = me, threading.Lock()
            entry[1].acquire()
            self._waiting.append(entry)
        try:
            entry[1].acquire()
        except BaseException:  # Ctrl-C
            with self._mutex:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                else:
                    self._pass_on()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._mutex:
            self._depth -= 1
            if self._depth == 0:
                self._pass_on()

    def _pass_on(self) -> None:
        self._holder, self._depth = None, 0
        if self._waiting:
            self._holder, gate = self._waiting.popleft()
            self._depth = 1
            gate.release()


class Place:
    """A place in the line of processes that wait for the file behind *descriptor*.

    It is a lock on one byte of the file, at the offset that is the time of coming. The kernel lets go of it when the
    process ends, in whatever way. The line is a courtesy: the file's own lock is what keeps writers apart.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._came = time.monotonic_ns()
        while _HAS_LINES and not self._lock(fcntl.F_WRLCK):
            self._came += 1  # two came at once

    @property
    def is_first(self) -> bool:
        """Nobody who waits came earlier."""
        if not _HAS_LINES:
            return True
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, self._came, 0)
        found = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(struct.unpack_from("h", found)[0] == fcntl.F_UNLCK)

    def leave(self) -> None:
        """Let the next one be first. Harmless when repeated."""
        if _HAS_LINES:
            self._lock(fcntl.F_UNLCK)

    def _lock(self, kind: int) -> bool:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, self._came, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, asked)
        except BlockingIOError:
            return False
        return True
