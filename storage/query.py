"""What goes into a query of the views, and what comes out, on every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import QueryLimit

Params = Sequence[object] | Mapping[str, object]
"""Values for ?, in order, or for :name, by name."""
Shadow = Mapping[str, Sequence[str]]
"""Public view to its columns."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one query may go."""

    seconds: float = 10.0
    rows: int = 10_000
    """Rows returned; more are left out and the result says so."""
    bytes: int = 64 << 20
    """Of a single value, and of all text in the result together."""

    def too_long(self) -> QueryLimit:
        return QueryLimit(f"the query ran longer than {self.seconds:g} s", "narrow it down, or allow more time")

    def too_much(self) -> QueryLimit:
        remedy = "select fewer columns or rows, or cut long text with substr()"
        return QueryLimit(f"the query needs more than {self.bytes >> 20} MiB", remedy)


@dataclass(frozen=True, slots=True)
class Result:
    """What a query returned."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False
    """There were more rows than the limit."""

    def dicts(self) -> list[dict[str, Any]]:
        """Rows by column name. Of columns with the same name the last one stays."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
