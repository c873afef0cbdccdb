"""The contract of every event store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol, runtime_checkable
from uuid import UUID

from hub.events import EventRecord

Cursor = NewType("Cursor", str)
"""A place in the log of one store. Opaque: only the store that gave it can read it."""

ContentRef = NewType("ContentRef", str)
"""Names a piece of content in one store."""

Content = Any
"""What JSON can hold."""

Advance = Callable[[int, int], None]
"""Told now and then how many of how many are done; of 0: nobody knows how many there are."""

Progress = Callable[[str, int, int], None]
"""The same of each of several phases, which is named first."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Stands where content was until somebody had it erased."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of a batch. `new` and `duplicates` are durable when append returns."""

    new: int
    duplicates: int = 0
    conflicts: tuple[EventRecord, ...] = ()
    """Events whose (stream_id, version) another event holds already. They were not written."""
    expired: int = 0
    """Events that were not written because calls of their time were pruned; a hub:dropped event counts them."""


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the log, oldest first."""

    events: tuple[EventRecord, ...]
    next: Cursor | None
    """Continue from here; it lies past events that a filter left out. None: the log is empty and nothing was read."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that has a request and no response."""

    stream_id: str
    version: int
    """Of the last event in its stream."""
    request: EventRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What to erase: exactly one of call, session or user, of one project."""

    project: str
    before_ns: int | None
    """Only what began before, in UTC Unix ns; None: all that is here, and of what comes later what began before now."""
    call_id: UUID | None = None
    session_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure touched, or would. All zero when nothing matched; the tombstone is kept all the same."""

    calls: int = 0
    contents: int = 0
    """Pieces of content that nothing else refers to."""
    events_redacted: int = 0
    notes: tuple[str, ...] = field(default=())
    """What else went, and what could not be done and is to be done by whom."""
    complete: bool = True
    """Whether nothing that was erased is left in the store's files."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a pruning took, or would."""

    calls: int = 0
    events: int = 0
    bodies: int = 0
    """Events that stay without their content."""
    contents: int = 0
    """Pieces of content that nothing refers to any more."""
    content_bytes: int = 0
    """Of them, as JSON."""
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class EventStore(Protocol):
    """An append-only log of events, ordered for each stream, with content kept apart so that it can be erased.

    Called from one thread at a time for writing; reading may go on beside it. Errors are `hub.errors.StoreError`s.
    """

    def append(self, events: Sequence[EventRecord]) -> AppendResult:
        """Write *events*, in the order given, with their projections, in one transaction.

        Content stands inline; the store makes the references. Writing an event again is harmless: it counts as a
        duplicate. One conflicting event never fails the others. An empty batch does nothing.

        Raises:
            StoreUnavailable: None of *events* was taken; try the same batch again.
            Exception: None was taken, and one of them never will be: anything but a HubError is about a value.
        """
        ...

    def read_stream(self, stream_id: UUID, *, after: int = 0) -> Iterator[EventRecord]:
        """The stream's events with a version above *after*, in order; nothing for an unknown stream. Content inline,
        erased content left out."""
        ...

    def read_all(self, after: Cursor | None = None, *, types: Collection[str] | None = None, limit: int = 1000) -> Page:
        """At most *limit* events behind *after* (None: from the start), in the order of the log. Of one stream, order
        is the stream's. An event committed late is never skipped. *types* filters by exact event type."""
        ...

    def content(self, refs: Sequence[ContentRef]) -> Mapping[ContentRef, Content | Erased]:
        """What *refs* name. A reference the store has never given is a KeyError."""
        ...

    def erase(self, what: Erasure) -> ErasureReport:
        """Remove the content of what matches, and refuse it from now on. Counts and costs stay. A hub:redacted event
        tells of each transaction that rewrote events; it never names what was erased."""
        ...

    def checkpoint(self, name: str) -> Cursor | None:
        """How far the projection *name* has come; None when it never ran. Saved in the projection's own transaction."""
        ...

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        """Calls that *producer* began and that have no response in the store."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Closing twice is harmless."""
        ...
