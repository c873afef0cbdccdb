"""How far long work has come, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hub.cli.guard import say

Advance = Callable[[int, int], None]
"""Told how many of how many are done; of 0: nobody knows how many there are."""


_QUIET_SECONDS = 1.0


@contextmanager
def progress(words: str) -> Iterator[Advance]:
    """A bar on a terminal, a line every ten percent elsewhere, once it takes more than a second; on stderr both."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    if screen.is_terminal:
        with Progress(console=screen, transient=True) as bar:
            task = bar.add_task(words, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)
        return
    told, since = 0, time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // max(1, total)
        if tenth > told and done < total and time.monotonic() - since > _QUIET_SECONDS:
            told = tenth
            say(f"{words}: {tenth * 10}%")

    yield line
