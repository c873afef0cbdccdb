"""`hub doctor`: can what the hub says be trusted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK
from hub.cli.opening import open_for_reading
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import console, write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hub.cli.findings import Finding

_STYLES = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "bold red"}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Do not read the whole file for damage.")] = False,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Check the store, the spools and what is recorded. Exit code 1 when a check failed."""
    from hub.cli import checks

    form = chosen_format(json, jsonl, csv)
    reader = open_for_reading(db)
    found = checks.all_findings(reader, quick=quick)
    if form == "table":
        _print(found)
    else:
        rows = [finding._asdict() for finding in found]
        write_rows(rows, ("check", "state", "finding", "remedy"), form)
    if any(finding.state == "fail" for finding in found):
        raise typer.Exit(FAILED_CHECK)


def _print(found: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found:
        text = Text(shapes.clean(finding.finding))
        if finding.remedy:
            text.append(f"\n→ {shapes.clean(finding.remedy)}", style="dim")
        table.add_row(Text(finding.state, style=_STYLES[finding.state]), Text(finding.check), text)
    console().print(table)
