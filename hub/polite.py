"""Background work that does not slow the program down: threads of the hub's give up the interpreter often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Rest = Callable[[], None]

SLICE = 100e-6
"""Seconds. A thread that computes without pause costs an asyncio program 5 ms at every turn of its loop; one that
pauses this often costs it nothing at the median (docs/performance.md)."""


class _Slice(threading.local):
    until = 0.0


_slice = _Slice()
_now, _sleep = time.perf_counter, time.sleep


def rest() -> None:
    """Let other threads run if this one has had the interpreter for 100 us. Call it every 30 to 50 us of work."""
    if _now() > _slice.until:
        _sleep(0)
        _slice.until = _now() + SLICE


def no_rest() -> None:
    """For work that nobody else waits for."""
