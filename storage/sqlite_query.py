"""SQL written by people on a SQLite file, read-only and bounded: what `hub sql` and `store.sql` run.

Every statement is prepared twice. First, without running it, in an empty database that has the public views as tables
and nothing else: SQLite itself resolves the names there, so what gets through names only views and its own common table
expressions. (The name that SQLite's authorizer is given for "inside which view" cannot be trusted alone: a common table
expression called llm_calls is reported the same way.) Then it runs on the store, in a connection that could not write
if it wanted to.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub.errors import ForeignStore, QueryRefused, StoreError, StoreUnavailable
from storage.event_views import PREFIX
from storage.query import (
    Limits,
    Params,
    Result,
    Shadow,
    no_such_column,
    no_such_view,
    not_a_read,
    not_allowed,
    not_alone,
    quoted,
    wrong_sql,
    wrong_values,
)
from storage.query_rules import FUNCTIONS, TABLE_FUNCTIONS, expansions, first_keyword
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_file import url_of
from storage.views import VIEWS

_PROGRESS_STEPS = 10_000
_MOST_SHADOWS = 16
_shadows: dict[tuple[tuple[str, str, str | None], ...], Shadow] = {}
"""The views' columns, by the schema's text, from which they follow: SQLite takes milliseconds to tell."""
_MOST_EXPANSIONS = 4_096
_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1_000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def run(
    path: Path,
    sql: str,
    params: Params = (),
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run one reading statement over the public views of the SQLite store at *path*.

    In the calling process: a single SQL function that computes for long can not be interrupted here; for SQL from
    strangers use `storage.query_child.run_in_child`.

    Raises:
        QueryRefused: Not one statement, not a read, or it names something that is not public.
        QueryLimit: Stopped at a limit.
        StoreError: The store cannot be read.
    """
    limits = limits or Limits()
    with read_only(path) as connection:
        shadow = public_columns(connection, path)
        _check(sql, params, shadow)
        _confine(connection, limits, frozenset(shadow), deadline=clock() + limits.seconds, clock=clock)
        try:
            with closing(connection.execute(sql, params)) as cursor:
                return _collect(cursor, limits)
        except MemoryError:
            raise limits.too_much() from None
        except sqlite3.Error as failed:
            raise _translated(failed, path, limits) from None


def views(path: Path) -> Shadow:
    """The public views of the store at *path* and their columns."""
    with read_only(path) as connection:
        return public_columns(connection, path)


def public_columns(connection: sqlite3.Connection, path: Path) -> Shadow:
    """Views people may read: those of the contract, and llm_event_* for contributed events."""
    try:
        schema = tuple(connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"))
        found = _shadows.get(schema)
        if found is None:
            found = {
                name: [column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,))]
                for kind, name, _ in schema
                if kind == "view" and (name in VIEWS or name.startswith(PREFIX))
            }
            if len(_shadows) >= _MOST_SHADOWS:
                _shadows.clear()
            _shadows[schema] = found
    except sqlite3.Error as failed:
        raise _translated(failed, path, Limits()) from None
    if not schema:
        raise StoreUnavailable(url_of(path), "it is empty", "trace a call first, or name another with --db")
    if "llm_calls" not in found:
        raise ForeignStore(
            url_of(path), "this is not a store of the hub", "name another file with --db, or run hub migrate"
        )
    return found


@contextmanager
def read_only(path: Path) -> Iterator[SQLiteConnection]:
    """A connection that changes nothing, without the guard: for statements of our own.

    Raises: StoreError: There is no such file, or it cannot be opened.
    """
    if not path.is_file():
        raise StoreUnavailable(
            url_of(path), "there is no such file", "trace a call first, or name another file with --db"
        )
    connection = _connect(path)
    try:
        yield connection
    finally:
        connection.close()


def _connect(path: Path) -> SQLiteConnection:
    """Read-only. A store in a folder that cannot be written, with no writer about, is read as the plain file it is."""
    try:
        return _prepared(path, "mode=ro")
    except sqlite3.Error as failed:
        wal = path.with_name(path.name + "-wal")
        if failed.sqlite_errorname == "SQLITE_CANTOPEN" and not wal.exists():
            try:
                return _prepared(path, "immutable=1")
            except sqlite3.Error:
                pass
        raise _translated(failed, path, Limits()) from None


def _prepared(path: Path, mode: str) -> SQLiteConnection:
    uri = f"file:{quote(str(path))}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, factory=SQLiteConnection)
    try:
        # LIKE compares as PostgreSQL's does.
        for pragma in ("query_only = 1", "mmap_size = 0", "cache_size = -16000", "case_sensitive_like = 1"):
            connection.execute(f"PRAGMA {pragma}")
        if _views_may_use_json_untrusted():
            connection.execute("PRAGMA trusted_schema = 0")
        # Table functions register themselves at first use, which the authorizer would take for a write to the schema.
        connection.execute("SELECT count(*) FROM sqlite_master, json_each('[]'), json_tree('[]')").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@cache
