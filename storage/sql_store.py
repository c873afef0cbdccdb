"""What event stores in SQL have in common: all but how a connection is made and how a writer waits for its turn."""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from hub.events import EventRecord
from hub.polite import Rest, rest
from hub.pricing import PriceList
from hub.store import AppendResult, Content, ContentRef, Cursor, Erased, Erasure, ErasureReport, OpenCall, Page
from storage import erasing, reading, rebuilding, search
from storage.append import Append, Memory, read_counters
from storage.batch import Batch
from storage.engine import Connection

_STREAM_PAGE = 256


def new_key() -> bytes:
    """A key for the hashes of a project."""
    return secrets.token_bytes(32)


class SqlStore(ABC):
    """An `EventStore` in a database. The database is opened by the first method that needs it."""

    url: str
    """Without password."""

    def __init__(
        self,
        *,
        wall: Callable[[], int] = time.time_ns,
        new_key: Callable[[], bytes] = new_key,
        prices: PriceList | None = None,
        rest: Rest = rest,
    ) -> None:
        """
        Args:
            wall: UTC Unix nanoseconds.
            rest: Called between steps of Python work, see hub.polite.
        """
        self._wall, self._new_key, self._rest = wall, new_key, rest
        self._prices = prices or PriceList()
        self._lock = threading.RLock()
        self._memory = Memory()

    @abstractmethod
    def _using(self) -> AbstractContextManager[Connection]:
        """The connection, for one thread at a time. What goes wrong is told as a StoreError, and nothing that was
        remembered is relied on any more."""

    @abstractmethod
    def _writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that no other writer's overlaps."""

    @abstractmethod
    def _beside(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that changes nothing appends look at, and does not keep them waiting where the engine can do
        that."""

    @abstractmethod
    def _apart(self) -> AbstractContextManager[Connection]:
        """A connection of its own, for long work beside the writers. Errors as from `_using`."""

    @abstractmethod
    def _make_room(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        """Within the transaction that will write *records*."""

    @abstractmethod
    def _tell(self, connection: Connection, position: int) -> None:
        """Within the transaction that wrote events up to *position*: let others know once it stands."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _scrub(self, connection: Connection) -> None:
        """After an erasure: take what was erased out of what the engine keeps beside its tables."""

    # Writing.

    def append(self, events: Sequence[EventRecord]) -> AppendResult:
        if not events:
            return AppendResult(0)
        batch = Batch(events)
        with self._using() as connection:
            memory = self._memory
            self._make_keys(connection, {record["project"] for record in batch.records})
            batch.take_content_apart(memory.keys, memory.contents, self._rest)
            self._load_prices(connection, batch)
            work = Append(connection, batch, memory, self._prices, self._wall(), self._rest)
            with self._writing(connection):
                self._make_room(connection, batch.records)
                new = work.run()
                if new:
                    self._tell(connection, work.position)
            work.committed()
        return AppendResult(new, batch.duplicates, tuple(batch.conflicts))

    def erase(self, what: Erasure) -> ErasureReport:
        with self._using() as connection:
            self._make_keys(connection, {what.project})
            with self._writing(connection):
                report = erasing.erase(connection, what, self._memory.keys[what.project], self._wall())
            search.scrub(connection, self._writing, self._beside)
            self._scrub(connection)
        return report

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Make all projections again from the events, then put them in the place of the old ones at once.

        Others may go on writing meanwhile; they wait only at the end. Killed on the way it has changed nothing.

        Args:
            progress: Told now and then how many of how many events are done.
        Returns: How many events were read.
        Raises: StoreError
        """
        return rebuilding.rebuild(self._apart, self._writing, progress or _silent, self._rest)

    # Search.

    def follow_search(self, progress: Callable[[int, int], None] | None = None, *, enable: bool = False) -> int:
        """Bring the full-text index up to what the store holds now, in short steps beside the writers. Killed on the
        way, the next one goes on where it stopped.

        Args:
            progress: Told now and then how much of how much is done.
            enable: Make the index if there is none.
        Returns: How many messages and events were looked at.
        Raises: SearchOff, StoreError
        """
        with self._apart() as connection:
            if enable:
                search.turn_on(connection, self._writing)
            return search.follow(connection, self._writing, self._beside, progress or _silent, self._rest)

    def drop_search(self) -> bool:
        """Drop the full-text index. Returns: Whether there was one."""
        with self._apart() as connection:
            return search.turn_off(connection, self._writing)

    def search_bytes(self) -> int:
        """What the full-text index takes. Raises: SearchOff"""
        with self._using() as connection:
            return search.size(connection)

    # Reading.

    def read_stream(self, stream_id: UUID, *, after: int = 0) -> Iterator[EventRecord]:
        while True:
            with self._using() as connection:
                page = reading.stream_page(connection, str(stream_id), after, _STREAM_PAGE)
            yield from page
            if len(page) < _STREAM_PAGE:
                return
            after = page[-1]["version"]

    def read_all(self, after: Cursor | None = None, *, types: Collection[str] | None = None, limit: int = 1000) -> Page:
        with self._using() as connection:
            return reading.log_page(connection, after, types, limit)

    def content(self, refs: Sequence[ContentRef]) -> Mapping[ContentRef, Content | Erased]:
        with self._using() as connection:
            return reading.contents(connection, refs, read_counters(connection)["content"])

    def references(self, stream_id: UUID, version: int) -> tuple[ContentRef, ...]:
        """The pieces that an event's content is made of, for `content`; nothing for an unknown event."""
        with self._using() as connection:
            return reading.references(connection, str(stream_id), version)

    def checkpoint(self, name: str) -> Cursor | None:
        with self._using() as connection:
            row = connection.execute("SELECT cursor FROM hub_checkpoints WHERE name = ?", (name,)).fetchone()
            return Cursor(row[0]) if row else None

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        with self._using() as connection:
            return reading.open_calls(connection, producer)

    def _make_keys(self, connection: Connection, projects: set[str]) -> None:
        missing = projects - self._memory.keys.keys()
        if not missing:
            return
        self._memory.keys.update(connection.execute("SELECT project, key FROM hub_keys"))
        missing -= self._memory.keys.keys()
        if missing:
            with self._writing(connection):
                connection.executemany(
                    "INSERT INTO hub_keys (project, key) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    [(project, self._new_key()) for project in missing],
                )
            self._memory.keys.update(connection.execute("SELECT project, key FROM hub_keys"))

    def _load_prices(self, connection: Connection, batch: Batch) -> None:
        """Load the price list before the database is locked, if the batch seems to need it."""
        if not any(record["data"].get("usage") for record in batch.records):
            return
        if self._memory.epoch < 0:
            self._memory.refresh(connection, read_counters(connection)["epoch"])
        named = {record["data"].get("model") for record in batch.records if record["type"].startswith("llm:re")}
        if named - self._memory.book.models - {None}:
            self._prices.load()


def _silent(done: int, total: int) -> None:
    return
