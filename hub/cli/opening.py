"""From --db to a store that can be read: settings, recovery of what the dead left, and words for an empty one."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.cli.guard import say
from hub.config import Settings, load
from hub.errors import NotFound, StoreUnavailable

if TYPE_CHECKING:
    from hub.reader import Reader
    from storage.sql_store import SqlStore

_START = """  To see some right now: hub demo
  To trace your own, put this into a program:

      import hub
      client = hub.traced(OpenAI())"""


def settings_for(db: str | None) -> Settings:
    """The settings of a command. Raises: ConfigError"""
    return load({"db_url": db}, os.environ, Path.cwd())


def open_for_reading(db: str | None) -> Reader:
    """The store, complete: what ended processes left in their spools is brought in first.

    Raises: ConfigError
    """
    from hub.reader import Reader

    settings = settings_for(db)
    recover_first(settings)
    return Reader(settings, isolated=True)


def open_for_upkeep(settings: Settings, **options: Any) -> SqlStore:
    """The store, complete, to work on it as a whole. *options*: see `storage.open_store`.

    Raises: StoreUnavailable: There is none yet.
    """
    from hub.reader import Reader
    from storage import open_store

    recover_first(settings)
    require_store(Reader(settings))
    return open_store(settings.db_url, **options)


def require_store(reader: Reader) -> None:
    """Raises: StoreUnavailable: There is no store yet."""
    if reader.is_missing():
        settings = reader.settings
        why = f"there is no store yet (chosen by {chosen_by(settings)})"
        remedy = "trace a call first, try hub demo, or name another with --db"
        raise StoreUnavailable(settings.shown_db_url, why, remedy)


def require_call(reader: Reader, wanted: str) -> None:
    """Raises: NotFound: There is no store yet, so that *wanted* cannot be in it."""
    if reader.is_missing():
        where = f"{place(reader.settings)}, chosen by {chosen_by(reader.settings)}"
        raise NotFound("call", wanted, f"there is no store yet ({where}); hub demo makes one")


def recover_first(settings: Settings) -> None:
    """Bring in what ended processes left; say so when there was something, or when it has to wait."""
    from hub.spool.folder import folders, is_held

    root = settings.spool_root
    try:
        if all(is_held(folder) for folder in folders(root)):
            return
    except OSError as error:
        say(f"hub: whether events wait in {root} cannot be seen: {error.strerror}")
        return
    from hub.recovery import recover
    from storage import open_store

    with closing(open_store(settings.db_url, prices=settings.price_list)) as store:
        report = recover(root, store)
    if report.events or report.lost_calls:
        lost = f", {report.lost_calls:,} calls among them lost" if report.lost_calls else ""
        say(f"hub: brought in {report.events:,} events that ended processes had left{lost}")
    for waiting in report.waiting:
        say(f"hub: events of an ended process wait in {waiting.folder}: {waiting.reason}")


def place(settings: Settings) -> str:
    """Where the store is, for people."""
    return str(settings.sqlite_path or settings.shown_db_url)


def chosen_by(settings: Settings) -> str:
    """How the store was chosen, in words."""
    origin = settings.origins["db_url"]
    return {"argument": "--db", "default": "the default; HUB_DB_URL or --db choose another"}.get(origin, origin)


def say_empty(settings: Settings, *, filtered: bool = False) -> None:
    """Tell which store has nothing to show, and how to fill it."""
    where = f"{place(settings)} (chosen by {chosen_by(settings)})"
    if filtered:
        say(f"No calls match in {where}.")
    else:
        say(f"No calls yet in {where}.\n{_START}")
