"""Events per second of `append` in batches of 100, beside the driver alone with the same rows.

    python tests/benchmarks/bench_append.py [--quick] [--store sqlite|postgres] [--events 20000] [--rounds 5]

    events   events of an application's own: the log alone
    calls    calls of 4 events, with 1 kB prompts and 2 kB answers, every text new: content, parts and projections too

The yardstick writes all rows that the store then has once more, in as many transactions: `executemany` of sqlite3 with
the same settings, psycopg's binary COPY into the same tables without partitions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub.events import EventRecord
from hub.polite import no_rest
from storage import open_store
from tests.benchmarks.bare import postgres_seconds, sqlite_seconds
from tests.benchmarks.report import Figure, show_figures
from tests.benchmarks.stores import STORES, Emptied
from tests.factories import Factory

BATCH, LEAST_OF_BARE = 100, 0.6
CASES = ("events", "calls")


def made(case: str, events: int) -> list[EventRecord]:
    factory = Factory()
    if case == "calls":
        return factory.calls(events // 4)
    stream, data = factory.new_id(), {"title": factory.text(60), "score": 0.5, "passed": True}
    return [
        factory.event("acme:graded", stream=stream, version=number, call_id=None, data=data)
        for number in range(1, events + 1)
    ]


def measured(emptied: Emptied, case: str, events: int) -> tuple[float, float]:
    """Events per second of ours and of the driver alone."""
    records = made(case, events)
    with emptied() as url:
        store = open_store(url)
        store._rest = no_rest
        store.append(Factory("warm").calls(25) if case == "calls" else made(case, BATCH))
        started = time.perf_counter()
        for start in range(0, events, BATCH):
            store.append(records[start : start + BATCH])
        took = time.perf_counter() - started
        store.close()
        if url.startswith("sqlite"):
            bare = sqlite_seconds(url.removeprefix("sqlite:///"), BATCH)
        else:
            bare = postgres_seconds(url, BATCH)
    return events / took, (events + BATCH) / bare


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--store", choices=STORES, action="append", help="both, unless given")
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    events, rounds = (400, 1) if given.quick else (given.events, given.rounds)
    for name in given.store or STORES:
        table = []
        with STORES[name]() as emptied:
            for case in CASES:
                runs = [measured(emptied, case, events) for _ in range(rounds)]
                ours, bare = [one for one, _ in runs], [one for _, one in runs]
                ratio = statistics.median(mine / other for mine, other in runs)
                table.append(Figure(case, ours, f">= {LEAST_OF_BARE} x", f"{ratio:.2f} x the driver alone"))
                table.append(Figure("  the driver alone", bare, "", "the yardstick"))
        show_figures(f"append in batches of {BATCH}, {name}, events a second", table)


if __name__ == "__main__":
    main()
