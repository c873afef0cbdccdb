"""A sink held for half a second a batch beside calls of 1 MB: small editions of benchmarks/bench_held_sink.py."""

from __future__ import annotations

from tests.benchmarks.bench_held_sink import MIB, RATE_BOUND, Case, complaints, run

SMALL_SPOOL = 64 * MIB


def test_a_held_store_costs_no_event_but_content_and_no_memory_beyond_the_bound() -> None:
    case = Case(400, held="store", spool_bytes=SMALL_SPOOL)
    outcome = run(case)
    assert complaints(case, outcome) == []
    assert outcome.sinks["store"]["waiting"] > 1_000, "it was not held"
    assert outcome.sinks["other"]["waiting"] == 0
    assert 300 < outcome.shed < 400


def test_a_held_sink_beside_the_store_loses_what_it_is_too_far_behind_and_nobody_else_does() -> None:
    case = Case(200, held="other", spool_bytes=SMALL_SPOOL)
    outcome = run(case)
    assert complaints(case, outcome) == []
    assert outcome.sinks["store"]["waiting"] == 0
    assert set(outcome.sinks["other"]["dropped"]) == {"behind"}


def test_beside_a_held_store_another_sink_keeps_its_rate() -> None:
    free = Case(2_000, content=1_000, store="null")
    held = Case(2_000, content=1_000, store="null", held="store")
    assert any(run(held).rate >= RATE_BOUND * run(free).rate for _ in range(3))
