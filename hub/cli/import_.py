"""`hub import`: events from a file, or another program's log, into the store."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK, say
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import write_json
from hub.cli.progress import progress
from hub.config import load
from hub.polite import no_rest

if TYPE_CHECKING:
    from hub.transfer.importing import Imported

_MOST_COMPLAINTS = 20


class _Complaints:
    """Tells the first ones, and at the end how many there were besides."""

    def __init__(self, file: str) -> None:
        self._file, self._count = file, 0

    def __call__(self, place: str, why: str) -> None:
        self._count += 1
        if self._count <= _MOST_COMPLAINTS:
            say(f"hub: {self._file}, {shapes.one_line(place)}: {shapes.one_line(why)[:300]}")

    def end(self) -> None:
        if (more := self._count - _MOST_COMPLAINTS) > 0:
            say(f"hub: {self._file}: and {more:,} more like these")


def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="What hub export wrote, JSON lines or Parquet, or the logs.db of llm. - is stdin, for lines.",
        ),
    ],
    project: Annotated[
        str | None, typer.Option("--project", help="The project of the calls of llm.", show_default=False)
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Bring the events of a file into the store. Again it changes nothing; interrupted, import the file again.

    What is broken, was pruned here, or has another event in its place is left out and told; the exit code is 1 then.
    """
    from hub.transfer.files import longest_record, opened
    from hub.transfer.importing import import_events
    from storage import open_store

    shown = chosen_format(json)
    settings = load({"db_url": db, "project": project})
    complaints = _Complaints("standard input" if file == "-" else file)
    with (
        opened(None if file == "-" else Path(file), settings) as source,
        closing(open_store(settings.db_url, prices=settings.price_list, rest=no_rest)) as store,
        progress("Importing") as advance,
    ):
        longest = longest_record(settings)
        done = import_events(source, store, longest=longest, complain=complaints, advance=advance)
    complaints.end()
    if shown == "json":
        write_json({"file": file, "format": source.form, "store": settings.shown_db_url, **asdict(done)})
    else:
        for line in _told(done, settings.shown_db_url):
            typer.echo(line)
    if not done.is_whole:
        raise typer.Exit(FAILED_CHECK)


def _told(done: Imported, store: str) -> list[str]:
    lines = [
        f"Imported {shapes.many(done.events, 'event')} of {shapes.many(done.calls, 'call')} into {store}: "
        f"{done.new:,} new, {done.duplicates:,} there before."
    ]
    if done.conflicts or done.broken:
        lines.append(f"Left out: {done.broken:,} broken, {done.conflicts:,} whose place has another event.")
    if done.expired:
        expired = shapes.many(done.expired, "event")
        lines.append(f"Left out: {expired} of calls as old as those that hub prune took from the store.")
    if done.changed:
        lines.append(f"{shapes.many(done.changed, 'event')} had values that cannot be stored, and say so.")
    if done.other_prices:
        lines.append(
            f"The store has its own prices where {shapes.many(done.other_prices, 'price card')} of the file differ: "
            "costs are computed by the store's."
        )
    return lines
