"""Background work that does not slow the program down: threads of the hub's give up the interpreter often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Rest = Callable[[], None]

SLICE = 100e-6
"""Seconds. A thread that computes without pause costs an asyncio program 5 ms at every turn of its loop; one that
pauses this often costs it nothing at the median (docs/performance.md)."""
SLICE_BEHIND = 250e-6
"""Of a thread with more to do than it gets done."""
LONG_SLICE = 500e-6
"""While nobody else has anything to compute, as when the program waits for answers or in `flush`. A pause takes 75 us
of our time, long enough for a waiting thread to wake, and with short slices that is nearly half of it."""
BUSY = 0.03
"""The share of the time that the program's other threads compute, from which on they are somebody to give way to."""
_LOOK_EVERY = 10e-3


def others_computed() -> float:
    """Seconds for which all threads but the calling one have computed so far."""
    return time.process_time() - time.thread_time()


class Politeness(threading.local):
    """How long each thread has worked since it last gave up the interpreter."""

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        others: Callable[[], float] = others_computed,
    ) -> None:
        """*others*: see `others_computed`."""
        self.behind = False
        """Of the calling thread: whether more waits for it than it takes at a time."""
        self._now, self._sleep, self._others_computed = now, sleep, others
        self._until, self._alone = 0.0, False
        self._looked = self._others = 0.0  # when we last looked, and what the other threads had computed by then

    def rest(self) -> None:
        """Let other threads run if this one has had the interpreter for its slice. To be called every 30 to 50 us."""
        if self._now() > self._until:
            self._pause()

    def _pause(self) -> None:
        self._sleep(0)
        now = self._now()
        if now - self._looked > _LOOK_EVERY:
            others = self._others_computed()
            self._alone = others - self._others <= (now - self._looked) * BUSY
            self._looked, self._others = now, others
        self._until = now + (LONG_SLICE if self._alone else SLICE_BEHIND if self.behind else SLICE)


politeness = Politeness()
rest: Rest = politeness.rest


def no_rest() -> None:
    """For work that nobody else waits for."""
