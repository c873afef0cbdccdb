"""SQL in few, large statements.

sqlite3 gives up the GIL at every step of a statement and may wait 5 ms to get it back beside a busy thread, so rows
travel many to a statement. Statements come in a few fixed sizes, so that SQLite's compiled ones are used again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hub.polite import Rest

_SIZES = (64, 16, 4, 1)
_LOOKUP = 64
_NONE = (None,) * _LOOKUP


class Insert:
    """INSERT of rows given as one flat list of values."""

    def __init__(self, table: str, columns: Sequence[str], *, conflict: str = "") -> None:
        self.table, self.columns = table, tuple(columns)
        row = f"({','.join('?' * len(self.columns))})"
        self._sql = {
            size: f"INSERT INTO {table} ({','.join(self.columns)}) VALUES {','.join([row] * size)} {conflict}"
            for size in _SIZES
        }

    def run(self, connection: sqlite3.Connection, values: Sequence[Any], rest: Rest) -> None:
        """Insert the rows of *values*."""
        width, start = len(self.columns), 0
        for size in _SIZES:
            step, sql = size * width, self._sql[size]
            while len(values) - start >= step:
                connection.execute(sql, values[start : start + step])
                start += step
                rest()


class Lookup:
    """SELECT of rows by one column. *sql* has {} where the placeholders of IN go."""

    def __init__(self, sql: str) -> None:
        self._sql = sql.format(",".join("?" * _LOOKUP))

    def run(self, connection: sqlite3.Connection, wanted: Collection[Any], rest: Rest) -> Iterator[Any]:
        """The rows whose column is in *wanted*."""
        values = list(wanted)
        for start in range(0, len(values), _LOOKUP):
            chunk = values[start : start + _LOOKUP]
            yield from connection.execute(self._sql, (*chunk, *_NONE[len(chunk) :])).fetchall()
            rest()


class RangeLookup:
    """SELECT of rows by a few columns. *sql* has {} where the rows of placeholders go, *width* of them in each."""

    def __init__(self, sql: str, width: int) -> None:
        row = f"({','.join('?' * width)})"
        self._sql, self._width = sql.format(",".join([row] * _LOOKUP)), width

    def run(self, connection: sqlite3.Connection, wanted: Sequence[Sequence[Any]], rest: Rest) -> Iterator[Any]:
        """The rows that any of *wanted* asks for."""
        for start in range(0, len(wanted), _LOOKUP):
            flat = [value for one in wanted[start : start + _LOOKUP] for value in one]
            flat += [None] * (_LOOKUP * self._width - len(flat))
            yield from connection.execute(self._sql, flat).fetchall()
            rest()
