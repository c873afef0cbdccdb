"""What goes into a query of the views, and what comes out, on every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import QueryLimit, QueryRefused

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


# What is refused on every engine, in the same words.


def not_a_read(keyword: str, views: Iterable[str]) -> QueryRefused:
    """*keyword*: what the statement begins with; empty when there is none."""
    reason = f"{keyword.upper()} is not a read" if keyword else "there is no SQL to run"
    return QueryRefused(reason, "write one SELECT over the views: " + ", ".join(views))


def not_allowed(what: str, views: Iterable[str]) -> QueryRefused:
    return QueryRefused(f"{what} is not allowed", "read the views: " + ", ".join(views))


def not_alone() -> QueryRefused:
    return QueryRefused("this is more than one statement", "run them one by one")


def no_such_view(reason: str, views: Iterable[str]) -> QueryRefused:
    return QueryRefused(reason, "the views are " + ", ".join(views))


def no_such_column(reason: str) -> QueryRefused:
    return QueryRefused(reason, "hub sql --schema lists the columns of each view")


def wrong_values(reason: str) -> QueryRefused:
    return QueryRefused(reason, "pass one value for each placeholder")


def wrong_sql(reason: str) -> QueryRefused:
    return QueryRefused(reason, "correct the SQL and run it again")


def quoted(name: str) -> str:
    """*name* as an identifier."""
    return '"' + name.replace('"', '""') + '"'
