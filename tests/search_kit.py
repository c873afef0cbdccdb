"""Stores to be searched, on each engine, and what is in their indexes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from hub.events import EventRecord
from storage import open_store
from storage.engine import Connection, marks
from storage.postgres import PostgresStore
from storage.postgres_server import connect
from storage.search import CARRIERS, carried
from storage.search_find import Found, Search, find
from storage.search_indexes import TABLES
from storage.sql_store import SqlStore
from tests.postgres_kit import migrate
from tests.postgres_server import Server


def postgres_store(url: str) -> PostgresStore:
    migrate(url)
    return PostgresStore(url)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def found(store: SqlStore, words: str, **options: Any) -> Found:
    """What is found when all is indexed."""
    store.follow_search(enable=True)
    return found_now(store, words, **options)


def found_now(store: SqlStore, words: str, **options: Any) -> Found:
    with store._apart() as connection:
        return find(connection, Search(words=words, **options))


def calls_with(store: SqlStore, words: str, **options: Any) -> list[str]:
    """The ids of all calls that carry *words*, newest first."""
    return [hit.call["call_id"] for hit in found(store, words, **{"repeats": True, "limit": 1_000, **options}).hits]


def snippets(store: SqlStore, words: str, **options: Any) -> list[str]:
    return [hit.snippet for hit in found(store, words, **options).hits]


def id_of(records: list[EventRecord]) -> str:
    return records[0]["stream_id"]


# Looking inside.


def url_of(store: SqlStore) -> str:
    """With what it takes to log in."""
    return store._conninfo if isinstance(store, PostgresStore) else store.url


def opened_again(store: SqlStore) -> SqlStore:
    """Another store object for the same store."""
    return open_store(url_of(store))


def tables(store: SqlStore, like: str = "hub_search%") -> list[str]:
    """Tables of search, without those that FTS5 makes for itself unless *like* says so."""
    with store._apart() as connection:
        if connection.engine == "sqlite":
            sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?"
            if like != "%":
                sql += " AND sql LIKE 'CREATE VIRTUAL%'"
        else:
            sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE ?"
        return [name for (name,) in connection.execute(sql, (like,)).fetchall()]


def is_true(store: SqlStore) -> bool:
    """Whether the indexes hold what the store holds, no more and no less."""
    with store._apart() as connection:
        contents = {one for (one,) in connection.execute("SELECT DISTINCT content_id FROM hub_parts").fetchall()}
        events = connection.execute(
            f"SELECT position, content FROM hub_events WHERE content IS NOT NULL AND type IN {marks(len(CARRIERS))}",
            CARRIERS,
        ).fetchall()
        carrying = {(one, position) for position, found in carried(connection, events) for one in found}
        return (messages(connection), links(connection)) == (contents, carrying)


def messages(connection: Connection) -> set[int]:
    """Those whose words are indexed."""
    if connection.engine == "postgresql":
        return {one for (one,) in connection.execute(f"SELECT id FROM {TABLES[0]}").fetchall()}
    return {number for _, number in vocabulary(connection, TABLES[0])}


def links(connection: Connection) -> set[tuple[int, int]]:
    """Messages, each with the position of an event that carries it."""
    if connection.engine == "postgresql":
        return set(connection.execute(f"SELECT message, position FROM {TABLES[1]}").fetchall())
    return {(int(term), number) for term, number in vocabulary(connection, TABLES[1])}


def vocabulary(connection: Connection, table: str) -> list[tuple[str, int]]:
    """The words in FTS5's *table*, each with a number that has it."""
    connection.execute(f"CREATE VIRTUAL TABLE temp.seen USING fts5vocab(main, {table}, instance)")
    found: list[tuple[str, int]] = connection.execute("SELECT term, doc FROM temp.seen").fetchall()
    connection.execute("DROP TABLE temp.seen")
    assert len(found) == len(set(found))
    return found


def blocks(path: Path) -> bytes:
    """All that FTS5 keeps."""
    with closing(sqlite3.connect(path)) as connection:
        made = "SELECT name FROM sqlite_master WHERE name LIKE 'hub_search%' AND sql LIKE 'CREATE TABLE%'"
        kept = [
            value if isinstance(value, bytes) else str(value).encode()
            for (name,) in connection.execute(made).fetchall()
            for row in connection.execute(f"SELECT * FROM '{name}'")
            for value in row
        ]
    return b"|".join(kept)


def relations(server: Server) -> bytes:
    """The files of the tables and indexes of search."""
    connection = connect(server.url())
    connection.execute("CHECKPOINT")
    rows = connection.execute(
        "SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE relname LIKE 'hub\\_search%' OR c.oid IN"
        " (SELECT reltoastrelid FROM pg_class WHERE relname LIKE 'hub\\_search%')"
    ).fetchall()
    connection.raw.close()
    return b"".join((server.folder / path).read_bytes() for (path,) in rows)
