"""`hub calls`: the newest calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli import shapes
from hub.cli.opening import open_for_reading, say_empty
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import console, write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table
    from rich.text import Text

    from hub.reader import StoredCall

COLOURS = {
    "ok": "green",
    "error": "red",
    "lost": "red",
    "running": "yellow",
    "cancelled": "magenta",
    "abandoned": "magenta",
}

COLUMNS = ("time", "model", "first line", "status", "latency", "first", "tokens", "cost")
"""Beside the id; `first` is the time to the first token."""

JSON_COLUMNS = ("params", "tags")


def calls(
    where: Annotated[
        str | None,
        typer.Option(
            "--where", "-w", metavar="SQL", help="Condition over llm_calls: \"status = 'error'\".", show_default=False
        ),
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="Only calls of this session.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most this many.")] = 50,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """List the newest calls, newest first."""
    form = chosen_format(json, jsonl, csv)
    reader = open_for_reading(db)
    found: list[StoredCall] = []
    if not reader.is_missing():
        found = reader.calls(_condition(where, session), limit=limit, params=(session,) if session is not None else ())
    if not found:
        say_empty(reader.settings, filtered=(where or session) is not None and not reader.is_missing())
        if form == "table":
            return
    if form == "table":
        ids = reader.shortest_ids([call.id for call in found])
        screen = console()
        screen.print(table_of(found, ids, datetime.now().astimezone(), width=screen.width))
    else:
        columns = list(found[0]) if found else []
        write_rows(found, columns, form, json_columns=JSON_COLUMNS)


def _condition(where: str | None, session: str | None) -> str | None:
    terms = [f"(\n{where}\n)"] if where else []
    if session is not None:
        terms.append("session_id = ?")
    return " AND ".join(terms) or None


def table_of(found: Sequence[StoredCall], ids: Mapping[str, str], now: datetime, *, width: int = 100) -> Table:
    """The default columns: what a reader wants to know of each call, in 100 characters or *width*, if less."""
    from rich.table import Table

    narrow = width < 96
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True, style="dim")
    table.add_column("time", no_wrap=True)
    table.add_column("model", max_width=14 if narrow else 22, no_wrap=True, overflow="ellipsis")
    table.add_column("first line", min_width=6 if narrow else 10)  # it alone gives way
    table.add_column("status", max_width=9, no_wrap=True, overflow="ellipsis")
    for name in COLUMNS[4:]:
        if name != "first" or not narrow:
            table.add_column(name, justify="right", no_wrap=True)
    for call in found:
        shown = cells(call, now, provider=not narrow)
        table.add_row(ids[call.id], *(shown[name] for name in COLUMNS if name != "first" or not narrow))
    return table


def cells(call: Mapping[str, Any], now: datetime, *, provider: bool = True) -> dict[str, Text]:
    """One call in the default columns, without its id."""
    from rich.text import Text

    status = call["status"]
    return {
        "time": Text(shapes.moment(call["started_at"], now)),
        "model": Text(model_of(call) if provider else model_of(call).rpartition("/")[2]),
        "first line": Text(preview(call["request_summary"])[:200], no_wrap=True, overflow="ellipsis"),
        "status": Text(shapes.value(status), style=COLOURS.get(status, "")),
        "latency": Text(shapes.duration(call["duration_ms"])),
        "first": Text(shapes.duration(call["ttft_ms"])),
        "tokens": Text(tokens_of(call)),
        "cost": Text(shapes.cost(call["cost_nanos"])),
    }


def model_of(call: Mapping[str, Any]) -> str:
    """provider/model, with the model that was asked for."""
    model = call["request_model"] or call["response_model"]
    return "/".join(shapes.one_line(name) for name in (call["provider"], model) if name) or shapes.UNKNOWN


def tokens_of(call: Mapping[str, Any]) -> str:
    """Tokens in and out; a dash where none is known."""
    if call["input_tokens"] is None and call["output_tokens"] is None:
        return shapes.UNKNOWN
    return f"{shapes.tokens(call['input_tokens'])}→{shapes.tokens(call['output_tokens'])}"


def preview(summary: str | None) -> str:
    """The line of a summary; a dash where none was kept."""
    return shapes.one_line(summary or "") or shapes.UNKNOWN
