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


class _Slice(threading.local):
    until = 0.0
    length = SLICE
    looked = others = 0.0
    """When we last looked, and how many seconds the other threads had computed by then."""


_slice = _Slice()
_now, _sleep = time.perf_counter, time.sleep


def rest() -> None:
    """Let other threads run if this one has had the interpreter for its slice. Call it every 30 to 50 us of work."""
    if _now() > _slice.until:
        _pause(_slice)


def _pause(mine: _Slice) -> None:
    _sleep(0)
    now = _now()
    if now - mine.looked > _LOOK_EVERY:
        others = time.process_time() - time.thread_time()
        mine.length = slice_beside(others - mine.others, now - mine.looked)
        mine.looked, mine.others = now, others
    mine.until = now + mine.length


def slice_beside(computed: float, seconds: float) -> float:
    """How long to work at a time when the other threads computed for *computed* of the last *seconds*."""
    return SLICE if computed > seconds * BUSY else LONG_SLICE


def no_rest() -> None:
    """For work that nobody else waits for."""
