"""What `hub doctor` asks of a store's database itself, without changing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from storage.migrate import REVISION, revision_of
from storage.sqlite_file import translated

WAL_RESET_FIXED = (3, 51, 3)
"""Older versions of SQLite can damage a WAL database that several processes write (sqlite.org/wal.html, section on the
WAL-reset bug)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A store, seen from outside."""

    bytes: int
    """Of the file and its write-ahead log, or of the hub's tables."""
    wal_bytes: int = 0
    free_bytes: int = 0
    """Inside the file, left by what was deleted."""
    schema: str | None
    """None: the database is empty."""
    newest_schema: str = REVISION
    damage: tuple[str, ...] = ()
    """What SQLite's quick_check found; empty is sound."""


def examine(path: Path, *, check: bool = True) -> Health:
    """Look at the file. *check* reads all of it, which takes about a second a gigabyte.

    Raises: StoreError: It cannot be read, or is no SQLite file, or not the hub's.
    """
    wal = path.with_name(path.name + "-wal")
    wal_bytes = wal.stat().st_size if wal.exists() else 0
    with translated(path), closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        schema = revision_of(connection, path)
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        found = [row[0] for row in connection.execute("PRAGMA quick_check(5)")] if check else ["ok"]
    return Health(
        bytes=path.stat().st_size + wal_bytes,
        wal_bytes=wal_bytes,
        free_bytes=page * free,
        schema=schema,
        damage=() if found == ["ok"] else tuple(found),
    )
