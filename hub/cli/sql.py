"""`hub sql`: guarded, read-only SQL over the views."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hub.cli.guard import say
from hub.cli.opening import chosen_by, is_missing, open_for_reading
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import write_rows
from hub.errors import StoreUnavailable


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="SELECT", help="One SELECT; - reads it from stdin.", show_default=False)
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="VALUE",
            help="Value for the next ? of the query; again for more.",
            show_default=False,
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="List the views and their columns instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most this many rows.")] = 1_000,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Seconds the query may take.")] = 10.0,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Run one read-only SELECT over the views: llm_calls, llm_messages, llm_events and more."""
    from storage.query import Limits

    form = chosen_format(json, jsonl, csv)
    if (query is None) != schema:
        raise typer.BadParameter("give one SELECT, or --schema to see what can be read")
    reader = open_for_reading(db)
    if is_missing(reader):
        why = f"there is no store yet (chosen by {chosen_by(reader.settings)})"
        raise StoreUnavailable(reader.settings.shown_db_url, why, "trace a call first, or try hub demo")
    if query is None:
        rows = [{"view": view, "column": column} for view, columns in reader.schema().items() for column in columns]
        write_rows(rows, ("view", "column"), form)
        return
    text = sys.stdin.read() if query == "-" else query
    result = reader.sql(text, values or (), limits=Limits(seconds=timeout, rows=limit))
    columns = _distinct(result.columns)
    write_rows((dict(zip(columns, row, strict=True)) for row in result.rows), columns, form)
    if result.truncated:
        say(f"hub: only the first {limit:,} rows; --limit shows more")


def _distinct(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Names that JSON objects can have: the second `x` becomes `x_2`."""
    taken: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in taken:
            number += 1
            name = f"{column}_{number}"
        taken.append(name)
    return tuple(taken)
