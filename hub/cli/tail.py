"""`hub tail`: calls as they end."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hub.cli.calls import JSON_COLUMNS, cells
from hub.cli.opening import open_for_reading, say_empty
from hub.cli.options import Csv, Db, Format, Json, Jsonl, chosen_format
from hub.cli.output import console, write_rows
from hub.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.text import Text

    from hub.reader import Reader, StoredCall

_PAGE = 500
_WIDTHS = {
    "id": 14,
    "time": 8,
    "model": 18,
    "first line": None,
    "status": 9,
    "latency": 7,
    "first": 6,
    "tokens": 9,
    "cost": 9,
}
_RIGHT = ("latency", "first", "tokens", "cost")


def tail(
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=1_000, help="Begin with this many that ended already.")
    ] = 10,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Stop after this many calls.", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when there is nothing more at the moment.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.05, max=60, help="Seconds between two looks, at least.")
    ] = 0.5,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Follow calls as they end, until Ctrl-C. Piped, one JSON object a line."""
    form = chosen_format(json, jsonl, csv)
    reader = open_for_reading(db)
    if reader.is_missing():
        say_empty(reader.settings)
    shown = 0
    for batch in _followed(reader, last, interval, once=once):
        batch = batch if limit is None else batch[: limit - shown]
        if form == "table":
            _print(reader, batch, header=shown == 0)
        else:
            # An array has no end while it is followed: JSON here means an object a line.
            line_form: Format = "csv" if form == "csv" else "jsonl"
            write_rows(batch, list(batch[0]), line_form, json_columns=JSON_COLUMNS, header=shown == 0)
            sys.stdout.flush()
        shown += len(batch)
        if limit is not None and shown >= limit:
            return


def _followed(reader: Reader, last: int, interval: float, *, once: bool) -> Iterator[list[StoredCall]]:
    """Calls in the order in which their ends were stored."""
    position: int | None = None
    while True:
        if not reader.is_missing():
            try:
                if position is None:
                    position = _start(reader, last)
                position, batch = _ended_after(reader, position)
                if batch:
                    yield batch
                    continue
            except StoreUnavailable:
                if once or position is None:
                    raise
        if once:
            return
        reader.wait(interval)


def _start(reader: Reader, last: int) -> int:
    """The position behind which the *last* newest ends lie."""
    # One statement: what is written between two would be passed over.
    found = reader.sql(
        "SELECT coalesce(min(position) - 1, (SELECT max(position) FROM llm_events), 0) FROM "
        "(SELECT position FROM llm_events WHERE type = 'llm:response' ORDER BY position DESC LIMIT ?) AS newest",
        (last,),
    )
    return int(found.rows[0][0])


def _ended_after(reader: Reader, position: int) -> tuple[int, list[StoredCall]]:
    ends = reader.sql(
        "SELECT position, call_id FROM llm_events WHERE position > ? AND type = 'llm:response' "
        "ORDER BY position LIMIT ?",
        (position, _PAGE),
    ).rows
    if not ends:
        return position, []
    marks = ", ".join("?" for _ in ends)
    ids = tuple(call_id for _, call_id in ends)
    calls = {call.id: call for call in reader.calls(f"call_id IN ({marks})", limit=_PAGE, params=ids)}
    return int(ends[-1][0]), [calls[call_id] for call_id in ids if call_id in calls]


def _print(reader: Reader, batch: Sequence[StoredCall], *, header: bool) -> None:
    """Lines with columns of fixed width, so that what comes later stands below what came before."""
    from rich.table import Table
    from rich.text import Text

    now = datetime.now().astimezone()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_header=header, expand=True)
    for name, width in _WIDTHS.items():
        justify: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(name, width=width, ratio=None if width else 1, justify=justify, overflow="ellipsis")
    ids = reader.shortest_ids([call.id for call in batch], least=13)
    for call in batch:
        table.add_row(Text(ids[call.id], style="dim", no_wrap=True), *_in_one_line(cells(call, now)))
    console().print(table)


def _in_one_line(shown: Mapping[str, Text]) -> Iterator[Text]:
    for text in shown.values():
        text.no_wrap, text.overflow = True, "ellipsis"
        yield text
