"""`hub erase`: what is known of a call, a session or a user goes, and does not come back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK, say
from hub.cli.instants import instant
from hub.cli.opening import open_for_upkeep, settings_for
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import write_json
from hub.cli.progress import phases
from hub.config import Settings
from hub.store import Erasure, ErasureReport

if TYPE_CHECKING:
    from hub.spool.scrubbing import Undone
    from storage.sql_store import SqlStore

_SPOOLS_MAY_TAKE = 10.0


def erase(
    call: Annotated[str | None, typer.Option("--call", metavar="ID", help="The call, as hub show takes it.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="All calls of the session.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="All calls of the user.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Whose session or user it is. Otherwise HUB_PROJECT's.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="WHEN", help="Only calls begun before: 2026-01-31, or 30d ago. Else all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_rewrite: Annotated[
        bool,
        typer.Option(
            "--no-rewrite",
            help="Do not write the store's files anew in the end, which writers wait for: copies may be left in their"
            " unused parts.",
        ),
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Erase content and names of a call, a session or a user, here and in what comes later. Counts and costs stay."""
    from hub.spool.scrubbing import overwrite_passed, wait_for_stores, waiting_elsewhere

    form = chosen_format(json)
    if sum(value is not None for value in (call, session, user)) != 1:
        raise typer.BadParameter("name one of --call, --session and --user")
    settings = settings_for(db)
    before_ns = instant(before, "--before") if before else None
    with closing(open_for_upkeep(settings)) as store:
        what = _what(store, settings, call, session, user, project, before_ns)
        if dry_run or not yes:
            report = _would_erase(store, what, ask=not dry_run)
            if dry_run:
                _write(report, what, (), form, "Would erase")
                return
        wait_for_stores(settings.spool_root, _SPOOLS_MAY_TAKE)
        with phases() as progress:
            report = store.erase(what, rewrite=not no_rewrite, progress=progress)
        wait_for_stores(settings.spool_root, _SPOOLS_MAY_TAKE)
        left = overwrite_passed(settings.spool_root)
        for folder in waiting_elsewhere(settings.spool_root, what.project):
            say(
                f"{folder} has events waiting for a database of another name: if it is this one, erase by that name too"
            )
        if not report.events_redacted:
            _say_nothing_matched(store, what)
    _write(report, what, left, form, "Erased")
    if left or not report.complete:
        raise typer.Exit(FAILED_CHECK)


def _what(
    store: SqlStore,
    settings: Settings,
    call: str | None,
    session: str | None,
    user: str | None,
    project: str | None,
    before_ns: int | None,
) -> Erasure:
    if call is None:
        named = project or settings.project
        return Erasure(project=named, before_ns=before_ns, session_id=session, user_id=user)
    call_id = _call_id(call, settings)
    named = store.project_of(str(call_id)) or project or settings.project
    return Erasure(project=named, before_ns=before_ns, call_id=call_id)


def _call_id(call: str, settings: Settings) -> UUID:
    """A whole id need not be known: what comes later is erased too."""
    try:
        return UUID(call)
    except ValueError:
        from hub.reader import Reader

        return UUID(Reader(settings).resolve(call))


def _would_erase(store: SqlStore, what: Erasure, *, ask: bool) -> ErasureReport:
    with phases() as progress:
        report = store.erase(what, dry_run=True, progress=progress)
    if ask:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here; say --yes, or --dry-run")
        say(f"{_subject(what)}: {_counts(report)} would be erased, and can not be brought back.")
        for note in report.notes:
            say(note)
        if not typer.confirm("Erase?", err=True):
            raise typer.Exit(FAILED_CHECK)
    return report


def _subject(what: Erasure) -> str:
    from storage.tombstones import predicate

    kind, value = predicate(what)
    return f"{kind} {value} of project {what.project}"


def _counts(report: ErasureReport) -> str:
    calls, events = shapes.many(report.calls, "call"), shapes.many(report.events_redacted, "event")
    return f"{calls}, {events}, {shapes.many(report.contents, 'piece')} of content"


def _say_nothing_matched(store: SqlStore, what: Erasure) -> None:
    say(f"Nothing of {_subject(what)} is here; what comes later, begun before now, is erased when it comes.")
    if others := [project for project in store.projects() if project != what.project]:
        say(f"The store has calls of {', '.join(others)}, too; --project chooses.")


def _write(report: ErasureReport, what: Erasure, left: Sequence[Undone], form: str, verb: str) -> None:
    for note in report.notes:
        say(note)
    for one in left:
        say(_spool_note(one))
    if form == "json":
        facts: dict[str, Any] = {
            "calls": report.calls,
            "events": report.events_redacted,
            "contents": report.contents,
            "complete": report.complete and not left,
            "notes": [*report.notes, *map(_spool_note, left)],
        }
        write_json(facts)
    else:
        typer.echo(f"{verb} {_subject(what)}: {_counts(report)}. Counts and costs stay.")


def _spool_note(one: Undone) -> str:
    if one.problem is not None:
        return f"{one.folder} may hold some of it: {one.problem}"
    waiting = ", ".join(f"{count:,} for {sink}" for sink, count in one.waiting.items())
    return (
        f"process {one.pid} has events waiting ({waiting}) in {one.folder}; what is erased is stripped when the store"
        " takes them, and its bytes are there until then: run the same again, or end the process"
    )
