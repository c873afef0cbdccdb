"""How far long work has come, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hub.cli.guard import say
from hub.store import Progress

_SILENT = 1.0
"""Seconds. Work that takes no longer says nothing, and on no terminal a line comes no more often."""


@contextmanager
def phases() -> Iterator[Progress]:
    """A bar for each phase on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _Lines()
        return
    with Bars(console=screen, transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda words, done, total: bars.update(task, description=words, completed=done, total=total)


class _Lines:
    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, words: str, done: int, total: int) -> None:
        if time.monotonic() - self._said > _SILENT:
            self._said = time.monotonic()
            say(f"{words}: {done * 100 // max(1, total)}%")
