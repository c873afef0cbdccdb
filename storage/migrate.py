"""Brings a database to the newest schema, or says why not.

A new database is made from storage/schema.sql, which is what the whole history of migrations gives: Alembic and
SQLAlchemy would cost a program that makes its first call a second and 37 MB. They are loaded when an older database has
to be upgraded. `python -m storage.migrate` writes schema.sql, and tests/test_schema.py holds it to the history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import ForeignStore, HubError, SchemaMismatch
from storage import event_views, views
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_file import connect, damaged, translated, url_of, write_lock

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0004"
"""The newest migration."""

VERSION_TABLE = "hub_schema"
_SNAPSHOT = Path(__file__).with_name("schema.sql")


def locate() -> Path:
    """The folder of the migrations: beside this package in a checkout or an editable install, inside it in a wheel.

    Raises: HubError: The installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "migrations", here.parent / "migrations"):
        if (folder / "env.py").is_file() and (folder / "versions").is_dir():
            return folder
    raise HubError(f"the migrations are neither in {here} nor beside it; install llm-hub again")


def revision_of(connection: sqlite3.Connection, path: Path) -> str | None:
    """The schema of a database; None for an empty one.

    Raises: ForeignStore: It has tables, and they are not the hub's. StoreError: It is damaged.
    """
    with translated(path):
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if VERSION_TABLE in names:
            row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
            if row is None:
                raise damaged(path, f" ({VERSION_TABLE} is empty)")
            return str(row[0])
    if names - {"sqlite_sequence", "sqlite_stat1"}:
        some = ", ".join(sorted(names)[:3])
        raise ForeignStore(
            url_of(path), f"belongs to another program (tables {some})", "choose another file (HUB_DB_URL)"
        )
    return None


def bring_up(connection: SQLiteConnection, path: Path) -> None:
    """Make the schema in an empty database, upgrade an older one after a backup, refuse a newer one.

    Raises: ForeignStore, SchemaMismatch, StoreUnavailable
    """
    found = revision_of(connection, path)
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        raise SchemaMismatch(url_of(path), found=found, expected=REVISION, remedy="upgrade llm-hub")
    with translated(path), write_lock(path):
        found = revision_of(connection, path)
        if found is None:
            create(connection)
        elif found < REVISION:
            require_known(found, url_of(path))
            upgrade(connection, path)


def require_known(found: str, url: str) -> None:
    """Raises: SchemaMismatch: None of the migrations leads to this schema."""
    if not list((locate() / "versions").glob(f"{found}_*.py")):
        remedy = "no version of the hub made it: restore a backup"
        raise SchemaMismatch(url, found=found, expected=REVISION, remedy=remedy)


def create(connection: SQLiteConnection) -> None:
    """Make the newest schema in an empty database."""
    connection.execute("PRAGMA page_size = 8192")  # messages of a few kB waste less of larger pages
    with _transaction(connection):
        for statement in _SNAPSHOT.read_text().split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES (?)", (REVISION,))
        make_views(connection)


def make_views(connection: SQLiteConnection) -> None:
    """Make all views anew, within a transaction of the caller's."""
    for statement in views.statements("sqlite"):
        connection.execute(statement)
    event_views.make_all(connection)


def upgrade(connection: SQLiteConnection, path: Path | None, *, migrations: Path | None = None) -> Path | None:
    """Run the migrations that the database lacks, in one transaction, after a backup beside it.

    Args:
        path: None for a database in memory, of which no backup is made.
        migrations: Where they are, for tests; else `locate()`.
    Returns: The backup.
    """
    backup = None if path is None else _back_up(connection, path)
    with _transaction(connection):
        run_migrations(connection, "sqlite", migrations or locate())
        make_views(connection)
    return backup


def run_migrations(connection: Any, dialect: str, migrations: Path) -> None:
    """Run what the database lacks, on a driver's connection, within a transaction of the caller's."""
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine(f"{dialect}://", creator=lambda: connection, poolclass=StaticPool)
    for ending in ("do_commit", "do_rollback"):
        setattr(engine.dialect, ending, lambda _connection: None)  # the transaction is the caller's
    with engine.connect() as bound:
        config = _config(migrations)
        config.attributes["connection"] = bound
        command.upgrade(config, "head")


def _config(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config


def _back_up(connection: SQLiteConnection, path: Path) -> Path | None:
    found = revision_of(connection, path)
    if found is None:
        return None
    backup = path.with_name(f"{path.name}.backup-{found}")
    backup.unlink(missing_ok=True)
    backup.touch(mode=0o600)
    with closing(connect(backup)) as target:
        connection.backup(target)
    return backup


@contextmanager
def _transaction(connection: SQLiteConnection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def snapshot() -> str:
    """What schema.sql has to be: the tables and indexes that the migrations make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=SQLiteConnection)) as connection:
        upgrade(connection, None)
        found = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL ORDER BY rowid"
        )
        return "".join(f"{sql.strip()};\n" for (sql,) in found)


if __name__ == "__main__":
    _SNAPSHOT.write_text(snapshot())
