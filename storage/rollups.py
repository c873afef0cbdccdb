"""What calls add up to, hour by hour: kept beside the calls so that a question about a year reads no call, and so that
the answer outlives calls that are pruned.

A row of hub_costs_hourly and hub_latency_hourly has each measure twice: of the calls that are in the store, and
(`kept_*`) of those that are no more. Text that is unknown stands as '', a bucket without bound as -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import add, sub
from typing import Any, Final

from hub.polite import Rest
from storage.engine import Connection, Insert
from storage.projections import instant

COST_KEY: Final = ("hour", "project", "service", "provider", "model")
TOKENS: Final = ("input", "output", "cache_read", "cache_write", "reasoning")
COST_MEASURES: Final = (
    "calls",
    "errors",
    "unpriced_calls",
    "priced_calls",
    "cost_nanos",
    *(f"{kind}_{measure}" for kind in TOKENS for measure in ("calls", "tokens")),
)
"""*_calls: those that know the number, so that a sum of nothing is not 0."""
LATENCY_KEY: Final = (*COST_KEY, "metric", "le")
LATENCY_MEASURES: Final = ("calls",)

COSTS, LATENCY = "hub_costs_hourly", "hub_latency_hourly"
NO_BOUND: Final = -1.0
HOUR_NS = 3_600 * 10**9

Key = tuple[Any, ...]
Measures = tuple[int, ...]


def costs_of(row: Mapping[str, Any]) -> tuple[Key, Measures] | None:
    """What a row of hub_calls adds to hub_costs_hourly; None when it does not count."""
    key = _key(row)
    if key is None:
        return None
    cost, status = row["cost_nanos"], row["status"]
    unpriced = cost is None and (status not in ("running", "error") or row["input_tokens"] is not None)
    measures = [1, int(status == "error"), int(unpriced), int(cost is not None), cost or 0]
    for kind in TOKENS:
        tokens = row[f"{kind}_tokens"]
        measures += (0, 0) if tokens is None else (1, tokens)
    return key, tuple(measures)


def latencies_of(row: Mapping[str, Any]) -> list[Key]:
    """The rows of hub_latency_hourly that a row of hub_calls adds 1 to."""
    key = _key(row)
    if key is None:
        return []
    return [
        (*key, metric, NO_BOUND if row[f"{metric}_le"] is None else row[f"{metric}_le"])
        for metric in ("duration", "ttft")
        if row[f"{metric}_ms"] is not None
    ]


def _key(row: Mapping[str, Any]) -> Key | None:
    started = row["started_ns"]
    hour = None if started is None or row["counted"] != 1 else _hour(started // HOUR_NS)
    if hour is None:
        return None
    model = row["request_model"] if row["request_model"] is not None else row["response_model"]
    return hour, row["project"], row["service"] or "", row["provider"] or "", model or ""


@lru_cache(maxsize=4_096)
def _hour(hour: int) -> str | None:
    return instant(hour * HOUR_NS)


class Rollups:
    """Differences to the hourly tables, collected and then written."""

    def __init__(self, prefix: str = "") -> None:
        """*prefix*: "kept_" for what calls that are no more add up to."""
        self._costs = _Table(COSTS, COST_KEY, COST_MEASURES, prefix)
        self._latency = _Table(LATENCY, LATENCY_KEY, LATENCY_MEASURES, prefix)

    def add(self, row: Mapping[str, Any], sign: int = 1) -> None:
        """Count a row of hub_calls in, or, with -1, out."""
        self.add_costs(row, sign)
        for key in latencies_of(row):
            self._latency.add(key, (1,), sign)

    def add_costs(self, row: Mapping[str, Any], sign: int = 1) -> None:
        """As `add`, in hub_costs_hourly alone."""
        found = costs_of(row)
        if found is not None:
            self._costs.add(*found, sign)

    def write(self, connection: Connection, rest: Rest) -> None:
        """Add the differences up with what is stored. A row that counts no calls any more goes."""
        self._costs.write(connection, rest)
        self._latency.write(connection, rest)


class _Table:
    def __init__(self, table: str, key: Sequence[str], measures: Sequence[str], prefix: str) -> None:
        self._table, self._key = table, key
        own = [prefix + measure for measure in measures]
        sums = ", ".join(f"{one} = {table}.{one} + excluded.{one}" for one in own)
        conflict = f"ON CONFLICT ({','.join(key)}) DO UPDATE SET {sums}"
        self._insert = Insert(table, (*key, *own), conflict=conflict)
        self._nothing: Measures = (0,) * len(measures)
        self._found: dict[Key, Measures] = {}

    def add(self, key: Key, measures: Measures, sign: int) -> None:
        held = self._found.get(key) or self._nothing
        self._found[key] = tuple(map(add if sign > 0 else sub, held, measures))

    def write(self, connection: Connection, rest: Rest) -> None:
        changed = {key: measures for key, measures in self._found.items() if any(measures)}
        connection.insert(self._insert, [value for key, own in changed.items() for value in (*key, *own)], rest)
        self._drop_empty(connection, (key for key, own in changed.items() if own[0] < 0))
        self._found.clear()

    def _drop_empty(self, connection: Connection, keys: Iterable[Key]) -> None:
        same = " AND ".join(f"{column} = ?" for column in self._key)
        for key in keys:
            connection.execute(f"DELETE FROM {self._table} WHERE calls = 0 AND kept_calls = 0 AND {same}", key)
