"""What a store's tables and views hold, for comparisons."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from storage.rebuilding import TABLES
from storage.views import VIEWS


def rows(path: Path, select: str, *params: object) -> list[dict[str, Any]]:
    """What a query gives, as dicts."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(select, params)]


def projections(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every projection and view, and the references of the events, in one order."""
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        for name in (*TABLES, *VIEWS):
            found[name] = sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)
        found["references"] = connection.execute("SELECT position, content FROM hub_events ORDER BY 1").fetchall()
        found["schemas"] = connection.execute("SELECT * FROM hub_event_schemas ORDER BY 1, 2").fetchall()
        return found
