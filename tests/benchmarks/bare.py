"""What stores are measured against: the driver alone, writing the rows of a store once more."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg

TABLES = ("hub_contents", "hub_parts", "hub_events", "hub_calls")

Rows = dict[str, list[tuple[Any, ...]]]


def sqlite_seconds(path: str, batch: int) -> float:
    """`executemany` of the rows in the SQLite file *path*, into a new file beside it with the same tables, indexes and
    settings, *batch* events in a transaction."""
    with closing(sqlite3.connect(path)) as source:
        schema = [row[0] for row in source.execute("SELECT sql FROM sqlite_master WHERE type IN ('table', 'index')")]
        rows = {table: source.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    with closing(sqlite3.connect(f"{path}-bare", isolation_level=None)) as target:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "mmap_size=0", "cache_size=-4096"):
            target.execute(f"PRAGMA {pragma}")
        for statement in filter(None, schema):
            target.execute(statement)
        with _timed() as took:
            for shares in _transactions(rows, batch):
                target.execute("BEGIN IMMEDIATE")
                for table, share in shares.items():
                    target.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(share[0]))})", share)
                target.execute("COMMIT")
    return took[0]


def postgres_seconds(url: str, batch: int) -> float:
    """Binary COPY of the rows in the database *url*, into tables like those but without partitions."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows, types = Rows(), {}
        connection.execute("CREATE SCHEMA bare")
        for table in TABLES:
            with connection.cursor(binary=True) as cursor:
                rows[table] = cursor.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                types[table] = [column.type_code for column in cursor.description or ()]
            connection.execute(f"CREATE TABLE bare.{table} (LIKE {table} INCLUDING ALL)")
        with _timed() as took:
            for shares in _transactions(rows, batch):
                with connection.transaction():
                    for table, share in shares.items():
                        _copy(connection, f"bare.{table}", types[table], share)
        connection.execute("DROP SCHEMA bare CASCADE")
    return took[0]


def _copy(
    connection: psycopg.Connection[Any], table: str, types: Sequence[int], rows: Sequence[tuple[Any, ...]]
) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


@contextmanager
def _timed() -> Iterator[list[float]]:
    took: list[float] = []
    started = time.perf_counter()
    yield took
    took.append(time.perf_counter() - started)


def _transactions(rows: Rows, batch: int) -> Iterator[Rows]:
    """Of each table what one transaction takes, if that is anything."""
    count = -(-len(rows["hub_events"]) // batch)
    for number in range(count):
        shares = {
            table: own[len(own) * number // count : len(own) * (number + 1) // count] for table, own in rows.items()
        }
        yield {table: share for table, share in shares.items() if share}
