"""The event store in a SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hub.errors import StoreUnavailable
from hub.events import EventRecord
from hub.forking import not_to_inherit, undivided
from storage.engine import Connection
from storage.migrate import bring_up
from storage.sql_store import SqlStore
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_file import (
    backups_of,
    connect,
    foreign_copies_of,
    identity,
    make_file,
    prepare,
    translated,
    url_of,
    write_lock,
)
from storage.upkeep import Scrubbed

_READERS_MAY_TAKE = 5.0


class SQLiteStore(SqlStore):
    """An `EventStore` in a file. The file is opened, and made if need be, by the first method that needs it.

    A file that is deleted while it is open is made anew by the next append.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        """*options*: see `SqlStore`."""
        super().__init__(**options)
        self.path = path.absolute()
        self.url = url_of(self.path)
        self._connection: SQLiteConnection | None = None
        self._identity: tuple[int, int] | None = None
        not_to_inherit(self)

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
    def _using(self) -> Iterator[SQLiteConnection]:
        """The connection, for one thread at a time. What goes wrong is told as a StoreError."""
        with undivided(), self._lock, translated(self.path):
            try:
                yield self._ready()
            except BaseException:
                self._memory.forget()
                raise

    def _ready(self) -> SQLiteConnection:
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
    def _writing(self, connection: Connection) -> Iterator[None]:
        """A transaction, under the lock that all writers take."""
        with write_lock(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if identity(self.path) != self._identity:
                    raise StoreUnavailable(self.url, "the file was deleted", "a new one is made")
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    _beside = _writing

    @contextmanager
    def _apart(self) -> Iterator[SQLiteConnection]:
        with self._using():
            pass
        with translated(self.path), closing(connect(self.path)) as connection:
            prepare(connection)
            yield connection

    def _make_room(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        return

    def _tell(self, connection: Connection, position: int) -> None:
        """Who follows a file looks at it."""

    def _copies(self) -> Sequence[Path]:
        return backups_of(self.path)

    def _foreign_copies(self) -> Sequence[Path]:
        return foreign_copies_of(self.path)

    def _rewrite(self, connection: Connection, days: Collection[int] | None) -> Scrubbed:
        """Rows that are deleted are overwritten, but those that SQLite moved from page to page left copies behind."""
        try:
            with write_lock(self.path):
                connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY):
                raise
            why = "the disk lacks room for a second copy" if "full" in str(error) else "others kept it busy"
            return Scrubbed((f"the file could not be written anew: {why}; run the same again",), complete=False)
        return self._empty_log(connection)

    def _empty_log(self, connection: Connection) -> Scrubbed:
        """Bring the write-ahead log into the file and leave it empty; readers may hold that up."""
        deadline = time.monotonic() + _READERS_MAY_TAKE
        while True:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return Scrubbed()
            if time.monotonic() > deadline:
                log = self.path.name + "-wal"
                note = f"a reader of long standing keeps {log} from being emptied: end it, then run the same again"
                return Scrubbed((note,), complete=False)

    def _tidy(self, connection: Connection) -> None:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
