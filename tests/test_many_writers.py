"""Processes with threads write one store while a reader follows: all is there, in order, and the reader saw it once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from storage import open_store
from tests.store_rows import projections, rows
from tests.writers import Load, run

LOADS = {
    "threads of processes": Load(processes=2, threads=3, events=160, batch=7),
    "slow transactions": Load(processes=3, threads=1, events=48, batch=6, pause=0.1),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_who_writes_and_who_follows_at_once_lose_and_double_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, load: Load
) -> None:
    in_file = f"sqlite:///{tmp_path / 'calls.db'}"
    url: str = in_file if engine == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    outcome = run(url, load)
    assert outcome.stored.is_exact(load)
    assert outcome.tailed.is_exact(load), vars(outcome.tailed)
    assert len(outcome.writers) == load.processes * load.threads
    with closing(open_store(url)) as store:
        assert len(rows(store, "SELECT call_id FROM llm_calls WHERE status = 'ok'")) == load.total // 4
        live = projections(store)
        store.rebuild()
        assert projections(store) == live
