"""The dashboards' queries over a large store, in milliseconds: the median and the worst of several runs, caches warm.

    python tests/benchmarks/bench_dashboards.py [--calls 1000000] [--postgres URL] [--quick]

The store is filled with copies (tests/benchmarks/big_store.py); a PostgreSQL database has to be migrated and empty.
All 60 days of it are looked at, with no filter. Every query is held to a second; the exit code says whether all kept
it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub.dashboards.sql import Engine
from hub.polite import no_rest
from storage import open_store
from tests.benchmarks.big_store import fill
from tests.benchmarks.report import Figure, show_figures
from tests.dashboards_kit import Database, Range, database, expanded, panels, rules, text_of

END = 1_795_000_000
DAYS = 60
BOUND_MS = 1_000
POINTS = 1_000
"""That Grafana asks for in a panel half as wide as a screen."""


def within(points: int) -> Range:
    """All of the store, cut as finely as Grafana would: into hours at least."""
    seconds = DAYS * 86_400
    hours = max(1, -(-seconds // points // 3_600))
    return Range(since=END - seconds, until=END, interval_ms=hours * 3_600_000)


def queries(engine: Engine) -> dict[str, str]:
    """By the panel's place, as they reach the database."""
    found = {}
    for dashboard, panel in panels(engine):
        (target,) = panel["targets"]
        whole = within(panel.get("maxDataPoints", POINTS))
        found[f"{dashboard['title'].partition(': ')[2]}: {panel['title']}"] = expanded(text_of(target), engine, whole)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found[f"Filter: {variable['name']}"] = variable["query"]
    for rule in rules(engine):
        found[f"Alert: {rule['title']}"] = expanded(text_of(rule["data"][0]["model"]), engine, within(POINTS))
    return found


def timed(asked: Database, sql: str, runs: int) -> list[float]:
    """Milliseconds of each run, after one that warms up."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        asked.ask(sql)
        times.append((time.perf_counter() - started) * 1e3)
    return times[1:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--postgres", metavar="URL")
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    given = options.parse_args()
    calls, runs = (400, 1) if given.quick else (given.calls, 5)
    engine: Engine = "postgresql" if given.postgres else "sqlite"
    with tempfile.TemporaryDirectory() as folder:
        where = given.postgres or f"{folder}/calls.db"
        store = open_store(given.postgres or f"sqlite:///{where}")
        store._rest = no_rest
        fill(store, calls, DAYS, END * 10**9, lambda done: print(f"{done:,} calls", end="\r", file=sys.stderr))
        with database(engine, where) as asked:
            found = {name: timed(asked, sql, runs) for name, sql in queries(engine).items()}
        store.close()
    figures = [Figure(name, times, f"<= {BOUND_MS} ms") for name, times in found.items()]
    show_figures(f"{engine}, {calls:,} calls, {DAYS} days, ms", figures)
    slow = [name for name, times in found.items() if statistics.median(times) > BOUND_MS]
    print(f"over {BOUND_MS} ms: {', '.join(slow) or 'none'}")
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
