"""What people ask of a large store, in milliseconds: the median and the worst of several runs, caches warm.

    python tests/benchmarks/bench_queries.py [--calls 1000000] [--postgres URL] [--quick]

The store is filled with copies (tests/benchmarks/big_store.py); a PostgreSQL database has to be migrated and empty.
"append" is one batch of 25 calls: flat, whatever is there already, when the figures for 10^4 calls and for --calls
agree. The yardstick is the time of `SELECT 1` through the same door.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub.config import load
from hub.polite import no_rest
from hub.reader import Reader
from storage import open_store
from storage.sql_store import SqlStore
from tests.benchmarks.big_store import fill
from tests.benchmarks.report import Figure, show_figures
from tests.factories import Factory

END_NS = 1_795_000_000 * 10**9
DAYS = 60
TARGETS = {  # SQLite, PostgreSQL
    "last 50 by model": (5, 10),
    "cost per day and model, 30 days": (20, 20),
    "p95 by model, 7 days": (50, 50),
    "hub show": (20, 20),
}

COSTS = """
SELECT floor(DAY) AS day, model, sum(cost_nanos) AS cost_nanos, sum(calls) AS calls
FROM (SELECT {day} AS DAY, model, cost_nanos, calls FROM llm_costs_hourly WHERE hour >= ? AND hour < ?) AS hours
GROUP BY 1, 2 ORDER BY 1, 2
"""
P95 = """
WITH buckets AS (
  SELECT model, le, sum(calls) AS calls FROM llm_latency_hourly
  WHERE metric = 'duration' AND hour >= ? AND hour < ? GROUP BY model, le
), running AS (
  SELECT model, le, sum(calls) OVER (PARTITION BY model ORDER BY coalesce(le, 1e300)) AS below,
    sum(calls) OVER (PARTITION BY model) AS calls
  FROM buckets
)
SELECT model, min(le) AS p95 FROM running WHERE below >= 0.95 * calls GROUP BY model ORDER BY model
"""


def timed(work: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of each run, after two that warm up."""
    found = []
    for number in range(runs + 2):
        started = time.perf_counter()
        work()
        if number > 1:
            found.append((time.perf_counter() - started) * 1e3)
    return found


def queries(reader: Reader, engine: str, runs: int) -> dict[str, list[float]]:
    """Each question's times."""
    day = "hour" if engine == "sqlite" else "extract(epoch from hour)"
    day = "julianday(hour)" if engine == "sqlite" else f"{day} / 86400"
    month, week, end = _instants()
    newest = reader.sql("SELECT call_id FROM llm_calls ORDER BY started_at DESC LIMIT 1").rows[0][0]
    middle = reader.sql("SELECT call_id FROM llm_calls WHERE started_at < ? ORDER BY started_at DESC LIMIT 1", (month,))
    call_id = middle.rows[0][0] if middle.rows else newest
    last = "SELECT * FROM llm_calls WHERE request_model = ? ORDER BY started_at DESC LIMIT 50"
    costs = COSTS.format(day=day)

    def show() -> None:
        call = reader.call(call_id)
        assert call.messages
        assert call.events
        assert not call.tool_calls
        assert call.attempts

    def expect(count: int, sql: str, *values: object) -> None:
        assert len(reader.sql(sql, values).rows) >= count, sql

    return {
        "SELECT 1": timed(lambda: expect(1, "SELECT 1"), runs),
        "last 50 by model": timed(lambda: expect(50, last, "gpt-5"), runs),
        "cost per day and model, 30 days": timed(lambda: expect(8, costs, month, end), runs),
        "p95 by model, 7 days": timed(lambda: expect(8, P95, week, end), runs),
        "hub show": timed(show, runs),
    }


def _instants() -> tuple[str, str, str]:
    from storage.projections import instant

    return tuple(str(instant(END_NS - days * 86_400 * 10**9)) for days in (30, 7, 0))  # type: ignore[return-value]


def appends(store: SqlStore, name: str, runs: int) -> list[float]:
    """Milliseconds of appends of 25 calls, one after the other."""
    factory = Factory(name, start=END_NS)
    batches = iter([factory.calls(25) for _ in range(runs + 2)])
    return timed(lambda: store.append(next(batches)), runs)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--postgres", metavar="URL")
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    given = options.parse_args()
    calls, runs = (400, 3) if given.quick else (given.calls, 30)
    with tempfile.TemporaryDirectory() as folder:
        url = given.postgres or f"sqlite:///{folder}/calls.db"
        store = open_store(url)
        store._rest = no_rest
        started = time.perf_counter()
        small = appends(store, "small", runs)
        fill(store, calls, DAYS, END_NS, lambda done: print(f"{done:,} calls", end="\r", file=sys.stderr))
        print(f"{calls:,} calls in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        engine = "postgresql" if given.postgres else "sqlite"
        found = queries(Reader(load({"db_url": url}, {}, Path(folder))), engine, runs)
        large = appends(store, "large", runs)
        figures = [
            Figure(name, times, f"<= {TARGETS[name][bool(given.postgres)]} ms" if name in TARGETS else "", worst(times))
            for name, times in found.items()
        ]
        ratio = f"{statistics.median(large) / statistics.median(small):.2f} x that of an empty store"
        figures.append(Figure("append of 25 calls", large, "flat", ratio))
        show_figures(f"{engine}, {calls:,} calls, ms", figures)
        store.close()


def worst(times: list[float]) -> str:
    return f"worst {max(times):.1f}"


if __name__ == "__main__":
    main()
