"""hub export and hub import, run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import typer
from typer.testing import CliRunner, Result

from hub.cli.instants import instant
from hub.cli.main import app
from hub.store import Erasure
from storage.sqlite import SQLiteStore
from tests.cli_kit import HUB
from tests.factories import Factory
from tests.filled_store import fill
from tests.transfer_kit import environment, events_in, many_calls, written

Command = Callable[..., Result]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process, in a folder of its own."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HUB_DB_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *args, **more: runner.invoke(app, list(args), **more)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("filled") / "calls.db"
    fill(path)
    return str(path)


def test_a_file_goes_out_and_comes_in_with_a_report_of_each(hub: Command, db: str, tmp_path: Path) -> None:
    out = hub("export", "jsonl", "calls.jsonl.zst", "--db", db)
    count = len(events_in(Path(db)))
    told = json.loads(out.stdout)
    assert (told["events"], told["calls"], told["format"]) == (count, 8, "jsonl")
    assert told["bytes"] == (tmp_path / "calls.jsonl.zst").stat().st_size
    told = json.loads(hub("import", "calls.jsonl.zst", "--db", "new.db").stdout)
    assert (told["new"], told["duplicates"], told["conflicts"], told["broken"]) == (count, 0, 0, 0)
    assert told["store"] == f"sqlite:///{tmp_path / 'new.db'}"
    assert events_in(tmp_path / "new.db") == events_in(Path(db))


def test_a_pipe_connects_two_stores(db: str, tmp_path: Path) -> None:
    line = f"'{HUB}' export jsonl - --db '{db}' | '{HUB}' import - --db new.db"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["calls"] == 8
    assert "hub: exported" in done.stderr
    assert events_in(tmp_path / "new.db") == events_in(Path(db))


def test_who_has_read_enough_ends_an_export_without_a_word(db: str, tmp_path: Path) -> None:
    line = f"'{HUB}' export jsonl - --db '{db}' | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout)["hub_export"]["format"] == 1
    assert "Traceback" not in done.stderr


def test_on_a_terminal_sentences_say_what_was_done(hub: Command, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.export.chosen_format", lambda json: "table")
    monkeypatch.setattr("hub.cli.import_.chosen_format", lambda json: "table")
    count = len(events_in(Path(db)))
    out = hub("export", "parquet", "calls.parquet", "--db", db)
    assert out.stdout.startswith(f"Exported {count} events of 8 calls to calls.parquet (")
    assert hub("import", "calls.parquet", "--db", "new.db").stdout.endswith(f": {count} new, 0 there before.\n")


def test_what_is_left_out_is_told_on_stderr_and_in_the_exit_code(hub: Command, tmp_path: Path) -> None:
    good = Factory().calls(1)
    lines = [json.dumps(record) for record in good]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, *["bad \x1b[31m"] * 30]))
    done = hub("import", "in.jsonl", "--db", "new.db")
    assert done.exit_code == 1
    assert (json.loads(done.stdout)["new"], json.loads(done.stdout)["broken"]) == (4, 30)
    told = done.stderr.splitlines()
    assert told[0].startswith("hub: in.jsonl, line 5: it is no JSON")
    assert told[20:] == ["hub: in.jsonl: and 10 more like these"]
    assert "\x1b" not in done.stderr


def test_conflicts_are_told_and_fail_the_import(hub: Command, tmp_path: Path) -> None:
    records = Factory().calls(1)
    written(tmp_path / "new.db", [{**records[0], "id": Factory("x").new_id()}])
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    done = hub("import", "in.jsonl", "--db", "new.db")
    assert (done.exit_code, json.loads(done.stdout)["conflicts"], json.loads(done.stdout)["new"]) == (1, 1, 3)
    assert "line 1: version 1 of stream" in done.stderr


def test_events_of_calls_that_were_pruned_are_told_and_fail_the_import(hub: Command, tmp_path: Path) -> None:
    records = Factory().calls(2)
    written(tmp_path / "new.db", records)
    with closing(SQLiteStore(tmp_path / "new.db")) as store:
        assert store.prune(calls_before_ns=records[-1]["occurred_at"] + 10**9).calls == 2
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    done = hub("import", "in.jsonl", "--db", "new.db")
    assert (done.exit_code, json.loads(done.stdout)["expired"], json.loads(done.stdout)["new"]) == (1, 8, 0)


def test_what_comes_in_without_prices_is_priced_by_the_settings(hub: Command, tmp_path: Path) -> None:
    rates = '[prices."gpt-4o-mini-2024-07-18"]\ninput = 7.0\noutput = 0\n'
    (tmp_path / "hub.toml").write_text(rates)
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(record) for record in Factory().call()))
    assert hub("import", "in.jsonl", "--db", "new.db").exit_code == 0
    found = json.loads(hub("sql", "SELECT cost_nanos FROM llm_calls", "--db", "new.db", "--json").stdout)
    assert found == [{"cost_nanos": 250 * 7_000}]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["export", "jsonl", "out.jsonl", "--since", "soon"], 2, "--since takes a day"),
        (["export", "jsonl", "out.jsonl", "--where", "colour = 1"], 2, "no such column"),
        (["export", "jsonl", "here.txt"], 2, "there is such a file already; name another, or add --force"),
        (["export", "jsonl", "."], 2, "this is a folder"),
        (["export", "jsonl", "nowhere/out.jsonl"], 4, "nowhere/out.jsonl.part: No such file"),
        (["export", "xml", "out.xml"], 2, "No such command"),
        (["import", "missing.jsonl"], 4, "missing.jsonl: No such file"),
        (["import", "."], 4, "Is a directory"),
    ],
)
def test_every_failure_says_what_to_do(
    hub: Command, db: str, tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    (tmp_path / "here.txt").write_text("here")
    done = hub(*args, *(["--db", db] if args[1] != "xml" else []))
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in " ".join(done.stderr.replace("│", "").split())
    assert sorted(each.name for each in tmp_path.glob("out*")) == []


def test_an_empty_place_has_nothing_to_export(hub: Command) -> None:
    done = hub("export", "jsonl", "out.jsonl", "--db", "none.db")
    assert done.exit_code == 4
    assert "there is no store yet (chosen by --db)" in done.stderr


def test_without_pyarrow_parquet_names_the_extra_before_any_work(
    hub: Command, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = hub("export", "parquet", "out.parquet", "--db", db)
    assert done.exit_code == 2
    assert "pip install 'llm-hub[parquet]'" in done.stderr
    assert list(tmp_path.glob("out*")) == []


def test_an_export_to_stdout_that_an_erasure_disturbs_says_so(
    hub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_calls(tmp_path / "calls.db", 200)

    def erase_first(events: int) -> bytes:
        store = SQLiteStore(tmp_path / "calls.db")
        call_id = store.read_all(limit=1).events[0]["call_id"]
        store.erase(Erasure(project="shop", before_ns=2**62, call_id=UUID(call_id)))
        store.close()
        return b""

    monkeypatch.setattr("hub.transfer.exporting._end", erase_first)
    done = hub("export", "jsonl", "-", "--db", "calls.db")
    assert done.exit_code == 1
    assert "export again" in done.stderr


def test_a_store_that_a_program_writes_to_takes_an_import_beside_it(hub: Command, tmp_path: Path) -> None:
    many_calls(tmp_path / "one.db", 50)
    assert hub("export", "jsonl", "one.jsonl", "--db", "one.db").exit_code == 0
    live = Factory("live")
    store = SQLiteStore(tmp_path / "new.db")
    store.append(live.calls(2))
    assert hub("import", "one.jsonl", "--db", "new.db").exit_code == 0
    store.append(live.calls(2))
    store.close()
    assert len(events_in(tmp_path / "new.db")) == 216


def test_what_takes_long_says_how_far_it_is(hub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.progress._QUIET_SECONDS", -1.0)
    many_calls(tmp_path / "calls.db", 300)
    out = hub("export", "jsonl", "out.jsonl", "--db", "calls.db")
    assert "Exporting: 80%" in out.stderr.splitlines()
    done = hub("import", "out.jsonl", "--db", "new.db")
    assert any(line.startswith("Importing: ") for line in done.stderr.splitlines())
    assert json.loads(done.stdout)["new"] == 1200


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("90M", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-11-19", datetime(2026, 11, 19, tzinfo=UTC)),
        ("2026-11-19T08:30:00+01:00", datetime(2026, 11, 19, 7, 30, tzinfo=UTC)),
        ("2026-11-19 08:30:00.000001", datetime(2026, 11, 19, 8, 30, 0, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_date_a_time_or_so_long_ago(text: str, expected: datetime) -> None:
    since = expected - datetime(1970, 1, 1, tzinfo=UTC)
    wanted = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    assert instant(text, "--since", lambda: NOW_NS) == wanted


@pytest.mark.parametrize(("text", "ns"), [("9999-12-31", 2**63 - 1), ("0001-01-02", 0), ("999999w", 0)])
def test_a_time_that_no_store_can_hold_is_the_nearest_that_it_can(text: str, ns: int) -> None:
    assert instant(text, "--since", lambda: NOW_NS) == ns


@pytest.mark.parametrize("text", ["", "7", "7 years", "yesterday", "2026-13-01", "d7", "99999999999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--since takes a day"):
        instant(text, "--since")
