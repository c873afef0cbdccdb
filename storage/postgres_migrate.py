"""Brings a PostgreSQL database to the newest schema when asked to, or says why it cannot be used."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hub.errors import ForeignStore, SchemaMismatch, StoreError
from storage import event_views, views
from storage.migrate import REVISION, VERSION_TABLE, locate, require_known, run_migrations
from storage.postgres_connection import PostgresConnection
from storage.postgres_partitions import make_first
from storage.postgres_roles import share_views

TURN = "SELECT pg_advisory_xact_lock(1212498503, hashtext(current_schema()))"
"""Waits for one's turn to write. Writers take turns, so positions are given in the order of commits, and who reads on
from a position misses nothing; without it 1,808 of 17,365 late commits were missed. Of all who find
the same tables the current schema is theirs, see `postgres_server.connect`."""


def revision_of(connection: PostgresConnection) -> str | None:
    """The schema of a database; None when the hub was never set up in it."""
    if connection.execute("SELECT to_regclass(?)", (VERSION_TABLE,)).fetchone() == (None,):
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    return None if row is None else str(row[0])


def require_newest(connection: PostgresConnection, url: str) -> None:
    """Raises: SchemaMismatch: It is older, newer or none; the remedy is named. StoreError: Not all texts fit in it."""
    _require_utf8(connection, url)
    found = revision_of(connection)
    if found != REVISION:
        raise _mismatch(found, url)


def _require_utf8(connection: PostgresConnection, url: str) -> None:
    encoding = connection.raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        remedy = "make another one (CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0), then run hub migrate"
        raise StoreError(url, f"the encoding of the database is {encoding}, which not all texts fit in", remedy)


def _mismatch(found: str | None, url: str) -> SchemaMismatch:
    remedy = "upgrade llm-hub" if found is not None and found > REVISION else f"run hub migrate --db {url}"
    return SchemaMismatch(url, found=found or "none", expected=REVISION, remedy=remedy)


def upgrade(
    connection: PostgresConnection,
    url: str,
    *,
    wall: Callable[[], int] = time.time_ns,
    migrations: Path | None = None,
) -> str | None:
    """Run the migrations that the database lacks and make the views, in one transaction. Safe to run again, and by
    several at once.

    Args:
        url: For errors.
        migrations: Where they are, for tests.
    Returns: The schema before.
    Raises: SchemaMismatch: The database is newer. ForeignStore: There are tables, and none of them is the hub's.
        StoreError: Not all texts fit in it.
    """
    _require_utf8(connection, url)
    with connection.raw.transaction():
        connection.execute("SELECT set_config('lock_timeout', '60000', true)")
        connection.execute(TURN)
        before = revision_of(connection)
        if before is None:
            _refuse_foreign(connection, url)
        elif migrations is None and before > REVISION:
            raise _mismatch(before, url)
        else:
            require_known(before, url)
        run_migrations(connection.raw, "postgresql+psycopg", migrations or locate())
        if before is None:
            make_first(connection, wall())
        for statement in views.statements("postgresql"):
            connection.execute(statement)
        event_views.make_all(connection)
        share_views(connection)
    return before


def _refuse_foreign(connection: PostgresConnection, url: str) -> None:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname LIMIT 3"
    ).fetchall()
    if rows:
        some = ", ".join(name for (name,) in rows)
        raise ForeignStore(
            url,
            f"the schema has tables of another program ({some})",
            "give the hub a database of its own, or a login with a schema of its own:"
            " CREATE SCHEMA hub; ALTER ROLE name SET search_path = hub",
        )
