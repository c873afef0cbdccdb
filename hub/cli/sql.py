"""`hub sql`: guarded, read-only SQL over the views."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import say
from hub.cli.opening import open_for_reading, require_store
from hub.cli.options import Csv, Db, Format, Json, Jsonl, chosen_format
from hub.cli.output import write_rows
from hub.cli.to_parquet import save
from hub.cli.values import params_of
from hub.parquet import load_pyarrow

if TYPE_CHECKING:
    from hub.reader import Reader
    from storage.query import Result


def sql(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="SELECT", help="One SELECT; - reads it from stdin. With --schema: a view.", show_default=False
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="VALUE", help="Values for each ? of the SELECT, in order.", show_default=False),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME VALUE", help="Value for :NAME; again for more.", show_default=False
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Tell of the views instead, or of one: every column, its unit and meaning.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most this many rows.")] = 1_000,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3_600, help="Seconds the query may take.")] = 10.0,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.", show_default=False)
    ] = None,
) -> None:
    """Run one read-only SELECT over the views: llm_calls, llm_messages, llm_events and more.

    A VALUE is a number, true, false or null where it looks like one; in double quotes, and otherwise, it is text.
    """
    from storage.query import Limits

    if parquet is not None:
        if json or jsonl or csv:
            raise typer.BadParameter("choose one of --json, --jsonl, --csv and --parquet")
        load_pyarrow()
    form = chosen_format(json, jsonl, csv)
    if query is None and not schema:
        raise typer.BadParameter("give one SELECT, or --schema to see what can be read")
    if schema and (values or named):
        raise typer.BadParameter("--schema takes the name of one view, or nothing")
    params = params_of(values or [], named or [])
    reader = open_for_reading(db)
    require_store(reader)
    if schema:
        _show_schema(reader, query, form, parquet)
        return
    text = sys.stdin.read() if query == "-" else query or ""
    result = reader.sql(text, params, limits=Limits(seconds=timeout, rows=limit))
    _write(result, form, parquet)
    if result.truncated:
        say(f"hub: only the first {limit:,} rows; --limit shows more")


def _show_schema(reader: Reader, view: str | None, form: Format, parquet: Path | None) -> None:
    from hub.cli import schema

    views = schema.described(reader, view)
    if form == "table" and parquet is None:
        schema.render(views)
    else:
        _write(schema.as_result(views), form, parquet)


def _write(result: Result, form: Format, parquet: Path | None) -> None:
    columns = _distinct(result.columns)
    if parquet is not None:
        count = save(parquet, columns, result.rows)
        say(f"hub: {shapes.many(count, 'row')} in {parquet}")
    elif form == "table" and not result.rows:
        say(f"hub: no rows; the columns would be {', '.join(columns)}")
    else:
        write_rows((dict(zip(columns, row, strict=True)) for row in result.rows), columns, form)


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
