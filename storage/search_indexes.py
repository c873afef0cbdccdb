"""Inverted indexes: numbers, each with words, asked for the highest numbers that have some of them.

On SQLite FTS5, contentless and without positions: a fifth of what it takes with both, and what is deleted is gone from
the file after a merge. On PostgreSQL a tsvector and a GIN index. Neither takes text apart: words come ready, separated
by blanks (storage/search_words.py), so both give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, cast

from storage.engine import Connection, Engine
from storage.sqlite_connection import SQLiteConnection

Writing = Callable[[Connection], AbstractContextManager[None]]
"""A transaction that no other writer's overlaps."""
_ROWS = 256
"""Pages of FTS5 to delete in one step."""
Row = tuple[int, str]
"""A number and its words."""
Wanted = Iterable[tuple[str, bool]]
"""Words, each with whether it is but the beginning of one."""

_PAGES = 32
"""Of FTS5, in one step: some 10 ms."""


class Index(Protocol):
    """One index. What is given no *writing* happens within a transaction of the caller's."""

    table: str

    def make(self, connection: Connection) -> None: ...

    def drop(self, connection: Connection, writing: Writing) -> None:
        """Remove it, if it is there, in short transactions."""
        ...

    def add(self, connection: Connection, rows: Sequence[Row]) -> None: ...

    def tend(self, connection: Connection, writing: Writing) -> None:
        """After rows were added: whatever keeps it fast, in short transactions."""
        ...

    def remove(self, connection: Connection, numbers: Sequence[int], rows: Callable[[], Iterable[Row]]) -> None:
        """*rows*: tells what was added for *numbers*, where that is needed."""
        ...

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        """The highest numbers below *below* that have all the words."""
        ...

    def with_any(self, connection: Connection, words: Iterable[str], below: int, limit: int) -> list[int]:
        """As `with_all`, with one of the words."""
        ...

    def settle(self, connection: Connection, writing: Writing) -> None:
        """Leave nothing in the files of what was removed."""
        ...

    def size(self, connection: Connection) -> int:
        """In bytes."""
        ...


class _FTS5:
    def __init__(self, table: str) -> None:
        self.table = table

    def make(self, connection: Connection) -> None:
        connection.execute(
            f"CREATE VIRTUAL TABLE {self.table} USING"
            " fts5(words, content='', detail=none, columnsize=0, tokenize='ascii')"
        )
        # Left to itself it merges what it wrote within the transactions that write, now and then for 80 ms.
        connection.execute(f"INSERT INTO {self.table} ({self.table}, rank) VALUES ('automerge', 0)")

    def drop(self, connection: Connection, writing: Writing) -> None:
        there = f"SELECT 1 FROM sqlite_master WHERE name = '{self.table}'"
        while connection.execute(there).fetchone():
            with writing(connection):
                rows = f"SELECT id FROM {self.table}_data LIMIT {_ROWS}"
                if connection.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0] < _ROWS:
                    connection.execute(f"DROP TABLE IF EXISTS {self.table}")
                else:  # every page is overwritten with zeros, which would hold writers up for seconds
                    connection.execute(f"DELETE FROM {self.table}_data WHERE id IN ({rows})")

    def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        connection.executemany(f"INSERT INTO {self.table} (rowid, words) VALUES (?, ?)", rows)

    def remove(self, connection: Connection, numbers: Sequence[int], rows: Callable[[], Iterable[Row]]) -> None:
        connection.executemany(f"INSERT INTO {self.table} ({self.table}, rowid, words) VALUES ('delete', ?, ?)", rows())

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        match = " AND ".join(f'"{word}"{" *" if is_prefix else ""}' for word, is_prefix in wanted)
        return self._newest(connection, match, below, limit)

    def with_any(self, connection: Connection, words: Iterable[str], below: int, limit: int) -> list[int]:
        return self._newest(connection, " OR ".join(f'"{word}"' for word in words), below, limit)

    def _newest(self, connection: Connection, match: str, below: int, limit: int) -> list[int]:
        rows = connection.execute(
            f"SELECT rowid FROM {self.table} WHERE {self.table} MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
            (match, below, limit),
        )
        return [number for (number,) in rows.fetchall()]

    def tend(self, connection: Connection, writing: Writing) -> None:
        self._merge(connection, writing, _PAGES)

    def settle(self, connection: Connection, writing: Writing) -> None:
        """Removed words stand in the older segments until these are merged with those that say they are removed."""
        self._merge(connection, writing, -_PAGES)

    def _merge(self, connection: Connection, writing: Writing, pages: int) -> None:
        """*pages* in each step; below 0 until there is but one segment. See "merge" in FTS5's documentation."""
        changes = 2
        while changes > 1:
            with writing(connection):
                before = cast(SQLiteConnection, connection).total_changes
                connection.execute(f"INSERT INTO {self.table} ({self.table}, rank) VALUES ('merge', ?)", (pages,))
                changes = cast(SQLiteConnection, connection).total_changes - before

    def size(self, connection: Connection) -> int:
        (found,) = connection.execute(f"SELECT coalesce(sum(length(block)), 0) FROM {self.table}_data").fetchone()
        return int(found)


class _GIN:
    def __init__(self, table: str) -> None:
        self.table = table

    def make(self, connection: Connection) -> None:
        connection.execute(f"CREATE TABLE {self.table} (id bigint PRIMARY KEY, words tsvector NOT NULL)")
        connection.execute(f"CREATE INDEX {self.table}_words ON {self.table} USING gin (words)")

    def drop(self, connection: Connection, writing: Writing) -> None:
        with writing(connection):
            connection.execute(f"DROP TABLE IF EXISTS {self.table}")

    def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        numbers, words = zip(*rows, strict=True) if rows else ((), ())
        connection.execute(
            f"INSERT INTO {self.table} (id, words) SELECT id, array_to_tsvector(string_to_array(words, ' '))"
            " FROM unnest(?::bigint[], ?::text[]) AS new(id, words)",
            (list(numbers), list(words)),
        )

    def tend(self, connection: Connection, writing: Writing) -> None:
        """The server does."""

    def remove(self, connection: Connection, numbers: Sequence[int], rows: Callable[[], Iterable[Row]]) -> None:
        connection.execute(f"DELETE FROM {self.table} WHERE id = ANY(?)", (list(numbers),))

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        match = " & ".join(f"'{word}'{':*' if is_prefix else ''}" for word, is_prefix in wanted)
        return self._newest(connection, match, below, limit)

    def with_any(self, connection: Connection, words: Iterable[str], below: int, limit: int) -> list[int]:
        return self._newest(connection, " | ".join(f"'{word}'" for word in words), below, limit)

    def _newest(self, connection: Connection, match: str, below: int, limit: int) -> list[int]:
        rows = connection.execute(
            f"SELECT id FROM {self.table} WHERE words @@ ?::tsquery AND id < ? ORDER BY id DESC LIMIT ?",
            (match, below, limit),
        )
        return [number for (number,) in rows.fetchall()]

    def settle(self, connection: Connection, writing: Writing) -> None:
        """VACUUM alone leaves the bytes of dead rows in place, and keys in the index for ever."""
        connection.execute(f"VACUUM (FULL, ANALYZE) {self.table}")

    def size(self, connection: Connection) -> int:
        (found,) = connection.execute("SELECT pg_total_relation_size(?::regclass)", (self.table,)).fetchone()
        return int(found)


def index(engine: Engine, table: str) -> Index:
    """The index *table* as *engine* has it."""
    return _FTS5(table) if engine == "sqlite" else _GIN(table)