def _views_may_use_json_untrusted() -> bool:
    """Older SQLite counts json_extract among the functions that an untrusted view must not call, and our views call it.
    There the authorizer stands alone: its list of functions holds inside views too."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.execute("CREATE VIEW uses_json AS SELECT json_extract('1', '$')")
        empty.execute("PRAGMA trusted_schema = 0")
        try:
            empty.execute("SELECT * FROM uses_json")
        except sqlite3.OperationalError:
            return False
    return True


def _check(sql: str, params: Params, shadow: Shadow) -> None:
    """Let SQLite resolve every name where nothing but public views exists. Nothing is run."""
    keyword = first_keyword(sql)
    if keyword not in ("SELECT", "WITH", "VALUES", "EXPLAIN"):
        raise not_a_read(keyword, shadow)
    if expansions(sql) > _MOST_EXPANSIONS:
        reason = "its common table expressions refer to each other too often, and are copied each time"
        raise QueryRefused(reason, "refer to each of them once or twice")
    empty = _EmptyViews.of(shadow)
    guard = _Authorizer(lambda table, _column, _view: table not in empty.modules and not table.startswith("sqlite_"))
    empty.connection.set_authorizer(guard)
    try:
        empty.connection.execute(sql if keyword == "EXPLAIN" else f"EXPLAIN {sql}", params).close()
    except (sqlite3.Warning, sqlite3.Error, ValueError, OverflowError) as failed:
        raise _refusal(failed, guard.denied, shadow) from None


class _EmptyViews:
    """A database in memory in which nothing but empty tables named like the public views exists."""

    _kept = threading.local()

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
        for view, columns in shadow.items():
            self.connection.execute(f'CREATE TABLE "{view}" ({", ".join(quoted(column) for column in columns)})')
        self.connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
        modules = self.connection.execute("SELECT name FROM pragma_module_list").fetchall()
        self.modules = {name for (name,) in modules} - TABLE_FUNCTIONS
        for limit, value in _LIMITS.items():
            self.connection.setlimit(limit, value)

    @classmethod
    def of(cls, shadow: Shadow) -> _EmptyViews:
        """The calling thread's, which is kept: it takes milliseconds to make."""
        kept: _EmptyViews | None = getattr(cls._kept, "last", None)
        if kept is None or kept.shadow != shadow:
            if kept is not None:
                kept.connection.close()
            kept = cls._kept.last = cls(shadow)
        return kept


def _confine(
    connection: sqlite3.Connection,
    limits: Limits,
    public: frozenset[str],
    *,
    deadline: float,
    clock: Callable[[], float],
) -> None:
    def readable(table: str, column: str, view: str | None) -> bool:
        if table in public or table in TABLE_FUNCTIONS or not table.startswith(("hub_", "sqlite_", "pragma_")):
            return True  # what is none of these names a common table expression
        # count(*) over a view is reported without the view, as a read of no column.
        return table != "hub_keys" and table.startswith("hub_") and (view is not None or column == "")

    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.bytes)
    connection.set_authorizer(_Authorizer(readable))
    connection.set_progress_handler(lambda: clock() > deadline, _PROGRESS_STEPS)


class _Authorizer:
    """Denies all but SELECT, the functions of the list, and reads that *readable* admits."""

    def __init__(self, readable: Callable[[str, str, str | None], bool]) -> None:
        self._readable = readable
        self.denied: str | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: str | None, view: str | None, /
    ) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            allowed = self._readable((first or "").lower(), second or "", view)
            wanted = f"reading {first}"
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() in FUNCTIONS
            wanted = f"the function {second}()"
        else:
            allowed, wanted = False, "anything but reading"
        if allowed:
            return sqlite3.SQLITE_OK
        self.denied = self.denied or wanted
        return sqlite3.SQLITE_DENY


def _collect(cursor: sqlite3.Cursor, limits: Limits) -> Result:
    rows: list[tuple[Any, ...]] = []
    room = limits.bytes
    for row in cursor:
        if len(rows) == limits.rows:
            return Result(_names(cursor), tuple(rows), truncated=True)
        room -= sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if room < 0:
            raise limits.too_much()
        rows.append(row)
    return Result(_names(cursor), tuple(rows))


def _names(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return tuple(column[0] for column in cursor.description or ())


def _refusal(failed: Exception, denied: str | None, shadow: Shadow) -> QueryRefused:
    text = str(failed)
    if denied:
        return not_allowed(denied, shadow)
    if "one statement" in text:
        return not_alone()
    if text.startswith("no such table"):
        return no_such_view(text, shadow)
    if text.startswith("no such column"):
        return no_such_column(text)
    if "binding" in text.lower() or "parameter" in text:
        return wrong_values(text)
    return wrong_sql(text)


def _translated(failed: sqlite3.Error, path: Path, limits: Limits) -> QueryRefused | StoreError:
    url = url_of(path)
    name, text = getattr(failed, "sqlite_errorname", None) or "", str(failed)
    if name.startswith("SQLITE_INTERRUPT"):
        return limits.too_long()
    if name.startswith(("SQLITE_TOOBIG", "SQLITE_NOMEM")):
        return limits.too_much()
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return StoreUnavailable(url, "it is locked by another program", "try again in a moment")
    if name.startswith("SQLITE_NOTADB"):
        return ForeignStore(url, "this is not a SQLite database", "name another file with --db")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(url, f"the file is damaged ({text})", "run hub doctor, and restore the newest backup")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_PERM", "SQLITE_READONLY")):
        return StoreUnavailable(url, f"it cannot be read ({text})", "check the file, its folder and your rights")
    return wrong_sql(text)
