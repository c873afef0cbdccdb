"""Tables for benchmarks: medians, p99 and the ratio to the yardstick of the same run."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import chain
from typing import Self

from rich.console import Console
from rich.table import Table


def p99(values: list[float]) -> float:
    """The 99th percentile; the largest of fewer than 100."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


@dataclass(frozen=True)
class Row:
    """Ours beside the yardstick, both above the same plain program."""

    name: str
    span_added: float
    ours_added: float
    span_p99: float
    ours_p99: float
    spread: tuple[float, float]
    """Of the rounds' ratios of added medians."""
    note: str

    @classmethod
    def of(cls, name: str, base: float, span: list[list[float]], ours: list[list[float]], note: str) -> Self:
        """Of rounds of timings in microseconds; *base* is the plain program's median."""
        ratios = [
            (statistics.median(b) - base) / (statistics.median(a) - base) for a, b in zip(span, ours, strict=True)
        ]
        all_span, all_ours = list(chain.from_iterable(span)), list(chain.from_iterable(ours))
        return cls(
            name,
            statistics.median(all_span) - base,
            statistics.median(all_ours) - base,
            p99(all_span) - base,
            p99(all_ours) - base,
            (min(ratios), max(ratios)),
            note,
        )


def show(title: str, rows: list[Row]) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in ("case", "span", "ours", "ratio", "spread", "p99 span", "p99 ours", "p99 ratio", ""):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.span_added:.1f}",
            f"{row.ours_added:.1f}",
            f"{row.ours_added / row.span_added:.2f}",
            f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
            f"{row.span_p99:.0f}",
            f"{row.ours_p99:.0f}",
            f"{row.ours_p99 / row.span_p99:.2f}",
            row.note,
        )
    Console(width=140).print(table)


@dataclass(frozen=True)
class Figure:
    """What one case came to, in several runs."""

    name: str
    values: list[float]
    target: str
    note: str = ""


def show_figures(title: str, figures: list[Figure]) -> None:
    """Print medians and spreads."""
    table = Table(title=title)
    for heading in ("case", "median", "spread", "target", ""):
        table.add_column(heading)
    for figure in figures:
        digits = 0 if statistics.median(figure.values) >= 100 else 2
        low, middle, high = (
            f"{value:,.{digits}f}"
            for value in (min(figure.values), statistics.median(figure.values), max(figure.values))
        )
        table.add_row(figure.name, middle, f"{low} - {high}", figure.target, figure.note)
    Console(width=140).print(table)
