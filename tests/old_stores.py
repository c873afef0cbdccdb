"""SQLite stores as earlier versions of the hub left them. No older store is in PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from hub.events import EventRecord
from storage import migrate
from storage.engine import Connection
from storage.sqlite import SQLiteStore
from storage.sqlite_connection import SQLiteConnection

REVISIONS = sorted(path.name[:4] for path in (migrate.locate() / "versions").glob("0*.py"))
"""Of all schemas, oldest first."""


@contextmanager
def migrations_to(revision: str) -> Iterator[Path]:
    """A folder with the migrations up to this one, and no later ones."""
    with tempfile.TemporaryDirectory(prefix="hub-migrations-") as name:
        folder = shutil.copytree(
            migrate.locate(), Path(name) / "migrations", ignore=shutil.ignore_patterns("__pycache__")
        )
        for path in (folder / "versions").glob("0*.py"):
            if path.name[:4] > revision:
                path.unlink()
        yield folder


def make_old(path: Path, revision: str, records: Sequence[EventRecord]) -> None:
    """Make *path* a store of the schema *revision* that holds *records*. They have no lists of a dozen messages, which
    newer stores keep otherwise."""
    newest = path.with_name("newest.db")
    with closing(SQLiteStore(newest)) as store:
        store.append(records)
    with (
        migrations_to(revision) as migrations,
        closing(sqlite3.connect(path, isolation_level=None, factory=SQLiteConnection)) as old,
        closing(sqlite3.connect(newest, factory=SQLiteConnection)) as new,
    ):
        path.chmod(0o600)
        old.execute("PRAGMA journal_mode = WAL")
        old.execute("BEGIN")
        migrate.run_migrations(old, "sqlite", migrations)
        tables = old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        _copy(new, old, [name for (name,) in tables.fetchall()])
        old.execute("COMMIT")
    for file in path.parent.glob("newest.db*"):
        file.unlink()


def _copy(new: Connection, old: Connection, tables: Sequence[str]) -> None:
    for table in tables:
        if table not in (migrate.VERSION_TABLE, "hub_spans"):  # nothing ever wrote to the latter
            columns = columns_of(old, table)
            named = columns.replace("cursor", "reached") if table == "hub_checkpoints" else columns
            rows = new.execute(f"SELECT {named} FROM {table}").fetchall()
            marks = ",".join("?" * (columns.count(",") + 1))
            old.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def columns_of(connection: Connection, table: str) -> str:
    """Their names, separated by commas."""
    found = connection.execute(f"SELECT * FROM {table} LIMIT 0").description  # type: ignore[attr-defined]
    return ",".join(column[0] for column in found)
