"""Starts on a store that is new or old: many at once, and killed on the way."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.errors import SchemaMismatch, StoreUnavailable
from hub.events import EventRecord
from storage import migrate, open_store
from tests import old_stores, postgres_kit
from tests.contracts.case import whole_log
from tests.factories import Factory
from tests.killed_start import start
from tests.old_stores import REVISIONS
from tests.store_rows import projections, rows
from tests.test_schema import with_next

ROOT = Path(__file__).parents[1]
OLDER = REVISIONS[:-1]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'calls.db'}"


def fill(url: str, revision: str) -> list[EventRecord]:
    """Make the file at *url* a store of an older schema. Returns: its events."""
    factory = Factory()
    records = factory.calls(3) + factory.call(error="it broke") + factory.call(wire=True)[:2]
    retry = {"attempt": 1, "delay_ms": 20.0}
    records.append(factory.event("provider:retry", stream=records[0]["stream_id"], version=5, data=retry))
    old_stores.make_old(Path(url.removeprefix("sqlite:///")), revision, records)
    return records


def assert_works(url: str, records: list[EventRecord]) -> None:
    """It has what it had, takes more, and its projections are those of its events."""
    with closing(open_store(url)) as store:
        assert whole_log(store) == records
        assert rows(store, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [{"version_num": migrate.REVISION}]
        assert store.append(Factory("after").call()).new == 4
        live = projections(store)
        store.rebuild()
        assert projections(store) == live


def killed_again_and_again(url: str, *options: str) -> int:
    """How often a start was killed until one got through."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_start", url, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_start_on_nothing_may_be_killed_at_each_statement(sqlite_url: str) -> None:
    assert killed_again_and_again(sqlite_url) > 40
    assert_works(sqlite_url, [])


@pytest.mark.parametrize("revision", OLDER)
def test_an_upgrade_may_be_killed_at_any_statement(sqlite_url: str, revision: str) -> None:
    records = fill(sqlite_url, revision)
    every = 2 if revision == OLDER[0] else 5  # the others run some of the same statements
    assert killed_again_and_again(sqlite_url, "--every", str(every)) > 30 // every
    assert_works(sqlite_url, records)


def test_setting_a_database_up_may_be_killed_at_any_statement(postgres_url: str) -> None:
    assert killed_again_and_again(postgres_url, "--every", "5") > 10
    assert_works(postgres_url, [])


def test_an_upgrade_of_a_database_may_be_killed_at_each_statement(postgres_url: str, tmp_path: Path) -> None:
    with postgres_kit.migrated_store(postgres_url) as store:
        store.append(Factory().calls(3))
    next_one = with_next(tmp_path / "migrations")
    assert killed_again_and_again(postgres_url, "--migrations", str(next_one)) > 20
    with pytest.raises(SchemaMismatch, match="upgrade llm-hub"):
        open_store(postgres_url).read_all()


def test_a_backup_that_was_cut_short_is_made_again(sqlite_url: str, tmp_path: Path) -> None:
    records = fill(sqlite_url, OLDER[0])
    backup = tmp_path / f"calls.db.backup-{OLDER[0]}"
    backup.write_bytes((tmp_path / "calls.db").read_bytes()[:5_000])
    assert_works(sqlite_url, records)
    assert rows(backup, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert rows(backup, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [{"version_num": OLDER[0]}]


def _start(url: str, number: int, together: Any) -> None:
    together.wait(60)
    start(url)
    with closing(open_store(url)) as store:
        while True:
            try:
                store.append(Factory(f"process {number}").call())
                return
            except StoreUnavailable:
                continue  # the others' starts have taken 5 s


@pytest.mark.parametrize("database", ["a new file", "an older file", "a new database"])
def test_twelve_processes_start_at_once(request: pytest.FixtureRequest, database: str) -> None:
    url: str = request.getfixturevalue("postgres_url" if database == "a new database" else "sqlite_url")
    before = fill(url, OLDER[0]) if database == "an older file" else []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "alembic.command", "sqlalchemy.pool"])
    together = context.Barrier(12)
    processes = [context.Process(target=_start, args=(url, number, together)) for number in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 12
    with closing(open_store(url)) as store:
        log = whole_log(store)
    assert log[: len(before)] == before
    producers = [record["producer"] for record in log[len(before) :]]
    assert sorted(producers) == sorted(f"process {number}" for number in range(12) for _ in range(4))
    assert_works(url, log)
