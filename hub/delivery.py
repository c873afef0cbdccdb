"""Writing a batch to a sink: what to try again, and how to get past the one event that a sink will not take."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from hub.errors import HubError
from hub.events import EventRecord

Write = Callable[[Sequence[EventRecord]], Sequence[EventRecord]]
"""Writes events and gives back those that conflict."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
TRIES_BEFORE_SPLIT = 3
HOPELESS = 32
"""So many failures without one success mean that the sink is ill, not an event."""


def is_outage(error: BaseException) -> bool:
    """Whether *error* says that the sink cannot write now, rather than that it cannot write these events."""
    return isinstance(error, (HubError, OSError, MemoryError)) or not isinstance(error, Exception)


def backoff(failures: int, jitter: Callable[[], float] = random.random, *, longest: float = LONGEST_WAIT) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(longest, FIRST_WAIT * 2 ** min(failures - 1, 10)) * (0.5 + jitter() / 2))


def place_of(error: BaseException) -> str:
    """File and line where *error* was raised: what may be logged, as its message may not."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"


def without_content(record: EventRecord) -> EventRecord:
    """*record* with its content shed, and marked so."""
    lighter = record.copy()
    lighter["content"] = None
    try:
        size = len(orjson.dumps(record["content"]))
    except TypeError:
        size = 0
    lighter["data"] = {**record["data"], "shed": {"reason": "rejected_by_sink", "bytes": size}}
    return lighter


@dataclass(slots=True)
class Delivered:
    """What became of a batch: the rest is safe."""

    conflicts: list[EventRecord] = field(default_factory=list)
    rejected: list[EventRecord] = field(default_factory=list)


class Splitter:
    """Writes a batch that failed in pieces, so that one bad event costs none of its neighbours.

    Only when the sink took something else is an event to blame: a sink that takes nothing is ill, and nothing is given
    up. `healthy` says that it did take something just before.
    """

    def __init__(self, write: Write, *, healthy: bool = False) -> None:
        self._write = write
        self._healthy = healthy
        self._failures = 0
        self._suspects: list[EventRecord] = []
        self._error: Exception | None = None
        self._delivered = Delivered()

    def deliver(self, records: Sequence[EventRecord]) -> Delivered:
        """Raises: Whatever the sink raised, when it is the sink that is ill. Then everything is to be written again."""
        self._try(records)
        if self._error is not None and not self._healthy:
            raise self._error
        for record in self._suspects:
            self._try_without_content(record)
        return self._delivered

    def _try(self, records: Sequence[EventRecord]) -> None:
        try:
            self._delivered.conflicts += self._write(records)
            self._healthy = True
        except Exception as error:
            if is_outage(error):
                raise
            self._failures += 1
            if self._failures >= HOPELESS and not self._healthy:
                raise
            if len(records) == 1:
                self._suspects.append(records[0])
                self._error = error
                return
            middle = len(records) // 2
            self._try(records[:middle])
            self._try(records[middle:])

    def _try_without_content(self, record: EventRecord) -> None:
        try:
            self._delivered.conflicts += self._write([without_content(record)])
        except Exception as error:
            if is_outage(error):
                raise
            self._delivered.rejected.append(record)
