"""`hub sql`: guarded, read-only SQL over the views."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hub.cli import schema as schemas
from hub.cli.guard import say
from hub.cli.opening import chosen_by, is_missing, open_for_reading
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import write_rows
from hub.errors import StoreUnavailable

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_WORDS = {"null": None, "true": 1, "false": 0}
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


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
) -> None:
    """Run one read-only SELECT over the views: llm_calls, llm_messages, llm_events and more.

    A VALUE is a number, true, false or null where it looks like one; in double quotes, and otherwise, it is text.
    """
    from storage.query import Limits

    form = chosen_format(json, jsonl, csv)
    if query is None and not schema:
        raise typer.BadParameter("give one SELECT, or --schema to see what can be read")
    if schema and (values or named):
        raise typer.BadParameter("--schema takes the name of one view, or nothing")
    params = _params(values or [], named or [])
    reader = open_for_reading(db)
    if is_missing(reader):
        why = f"there is no store yet (chosen by {chosen_by(reader.settings)})"
        raise StoreUnavailable(reader.settings.shown_db_url, why, "trace a call first, or try hub demo")
    if schema:
        views = schemas.described(reader, query)
        if form == "table":
            schemas.render(views)
        else:
            write_rows(schemas.rows(views), schemas.FIELDS, form)
        return
    text = sys.stdin.read() if query == "-" else query
    result = reader.sql(text or "", params, limits=Limits(seconds=timeout, rows=limit))
    columns = _distinct(result.columns)
    write_rows((dict(zip(columns, row, strict=True)) for row in result.rows), columns, form)
    if result.truncated:
        say(f"hub: only the first {limit:,} rows; --limit shows more")


class PairCommand(TyperCommand):
    """Reads -p NAME VALUE as -p NAME=VALUE: Typer knows no option that takes two values and may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _paired(args))


def _paired(args: list[str]) -> list[str]:
    found: list[str] = []
    rest = iter(args)
    for arg in rest:
        found.append(arg)
        if arg == "--":
            break
        if arg in ("-p", "--param") and (name := next(rest, None)) is not None:
            if not _PAIR.fullmatch(name) and (value := next(rest, None)) is not None:
                name = f"{name}={value}"
            found.append(name)
    return [*found, *rest]


def _params(values: list[str], named: list[str]) -> list[Any] | dict[str, Any]:
    """Values as the reader takes them: in order, or by name."""
    if not named:
        return [value_of(text) for text in values]
    if values:
        raise typer.BadParameter("a SELECT takes values by name, -p NAME VALUE, or in order behind it, not both")
    pairs = [_PAIR.fullmatch(pair) for pair in named]
    if None in pairs:
        text = named[pairs.index(None)]
        raise typer.BadParameter(
            f"-p takes a name and a value, -p model gpt-4o for :model; in {text!r} there is no name. "
            "Values for ? stand behind the SELECT"
        )
    return {pair[1]: value_of(pair[2]) for pair in pairs if pair}


def value_of(text: str) -> Any:
    """*text*, from a command line, as SQL is to compare it: a whole number of 64 bits, a decimal, null, true (1), false
    (0), all as JSON has them; what stands in double quotes is text, and so is all else.

    An exponent makes no number: 12345678901234e5 may be a span's id.
    """
    if text in _WORDS:
        return _WORDS[text]
    if match := _NUMBER.fullmatch(text):
        if match[1]:
            return float(text)
        return int(text) if len(text) < 21 and _INT_MIN <= int(text) <= _INT_MAX else text
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


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
