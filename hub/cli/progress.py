"""How far long work has come, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hub.cli.guard import say
from hub.store import Advance, Progress

_QUIET_SECONDS = 1.0
"""Work that takes no longer says nothing."""


@contextmanager
def progress(words: str) -> Iterator[Advance]:
    """`phases`, of work that has only one."""
    with phases() as told:
        told(words, 0, 0)
        yield lambda done, total: told(words, done, total)


@contextmanager
def phases() -> Iterator[Progress]:
    """A bar on a terminal, a line every ten percent elsewhere, once it takes more than a second; on stderr both."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _Lines()
        return
    with Bars(console=screen, transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda words, done, total: bars.update(task, description=words, completed=done, total=total or None)


class _Lines:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self._words, self._told = "", 0

    def __call__(self, words: str, done: int, total: int) -> None:
        if words != self._words:
            self._words, self._told = words, 0
        tenth = done * 10 // max(1, total)
        if tenth > self._told and done < total and time.monotonic() - self._began > _QUIET_SECONDS:
            self._told = tenth
            say(f"{words}: {tenth * 10}%")
