"""Where events are kept. `open_store` is all that the runtime needs; nothing heavy is loaded before it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import ConfigError

if TYPE_CHECKING:
    from storage.sqlite import SQLiteStore

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<file>[^?]*)(?:\?.*)?")
_SECRET = re.compile(r"(?<=://)[^/@]*@|\?.*")


def open_store(url: str, **options: Any) -> SQLiteStore:
    """The store at a SQLAlchemy URL. A file that is not there yet is made at the first use, and so are its folders.

    Args:
        options: See `storage.sql_store.SqlStore`.
    Raises: ConfigError: No store of ours has such a URL.
    """
    match = _SQLITE.fullmatch(url)
    if match is None or match["file"] in ("", ":memory:"):
        raise ConfigError("db_url", _SECRET.sub("", url), "calls are kept in a SQLite file: sqlite:///FILE")
    from storage.sqlite import SQLiteStore

    return SQLiteStore(Path(match["file"]), **options)


__all__ = ["open_store"]
