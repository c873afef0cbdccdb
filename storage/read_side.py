"""A store as those see it who only read: one door for every engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from hub.db_urls import is_postgres
from hub.events import EventRecord
from hub.store import Cursor, Page
from storage import require_driver, sqlite_path
from storage.query import Limits, Params, Result, Shadow


class ReadSide(Protocol):
    """Every method raises StoreError when the store cannot be read."""

    def is_missing(self) -> bool:
        """There is no store yet: nothing was ever traced into it."""
        ...

    def views(self) -> Shadow:
        """The views that can be read, each with its columns."""
        ...

    def sql(self, query: str, params: Params = (), *, limits: Limits | None = None) -> Result:
        """Run one reading statement over the views, with ? or :name for *params*.

        Raises: QueryRefused, QueryLimit
        """
        ...

    def log_page(self, after: Cursor | None, types: Collection[str] | None, limit: int) -> Page:
        """See `EventStore.read_all`."""
        ...

    def stream_page(self, stream_id: str, after: int, limit: int) -> list[EventRecord]:
        """At most *limit* events of a stream."""
        ...

    def wait(self, seconds: float) -> None:
        """Pause between two looks at the store: until something new may be there, and for *seconds* at the least where
        many look or write. The first pause may be none."""
        ...

    def close(self) -> None: ...


def open_read_side(url: str, *, isolated: bool = False) -> ReadSide:
    """The store at a SQLAlchemy URL, to be read. Nothing is opened yet.

    Args:
        isolated: Run SQL on a file in a process that can be killed. For commands: it forks. A server does so anyway.
    Raises: ConfigError: No store of ours has such a URL, or the package that it needs is not installed.
    """
    if is_postgres(url):
        require_driver(url)
        from storage.postgres_read_side import PostgresReadSide

        return PostgresReadSide(url)
    from storage.sqlite_read_side import SQLiteReadSide

    return SQLiteReadSide(sqlite_path(url), isolated=isolated)
