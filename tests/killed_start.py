"""Starts on a store and is killed at the first statement it sends, then at the second, and so on until it gets through.

Run: python -m tests.killed_start URL [--every N] [--migrations FOLDER]. Prints how often it was killed. What a start
is, each engine says: SQLite makes and upgrades its file when it is opened, PostgreSQL when `hub migrate` is run. After
each kill the database is either what it was or what it is in the end, and its events are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401  # so that each start need not import it
import psycopg
import sqlalchemy.pool  # noqa: F401

from storage import migrate, open_store
from storage.engine import Connection
from storage.sqlite_connection import SQLiteConnection
from tests import postgres_kit
from tests.old_stores import columns_of

State = tuple[Any, ...]


def start(url: str, migrations: Path | None = None) -> None:
    """*migrations*: For PostgreSQL, others than ours."""
    if url.startswith("postgres"):
        postgres_kit.migrate(url, migrations=migrations)
    else:
        open_store(url).read_all(limit=1)


def state(url: str) -> State:
    """All tables, indexes and views, the schema's number, and a hash of the events."""
    if url.startswith("postgres"):
        with postgres_kit.connected(url) as connection:
            return _state(connection, "SELECT relname, relkind::text FROM pg_class WHERE relname ~ '^(ix_|hub_|llm_)'")
    path = url.removeprefix("sqlite:///")
    if not os.path.exists(path):
        return ((), None, None)
    with closing(sqlite3.connect(path, factory=SQLiteConnection)) as file:
        return _state(file, "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")


def _state(connection: Connection, objects: str) -> State:
    made = tuple(sorted(connection.execute(objects).fetchall()))
    if not any(name == migrate.VERSION_TABLE for name, _ in made):
        return made, None, None
    version = connection.execute(f"SELECT version_num FROM {migrate.VERSION_TABLE}").fetchone()
    columns = columns_of(connection, "hub_events")
    events = connection.execute(f"SELECT {columns} FROM hub_events ORDER BY position").fetchall()
    return made, version, hashlib.sha256(repr(events).encode()).hexdigest()


def die_at(statement: int) -> None:
    """Be killed before so many statements have been sent, or the transaction they belong to is ended."""
    left = statement

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    traced: list[tuple[Any, str, Callable[..., Any]]] = [(sqlite3, "connect", _traced(sqlite3.connect, count))]
    for owner, name in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "copy"), (psycopg.Transaction, "__exit__")):
        traced.append((owner, name, _counted(getattr(owner, name), count)))
    for owner, name, method in traced:
        setattr(owner, name, method)


def _traced(connect: Callable[..., sqlite3.Connection], count: Callable[[str], None]) -> Callable[..., Any]:
    def connect_traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    return connect_traced


def _counted(method: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        count()
        return method(*arguments, **options)

    return counted


def kill_again_and_again(url: str, every: int, migrations: Path | None) -> int:
    """Returns: How often it was killed."""
    states = [state(url)]
    while True:
        child = os.fork()
        if child == 0:
            die_at(1 + (len(states) - 1) * every)
            start(url, migrations)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        states.append(state(url))
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
    before, after = states[0], states[-1]
    assert [one for one in states if one not in (before, after)] == []
    assert before[1] != after[1], "nothing was to be done"
    assert before[2] in (None, after[2]), "the events are others"
    return len(states) - 2


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("url")
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--migrations", type=Path)
    given = options.parse_args()
    print(kill_again_and_again(given.url, given.every, given.migrations))
