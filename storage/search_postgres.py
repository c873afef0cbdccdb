"""The indexes of full-text search in PostgreSQL: a tsvector with a GIN index, and a table of links. No text is parsed:
words come ready (storage/search_words.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Final

from storage.engine import Connection
from storage.search_indexes import Wanted, Words, Writing

_WINDOW = 5_000
"""Numbers that are gone through one by one when many match: some 10 ms. Where too few of them do, the index, which
knows no order, gives at most a few percent of all."""


class _Table:
    longest_step: Final = 0.5  # appends do not wait for it

    def __init__(self, table: str) -> None:
        self._table = table

    def drop(self, connection: Connection, writing: Writing) -> None:
        with writing(connection):
            connection.execute(f"DROP TABLE IF EXISTS {self._table}")

    def settle(self, connection: Connection, writing: Writing) -> None:
        """Done with the other tables, see `postgres_pruning.rewrite`."""

    def size(self, connection: Connection) -> int:
        (found,) = connection.execute("SELECT pg_total_relation_size(?::regclass)", (self._table,)).fetchone()
        return int(found)


class GINMessages(_Table):
    """See `search_indexes.MessageIndex`."""

    def make(self, connection: Connection) -> None:
        connection.execute(f"CREATE TABLE {self._table} (id bigint PRIMARY KEY, words tsvector NOT NULL)")
        connection.execute(
            f"CREATE INDEX {self._table}_words ON {self._table} USING gin (words) WITH (gin_pending_list_limit = 1024)"
        )
        # Words would be in pg_statistic, too, where nothing of messages belongs.
        connection.execute(f"ALTER TABLE {self._table} ALTER COLUMN words SET STATISTICS 0")

    def add(self, connection: Connection, rows: Sequence[tuple[int, Words]]) -> None:
        connection.execute(
            f"INSERT INTO {self._table} (id, words) SELECT id, array_to_tsvector(string_to_array(words, ' '))"
            " FROM unnest(?::bigint[], ?::text[]) AS new(id, words)",
            ([number for number, _ in rows], [" ".join(words) for _, words in rows]),
        )

    def remove(self, connection: Connection, rows: Iterable[tuple[int, Words]]) -> None:
        connection.execute(f"DELETE FROM {self._table} WHERE id = ANY(?)", ([number for number, _ in rows],))

    def tend(self, connection: Connection, writing: Writing, *, is_last: bool) -> None:
        """What is not sorted in yet is looked through by each search."""
        if is_last:
            with writing(connection):
                connection.execute("SELECT gin_clean_pending_list(?::regclass)", (f"{self._table}_words",))

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        """The planner knows nothing of the words, and does not choose."""
        match = " & ".join(f"'{word}'{':*' if is_prefix else ''}" for word, is_prefix in wanted)
        with _without(connection, "indexscan"):
            found = self._ask(connection, match, 0, below, f"LIMIT {limit + 1}")
        if len(found) <= limit:
            return sorted(found, reverse=True)
        (top,) = connection.execute(f"SELECT max(id) FROM {self._table} WHERE id < ?", (below,)).fetchone()
        with _without(connection, "bitmapscan"):
            found = self._ask(connection, match, top - _WINDOW, below, f"ORDER BY id DESC LIMIT {limit}")
        if len(found) < limit:
            rest = f"ORDER BY id DESC LIMIT {limit - len(found)}"
            with _without(connection, "indexscan"):
                found += self._ask(connection, match, 0, top - _WINDOW, rest)
        return found

    def _ask(self, connection: Connection, match: str, low: int, below: int, order: str) -> list[int]:
        rows = connection.execute(
            f"SELECT id FROM {self._table} WHERE words @@ ?::tsquery AND id >= ? AND id < ? {order}",
            (match, low, below),
        )
        return [number for (number,) in rows.fetchall()]


@contextmanager
def _without(connection: Connection, way: str) -> Iterator[None]:
    """Within a transaction: keep the planner from a way, and from reading everything."""
    switch = f"SELECT set_config('enable_{way}', ?, true), set_config('enable_seqscan', ?, true)"
    connection.execute(switch, ("off", "off"))
    yield
    connection.execute(switch, ("on", "on"))


class Links(_Table):
    """See `search_indexes.CarrierIndex`. A GIN index would have to find all events with any of a few hundred messages
    to know the newest ones."""

    def make(self, connection: Connection) -> None:
        connection.execute(
            f"CREATE TABLE {self._table} (message bigint, position bigint, PRIMARY KEY (message, position))"
        )

    def add(self, connection: Connection, rows: Sequence[tuple[int, Sequence[int]]]) -> None:
        connection.execute(
            f"INSERT INTO {self._table} (message, position) SELECT * FROM unnest(?::bigint[], ?::bigint[])", _flat(rows)
        )

    def remove(self, connection: Connection, rows: Iterable[tuple[int, Sequence[int]]]) -> None:
        connection.execute(
            f"DELETE FROM {self._table} AS l USING unnest(?::bigint[], ?::bigint[]) AS gone(message, position)"
            " WHERE l.message = gone.message AND l.position = gone.position",
            _flat(rows),
        )

    def tend(self, connection: Connection, writing: Writing, *, is_last: bool) -> None:
        """The server does."""

    def with_any(self, connection: Connection, messages: Sequence[int], below: int, limit: int) -> list[int]:
        rows = connection.execute(
            "SELECT DISTINCT l.position FROM unnest(?::bigint[]) AS wanted(message) CROSS JOIN LATERAL"
            f" (SELECT position FROM {self._table} WHERE message = wanted.message AND position < ?"
            " ORDER BY position DESC LIMIT ?) AS l ORDER BY l.position DESC LIMIT ?",
            (list(messages), below, limit, limit),
        )
        return [position for (position,) in rows.fetchall()]


def _flat(rows: Iterable[tuple[int, Sequence[int]]]) -> tuple[list[int], list[int]]:
    pairs = list(chain.from_iterable(((message, position) for message in messages) for position, messages in rows))
    return [message for message, _ in pairs], [position for _, position in pairs]
