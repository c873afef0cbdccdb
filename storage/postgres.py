"""The event store in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import errors

from hub.db_urls import shown
from hub.errors import StoreUnavailable
from hub.events import EventRecord
from hub.forking import not_to_inherit, undivided
from storage.engine import Connection
from storage.erasing import DAY_MS
from storage.postgres_connection import PostgresConnection
from storage.postgres_migrate import TURN, require_newest
from storage.postgres_partitions import Month, Partitions
from storage.postgres_pruning import drop_old_months, put_back_months, rewrite, tidy
from storage.postgres_server import connect, translated
from storage.sql_store import SqlStore
from storage.upkeep import Scrubbed

_LARGE = ("hub_events", "hub_calls", "hub_contents", "hub_parts", "hub_sequences", "hub_attempts", "hub_tool_calls")
"""Analyzed when the log has grown fourfold: autovacuum is a minute late for a new store, and leaves a partitioned table
without statistics of its own."""

_WAL = (
    "the server's write-ahead log, its archive, standbys' logs and base backups may hold copies of it; they are its"
    " operator's"
)

CHANNEL = "hub_events"
"""Where each batch is told of, by NOTIFY with its last position."""


class PostgresStore(SqlStore):
    """An `EventStore` in a database that `hub migrate` has brought to the newest schema.

    A connection that breaks is made anew by the next method.
    """

    _out_of_reach = (_WAL,)

    def __init__(self, url: str, **options: Any) -> None:
        """*options*: see `SqlStore`."""
        super().__init__(**options)
        self.url = shown(url)
        self._conninfo = url
        self._connection: PostgresConnection | None = None
        self._partitions, self._partitions_as_of = Partitions(), -1
        self._analyzed_size = 0
        not_to_inherit(self)

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.raw.close()

    def before_fork(self) -> None:
        """See hub.forking: the next method connects again."""
        self.close()
        self._memory.forget()

    @contextmanager
    def _using(self) -> Iterator[PostgresConnection]:
        with undivided(), self._lock, translated(self._conninfo):
            try:
                yield self._ready()
            except BaseException:
                self._memory.forget()
                self._partitions.forget()
                raise

    def _ready(self) -> PostgresConnection:
        if self._connection is not None:
            if not self._connection.raw.closed:
                return self._connection
            self._connection = None
            self._memory.forget()
        connection = connect(self._conninfo)
        try:
            require_newest(connection, self.url)
            self._analyzed_size = _analyzed_size(connection)
        except BaseException:
            connection.raw.close()
            raise
        self._connection = connection
        return connection

    @contextmanager
    def _writing(self, connection: Connection) -> Iterator[None]:
        assert isinstance(connection, PostgresConnection)
        with connection.raw.transaction():
            connection.execute(TURN)
            yield

    @contextmanager
    def _beside(self, connection: Connection) -> Iterator[None]:
        assert isinstance(connection, PostgresConnection)
        with connection.raw.transaction():
            yield

    @contextmanager
    def _apart(self) -> Iterator[PostgresConnection]:
        with translated(self._conninfo):
            connection = connect(self._conninfo)
            try:
                require_newest(connection, self.url)
                yield connection
            except BaseException:
                self._partitions.forget()
                raise
            finally:
                connection.raw.close()

    def _make_room(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        assert isinstance(connection, PostgresConnection)
        if self._partitions_as_of != self._memory.epoch:  # months may have been dropped
            self._partitions.forget()
            self._partitions_as_of = self._memory.epoch
        try:
            self._partitions.make_for(connection, (record["stream_id"] for record in records), self._wall())
        except errors.LockNotAvailable as error:
            raise StoreUnavailable(
                self.url, "a month of events is to be made, and a long transaction keeps it", "it is tried again"
            ) from error

    def _tell(self, connection: Connection, position: int) -> None:
        connection.execute("SELECT pg_notify(?, ?)", (CHANNEL, str(position)))

    def _look_after(self, connection: Connection, position: int) -> None:
        size = _size(position)
        if size != self._analyzed_size:
            self._analyzed_size = size
            with suppress(errors.LockNotAvailable, errors.QueryCanceled):  # the events are safe
                connection.execute(f"ANALYZE (SKIP_LOCKED) {', '.join(_LARGE)}")

    def _drop_whole(self, connection: Connection, before_ns: int) -> tuple[int, Sequence[str]]:
        assert isinstance(connection, PostgresConnection)
        return drop_old_months(connection, before_ns, self._writing)

    def _gather(self, connection: Connection) -> Sequence[str]:
        assert isinstance(connection, PostgresConnection)
        return put_back_months(connection, self._writing)

    def _rewrite(self, connection: Connection, days: Collection[int] | None) -> Scrubbed:
        assert isinstance(connection, PostgresConnection)
        months = None if days is None else {Month.at(day * DAY_MS) for day in days}
        return rewrite(connection, months)

    def _tidy(self, connection: Connection) -> None:
        assert isinstance(connection, PostgresConnection)
        tidy(connection)


def _size(position: int) -> int:
    """Of a log up to *position*: 1 more for four times as many events."""
    return position.bit_length() // 2


def _analyzed_size(connection: PostgresConnection) -> int:
    """Of the log that is there; 0 when nobody ever analyzed it."""
    found = connection.execute(
        "SELECT value FROM hub_counters WHERE name = 'position'"
        " AND (SELECT reltuples FROM pg_class WHERE oid = to_regclass('hub_events')) > 0"
    ).fetchone()
    return 0 if found is None else _size(found[0])
