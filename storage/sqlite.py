"""The event store in a SQLite file."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from hub.errors import StoreUnavailable
from hub.events import EventRecord
from hub.forking import not_to_inherit, undivided
from hub.polite import Rest, rest
from hub.pricing import PriceList
from hub.store import AppendResult, Content, ContentRef, Cursor, Erased, Erasure, ErasureReport, OpenCall, Page
from storage import erasing, reading, rebuilding
from storage.append import Append, Memory, read_counters
from storage.batch import Batch
from storage.connection import connect, identity, make_file, prepare, translated, url_of, write_lock
from storage.migrate import bring_up

_STREAM_PAGE = 256


def new_key() -> bytes:
    """A key for the hashes of a project."""
    return secrets.token_bytes(32)


class SQLiteStore:
    """An `EventStore` in a file. The file is opened, and made if need be, by the first method that needs it.

    A file that is deleted while it is open is made anew by the next append.
    """

    def __init__(
        self,
        path: Path,
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
        self.path = path.absolute()
        self.url = url_of(self.path)
        self._wall, self._new_key, self._rest = wall, new_key, rest
        self._prices = prices or PriceList()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._memory = Memory()
        not_to_inherit(self)

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
                new = work.run()
            work.committed()
        return AppendResult(new, batch.duplicates, tuple(batch.conflicts))

    def erase(self, what: Erasure) -> ErasureReport:
        with self._using() as connection:
            self._make_keys(connection, {what.project})
            with self._writing(connection):
                report = erasing.erase(connection, what, self._memory.keys[what.project], self._wall())
            erasing.scrub(connection)
        return report

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Make all projections again from the events, then put them in the place of the old ones at once.

        Others may go on writing meanwhile; they wait only at the end. Killed on the way it has changed nothing.

        Args:
            progress: Told now and then how many of how many events are done.
        Returns: How many events were read.
        Raises: StoreError
        """
        with self._using():
            pass
        with translated(self.path):
            return rebuilding.rebuild(self.path, progress or _silent, self._rest)

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

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def before_fork(self) -> None:
        """See hub.forking: the next method opens the file again."""
        self.close()
        self._memory.forget()

    # The file.

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. What goes wrong is told as a StoreError."""
        with undivided(), self._lock, translated(self.path):
            try:
                yield self._ready()
            except BaseException:
                self._memory.forget()
                raise

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None:
            if identity(self.path) == self._identity:
                return self._connection
            self._connection.close()
            self._connection = None
            self._memory.forget()
        make_file(self.path)
        connection = connect(self.path)
        try:
            bring_up(connection, self.path)
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, identity(self.path)
        return connection

    @contextmanager
    def _writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction, under the lock that all writers take."""
        with write_lock(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if identity(self.path) != self._identity:
                    raise StoreUnavailable(self.url, "the file was deleted", "a new one is made")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _make_keys(self, connection: sqlite3.Connection, projects: set[str]) -> None:
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

    def _load_prices(self, connection: sqlite3.Connection, batch: Batch) -> None:
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
