"""`hub migrate` and `hub rebuild`: what is done to a store as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

from hub.cli.guard import say
from hub.cli.opening import chosen_by, recover_first, settings_for
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import write_json
from hub.config import Settings
from hub.errors import ConfigError, StoreUnavailable


def migrate(db: Db = None, json: Json = False) -> None:
    """Bring the store to the newest schema, after a backup beside it, or make it. Safe to run again."""
    from storage.health import examine
    from storage.sqlite import SQLiteStore

    form = chosen_format(json)
    settings = settings_for(db)
    path = _file(settings)
    before = examine(path, check=False).schema if path.exists() else None
    with closing(SQLiteStore(path)) as store:
        store.read_all(limit=1)  # the first use of a store makes or upgrades it
    after = examine(path, check=False).schema
    backup = path.with_name(f"{path.name}.backup-{before}")
    facts = {
        "store": str(path),
        "before": before,
        "after": after,
        "backup": str(backup) if before not in (None, after) and backup.exists() else None,
    }
    if form == "json":
        write_json(facts)
    elif before == after:
        typer.echo(f"{path} has the newest schema, {after}.")
    elif before is None:
        typer.echo(f"Made {path} with schema {after}.")
    else:
        typer.echo(f"{path}: schema {before} became {after}; the file as it was is {facts['backup']}.")


def rebuild(db: Db = None, json: Json = False) -> None:
    """Make all tables that follow from events anew: calls, messages, costs. Rates used once are kept."""
    from storage.sqlite import SQLiteStore

    form = chosen_format(json)
    settings = settings_for(db)
    path = _file(settings)
    if not path.exists():
        why = f"there is no store yet (chosen by {chosen_by(settings)})"
        raise StoreUnavailable(settings.shown_db_url, why, "trace a call first, or name another with --db")
    recover_first(settings)
    with closing(SQLiteStore(path)) as store, progress("Rebuilding from events") as advance:
        events = store.rebuild(advance)
    if form == "json":
        write_json({"store": str(path), "events": events})
    else:
        typer.echo(f"Rebuilt {path} from {events:,} events.")


def _file(settings: Settings) -> Path:
    if settings.sqlite_path is None:
        raise ConfigError("db_url", settings.shown_db_url, "only SQLite stores can be kept up: sqlite:///FILE")
    return settings.sqlite_path


@contextmanager
def progress(words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line every ten percent elsewhere; on stderr both."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    if screen.is_terminal:
        with Progress(console=screen, transient=True) as bar:
            task = bar.add_task(words, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = 0

    def line(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // max(1, total)
        if tenth > told and done < total:
            told = tenth
            say(f"{words}: {tenth * 10}%")

    yield line
