"""Keeps a fork away from moments of our threads that a child could not recover from.

What another thread holds at a fork, the child holds for ever: the lock of a module that is being imported, a mutex
inside SQLite. Worse, a file lock is shared with the child and stays until both have let go of it, and a connection to
SQLite that is open on both sides breaks the locks of the child's own.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LONGEST_WAIT = 2.0
"""Seconds a fork waits for our threads. Batches take 50 ms, the first imports half a second, once."""


class Inherited(Protocol):
    """Something that no child may inherit."""

    def before_fork(self) -> None:
        """Let go of it, and get it again when it is needed. None of our threads is at work now."""
        ...


class _Gate:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inside = 0


_gate = _Gate()
_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


@contextmanager
def undivided() -> Iterator[None]:
    """A block in which this process does not fork. For threads of our own, which never fork themselves."""
    gate = _gate
    with gate.changed:
        gate.inside += 1
    try:
        yield
    finally:
        with gate.changed:
            gate.inside -= 1
            gate.changed.notify_all()


def not_to_inherit(what: Inherited) -> None:
    """Have `before_fork` of *what* called, for as long as it lives."""
    _inherited.add(what)


def _before() -> None:
    gate = _gate
    gate.changed.acquire()
    deadline = time.monotonic() + LONGEST_WAIT
    while gate.inside and (left := deadline - time.monotonic()) > 0:
        gate.changed.wait(left)
    if not gate.inside:
        for what in list(_inherited):
            try:
                what.before_fork()
            except Exception:
                pass  # the child may have trouble with its store; the program has none


def _after_in_parent() -> None:
    _gate.changed.release()


def _after_in_child() -> None:
    global _gate
    _gate = _Gate()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
