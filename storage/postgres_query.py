"""SQL written by people on PostgreSQL, read-only and bounded: what `hub sql` and `store.sql` run.

`storage.postgres_guard` says whether the text may run at all. Then it runs in a transaction that cannot write, with the
rights of the role that `hub migrate --read-role` made if the login may take them on, and under limits on both sides:
the server stops at the time, after the rows, and before a row that is too large; the client counts bytes and seconds,
and breaks off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from psycopg import pq

from hub.db_urls import shown
from hub.errors import QueryRefused, SchemaMismatch, StoreError, StoreUnavailable
from storage.event_views import PREFIX
from storage.migrate import REVISION
from storage.postgres_connection import PostgresConnection
from storage.postgres_fetch import LimitReached, StatementFailed, fetch
from storage.postgres_guard import check
from storage.postgres_lexer import bound, tokens
from storage.postgres_roles import ROLE_TO_TAKE_ON
from storage.query import Limits, Params, Result, Shadow, no_such_column, no_such_view, quoted, wrong_sql
from storage.views import VIEWS

_LONGEST = 100_000
_GRACE_SECONDS = 1.0
_REMEMBERED = 200
_SORT_FILES = "1GB"

_PLACE = f"""
SELECT n.nspname::text, current_setting('is_superuser') = 'on', current_setting('server_encoding'),
  ({ROLE_TO_TAKE_ON})
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('llm_calls') AND c.relkind = 'v' AND has_table_privilege(c.oid, 'SELECT')
"""
_COLUMNS = """
SELECT c.relname::text, a.attname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'v' AND c.relnamespace = CAST(? AS text)::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
  AND (c.relname = ANY(CAST(? AS text[])) OR starts_with(c.relname::text, ?)) AND has_table_privilege(c.oid, 'SELECT')
ORDER BY c.relname::text COLLATE "C", a.attnum
"""
_SETTINGS = """
BEGIN READ ONLY;
SET LOCAL search_path = pg_catalog, {schema}, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL lock_timeout = 5000;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
SET LOCAL jit = off;
"""


_BOUNDED = """
SELECT q.* FROM (SELECT * FROM (
{sql}
) AS p OFFSET 0) AS q WHERE get_byte('\\x00', greatest(pg_column_size(q) - {bytes}, 0)) = 0 LIMIT {rows} + 1
"""
"""A larger row is no more than an index out of range. OFFSET 0 keeps columns from being computed twice."""
_INDEX_OUT_OF_RANGE = "2202E"


@dataclass(frozen=True, slots=True)
class Place:
    """What a login finds in a database of ours."""

    schema: str
    """Of the views."""
    views: Shadow
    role: str | None
    """Whose rights people's SQL gets. None: the login's own."""
    superuser: bool
    harmless: set[str] = field(default_factory=set, compare=False)
    """SQL that passed the check."""

    def opening(self, limits: Limits) -> bytes:
        """What begins a transaction that confines a query."""
        text = _SETTINGS.format(schema=quoted(self.schema), milliseconds=max(1, int(limits.seconds * 1000)))
        if self.superuser:
            text += f"SET LOCAL temp_file_limit = '{_SORT_FILES}';"
        if self.role:
            text += f"SET LOCAL ROLE {quoted(self.role)};"
        return text.encode()


def look_around(connection: PostgresConnection, url: str) -> Place:
    """Raises: StoreError: There is nothing that the login could read."""
    found = connection.execute(_PLACE).fetchone()
    if found is None:
        raise SchemaMismatch(
            shown(url),
            found="none that this login could see",
            expected=REVISION,
            remedy=f"run hub migrate --db {shown(url)}; a login that is not the owner has to be made by --read-role",
        )
    schema, superuser, encoding, role = found
    if encoding != "UTF8":
        raise StoreError(shown(url), f"its encoding is {encoding}", "make a database with ENCODING 'UTF8'")
    views: dict[str, list[str]] = {}
    for view, column in connection.execute(_COLUMNS, (quoted(schema), list(VIEWS), PREFIX)):
        views.setdefault(view, []).append(column)
    return Place(schema, views, role, superuser)


def run(
    connection: PostgresConnection,
    url: str,
    place: Place,
    sql: str,
    params: Params = (),
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run one reading statement over the public views.

    Raises:
        QueryRefused: Not one statement, not a read, or it names something that is not public.
        QueryLimit: Stopped at a limit.
        StoreError: The store cannot be read.
        psycopg.Error: The connection is lost.
    """
    limits = limits or Limits()
    text, values = prepared(connection, place, sql, params, limits)
    raw = connection.raw
    try:
        raw.execute(place.opening(limits))
        return fetch(
            raw,
            text,
            [_sendable(value) for value in values],
            rows=limits.rows,
            size=limits.bytes,
            deadline=clock() + limits.seconds + _GRACE_SECONDS,
            clock=clock,
        )
    except LimitReached as reached:
        raise (limits.too_long() if reached.what == "seconds" else limits.too_much()) from None
    except StatementFailed as failed:
        raise _meaning(failed, url, place, limits) from None
    except (psycopg.ProgrammingError, psycopg.DataError, UnicodeError) as failed:  # a value that psycopg cannot send
        raise QueryRefused(str(failed), "pass text, numbers, true, false or null") from None
    finally:
        if raw.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:  # a Ctrl-C within psycopg leaves it so
            raw.close()
        if not raw.closed:
            raw.rollback()


def prepared(
    connection: PostgresConnection, place: Place, sql: str, params: Params, limits: Limits
) -> tuple[str, list[object]]:
    """*sql*, found to be harmless, as PostgreSQL takes it, and the values of its placeholders.

    Raises: QueryRefused
    """
    if len(sql) > _LONGEST:
        raise QueryRefused(f"the SQL is longer than {_LONGEST:,} characters", "shorten it")
    statement = tokens(sql)
    if sql not in place.harmless:
        check(statement, place.views, place.schema, connection)
        if len(place.harmless) == _REMEMBERED:
            place.harmless.clear()
        place.harmless.add(sql)
    end = statement[-1].start if statement[-1].says(";") else len(sql)
    text, values = bound(sql[:end], statement, params)
    if not statement[0].says("explain"):
        text = _BOUNDED.format(sql=text, rows=limits.rows, bytes=limits.bytes)
    return text, values


def _sendable(value: object) -> object:
    """Numbers and texts go as they are written: PostgreSQL then takes them for the type that is wanted in their place,
    as SQLite does."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if type(value) is int else value


def _meaning(failed: StatementFailed, url: str, place: Place, limits: Limits) -> QueryRefused | StoreError:
    state, text = failed.state, failed.text
    if state == "57014":
        return limits.too_long()
    if state[:2] in ("53", "54") or state == _INDEX_OUT_OF_RANGE or "memory alloc" in text:
        return limits.too_much()
    if state == "42501":
        return StoreUnavailable(shown(url), f"the login may not read ({text})", "run hub migrate --read-role again")
    if state == "42P01":
        return no_such_view(text, place.views)
    if state == "42703":
        return no_such_column(text)
    if state == "42P18":
        return QueryRefused(text, "say what it is: CAST(? AS text)")
    return wrong_sql(text)
