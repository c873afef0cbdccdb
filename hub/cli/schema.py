"""What `hub sql --schema` shows: the views of a store, every column with its type, unit and meaning."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from hub.cli.output import console
from hub.errors import QueryRefused
from storage.event_views import NOT_CONTRIBUTED, column_name, event_view_name
from storage.query import Result
from storage.view_columns import COLUMNS, View, contributed

if TYPE_CHECKING:
    from hub.reader import Reader

ANNOUNCED = f"""
SELECT data, min(position) FROM llm_events
WHERE type = 'hub:schema' AND type NOT IN {NOT_CONTRIBUTED} GROUP BY data ORDER BY 2
"""


def described(reader: Reader, wanted: str | None = None) -> dict[str, View]:
    """The views of the store, or the one that is *wanted*.

    Raises: QueryRefused: There is no such view.
    """
    found = reader.schema()
    if wanted is not None:
        if wanted not in found:
            near = difflib.get_close_matches(wanted, found, n=1)
            raise QueryRefused(
                f"there is no view {wanted!r}",
                f"did you mean {near[0]}?" if near else "the views are " + ", ".join(found),
            )
        found = {wanted: found[wanted]}
    views = {view: told for view, told in COLUMNS.items() if view in found}
    if others := found.keys() - views.keys():
        fields = _contributed_fields(reader)
        views |= {view: contributed(fields.get(view, {}), found[view]) for view in sorted(others)}
    return views


def _contributed_fields(reader: Reader) -> dict[str, dict[str, object]]:
    """View to the fields of its event type: what the first class of each version said, as the views are made."""
    owners: dict[str, str] = {}
    said: dict[str, dict[int, dict[str, object]]] = {}
    for data, _position in reader.sql(ANNOUNCED).rows:
        told = orjson.loads(data)
        event_type, fields, version = told.get("type"), told.get("fields"), told.get("schema_version", 1)
        if isinstance(event_type, str) and isinstance(fields, dict) and isinstance(version, int):
            view = event_view_name(event_type)
            held = said.setdefault(view, {}).setdefault(version, {})
            if owners.setdefault(view, event_type) == event_type and all(
                fields.get(name) == held[name] for name in held
            ):
                held |= fields
    return {view: _united(versions) for view, versions in said.items()}


def _united(versions: Mapping[int, Mapping[str, object]]) -> dict[str, object]:
    """Fields of all versions; one that they disagree about is shown as JSON."""
    found: dict[str, object] = {}
    for version in sorted(versions):
        for field, kind in versions[version].items():
            name = column_name(field)
            found[name] = kind if found.get(name, kind) == kind else "json"
    return found


def as_result(views: Mapping[str, View]) -> Result:
    """A row for each column."""
    return Result(
        ("view", "column", "type", "unit", "meaning", "null"),
        tuple(
            (name, column.name, column.type, column.unit or None, column.meaning, column.null)
            for name, view in views.items()
            for column in view.columns
        ),
    )


def render(views: Mapping[str, View]) -> None:
    """The same for people: a table for each view."""
    from rich.table import Table
    from rich.text import Text

    screen = console()
    for number, (name, view) in enumerate(views.items()):
        if number:
            screen.print()
        screen.print(Text.assemble((name, "bold"), "  ", view.meaning))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("column", no_wrap=True)
        for heading in ("type", "unit", "meaning", "null"):
            table.add_column(heading, overflow="fold")
        for column in view.columns:
            table.add_row(*(Text(text) for text in (column.name, column.type or "-", *column[2:])))
        screen.print(table)
