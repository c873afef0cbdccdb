"""The benchmarks run; what they measure is for a quiet machine and a person to judge."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
SMALL = {
    "bench_caller.py": "--quick",
    "bench_store.py": "--quick",
    "bench_append.py": "--quick",
    "bench_loop.py": "--quick",
    "bench_providers.py": "--quick",
    "bench_footprint.py": "--quick",
    "bench_search.py": "--quick",
    "bench_content.py": "1",
    "bench_stream.py": "3",
    "bench_queries.py": "--quick",
    "bench_dashboards.py": "--quick",
    "bench_size.py": "--quick",
    "bench_collect.py": "--quick",
    "bench_writers.py": "--quick",
    "bench_held_sink.py": "50",
}
"""Each benchmark with what makes it short."""
OVER_A_BOUND = (0, 1)
"""1: a figure is over its bound, as on a busy machine it may be."""


def test_every_benchmark_is_tried_here() -> None:
    assert {path.name for path in BENCHMARKS.glob("bench_*.py")} == set(SMALL)


@pytest.mark.parametrize("script", SMALL)
def test_a_benchmark_runs_and_prints_its_table(script: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), SMALL[script]],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode in OVER_A_BOUND, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) >= 3
    assert not list(tmp_path.iterdir())
