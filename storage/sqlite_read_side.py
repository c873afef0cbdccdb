"""Reading a store in a SQLite file. Nothing is kept open between two reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from storage.engine import Connection
from storage.query import Limits, Params, Result, Shadow
from storage.query_child import run_in_child
from storage.sqlite_file import translated
from storage.sqlite_query import public_columns, read_only, run, views

T = TypeVar("T")


class SQLiteReadSide:
    """See `storage.read_side.ReadSide`."""

    def __init__(self, path: Path, *, isolated: bool) -> None:
        self._path = path
        self._run = run_in_child if isolated else run

    def is_missing(self) -> bool:
        return not self._path.exists() or self._path.stat().st_size == 0

    def views(self) -> Shadow:
        return views(self._path)

    def sql(self, query: str, params: Params = (), *, limits: Limits | None = None) -> Result:
        return self._run(self._path, query, params, limits=limits)

    def read(self, work: Callable[[Connection], T]) -> T:
        with read_only(self._path) as connection, translated(self._path):
            public_columns(connection, self._path)
            return work(connection)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        pass
