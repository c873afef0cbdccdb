"""What the hourly views say of calls, grouped and added up. Nothing else is read: an answer about a year takes no call.

Percentiles come from the latency buckets, whose bounds are a factor of 2^(1/4) apart. Calls are taken to lie evenly, on
a logarithmic scale, within their bucket: an estimate is off by a few percent as a rule, and by 19% at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from hub.errors import QueryLimit

if TYPE_CHECKING:
    from hub.reader import Reader

PERIODS: Final = {
    "hour": "hour",
    "day": "substr(CAST(hour AS text), 1, 10)",
    "week": "substr(CAST(hour AS text), 1, 10)",
    "month": "substr(CAST(hour AS text), 1, 7)",
}
"""SQL for each stretch of time, of the views' hour; days are told apart by it, and weeks from days here."""
DIMENSIONS: Final = ("project", "service", "provider", "model", *PERIODS)

MEASURES: Final = (
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cost_nanos",
    "unpriced_calls",
)
PERCENTILES: Final = {"p50_ms": ("duration", 0.5), "p95_ms": ("duration", 0.95), "p99_ms": ("duration", 0.99)} | {
    "ttft_p95_ms": ("ttft", 0.95)
}
"""Column to the metric of llm_latency_hourly and the share of calls that are not slower."""
COLUMNS: Final = ("calls", "errors", "error_rate", *MEASURES[2:6], "cost_usd", "unpriced_calls", *PERCENTILES)
"""Of a group, behind its dimensions."""

_MOST_GROUPS = 250_000
_SECONDS = 60.0
_STEP = 2 ** (1 / 4)
_ABOVE_ALL = 2.0**22
"""Where the last bucket ends. Slower calls count as if they had taken that long."""

Key = tuple[str | None, ...]
Buckets = dict[float | None, int]
"""Upper bound, in ms, to the number of calls; None: above all bounds."""


@dataclass
class Group:
    """The calls that dimensions single out."""

    sums: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(MEASURES))
    latency: dict[str, Buckets] = field(default_factory=lambda: {"duration": {}, "ttft": {}})

    def add(self, sums: Iterable[Any]) -> None:
        """Add to the sums. Null is unknown, not 0."""
        for name, more in zip(MEASURES, sums, strict=True):
            if more is not None:
                self.sums[name] = (self.sums[name] or 0) + int(more)

    def row(self) -> dict[str, Any]:
        """By COLUMNS."""
        calls, errors, nanos = self.sums["calls"], self.sums["errors"], self.sums["cost_nanos"]
        found: dict[str, Any] = {
            **self.sums,
            "error_rate": errors / calls if calls and errors is not None else None,
            "cost_usd": None if nanos is None else nanos / 1e9,
            **{name: percentile(self.latency[metric], share) for name, (metric, share) in PERCENTILES.items()},
        }
        return {name: found[name] for name in COLUMNS}


def grouped(reader: Reader, dimensions: Sequence[str], *, since: str | None, until: str | None) -> dict[Key, Group]:
    """Groups by the values of *dimensions*, of DIMENSIONS; one group when there are none, and no call no group.

    Args:
        since: Hours that begin from then on, written as in the views.
        until: Hours that begin before, likewise.
    Raises: QueryLimit: There are too many groups.
    """
    groups: dict[Key, Group] = {}
    where, params = _condition(since, until)
    chosen = "".join(f"{PERIODS.get(name, name)} AS {name}_, " for name in dimensions)
    by = ", ".join(str(number + 1) for number in range(len(dimensions)))
    sums = ", ".join(f"sum({name})" for name in MEASURES)
    select = f"SELECT {chosen}{sums} FROM llm_costs_hourly{where}" + (f" GROUP BY {by}" if by else "")
    for key, row in _keyed(reader, select, params, dimensions):
        if row[0] is not None:
            groups.setdefault(key, Group()).add(row)
    by = f"{by}, " if by else ""
    count = len(dimensions)
    select = (
        f"SELECT {chosen}metric, le, sum(calls) FROM llm_latency_hourly{where} GROUP BY {by}{count + 1}, {count + 2}"
    )
    for key, (metric, bound, calls) in _keyed(reader, select, params, dimensions):
        buckets = groups.setdefault(key, Group()).latency.setdefault(metric, {})
        buckets[bound] = buckets.get(bound, 0) + int(calls)
    return groups


def _condition(since: str | None, until: str | None) -> tuple[str, tuple[str, ...]]:
    terms = {f"hour {sign} ?": at for sign, at in ((">=", since), ("<", until)) if at is not None}
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), tuple(terms.values())


def _keyed(
    reader: Reader, select: str, params: Sequence[str], dimensions: Sequence[str]
) -> Iterable[tuple[Key, Sequence[Any]]]:
    from storage.query import Limits

    found = reader.sql(select, params, limits=Limits(seconds=_SECONDS, rows=_MOST_GROUPS))
    if found.truncated:
        raise QueryLimit(f"these are more than {_MOST_GROUPS:,} groups", "take fewer dimensions or a shorter time")
    for row in found.rows:
        values = zip(dimensions, row, strict=False)
        yield tuple(_value(name, value) for name, value in values), row[len(dimensions) :]


def _value(dimension: str, value: Any) -> str | None:
    if dimension == "week" and value is not None:
        day = date.fromisoformat(value)
        return (day - timedelta(days=day.weekday())).isoformat()
    return None if value is None else str(value)


def percentile(buckets: Mapping[float | None, int], share: float) -> float | None:
    """The time, in ms, that *share* of the calls in *buckets* did not exceed; None when there are none."""
    wanted = share * sum(buckets.values())
    below = 0.0
    for bound in sorted(buckets, key=lambda bound: float("inf") if bound is None else bound):
        calls = buckets[bound]
        if calls > 0 and below + calls >= wanted:
            return _within(bound, (wanted - below) / calls)
        below += calls
    return None


def _within(bound: float | None, part: float) -> float:
    """The time up to which *part* of a bucket's calls lie."""
    if bound is None:
        return _ABOVE_ALL
    return bound * part if bound <= 1 else bound * _STEP ** (part - 1)
