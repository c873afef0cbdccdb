"""What a store's tables and views hold, for comparisons."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from storage.engine import Connection
from storage.rebuilding import ROLLUPS, TABLES
from storage.sql_store import SqlStore
from storage.sqlite_connection import SQLiteConnection
from storage.views import VIEWS

Source = Path | SqlStore
"""A SQLite file, or any store in SQL."""


@contextmanager
def connected(source: Source) -> Iterator[Connection]:
    """A connection of one's own, outside of any transaction."""
    if isinstance(source, SqlStore):
        with source._apart() as connection:
            yield connection
    else:
        with closing(sqlite3.connect(source, isolation_level=None, factory=SQLiteConnection)) as file:
            yield file


def rows(source: Source, select: str, *params: object) -> list[dict[str, Any]]:
    """What a query gives, as dicts."""
    with connected(source) as connection:
        found: Any = connection.execute(select, params)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def projections(source: Source) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every projection and view, and the references of the events, in one order."""
    with connected(source) as connection:

        def every(table: str) -> list[tuple[Any, ...]]:
            return connection.execute(f"SELECT * FROM {table}").fetchall()

        found = {name: sorted(every(name), key=repr) for name in (*TABLES, *ROLLUPS, *VIEWS)}
        found["references"] = connection.execute("SELECT position, content FROM hub_events ORDER BY 1").fetchall()
        found["schemas"] = sorted(every("hub_event_schemas"))
        return found
