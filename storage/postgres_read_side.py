"""Reading a store in a PostgreSQL database, over a connection that is kept until `close`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from hub.db_urls import shown
from hub.errors import HubError, QueryLimit, QueryRefused, StoreUnavailable
from hub.forking import not_to_inherit, undivided
from storage.engine import Connection
from storage.postgres import CHANNEL
from storage.postgres_connection import PostgresConnection
from storage.postgres_query import Place, look_around, run
from storage.postgres_server import connect, translated
from storage.query import Limits, Params, Result, Shadow

IDLE = TransactionStatus.IDLE
T = TypeVar("T")

_OWN_LOGIN = "use the URL that the hub writes with"
_UNTOLD_SECONDS = 5.0
"""Longest pause of who listens: a pooler between us and the server may keep what is told."""


class PostgresReadSide:
    """See `storage.read_side.ReadSide`. A connection that was lost between two reads is made anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.RLock()
        self._connection: PostgresConnection | None = None
        self._place: Place | None = None
        self._listener: PostgresConnection | None = None
        self._looked = 0.0
        not_to_inherit(self)

    def close(self) -> None:
        with self._lock:
            for connection in (self._connection, self._listener):
                if connection is not None:
                    connection.raw.close()
            self._connection = self._place = self._listener = None

    def __del__(self) -> None:
        self.close()  # a command ends without a word

    def before_fork(self) -> None:
        """See hub.forking: the next method connects again."""
        self.close()

    def is_missing(self) -> bool:
        return False  # a database that was not migrated is an error, which says so

    def views(self) -> Shadow:
        return self._with(lambda connection: self._look_again(connection).views)

    def sql(self, query: str, params: Params = (), *, limits: Limits | None = None) -> Result:
        def ask(connection: PostgresConnection) -> Result:
            known = self._place or self._look_again(connection)
            try:
                return run(connection, self._url, known, query, params, limits=limits)
            except QueryLimit:
                raise
            except QueryRefused:  # perhaps for a view that was made since we looked
                if known == self._look_again(connection):
                    raise
            return run(connection, self._url, self._place or known, query, params, limits=limits)

        return self._with(ask)

    def read(self, work: Callable[[Connection], T]) -> T:
        return self._with(work)

    def wait(self, seconds: float) -> None:
        with self._lock:
            told = self._wait_to_be_told()
        rest = self._looked + seconds - time.monotonic()
        if not told or rest > 0:
            time.sleep(rest if told else seconds)
        self._looked = time.monotonic()

    def _wait_to_be_told(self) -> bool:
        """Returns: False when this server tells nothing, or is away."""
        try:
            if self._listener is None or self._listener.raw.closed:
                self._listener = connect(self._url)
                self._listener.execute(f"LISTEN {CHANNEL}")  # what came before was told to nobody: look at once
            else:
                for _ in self._listener.raw.notifies(timeout=_UNTOLD_SECONDS, stop_after=1):
                    pass
        except (HubError, psycopg.Error):
            return False
        return True

    def _with(self, work: Callable[[PostgresConnection], T]) -> T:
        with undivided(), self._lock, translated(self._url):
            old = self._connection is not None
            try:
                return work(self._ready())
            except errors.InsufficientPrivilege as refused:
                raise StoreUnavailable(
                    shown(self._url), "this login sees the views only, and events are kept in tables", _OWN_LOGIN
                ) from refused
            except psycopg.OperationalError:
                if not old or not self._lost():
                    raise
            return work(self._ready())  # the server was away, and may be back

    def _ready(self) -> PostgresConnection:
        if self._connection is None or self._lost():
            if self._connection is not None:
                self._connection.raw.close()
            self._connection = connect(self._url)
            self._place = None
        return self._connection

    def _lost(self) -> bool:
        return self._connection is None or self._connection.raw.pgconn.transaction_status != IDLE

    def _look_again(self, connection: PostgresConnection) -> Place:
        self._place = look_around(connection, self._url)
        return self._place
