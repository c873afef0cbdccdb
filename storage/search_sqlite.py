"""The indexes of full-text search in SQLite: FTS5, without text and positions, which takes a third of what it takes
with positions. It takes no text apart either: words come ready (storage/search_words.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, cast

from hub.errors import HubError
from storage.engine import Connection
from storage.search_indexes import T, Wanted, Words, Writing
from storage.sqlite_connection import SQLiteConnection

_PAGES = 32
"""Of FTS5, to be merged in one step: some 10 ms."""
_ROWS = 256
"""Of FTS5's own table, to be deleted in one step."""


class _FTS5(Generic[T]):
    longest_step: Final = 0.05

    def __init__(self, table: str) -> None:
        self._table = table

    def _text(self, found: T) -> str:
        raise NotImplementedError

    def make(self, connection: Connection) -> None:
        if not connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone():
            raise HubError("this Python's SQLite was built without FTS5, which search needs; use another build")
        connection.execute(
            f"CREATE VIRTUAL TABLE {self._table} USING"
            " fts5(words, content='', detail=none, columnsize=0, tokenize='ascii')"
        )
        # Left to itself it merges what it wrote within the transactions that write, now and then for 80 ms.
        connection.execute(f"INSERT INTO {self._table} ({self._table}, rank) VALUES ('automerge', 0)")

    def drop(self, connection: Connection, writing: Writing) -> None:
        there = f"SELECT 1 FROM sqlite_master WHERE name = '{self._table}'"
        some = f"SELECT id FROM {self._table}_data LIMIT {_ROWS}"
        while connection.execute(there).fetchone():
            with writing(connection):
                if len(connection.execute(some).fetchall()) < _ROWS:
                    connection.execute(f"DROP TABLE {self._table}")
                else:  # each page is overwritten with zeros: all of them at once would hold writers up for seconds
                    connection.execute(f"DELETE FROM {self._table}_data WHERE id IN ({some})")

    def add(self, connection: Connection, rows: Sequence[tuple[int, T]]) -> None:
        connection.executemany(
            f"INSERT INTO {self._table} (rowid, words) VALUES (?, ?)",
            ((number, self._text(found)) for number, found in rows),
        )

    def remove(self, connection: Connection, rows: Iterable[tuple[int, T]]) -> None:
        connection.executemany(
            f"INSERT INTO {self._table} ({self._table}, rowid, words) VALUES ('delete', ?, ?)",
            ((number, self._text(found)) for number, found in rows),
        )

    def tend(self, connection: Connection, writing: Writing, *, is_last: bool) -> None:
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
                connection.execute(f"INSERT INTO {self._table} ({self._table}, rank) VALUES ('merge', ?)", (pages,))
                changes = cast(SQLiteConnection, connection).total_changes - before

    def size(self, connection: Connection) -> int:
        (found,) = connection.execute(f"SELECT coalesce(sum(length(block)), 0) FROM {self._table}_data").fetchone()
        return int(found)

    def _newest(self, connection: Connection, match: str, below: int, limit: int) -> list[int]:
        rows = connection.execute(
            f"SELECT rowid FROM {self._table} WHERE {self._table} MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
            (match, below, limit),
        )
        return [number for (number,) in rows.fetchall()]


class FTS5Messages(_FTS5[Words]):
    """See `search_indexes.MessageIndex`."""

    def _text(self, found: Words) -> str:
        return " ".join(found)

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        match = " AND ".join(f'"{word}"{" *" if is_prefix else ""}' for word, is_prefix in wanted)
        return self._newest(connection, match, below, limit)


class FTS5Carriers(_FTS5[Sequence[int]]):
    """See `search_indexes.CarrierIndex`. The ids of an event's messages are its words."""

    def _text(self, found: Sequence[int]) -> str:
        return " ".join(map(str, found))

    def with_any(self, connection: Connection, messages: Sequence[int], below: int, limit: int) -> list[int]:
        return self._newest(connection, " OR ".join(f'"{one}"' for one in messages), below, limit)
