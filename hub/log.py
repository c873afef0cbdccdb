"""What the recorder writes to. The spool is one; a list in a test is another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hub.events import Constants

if TYPE_CHECKING:
    import asyncio


class Priority(IntEnum):
    """Who gets in when the log is nearly full."""

    EVENT = 0
    """Kept out above 90% of the bound."""
    ESSENTIAL = 1
    """llm:request and llm:response: let in until only the reserve is left."""
    RESERVED = 2
    """The hub's own account of what it dropped."""


class Pressure(IntEnum):
    """How full the log is."""

    NONE = 0
    SHED_CONTENT = 1
    """Above 25%: new content is left out, the event stays."""
    ESSENTIAL_ONLY = 2
    """Above 90%."""


class Stream:
    """A stream this process writes: one call, or one producer's own facts of one day."""

    __slots__ = ("id", "version")

    def __init__(self, stream_id: str, version: int = 0) -> None:
        self.id = stream_id
        self.version = version
        """Of the last event appended; changed only under the log's lock."""


class Appended(NamedTuple):
    """Where a frame went: the sequence number and version of its first event."""

    first_seq: int
    first_version: int


class Syncer(Protocol):
    """Waits for the disk, in durable mode. Never raises, and never waits longer than the log allows."""

    def wait(self) -> bool:
        """Whether what was appended so far is on the disk."""
        ...

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        """`wait` for a coroutine on *loop*."""
        ...


class Log(Protocol):
    """Takes frames from any thread, and never raises or waits on I/O."""

    constants: Constants
    max_frame_bytes: int
    """A longer body is dropped whole."""
    pressure: int
    """A Pressure."""
    notes: deque[Callable[[], None]]
    """Work that finalisers left; the next emit or a thread of the log's does it."""

    @property
    def syncer(self) -> Syncer: ...

    def append(self, body: bytes, count: int, stream: Stream, priority: int) -> Appended | None:
        """Keep a frame of *count* events. None: it was dropped whole and counted, or is kept for later because the
        caller interrupted another append of its own thread."""
        ...

    def count_unsampled(self) -> None:
        """Sampling left out a call."""
        ...
