"""Options that several commands share, and the choice of the output format."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

Format = Literal["table", "json", "jsonl", "csv"]

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="The store: sqlite:///FILE or the path of a file. Otherwise HUB_DB_URL, hub.toml, or the user's folder.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON: one array, or one object. The default when piped.")]
Jsonl = Annotated[bool, typer.Option("--jsonl", help="One JSON object a line.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV with a header.")]


def chosen_format(json: bool, jsonl: bool = False, csv: bool = False) -> Format:
    """The one format asked for; without one a table on a terminal, and JSON for a pipe or file."""
    asked: list[Format] = []
    if json:
        asked.append("json")
    if jsonl:
        asked.append("jsonl")
    if csv:
        asked.append("csv")
    if len(asked) > 1:
        raise typer.BadParameter("choose one of --json, --jsonl and --csv")
    if asked:
        return asked[0]
    return "table" if sys.stdout.isatty() else "json"
