"""What a dashboard is before Grafana's JSON is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stat", "lines", "bars", "table", "heatmap"]
"""lines and bars: over time, from a column `time` and either a column `series` and one value, or a value a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question and the query that answers it."""

    title: str
    question: str
    """What a person wants to know. With *notes* it is the panel's description."""
    notes: str = ""
    """What to know of the answer: units, bounds, what is left out."""
    kind: Kind
    sql: str
    """For both engines, with the words of `hub.dashboards.sql` in braces."""
    unit: str = "short"
    """Grafana's id of it: ms, currencyUSD, percent, short."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Of columns that have another one."""
    width: int
    """Of 24."""
    height: int = 8
    most_points: int | None = None
    """How finely time is cut, where Grafana's own choice would be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page of panels, laid out from left to right."""

    name: str
    """In file names and uids."""
    title: str
    question: str
    filters: tuple[str, ...] = ("project", "service", "model")
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule: fires when the number that *sql* finds is above *limit*."""

    name: str
    title: str
    summary: str
    sql: str
    limit: float
    hours: int
    """How far back it looks."""
    lasting: str
    """How long it has to be so, as 10m."""
