"""A store as those see it who only read: one door for every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from hub.db_urls import is_postgres
from storage import require_driver, sqlite_path
from storage.engine import Connection
from storage.query import Limits, Params, Result, Shadow

T = TypeVar("T")


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

    def read(self, work: Callable[[Connection], T]) -> T:
        """What *work* reads, with statements of our own."""
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
