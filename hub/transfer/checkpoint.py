"""How far an export to an endpoint has come, in a file beside the store's spools.

A file and no row of the store: who reads a store needs no right to write to it, and no turn among its writers. Where
the file is lost, spans are sent again, under the ids they had.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from hub.config import Settings
from hub.errors import FileRefused
from hub.reader import Reader


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log behind which nothing was sent yet."""

    position: int
    event_id: str | None
    """Of the event there: tells this log from another that was begun under the same URL."""
    since_ns: int
    """UTC Unix ns: what ended before was not sent."""


class Checkpoint:
    """The place that exports of one store to one endpoint go on from. Made by `held`."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self.path = fd, path

    @classmethod
    @contextmanager
    def held(cls, settings: Settings, endpoint: str) -> Iterator[Checkpoint]:
        """For one process at a time. Raises: FileRefused: Another one has it. OSError"""
        name = hashlib.sha256(endpoint.encode()).hexdigest()[:16]
        path = settings.spool_root / f"otlp-{name}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = "another export of this store to this endpoint is running"
                raise FileRefused(str(path), what, "wait for it, or end it") from None
            yield cls(fd, path)
        finally:
            os.close(fd)

    def read(self, reader: Reader) -> Place | None:
        """Where the last export ended; None where there was none, or where the log is another by now."""
        try:
            found = Place(**orjson.loads(os.pread(self._fd, 4096, 0)))
        except (ValueError, TypeError):
            return None
        there = reader.event_id_at(found.position)
        pruned = there is None and int(reader.log_state().end) > found.position
        return found if pruned or there == found.event_id else None

    def write(self, place: Place) -> None:
        """What stands before *place* has arrived."""
        text = orjson.dumps(asdict(place))
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))
