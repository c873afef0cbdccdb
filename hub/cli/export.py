"""`hub export`: what is recorded, into files and to endpoints, and dashboards. A command for each, because what can be
asked of them differs."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK, guarded, say
from hub.cli.instants import instant
from hub.cli.opening import open_for_reading, require_store, settings_for
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import write_json
from hub.cli.progress import progress
from hub.dashboards import CALL_URL, TRACES_UID

if TYPE_CHECKING:
    from hub.reader import Reader
    from hub.transfer.exporting import Exported
    from hub.transfer.files import Form
    from hub.transfer.selection import Selection

export = typer.Typer(
    help="Write what is recorded to files, for hub import and other tools, or to an OTLP endpoint.",
    no_args_is_help=True,
)

Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Calls that began then (UTC) or later; 7d: seven days ago."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Calls that began before.", show_default=False)
]
Project = Annotated[str | None, typer.Option("--project", help="Of one project.", show_default=False)]
Where = Annotated[
    str | None,
    typer.Option("--where", "-w", metavar="SQL", help="Calls by a condition over llm_calls.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")]


@export.command("jsonl")
@guarded
def jsonl(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Compressed if it ends in .zst or .gz; - is stdout.")],
    since: Since = None,
    until: Until = None,
    project: Project = None,
    where: Where = None,
    force: Force = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Events with their content, one JSON object a line. Interrupted, the same command goes on where it was."""
    selection = _selection(since, until, project, where)
    if file == "-":
        _to_stdout(_opened(db), selection)
    else:
        _to_file(file, "jsonl", selection, force=force, db=db, json=json)


@export.command("parquet")
@guarded
def parquet(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", dir_okay=False)],
    since: Since = None,
    until: Until = None,
    project: Project = None,
    where: Where = None,
    force: Force = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Events as a table: the envelope typed, data and content as JSON text. Needs the extra `parquet`."""
    _to_file(str(file), "parquet", _selection(since, until, project, where), force=force, db=db, json=json)


@export.command("dashboards")
@guarded
def dashboards(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made where it is missing.")],
    store: Annotated[
        Literal["sqlite", "postgresql"] | None,
        typer.Option("--store", help="What they shall read; otherwise what the store of --db is.", show_default=False),
    ] = None,
    store_uid: Annotated[
        str | None,
        typer.Option("--store-uid", metavar="UID", help="The store's data source in Grafana.", show_default=False),
    ] = None,
    traces: Annotated[Literal["tempo", "jaeger"], typer.Option("--traces", help="What has the traces.")] = "tempo",
    traces_uid: Annotated[
        str, typer.Option("--traces-uid", metavar="UID", help="The traces' data source in Grafana.")
    ] = TRACES_UID,
    call_url: Annotated[
        str, typer.Option("--call-url", metavar="URL", help="Links to a call lead here, its id behind it.")
    ] = CALL_URL,
    replace: Annotated[
        bool, typer.Option("--replace", help="Files too that no export wrote, or that were changed since.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Dashboards and alert rules for a Grafana of your own, and links for Jaeger's pages."""
    from hub.dashboards.grafana import Place
    from hub.dashboards.writing import write

    shown = chosen_format(json)
    place = Place(store_uid=store_uid, traces=traces, traces_uid=traces_uid, call_url=call_url)
    if store is None:
        store = "postgresql" if settings_for(db).sqlite_path is None else "sqlite"
    written = write(folder, store, place, replace=replace)
    if shown == "json":
        write_json([str(path) for path in written])
        return
    typer.echo(f"Wrote {shapes.many(len(written), 'file')} to {folder}.")


@export.command("otlp")
@guarded
def otlp(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Calls that ended then (UTC) or later; 7d: seven days ago. Otherwise what was not sent yet.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="The OTLP endpoint, such as http://localhost:4318. Otherwise OTEL_EXPORTER_OTLP_ENDPOINT.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for further calls, until Ctrl-C.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send also what was sent to this endpoint before.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.05, max=60, help="Seconds between two looks at the store, at least.")
    ] = 0.5,
    db: Db = None,
    json: Json = False,
) -> None:
    """Spans of calls to an OTLP endpoint, with the ids they had. Run again, or interrupted, it goes on where it was."""
    from hub.transfer.checkpoint import Checkpoint
    from hub.transfer.resending import Resending, endpoint_of

    shown = chosen_format(json)
    begin = None if since is None else instant(since, "--since")
    endpoint = endpoint_of(to, os.environ)
    reader = open_for_reading(db) if follow else _opened(db)
    while reader.is_missing():
        reader.wait(interval)
    with Checkpoint.held(reader.settings, endpoint) as checkpoint, progress("Exporting") as advance:
        sending = Resending(
            reader,
            checkpoint,
            to=to,
            environ=os.environ,
            since_ns=begin,
            again=again,
            follow=follow,
            say=lambda line: say(f"hub: {line}"),
            advance=advance,
        )
        try:
            sending.run(interval)
        except KeyboardInterrupt:
            say(f"hub: sent {shapes.many(sending.done.spans, 'span')} of {shapes.many(sending.done.calls, 'call')}")
            raise
    done = sending.done
    if shown == "json":
        write_json({"endpoint": endpoint, **asdict(done)})
    else:
        went_on = "; what was sent before was left out" if done.resumed else ""
        calls = shapes.many(done.calls, "call")
        typer.echo(f"Sent {shapes.many(done.spans, 'span')} of {calls} to {endpoint}{went_on}.")
    if done.refused:
        say(f"hub: {shapes.many(done.refused, 'call')} will never be taken by {endpoint}; the log above names them")
        raise typer.Exit(FAILED_CHECK)


def _selection(since: str | None, until: str | None, project: str | None, where: str | None) -> Selection:
    from hub.transfer.selection import Selection

    begin = None if since is None else instant(since, "--since")
    end = None if until is None else instant(until, "--until")
    return Selection(since_ns=begin, until_ns=end, project=project, where=where)


def _opened(db: str | None) -> Reader:
    reader = open_for_reading(db)
    require_store(reader)
    return reader


def _to_stdout(reader: Reader, selection: Selection) -> None:
    from hub.transfer.exporting import export_stream

    with progress("Exporting") as advance:
        done = export_stream(reader, sys.stdout.buffer, selection, advance)
    say(f"hub: exported {_counted(done)}")
    if done.disturbed:
        what = "something was erased or pruned meanwhile and may be in what was written"
        say(f"hub: {what}; throw it away and export again")
        raise typer.Exit(FAILED_CHECK)


def _to_file(file: str, form: Form, selection: Selection, *, force: bool, db: str | None, json: bool) -> None:
    from hub.transfer.files import export_file

    shown = chosen_format(json)
    path = Path(file)
    reader = _opened(db)
    with progress("Exporting") as advance:
        done = export_file(reader, path, form, selection, replace=force, advance=advance)
    if shown == "json":
        facts = {"file": str(path), "format": form, "events": done.events, "calls": done.calls}
        write_json({**facts, "resumed": done.resumed, "bytes": path.stat().st_size})
        return
    typer.echo(f"Exported {_counted(done)} to {path} ({shapes.size(path.stat().st_size)}).")
    if done.resumed:
        typer.echo(f"An export that was interrupted had written {done.resumed:,} of them.")


def _counted(done: Exported) -> str:
    return f"{shapes.many(done.events, 'event')} of {shapes.many(done.calls, 'call')}"
