"""Stores in PostgreSQL, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage import postgres_migrate
from storage.migrate import VERSION_TABLE
from storage.postgres import PostgresStore
from storage.postgres_connection import PostgresConnection
from storage.postgres_server import connect


@contextmanager
def connected(url: str) -> Iterator[PostgresConnection]:
    connection = connect(url)
    try:
        yield connection
    finally:
        connection.raw.close()


def migrate(url: str, **options: Any) -> str | None:
    """As `hub migrate`."""
    with connected(url) as connection:
        return postgres_migrate.upgrade(connection, url, **options)


@contextmanager
def migrated_store(url: str, **options: Any) -> Iterator[PostgresStore]:
    """A store at *url*, in a database that was empty."""
    migrate(url)
    store = PostgresStore(url, **options)
    try:
        yield store
    finally:
        store.close()


def select(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """What a query gives, unguarded."""
    with connected(url) as connection:
        return connection.execute(sql, values).fetchall()


def empty(url: str) -> None:
    """Leave nothing in a database but what `migrate` made, and nobody who uses it."""
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute(
            "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relname LIKE 'hub\\_%' AND relname <> ?",
            (VERSION_TABLE,),
        ).fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE {tables[0]} RESTART IDENTITY")
