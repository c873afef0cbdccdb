"""Every store does what the model does, whatever is done to it. tests/benchmarks/stateful.py does more of it, and looks
for the fewest steps that show a difference, which takes minutes."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store_machine import machine
from tests.stores import Opening, in_memory, in_postgres, in_sqlite


def run(opening: Opening, examples: int) -> None:
    few = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(opening), settings=few)


def test_the_store_in_memory_does_what_the_model_does() -> None:
    run(in_memory, 30)


def test_the_store_in_sqlite_does_what_the_model_does() -> None:
    run(in_sqlite, 20)


def test_the_store_in_postgresql_does_what_the_model_does(migrated_postgres_url: str) -> None:
    run(in_postgres(migrated_postgres_url), 8)
