"""Rows to stdout, as JSON, JSON lines, CSV or a table."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.cli import shapes
from hub.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

_READABLE = 24
"""Characters that a column should have before it wraps."""
_LONGEST = 500


def console() -> Console:
    """Where tables and cards go: stdout, in colour where that is a terminal and NO_COLOR is not set."""
    from rich.console import Console  # 60 ms that piped commands do without

    if os.environ.get("NO_COLOR"):
        return Console(highlight=False, markup=False, emoji=False, color_system=None)
    return Console(highlight=False, markup=False, emoji=False)


def write_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    form: Format,
    *,
    json_columns: Sequence[str] = (),
    header: bool = True,
) -> None:
    """Write *rows*. In JSON the text in *json_columns* becomes what it stands for; in CSV and tables it stays text."""
    if form == "table":
        write_table(rows, columns)
    elif form == "csv":
        _write_csv(rows, columns, header=header)
    elif form == "jsonl":
        for row in rows:
            print(to_json(_opened(row, columns, json_columns), indent=None))
    else:
        write_json([_opened(row, columns, json_columns) for row in rows])


def _write_csv(rows: Iterable[Row], columns: Sequence[str], *, header: bool) -> None:
    writer = csv.writer(_Lines(), lineterminator="\r\n")
    show: Callable[[Any], Any] = _csv
    if sys.stdout.isatty():
        show = _csv_on_a_terminal
    if header and columns:
        writer.writerow(map(show, columns))
    writer.writerows([show(row[column]) for column in columns] for row in rows)


class _Lines:
    """Lines of CSV that end as others do. Told that they end in CR LF, the writer quotes a lone CR as well."""

    def write(self, line: str) -> int:
        return sys.stdout.write(line.removesuffix("\r\n") + "\n")


def write_json(value: object) -> None:
    """Write one JSON document; a list with one item a line, so that tools for lines work too."""
    if isinstance(value, list):
        lines = ",\n ".join(to_json(item, indent=None) for item in value)
        print(f"[{lines}]")
    else:
        print(to_json(value))


def write_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """A plain table of whatever the columns hold; a card for each row where they do not fit."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept, screen = list(rows), console()
    cells = [[_cut(shapes.value(row[column])) for column in columns] for row in kept]
    widest = [min(_READABLE, max(map(len, column))) for column in zip(columns, *cells, strict=True)]
    if sum(widest) + 2 * len(columns) > screen.width and len(columns) > 2:
        _write_cards(cells, columns, screen)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], (int, float, type(None))) for row in kept)
        table.add_column(
            Text(shapes.one_line(column)), justify="right" if numbers and kept else "left", overflow="fold"
        )
    for row_cells in cells:
        table.add_row(*(Text(cell) for cell in row_cells))
    screen.print(table)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} more; --json has all)"


def _write_cards(cells: Sequence[Sequence[str]], columns: Sequence[str], screen: Console) -> None:
    """Rows too wide to stand side by side: a line for each value."""
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(cells, 1):
        screen.print(Rule(f"row {number}", align="left", style="dim"))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            table.add_row(Text(shapes.one_line(column)), Text(cell))
        screen.print(table)


def to_json(value: object, *, indent: int | None = 2) -> str:
    """*value* as JSON: what JSON cannot say (bytes, infinity) as hexadecimal text or null."""
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    return shapes.escaped(json.dumps(_plain(value), ensure_ascii=not is_utf8, indent=indent, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, type(None))):
        return value
    return str(value)


def _opened(row: Row, columns: Sequence[str], json_columns: Sequence[str]) -> dict[str, Any]:
    return {column: parsed(row[column]) if column in json_columns else row[column] for column in columns}


def parsed(text: Any) -> Any:
    """What JSON text stands for; anything else as it is."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _csv(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _csv_on_a_terminal(value: Any) -> Any:
    return shapes.clean(value) if isinstance(value, str) else _csv(value)
