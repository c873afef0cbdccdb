"""`hub migrate` and `hub rebuild`: what is done to a store as a whole."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.guard import say
from hub.cli.opening import open_for_upkeep, place, settings_for
from hub.cli.options import Db, Format, Json, chosen_format
from hub.cli.output import write_json
from hub.cli.progress import progress
from hub.config import Settings


def migrate(
    read_role: Annotated[
        str | None,
        typer.Option(
            "--read-role",
            metavar="NAME",
            help="On PostgreSQL: make a login as well that sees the views only. Its URL is shown once.",
            show_default=False,
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Bring the store to the newest schema, or make it. Safe to run again.

    A SQLite file is kept as it was beside the new one. PostgreSQL is never migrated but by this command.
    """
    form = chosen_format(json)
    settings = settings_for(db)
    if settings.sqlite_path is None:
        _migrate_database(settings, read_role, form)
    elif read_role is not None:
        raise typer.BadParameter("--read-role is for PostgreSQL; a file is read by who may read the file")
    else:
        _migrate_file(settings.sqlite_path, form)


def _migrate_database(settings: Settings, read_role: str | None, form: Format) -> None:
    from storage import require_driver

    require_driver(settings.db_url)
    from storage.migrate import REVISION
    from storage.postgres_migrate import upgrade
    from storage.postgres_roles import make_reader
    from storage.postgres_server import connect, translated

    where, role = settings.shown_db_url, None
    connection = connect(settings.db_url)
    with closing(connection.raw), translated(settings.db_url):
        before = upgrade(connection, where)
        if read_role is not None:
            role = make_reader(connection, settings.db_url, read_role)
    if form == "json":
        facts = {"store": where, "before": before, "after": REVISION, "backup": None}
        write_json(facts if role is None else {**facts, "read_role": role._asdict()})
        return
    typer.echo(f"{where} {_became(before, REVISION)}.")
    if role is not None:
        made = f"made; its URL, shown this once: {role.url}" if role.url else "has what it needs"
        typer.echo(f"The login {read_role} {made}")
    if role is not None and role.left:
        say(f"hub: {read_role} may do more than read until an owner of the database, or a superuser, runs:")
        for statement in role.left:
            say(f"  {statement};")


def _became(before: str | None, after: str | None) -> str:
    if before == after:
        return f"has the newest schema, {after}"
    return f"was made with schema {after}" if before is None else f"had schema {before} and has {after}"


def _migrate_file(path: Path, form: Format) -> None:
    from storage.health import examine
    from storage.sqlite import SQLiteStore

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
        return
    kept = f"; the file as it was is {facts['backup']}" if facts["backup"] else ""
    typer.echo(f"{path} {_became(before, after)}{kept}.")


def rebuild(db: Db = None, json: Json = False) -> None:
    """Make all tables that follow from events anew: calls, messages, costs. Rates used once are kept."""
    form = chosen_format(json)
    settings = settings_for(db)
    with closing(open_for_upkeep(settings)) as store, progress("Rebuilding from events") as advance:
        events = store.rebuild(advance)
    if form == "json":
        write_json({"store": place(settings), "events": events})
    else:
        typer.echo(f"Rebuilt {place(settings)} from {events:,} events.")
