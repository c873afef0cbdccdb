"""`hub config`: what a hub would run with here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import typer

from hub.cli.guard import guarded
from hub.cli.opening import settings_for
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import write_rows

config = typer.Typer(help="Settings.", no_args_is_help=True)


@config.command("show")
@guarded
def show(db: Db = None, json: Json = False, jsonl: Jsonl = False, csv: Csv = False) -> None:
    """Every setting with its value and where that came from."""
    from hub.config import known

    form = chosen_format(json, jsonl, csv)
    settings = settings_for(db)
    rows = [
        {
            "setting": row.name,
            "value": _shown(settings.shown_db_url if row.name == "db_url" else getattr(settings, row.name)),
            "origin": settings.origins[row.name],
            "variable": row.env,
        }
        for row in known()
    ]
    write_rows(rows, ("setting", "value", "origin", "variable"), form)


def _shown(value: Any) -> Any:
    if isinstance(value, timedelta):
        return f"{value.total_seconds() / 86400:g}d"
    if isinstance(value, (tuple, Mapping)):
        return [str(item) for item in value]
    if value is None:
        return "keep"
    return value if isinstance(value, (str, int, float, bool)) else str(value)
