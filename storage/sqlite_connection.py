"""A connection to a SQLite file, as `storage.engine` asks for it: rows travel in few, large statements.

sqlite3 gives up the GIL at every step of a statement and may wait 5 ms to get it back beside a busy thread, so rows
travel many to a statement. Statements come in a few fixed sizes, so that SQLite's compiled ones are used again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any, Final

from hub.polite import Rest
from storage.engine import Engine, Insert, Lookup, RangeLookup, insert_sized, marks

_LOOKUP = 64
_NONE = (None,) * _LOOKUP


class SQLiteConnection(sqlite3.Connection):
    """See `storage.engine.Connection`."""

    engine: Final[Engine] = "sqlite"

    @property
    def url(self) -> str:
        _, _, path = self.execute("PRAGMA database_list").fetchone()
        return f"sqlite:///{path}"

    def json_path(self, path: str | None) -> str | None:
        return path

    def insert(self, into: Insert, values: Sequence[Any], rest: Rest) -> None:
        insert_sized(self.execute, into, values, rest)

    def lookup(self, what: Lookup, wanted: Collection[Any], rest: Rest) -> Iterator[Any]:
        values, sql = list(wanted), _lookup(what)
        for start in range(0, len(values), _LOOKUP):
            chunk = values[start : start + _LOOKUP]
            yield from self.execute(sql, (*chunk, *_NONE[len(chunk) :])).fetchall()
            rest()

    def lookup_ranges(self, what: RangeLookup, wanted: Sequence[Sequence[Any]], rest: Rest) -> Iterator[Any]:
        sql, width = _range_lookup(what), len(what.types)
        for start in range(0, len(wanted), _LOOKUP):
            flat = [value for one in wanted[start : start + _LOOKUP] for value in one]
            flat += [None] * (_LOOKUP * width - len(flat))
            yield from self.execute(sql, flat).fetchall()
            rest()


@cache
def _lookup(what: Lookup) -> str:
    return what.sql.format(f"IN {marks(_LOOKUP)}")


@cache
def _range_lookup(what: RangeLookup) -> str:
    return what.sql.format("VALUES " + ",".join([marks(len(what.types))] * _LOOKUP))
