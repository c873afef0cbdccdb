"""Calls per second from emit to rows committed, beside a bare executemany of the same rows.

    python tests/benchmarks/bench_store.py [--quick] [--case NAME] [--calls 10000]

Each call is 4 events, a 1 kB prompt, a 2 kB answer and usage; every text is new; capture full, crash_safe, redaction
on; content, parts and projections included. Each case runs in a process of its own and ends when `flush` has said that
all is in the store; what is dropped or shed fails the benchmark.

    burst           N calls back to back, then flush
    with otlp       the same, with the otlp sink sending to a collector in another process
    filled spool    the store held until N calls wait in the spool
    to postgres     the same with PostgreSQL in SQLite's place
    offered         2,000 calls a second for some seconds, and what waits meanwhile

The yardstick writes the rows of a burst's database once more: the standard library's executemany, into the same tables
with the same settings, in as many transactions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub.reader import open_reader
from tests.benchmarks.bare import sqlite_seconds
from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Figure, show_figures
from tests.benchmarks.stores import STORES
from tests.benchmarks.workload import Conversations, interleaved, measured_alone

TARGETS = {"burst": 2500, "with otlp": 1800, "filled spool": 5000, "to postgres": 4000, "offered": 2000}
OFFERED = 2000
_BATCH_EVENTS = 500


class HeldStore:
    """The store of the settings, which takes nothing before `released` is set."""

    def __init__(self, url: str) -> None:
        from storage import open_store

        self.released = threading.Event()
        self._store = open_store(url)

    def append(self, events: Any) -> Any:
        self.released.wait()
        return self._store.append(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@contextmanager
def started_hub(url: str, endpoint: str | None = None, **options: Any) -> Iterator[Any]:
    """A hub whose threads run and whose store is open."""
    from hub.runtime import Hub

    if endpoint is not None:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    with (
        tempfile.TemporaryDirectory() as spool,
        Hub(
            db_url=url,
            spool_dir=spool,
            otel="off" if endpoint is None else "export",
            capture="full",
            durability="crash_safe",
            project="bench",
            **options,
        ) as hub,
    ):
        yield hub


def warm(hub: Any) -> None:
    """The store opens, prices and the exporter load."""
    first = Conversations(20, seed=0)
    traced = hub.traced(first.complete, provider="openai", model="gpt-5-mini")
    for messages in first.questions():
        traced(messages)
    assert hub.flush(30) == 0


def nothing_lost(hub: Any, url: str, calls: int) -> None:
    """Fails unless every call is in the store, with its content."""
    store = hub.spool.counters().sinks["store"]
    assert not any(store.dropped.values()), store.dropped
    with open_reader(url) as reader:
        ((kept,),) = reader.sql(
            "SELECT count(*) FROM llm_calls WHERE status = 'ok' AND request_summary IS NOT NULL AND cost_nanos > 0"
        ).rows
        ((shed,),) = reader.sql("""SELECT count(*) FROM llm_events WHERE data LIKE '%"shed"%'""").rows
    assert (kept, shed) == (calls + 20, 0), (kept, calls + 20, shed)


def burst(url: str, calls: int, endpoint: str | None) -> dict[str, float]:
    made = Conversations(calls)
    with started_hub(url, endpoint) as hub:
        warm(hub)
        traced = hub.traced(made.complete, provider="openai", model="gpt-5-mini")
        started = time.perf_counter()
        for messages in made.questions():
            traced(messages)
        emitted = time.perf_counter()
        assert hub.flush(60) == 0
        took = time.perf_counter() - started
        nothing_lost(hub, url, calls)
    bare = 0.0 if endpoint else (calls + 20) / sqlite_seconds(url.removeprefix("sqlite:///"), _BATCH_EVENTS)
    return {"rate": calls / took, "emit_us": (emitted - started) / calls * 1e6, "bare": bare}


def filled_spool(url: str, calls: int) -> dict[str, float]:
    made = Conversations(calls)
    held = HeldStore(url)
    held.released.set()
    with started_hub(url, store=held) as hub:
        warm(hub)
        held.released.clear()
        traced = hub.traced(made.complete, provider="openai", model="gpt-5-mini")
        for messages in made.questions():
            traced(messages)
        time.sleep(0.2)
        started = time.perf_counter()
        held.released.set()
        assert hub.flush(60) == 0
        took = time.perf_counter() - started
        nothing_lost(hub, url, calls)
    return {"rate": calls / took}


def offered(url: str, calls: int) -> dict[str, float]:
    """Calls at a steady rate; what waits is looked at every 10 ms."""
    made = Conversations(calls)
    waiting = []
    with started_hub(url) as hub:
        warm(hub)
        traced = hub.traced(made.complete, provider="openai", model="gpt-5-mini")
        started = time.perf_counter()
        for number, messages in enumerate(made.questions()):
            if number % 10 == 0:
                if number % 20 == 0:
                    waiting.append(hub.spool.counters().sinks["store"].waiting / 4)
                time.sleep(max(0.0, started + number / OFFERED - time.perf_counter()))
            traced(messages)
        emitted = time.perf_counter() - started
        assert hub.flush(60) == 0
        took = time.perf_counter() - started
        nothing_lost(hub, url, calls)
    half = len(waiting) // 2
    return {
        "rate": calls / took,
        "offered": calls / emitted,
        "first_half": statistics.median(waiting[:half]),
        "second_half": statistics.median(waiting[half:]),
        "most": max(waiting),
    }


def measure(case: str, calls: int) -> dict[str, float]:
    """One case, in this process."""
    with STORES["postgres" if case == "to postgres" else "sqlite"]() as emptied, emptied() as url:
        if case in ("filled spool", "to postgres"):
            return filled_spool(url, calls)
        if case == "offered":
            return offered(url, calls)
        with running_collector() if case == "with otlp" else nullcontext() as endpoint:
            return burst(url, calls, endpoint)


def figures(found: dict[str, list[dict[str, float]]]) -> Iterator[Figure]:
    """The table's rows."""
    bare = [run["bare"] for run in found["burst"]]
    for case, runs in found.items():
        rates = [run["rate"] for run in runs]
        note = f"{statistics.median(rates) / statistics.median(bare):.2f} x bare"
        if case == "burst":
            note += f"; emit alone {statistics.median(run['emit_us'] for run in runs):.0f} us a call"
        if case == "offered":
            note = "waiting calls: " + ", ".join(
                f"{run['first_half']:.0f} then {run['second_half']:.0f}, at most {run['most']:.0f}" for run in runs
            )
        yield Figure(case, rates, f">= {TARGETS[case]:,}", note)
    yield Figure("bare executemany", bare, "", "the yardstick")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--case", choices=TARGETS, help="one case, in this process; prints JSON")
    options.add_argument("--calls", type=int)
    given = options.parse_args()
    calls = given.calls or (300 if given.quick else 10_000)
    if given.case:
        print(json.dumps(measure(given.case, calls)))
        return

    def alone(case: str) -> Any:
        offered_calls = 0 if given.quick or case != "offered" else OFFERED * 12
        return measured_alone(__file__, "--case", case, "--calls", str(offered_calls or calls))

    found = interleaved(1 if given.quick else 5, list(TARGETS), alone)
    show_figures("From emit to rows committed, calls a second", list(figures(found)))


if __name__ == "__main__":
    main()
