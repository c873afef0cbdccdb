"""Where events are kept. `open_store` is all that the runtime needs; nothing heavy is loaded before it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.db_urls import is_postgres, shown
from hub.errors import ConfigError

if TYPE_CHECKING:
    from storage.sql_store import SqlStore

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<file>[^?]*)(?:\?.*)?")


def open_store(url: str, **options: Any) -> SqlStore:
    """The store at a SQLAlchemy URL. A file that is not there yet is made at the first use, and so are its folders; a
    PostgreSQL database has to be migrated.

    Args:
        options: See `storage.sql_store.SqlStore`.
    Raises: ConfigError: No store of ours has such a URL, or the package that it needs is not installed.
    """
    if is_postgres(url):
        require_driver(url)
        from storage.postgres import PostgresStore

        return PostgresStore(url, **options)
    from storage.sqlite import SQLiteStore

    return SQLiteStore(sqlite_path(url), **options)


def require_driver(url: str) -> None:
    """Raises: ConfigError: psycopg is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigError("db_url", shown(url), "run pip install 'llm-hub[postgres]'") from None


def sqlite_path(url: str) -> Path:
    """The file of a SQLite URL. Raises: ConfigError: It is no such URL."""
    match = _SQLITE.fullmatch(url)
    if match is None or match["file"] in ("", ":memory:"):
        raise ConfigError("db_url", shown(url), "use sqlite:///FILE or postgresql://HOST/DATABASE")
    return Path(match["file"])


__all__ = ["open_store", "require_driver", "sqlite_path"]
