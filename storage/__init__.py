"""Where events are kept. `open_store` is all that the runtime needs; nothing heavy is loaded before it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.price_list import Prices
    from storage.sql_store import SqlStore

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<file>[^?]*)(?:\?.*)?")
_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")
_SECRET = re.compile(r"(?<=://)[^/@]*@|\?.*")


def open_store(url: str, *, prices: Prices | None = None) -> SqlStore:
    """The store at a SQLAlchemy URL. A file that is not there yet is made at the first use, and so are its folders; a
    PostgreSQL database has to be migrated.

    Args:
        prices: As the settings have them, for models that the store has no price for yet.
    Raises: ConfigError: No store of ours has such a URL, or the package that it needs is not installed.
    """
    if _POSTGRES.match(url):
        return _open_postgres(url, prices)
    match = _SQLITE.fullmatch(url)
    if match is None or match["file"] in ("", ":memory:"):
        raise ConfigError("db_url", _SECRET.sub("", url), "use sqlite:///FILE or postgresql://HOST/DATABASE")
    from storage.sqlite import SQLiteStore

    return SQLiteStore(Path(match["file"]), prices=prices)


def _open_postgres(url: str, prices: Prices | None) -> SqlStore:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigError("db_url", _SECRET.sub("", url), "run pip install 'llm-hub[postgres]'") from None
    from storage.postgres import PostgresStore

    return PostgresStore(url, prices=prices)


__all__ = ["open_store"]
