"""hub erase, hub prune, and what hub doctor says of both."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import Result

from hub.cli.instants import instant
from hub.log import Priority, Stream
from hub.store import Erasure
from storage.sqlite import SQLiteStore
from tests.cli_kit import HUB, Command, commands, settle
from tests.factories import SECOND, Factory
from tests.spools import body, make_spool, new_id

DAY = 86_400 * SECOND


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return settle(
        tmp_path, monkeypatch, HUB_DB_URL=tmp_path / "calls.db", HUB_SPOOL_DIR=tmp_path / "spool", HUB_PROJECT="shop"
    )


@pytest.fixture
def run(env: dict[str, str]) -> Command:
    return commands()


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    """A call of each of the last forty days, by turns of two users."""
    store = SQLiteStore(tmp_path / "calls.db")
    now = time.time_ns()
    for day in range(40, 0, -1):
        factory = Factory(f"d{day}", start=now - day * DAY)
        store.append(factory.call([{"role": "user", "content": f"day {day}"}], user_id=f"u{day % 2}", session_id="s"))
    return store


def count(store: SQLiteStore, what: str) -> int:
    with sqlite3.connect(store.path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(result.stdout)}


# hub erase.


def test_erase_tells_what_went(run: Command, store: SQLiteStore) -> None:
    result = run("erase", "--user", "u1", "--yes")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told == {"calls": 20, "events": 80, "contents": 40, "complete": True, "notes": []}
    assert count(store, "hub_events WHERE user_id = 'u1'") == 0
    assert count(store, "hub_events WHERE user_id = 'u0'") == 80
    assert count(store, "llm_calls") == 40


def test_erase_takes_a_call_by_the_beginning_of_its_id(run: Command, store: SQLiteStore) -> None:
    (call_id,) = sqlite3.connect(store.path).execute("SELECT max(call_id) FROM llm_calls").fetchone()
    told = json.loads(run("erase", "--call", "@last", "--yes").stdout)
    assert (told["calls"], told["events"]) == (1, 4)
    assert count(store, f"hub_events WHERE call_id = '{call_id}' AND content IS NULL") == 4
    assert run("erase", "--call", "0123", "--yes").exit_code == 3


def test_erase_takes_a_whole_id_that_is_not_here_yet(run: Command, store: SQLiteStore) -> None:
    factory = Factory("late", start=time.time_ns() - SECOND)
    call = factory.call()
    result = run("erase", "--call", call[0]["stream_id"], "--yes")
    assert result.exit_code == 0
    assert "is erased when it comes" in result.stderr
    store.append(call)
    assert all(record["content"] is None for record in store.read_stream(UUID(call[0]["stream_id"])))


def test_erase_only_of_calls_begun_before(run: Command, store: SQLiteStore) -> None:
    assert json.loads(run("erase", "--session", "s", "--before", "30d", "--yes").stdout)["calls"] == 11
    assert count(store, "llm_calls WHERE session_id = 's'") == 29


def test_erase_removes_our_backups_and_names_the_copies_of_others(run: Command, store: SQLiteStore) -> None:
    ours, theirs = Path(f"{store.path}.backup-0002"), Path(f"{store.path}.backup-2026-11-01")
    for copy in (ours, theirs):
        shutil.copy(store.path, copy)
    result = run("erase", "--user", "nobody", "--yes")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["complete"]) == (1, False)
    assert (ours.exists(), theirs.exists()) == (False, True)
    assert f"{theirs} seems to be a copy of the store" in result.stderr
    assert str(theirs) in findings(run("doctor", "--json"))["backup"]["finding"]
    theirs.unlink()
    assert json.loads(run("erase", "--user", "nobody", "--yes").stdout)["complete"]


def test_erase_takes_calls_of_the_future_unless_a_time_is_given(run: Command, store: SQLiteStore) -> None:
    store.append(Factory("ahead", start=time.time_ns() + 900 * DAY).call(user_id="u1"))
    assert json.loads(run("erase", "--user", "u1", "--before", "1h", "--yes").stdout)["calls"] == 20
    assert json.loads(run("erase", "--user", "u1", "--yes").stdout)["calls"] == 1
    assert json.loads(run("erase", "--user", "u0", "--before", "9999-12-31", "--yes").stdout)["calls"] == 20


@pytest.mark.parametrize("end", ["0001-01-01", "9999-12-31"])
@pytest.mark.parametrize(
    "command",
    [
        ("reprice", "--dry-run", "--since"),
        ("reprice", "--dry-run", "--as-of"),
        ("export", "jsonl", "--since"),
        ("export", "jsonl", "--until"),
        ("stats", "--since"),
        ("search", "day", "--since"),
        ("erase", "--user", "u1", "--yes", "--before"),
    ],
    ids=" ".join,
)
def test_times_at_both_ends_of_the_calendar_are_taken(
    run: Command, store: SQLiteStore, command: tuple[str, ...], end: str
) -> None:
    assert run(*command, end).exit_code in (0, 2)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-31", 1_769_817_600_000_000_000),
        ("2026-01-31T12:00", 1_769_860_800_000_000_000),
        ("2026-01-31T12:00+01:00", 1_769_857_200_000_000_000),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, ns: int) -> None:
    assert instant(text, "--before") == ns


def test_a_dry_run_of_erase_changes_nothing(run: Command, store: SQLiteStore, tmp_path: Path) -> None:
    shutil.copy(store.path, f"{store.path}.backup-0002")
    before = store.path.read_bytes()
    result = run("erase", "--user", "u1", "--dry-run")
    told = json.loads(result.stdout)
    assert (told["calls"], told["events"], told["contents"]) == (20, 80, 40)
    assert "backup-0002 would be removed" in result.stderr
    assert store.path.read_bytes() == before
    assert Path(f"{store.path}.backup-0002").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "name one of"),
        (("--user", "u1", "--session", "s"), "name one of"),
        (("--user", "u1"), "say --yes"),
        (("--user", "u1", "--before", "soon", "--yes"), "--before takes a day"),
    ],
)
def test_erase_asks_for_what_it_needs(run: Command, store: SQLiteStore, args: tuple[str, ...], words: str) -> None:
    result = run("erase", *args)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert count(store, "hub_tombstones") == 0


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 80), (b"y\n", 0, 0)])
def test_erase_asks_on_a_terminal(env: dict[str, str], store: SQLiteStore, answer: bytes, code: int, left: int) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen([HUB, "erase", "--user", "u1"], stdin=side, stdout=side, stderr=side, env=env)
    os.close(side)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(main, 65_536)
    os.write(main, answer)
    assert process.wait(60) == code
    os.close(main)
    told = "user u1 of project shop: 20 calls, 80 events, 40 pieces of content would be erased"
    assert told in " ".join(shown.decode().split())
    assert count(store, "hub_events WHERE user_id = 'u1'") == left
    assert count(store, "hub_tombstones") == (not left)


def test_erase_names_other_projects_when_nothing_matched(run: Command, store: SQLiteStore) -> None:
    result = run("erase", "--user", "u1", "--project", "shpo", "--yes")
    assert result.exit_code == 0
    assert "The store has calls of shop, too" in result.stderr


def test_erase_without_a_store_says_so(run: Command) -> None:
    result = run("erase", "--user", "u1", "--yes")
    assert result.exit_code == 4
    assert "there is no store yet" in result.stderr


def test_erase_names_spools_in_which_something_waits(
    run: Command, store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.cli.erase._SPOOLS_MAY_TAKE", 0.05)
    assert run("calls").exit_code == 0
    from hub.config import load

    root = load({}, os.environ, tmp_path).spool_root
    spool, stream = make_spool(root), Stream(new_id())
    spool.append(body(stream, text="hello"), 1, stream, Priority.EVENT)
    result = run("erase", "--user", "u1", "--yes")
    assert result.exit_code == 1
    assert f"process {os.getpid()} has events waiting (1 for store)" in result.stderr
    assert json.loads(result.stdout)["complete"] is False
    spool.close()


def test_erase_names_spools_of_other_databases_in_which_something_of_the_project_waits(
    run: Command, store: SQLiteStore, tmp_path: Path
) -> None:
    spool, stream = make_spool(tmp_path / "spool" / "another"), Stream(new_id())
    spool.append(body(stream, text="hello"), 1, stream, Priority.EVENT)
    project = spool.constants["project"]
    assert f"{spool.folder} has events waiting" in run("erase", "--user", "u1", "--yes", "--project", project).stderr
    assert "has events waiting" not in run("erase", "--user", "u1", "--yes", "--project", "elsewhere").stderr
    spool.close()


def test_erase_may_leave_the_file_as_it_is_and_doctor_tells(run: Command, store: SQLiteStore) -> None:
    result = run("erase", "--user", "u1", "--yes", "--no-rewrite")
    assert result.exit_code == 1
    assert "unused parts" in result.stderr
    assert findings(run("doctor"))["erasures"]["state"] == "warn"
    assert run("erase", "--user", "u1", "--yes").exit_code == 0
    found = findings(run("doctor"))["erasures"]
    assert (found["state"], found["finding"]) == ("ok", "1 stand; what they cover is stripped when it comes late")


def test_a_reader_of_long_standing_keeps_an_erasure_from_being_complete(
    run: Command, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite._READERS_MAY_TAKE", 0.1)
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM hub_calls").fetchone()
    result = run("erase", "--user", "u1", "--yes")
    assert result.exit_code == 1
    assert "keeps calls.db-wal from being emptied" in result.stderr
    reader.execute("ROLLBACK")
    again = run("erase", "--user", "u1", "--yes")
    assert (again.exit_code, json.loads(again.stdout)["complete"]) == (0, True)
    reader.close()


def test_replays_of_an_erased_call_are_named(run: Command, store: SQLiteStore) -> None:
    factory = Factory("again", start=time.time_ns() - SECOND)
    call = factory.call()
    store.append(call + factory.call(request={"replay_of": call[0]["stream_id"], "source": "replay"}))
    result = run("erase", "--call", call[0]["stream_id"], "--yes")
    assert result.exit_code == 0
    assert "1 replays of the call keep what they share with it" in result.stderr


# hub prune.


def test_prune_by_the_settings(run: Command, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_RETAIN_BODIES", "10d")
    monkeypatch.setenv("HUB_RETAIN_CALLS", "30d")
    result = run("prune")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["calls"], told["events"], told["bodies"], told["contents"]) == (11, 44, 40, 62)
    assert told["content_bytes"] > 20_000
    assert count(store, "llm_calls") == 29
    assert count(store, "llm_calls WHERE request_summary IS NOT NULL") == 9
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT sum(calls) FROM llm_costs_hourly").fetchone() == (40,)


def test_options_of_prune_come_before_settings(
    run: Command, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_RETAIN_BODIES", "1d")
    told = json.loads(run("prune", "--bodies-older-than", "keep", "--calls-older-than", "39d").stdout)
    assert (told["calls"], told["bodies"]) == (2, 0)


def test_a_dry_run_of_prune_changes_nothing(run: Command, store: SQLiteStore) -> None:
    before = store.path.read_bytes()
    told = json.loads(run("prune", "--calls-older-than", "30d", "--dry-run").stdout)
    assert (told["calls"], told["contents"]) == (11, 22)
    assert store.path.read_bytes() == before


def test_prune_gives_room_back_when_asked(run: Command, store: SQLiteStore) -> None:
    factory = Factory("large", start=time.time_ns() - 50 * DAY)
    store.append([one for n in range(50) for one in factory.call([{"role": "user", "content": f"{n}" + "x" * 50_000}])])
    assert run("prune", "--calls-older-than", "45d").exit_code == 0
    size = store.path.stat().st_size
    assert run("prune", "--calls-older-than", "45d", "--shrink").exit_code == 0
    assert store.path.stat().st_size < size / 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "nothing says what is too old"),
        (("--calls-older-than", "soon"), "is no age"),
        (("--bodies-older-than", "9" * 12 + "d"), "is no age"),
    ],
)
def test_prune_asks_for_what_it_needs(run: Command, store: SQLiteStore, args: tuple[str, ...], words: str) -> None:
    result = run("prune", *args)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert count(store, "llm_calls") == 40


def test_long_work_tells_how_far_it_is(run: Command, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.progress._QUIET_SECONDS", 0.0)
    result = run("prune", "--calls-older-than", "30d")
    assert "Deleting what nothing refers to: 20%" in result.stderr
    assert json.loads(result.stdout)["calls"] == 11


# hub doctor.


def test_doctor_tells_that_retention_is_overdue(
    run: Command, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "retention" not in findings(run("doctor"))
    monkeypatch.setenv("HUB_RETAIN_BODIES", "10d")
    monkeypatch.setenv("HUB_RETAIN_CALLS", "30d")
    found = findings(run("doctor"))["retention"]
    assert (found["state"], found["finding"]) == (
        "warn",
        "still here: prompts and answers older than 10 days, 10 calls older than 30 days",
    )
    assert "hub prune" in found["remedy"]
    run("prune")
    assert findings(run("doctor"))["retention"]["state"] == "ok"


def test_doctor_tells_how_fast_the_store_grows(run: Command, store: SQLiteStore) -> None:
    found = findings(run("doctor"))["size"]
    assert found["finding"].startswith("40 calls, ")
    assert "a day in the last 7" in found["finding"]


def test_doctor_names_backups_and_what_they_still_have(run: Command, store: SQLiteStore) -> None:
    shutil.copy(store.path, f"{store.path}.backup-0001")
    assert findings(run("doctor"))["backup"]["state"] == "note"
    store.erase(Erasure(project="shop", before_ns=2**62, user_id="u1"))
    assert "backup" not in findings(run("doctor")), "the erasure removed it"
    shutil.copy(store.path, f"{store.path}.backup-0001")
    assert findings(run("doctor"))["backup"]["state"] == "warn"


def test_doctor_tells_of_interrupted_work_and_of_what_came_too_late(run: Command, store: SQLiteStore) -> None:
    class Enough(Exception):
        pass

    def stop(words: str, done: int, total: int) -> None:
        if words == "Pruning bodies":
            raise Enough

    with pytest.raises(Enough):
        store.prune(bodies_before_ns=time.time_ns() - 10 * DAY, progress=stop)
    assert findings(run("doctor"))["interrupted"]["state"] == "warn"
    old = Factory("d40", start=time.time_ns() - 40 * DAY).call()
    run("prune", "--calls-older-than", "30d")
    store.append(old)
    found = findings(run("doctor"))
    assert "interrupted" not in found
    assert found["expired"]["finding"].startswith("4 events came when calls of their time had been pruned already")
    assert found["dropped"]["state"] == "ok"
