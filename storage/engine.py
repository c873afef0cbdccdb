"""What the code that serves every engine asks of a database connection.

SQL is written once, in what SQLite and PostgreSQL have in common, with ? for each value and no ? elsewhere. Rows that
travel in bulk are declared (`Insert`, `Lookup`, `RangeLookup`); each engine moves them in the way that is fast on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

from hub.polite import Rest

Engine = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT of rows. *conflict*: an ON CONFLICT clause, in which the row that is there goes by the table's name."""

    table: str
    columns: tuple[str, ...]
    conflict: str = ""


@dataclass(frozen=True, slots=True)
class Lookup:
    """SELECT of rows by one column. *sql* has {} behind the column, where what it is compared with goes."""

    sql: str


@dataclass(frozen=True, slots=True)
class RangeLookup:
    """SELECT of rows by a few columns. *sql* has {} where the rows of wanted values go, of SQL's *types*."""

    sql: str
    types: tuple[str, ...]


@cache
def sized_inserts(into: Insert) -> tuple[tuple[int, str], ...]:
    """Statements that insert 64, 16, 4 rows and 1: few, so that an engine's prepared ones are used again."""
    head = f"INSERT INTO {into.table} ({','.join(into.columns)}) VALUES "
    row = marks(len(into.columns))
    return tuple((size, f"{head}{','.join([row] * size)} {into.conflict}") for size in (64, 16, 4, 1))


def insert_sized(
    execute: Callable[[str, Sequence[Any]], object], into: Insert, values: Sequence[Any], rest: Rest
) -> None:
    """Insert rows by `sized_inserts`."""
    width, start = len(into.columns), 0
    for size, sql in sized_inserts(into):
        step = size * width
        while len(values) - start >= step:
            execute(sql, values[start : start + step])
            start += step
            rest()


def marks(count: int) -> str:
    """(?,?,...)"""
    return f"({','.join('?' * count)})"


class Rows(Protocol):
    """What a statement returned: tuples."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to a store's database. Transactions are begun and ended by the store."""

    @property
    def engine(self) -> Engine: ...

    @property
    def url(self) -> str:
        """How errors name the database: without password."""
        ...

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run one statement for each of *rows*."""
        ...

    def json_path(self, path: str | None) -> str | None:
        """A path such as `$.content[0].text` as this engine's views read it."""
        ...

    def rollback(self) -> None:
        """End the transaction, if there is one, as if it had not been."""
        ...

    def insert(self, into: Insert, values: Sequence[Any], rest: Rest, /) -> None:
        """Insert rows given as one flat list of values."""
        ...

    def lookup(self, what: Lookup, wanted: Collection[Any], rest: Rest, /) -> Iterator[Any]:
        """The rows whose column is in *wanted*."""
        ...

    def lookup_ranges(self, what: RangeLookup, wanted: Sequence[Sequence[Any]], rest: Rest, /) -> Iterator[Any]:
        """The rows that any of *wanted* asks for."""
        ...
