"""`hub prune`: what is older than it should get goes."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta
from typing import Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import say
from hub.cli.opening import open_for_upkeep, settings_for
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import write_json
from hub.cli.progress import phases
from hub.config import duration
from hub.store import PruneReport


def prune(
    bodies: Annotated[
        str | None,
        typer.Option(
            "--bodies-older-than",
            metavar="AGE",
            help="Of older calls the content goes: 30d, 12h, or keep. Otherwise HUB_RETAIN_BODIES.",
        ),
    ] = None,
    calls: Annotated[
        str | None,
        typer.Option(
            "--calls-older-than",
            metavar="AGE",
            help="Older calls and events go: 365d, or keep. Otherwise HUB_RETAIN_CALLS.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Give the room back to the disk; writers wait meanwhile.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Delete what is too old: content first, then calls. What they add up to in each hour stays."""
    form = chosen_format(json)
    settings = settings_for(db)
    bodies_age = _age(bodies, settings.retain_bodies, "--bodies-older-than")
    calls_age = _age(calls, settings.retain_calls, "--calls-older-than")
    if bodies_age is None and calls_age is None:
        raise typer.BadParameter(
            "nothing says what is too old; give --bodies-older-than or --calls-older-than, or set HUB_RETAIN_BODIES"
            " or HUB_RETAIN_CALLS"
        )
    now = time.time_ns()
    with closing(open_for_upkeep(settings)) as store, phases() as progress:
        report = store.prune(
            bodies_before_ns=_before(now, bodies_age),
            calls_before_ns=_before(now, calls_age),
            dry_run=dry_run,
            shrink=shrink,
            progress=progress,
        )
    for note in report.notes:
        say(note)
    if form == "json":
        names = ("calls", "events", "bodies", "contents", "content_bytes")
        write_json({name: getattr(report, name) for name in names} | {"notes": report.notes})
    else:
        typer.echo(f"{'Would prune' if dry_run else 'Pruned'} {_counts(report)}. The hourly sums stay.")


def _age(text: str | None, setting: timedelta | None, option: str) -> timedelta | None:
    if text is None:
        return setting
    if text.strip().lower() == "keep":
        return None
    try:
        return duration(text)
    except ValueError:
        raise typer.BadParameter(f"{option}: {text!r} is no age; write keep, or 30d, 12h") from None


def _before(now: int, age: timedelta | None) -> int | None:
    return None if age is None else max(0, now - round(age.total_seconds() * 10**9))


def _counts(report: PruneReport) -> str:
    calls, events = shapes.many(report.calls, "call"), shapes.many(report.events, "event")
    bodies = f"the content of {shapes.many(report.bodies, 'event')} more"
    contents = f"{shapes.many(report.contents, 'piece')} of content ({shapes.size(report.content_bytes)})"
    return f"{calls}, {events} and {bodies}: {contents}"
