"""`hub stats`: calls, failures, tokens, cost and latency by model, time and more."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli import hourly, shapes
from hub.cli.instants import instant
from hub.cli.opening import is_missing, open_for_reading, say_empty
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import console, write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHORT = {"cost": "cost_nanos", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms", "ttft": "ttft_p95_ms"}
_MEASURES = ("calls", "errors", "rate", "tokens", "cost", "unpriced", "p50", "p95", "p99", "first")
"""Columns of the table; `first` is the 95th percentile of the time to the first token."""
_SPARED = ("first", "p99", "rate", "p50", "errors", "unpriced")
_NARROWEST = 10
"""Characters of a dimension before it is folded."""


def stats(
    by: Annotated[
        str,
        typer.Option("--by", metavar="NAME,...", help=f"Group by any of {', '.join(hourly.DIMENSIONS)}."),
    ] = "model",
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="From then on: 7d, 12h, or a day, in UTC.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Up to then, exclusive.", show_default=False)
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="NAME",
            help="By this column, the largest first; with a - before it the smallest.",
            show_default=False,
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Add up calls by model, day and more, from hourly sums that outlive the calls themselves."""
    form = chosen_format(json, jsonl, csv)
    dimensions = _dimensions(by)
    columns = (*dimensions, *hourly.COLUMNS)
    order = _sorting(sort, columns)
    start, end = _hour(since, "--since"), _hour(until, "--until", up=True)
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter("--until has to be an hour or more behind --since")
    reader = open_for_reading(db)
    groups = {} if is_missing(reader) else hourly.grouped(reader, dimensions, since=start, until=end)
    if not groups:
        say_empty(reader.settings, filtered=(since or until) is not None and not is_missing(reader))
        if form == "table":
            return
    rows = [{**dict(zip(dimensions, key, strict=True)), **group.row()} for key, group in groups.items()]
    rows = _sorted(rows, dimensions, order)
    if form == "table":
        _print(rows, dimensions)
    else:
        write_rows(rows, columns, form)


def _dimensions(by: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    for name in names:
        if name not in hourly.DIMENSIONS:
            raise typer.BadParameter(f"--by knows no {name!r}; {_near(name, hourly.DIMENSIONS)}")
    if len(names & hourly.PERIODS.keys()) > 1:
        raise typer.BadParameter(f"--by takes one of {', '.join(hourly.PERIODS)}")
    return names


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"take one of {', '.join(known)}"


def _hour(text: str | None, option: str, *, up: bool = False) -> datetime | None:
    """The beginning of the hour of *text*, or, with *up*, of the first hour that begins from then on."""
    if text is None:
        return None
    ns = instant(text, option)
    hours = -(-ns // (3_600 * 10**9)) if up else ns // (3_600 * 10**9)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hours)


def _sorting(sort: str | None, columns: Sequence[str]) -> tuple[str, bool] | None:
    """Column, and whether it goes up."""
    if sort is None:
        return None
    name = sort.removeprefix("-")
    name = _SHORT.get(name, name)
    if name not in columns:
        raise typer.BadParameter(f"--sort knows no {name!r}; {_near(name, columns)}")
    is_dimension = name not in hourly.COLUMNS
    return name, is_dimension is not sort.startswith("-")


def _sorted(
    rows: list[dict[str, Any]], dimensions: Sequence[str], order: tuple[str, bool] | None
) -> list[dict[str, Any]]:
    """Times in their order, then what cost most first; or as asked. Unknown comes last."""
    keys = [(name, True) for name in dimensions if name in hourly.PERIODS]
    keys += [("cost_nanos", False), ("calls", False), *((name, True) for name in dimensions)]
    for name, up in reversed([order, *keys] if order else keys):
        known = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=not up)
        rows = known + [row for row in rows if row[name] is None]
    return rows


def _print(rows: Sequence[Mapping[str, Any]], dimensions: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    cells = [{name: _dimension(name, row[name]) for name in dimensions} | _measures(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown = _fitting([*dimensions, *_MEASURES], cells, screen.width)
    for name in shown:
        if name in dimensions:
            table.add_column(name, overflow="fold", min_width=_NARROWEST)
        else:
            table.add_column("" if name == "rate" else name, justify="right", no_wrap=True)
    for row in cells:
        table.add_row(*(Text(row[name]) for name in shown))
    screen.print(table)


def _fitting(names: list[str], cells: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """*names* without columns that are empty, and without those that can be done without where there is no room."""
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in names}
    left = [name for name in names if name not in _MEASURES or any(row[name] for row in cells)]
    for name in _SPARED:
        if sum(widths[one] + 1 for one in left) > width and name in left:
            left.remove(name)
    return left


def _dimension(name: str, value: str | None) -> str:
    if name == "hour" and value is not None:
        return f"{value[:10]} {value[11:16]}"
    return shapes.value(value)


def _measures(row: Mapping[str, Any]) -> dict[str, str]:
    """By _MEASURES."""
    calls, errors = row["calls"], row["errors"]
    tokens = [shapes.tokens(row[name]) for name in ("input_tokens", "output_tokens")]
    shown = [
        shapes.UNKNOWN if calls is None else f"{calls:,}",
        shapes.UNKNOWN if errors is None else f"{errors:,}",
        f"{row['error_rate']:.1%}" if errors else "",
        "→".join(tokens) if tokens != [shapes.UNKNOWN] * 2 else shapes.UNKNOWN,
        shapes.cost(row["cost_nanos"]),
        f"{row['unpriced_calls']:,}" if row["unpriced_calls"] else "",
        *(shapes.duration(row[name]) for name in hourly.PERCENTILES),
    ]
    return dict(zip(_MEASURES, shown, strict=True))
