"""A PostgreSQL server: reaching it, and what its errors mean to a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from hub.db_urls import plain, shown
from hub.errors import ConfigError, SchemaMismatch, StoreError, StoreUnavailable
from storage.postgres_connection import PostgresConnection

_OF_VALUES = (psycopg.IntegrityError, psycopg.DataError, errors.ProgramLimitExceeded)
_CONNECT_SECONDS = 5
LOCK_MS = 5_000
_IDLE_MS = 60_000
"""A writer that stops within a transaction, and with it all others, for longer loses its connection."""


_SETTINGS = """
SELECT set_config('timezone', 'UTC', false), set_config('lock_timeout', ?, false),
  set_config('idle_in_transaction_session_timeout', ?, false), set_config('bytea_output', 'hex', false),
  set_config('default_transaction_isolation', 'read committed', false),
  set_config('search_path', concat_ws(', ', (
    SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass('hub_counters') AND nspname <> current_schema()
  ), current_setting('search_path')), false)
"""
"""Whatever the server's, database's and login's defaults. Who waits for the turn has to see what was written meanwhile;
and the schema in which the tables are is the current one, though the login has another one first in its path: writers'
turns and new tables are that schema's."""


def connect(url: str) -> PostgresConnection:
    """A connection outside of any transaction: they are begun and ended by the caller. Instants are UTC.

    Raises: StoreError, ConfigError
    """
    try:
        raw = psycopg.connect(
            plain(url),
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            application_name="llm-hub",
            client_encoding="utf8",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )
    # Without the cause: libpq quotes what it cannot read, or took for a host, and that may be a piece of the password.
    except psycopg.ProgrammingError:
        raise ConfigError("db_url", shown(url), "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None
    except psycopg.Error as error:
        raise _meaning(error, url) from None
    connection = PostgresConnection(raw, shown(url))
    with translated(url):
        connection.execute(_SETTINGS, (str(LOCK_MS), str(_IDLE_MS)))
    return connection


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns errors of PostgreSQL into StoreErrors that name the database and what to do.

    What PostgreSQL says of a value stays as it is: trying the same value again would fail for ever.
    """
    try:
        yield
    except errors.UndefinedTable as error:
        raise SchemaMismatch(shown(url), found="none", expected="a migrated one", remedy="run hub migrate") from error
    except errors.InsufficientPrivilege as error:
        raise StoreUnavailable(
            shown(url), "the login lacks a right", "give it the hub's schema, or run hub migrate as its owner"
        ) from error
    except errors.CheckViolation as error:  # of hub_events, whose partition for an event was detached a moment ago
        raise StoreUnavailable(shown(url), "a month of events was being dropped", "it is tried again") from error
    except _OF_VALUES:
        raise
    except psycopg.Error as error:
        raise _meaning(error, url) from error


def _meaning(error: psycopg.Error, url: str) -> StoreError:
    if isinstance(error, (errors.LockNotAvailable, errors.QueryCanceled)):
        return StoreUnavailable(
            shown(url), f"another writer has been busy for {LOCK_MS / 1000:g} s", "it is tried again"
        )
    if isinstance(error, (errors.DiskFull, errors.OutOfMemory)):
        return StoreUnavailable(shown(url), "the server is out of disk or memory", "make room on it")
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return StoreUnavailable(
            shown(url), "the server only lets us read", "name the primary, or wait for the failover"
        )
    text = str(error).lower()
    if error.sqlstate in ("28P01", "28000") or "authentication failed" in text or "no password supplied" in text:
        return StoreUnavailable(shown(url), "the server refuses the login", "correct user and password in HUB_DB_URL")
    if error.sqlstate == "3D000" or ("database" in text and "does not exist" in text):
        return StoreUnavailable(shown(url), "there is no such database", "create it, then run hub migrate")
    if "resolve" in text or "name or service not known" in text:
        return StoreUnavailable(shown(url), "the host is not known", "correct the host in HUB_DB_URL")
    if "connection refused" in text or "no such file" in text:
        return StoreUnavailable(shown(url), "no server answers there", "start PostgreSQL, or correct HUB_DB_URL")
    return StoreUnavailable(shown(url), f"PostgreSQL failed ({type(error).__name__})", "it is tried again")
