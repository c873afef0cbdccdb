"""Background work that does not slow the program down: threads of the hub's give up the interpreter often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Rest = Callable[[], None]

SLICE = 100e-6
"""Seconds. A thread that computes without pause costs an asyncio program 5 ms at every turn of its loop; one that
pauses this often costs it nothing at the median (docs/performance.md)."""
LONG_SLICE = 500e-6
"""While nobody else has anything to compute, as when the program waits for answers or in `flush`. A pause takes 75 us
of our time, long enough for a waiting thread to wake, and with short slices that is nearly half of it."""
BUSY = 0.03
"""The share of the time that the program's other threads compute, from which on they are somebody to give way to."""
_LOOK_EVERY = 10e-3


class Politeness(threading.local):
    """How long each thread has worked since it last gave up the interpreter."""

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._now, self._sleep = now, sleep
        self._until, self._slice = 0.0, SLICE
        self._looked = self._others = 0.0  # when we last looked, and what the other threads had computed by then

    def rest(self) -> None:
        """Let other threads run if this one has had the interpreter for its slice. To be called every 30 to 50 us."""
        if self._now() > self._until:
            self._pause()

    def _pause(self) -> None:
        self._sleep(0)
        now = self._now()
        if now - self._looked > _LOOK_EVERY:
            others = time.process_time() - time.thread_time()
            self._slice = slice_beside(others - self._others, now - self._looked)
            self._looked, self._others = now, others
        self._until = now + self._slice


def slice_beside(computed: float, seconds: float) -> float:
    """How long to work at a time when the other threads computed for *computed* of the last *seconds*."""
    return SLICE if computed > seconds * BUSY else LONG_SLICE


rest: Rest = Politeness().rest


def no_rest() -> None:
    """For work that nobody else waits for."""
