"""Long work on a store that others write to meanwhile: in transactions so short that they hardly notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, TypeVar

from hub.events import Data, EventRecord
from hub.store import Progress
from storage.append import append_own, read_counters, write_counters
from storage.engine import Connection
from storage.own_events import own_event

T = TypeVar("T")

STEP = 0.05
"""Seconds for which one step may hold other writers up."""
_FIRST, _MOST, _AT_ONCE = 64, 4_096, 400

REMOVALS, REDACTIONS = "erasures", "redactions"
"""Counters: transactions that took something from events, and those of them that did so for an erasure."""
SWEPT, REWRITTEN, SCRUBBED = "swept", "rewritten", "scrubbed"
"""Counters: what REMOVALS was when a sweep began that is over, and when the files were written anew; and what
REDACTIONS was then."""

Writing = Callable[[Connection], AbstractContextManager[None]]


class Scrubbed(NamedTuple):
    """What became of an attempt to leave nothing in the files of what was deleted."""

    notes: tuple[str, ...] = ()
    complete: bool = True


class Upkeep:
    """One such piece of work, on a connection of its own."""

    def __init__(
        self,
        connection: Connection,
        writing: Writing,
        make_room: Callable[[Connection, Sequence[EventRecord]], None],
        tell: Callable[[Connection, int], None],
        *,
        wall: Callable[[], int],
        progress: Progress,
    ) -> None:
        """
        Args:
            writing: A transaction that no other writer's overlaps.
            make_room, tell: See `SqlStore`.
            wall: UTC Unix nanoseconds.
        """
        self.connection, self.wall, self._progress = connection, wall, progress
        self._writing, self._make_room, self._tell = writing, make_room, tell
        self._words = ""
        self._pause = 0.0
        self.size = _FIRST
        """How much the next step may take: as much as fitted into `STEP` before."""

    def phase(self, words: str) -> None:
        """Something else begins, called *words* where progress is shown."""
        self._words, self.size = words, _FIRST

    def told(self, done: int, total: int) -> None:
        """Show how far the phase has come."""
        self._progress(self._words, done, max(done, total))

    @contextmanager
    def step(self) -> Iterator[None]:
        """A transaction. It begins when others had as much time to write as the last one took from them."""
        time.sleep(self._pause)
        with self._writing(self.connection):
            began = time.monotonic()
            yield
        took = time.monotonic() - began
        self._pause = min(took, STEP)
        if took > STEP:
            self.size = max(1, self.size // 2)
        elif took < STEP / 3:
            self.size = min(2 * self.size, _MOST)

    def count(self, *names: str) -> None:
        """Within a step: these counters, and the epoch, go up by one, so that writers drop what they remember."""
        counters = read_counters(self.connection)
        write_counters(self.connection, {name: counters.get(name, 0) + 1 for name in ("epoch", *names)})

    def tell(self, event_type: str, project: str, data: Data) -> None:
        """Within a step: write an event of the store's own."""
        record = own_event(event_type, project, data, self.wall())
        self._make_room(self.connection, [record])
        self._tell(self.connection, append_own(self.connection, record))

    def settle(self, name: str, value: int) -> None:
        """What a counter says of work that is over."""
        with self.step():
            if read_counters(self.connection).get(name, 0) < value:
                write_counters(self.connection, {name: value})


def is_unswept(connection: Connection) -> bool:
    """Whether there may be content that nothing refers to any more."""
    counters = read_counters(connection)
    return counters.get(REMOVALS, 0) > counters.get(SWEPT, 0)


def lowest(connection: Connection, table: str, column: str) -> int:
    """The lowest number there is; 1 where there is none."""
    (found,) = connection.execute(f"SELECT min({column}) FROM {table}").fetchone()
    return 1 if found is None else int(found)


def pieces(values: Sequence[T], upkeep: Upkeep | None = None) -> Iterator[Sequence[T]]:
    """*values* in pieces that one statement, and one step of *upkeep*, may take."""
    start = 0
    while start < len(values):
        end = start + min(_AT_ONCE, _AT_ONCE if upkeep is None else upkeep.size)
        yield values[start:end]
        start = end
