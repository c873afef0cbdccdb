"""hub doctor, and what commands do about spools of processes that ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import hub
from hub.cli.checks import ADD_USAGE
from hub.config import load
from tests.cli_kit import Command, commands, settle
from tests.filled_store import fill

DIES = """
import os, hub
hub.init(db_url={db!r}, spool_dir={spool!r}, otel="off")
for number in range(3):
    with hub.call(provider="acme", model="m", messages=[{{"role": "user", "content": "hi"}}]) as call:
        call.response("ho")
open_call = hub.call(provider="acme", model="m", messages="still open")
open_call.__enter__()
os._exit(7)
"""

SAMPLES = """
import os, hub
hub.init(otel="off", sample_rate=0.0)
for number in range(3):
    with hub.call(provider="acme", model="m", messages="hi") as call:
        call.response("ho")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    settle(tmp_path, monkeypatch, HUB_DB_URL=tmp_path / "calls.db", HUB_SPOOL_DIR=tmp_path / "spool")
    return commands()


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(result.stdout)}


def die(tmp_path: Path) -> None:
    code = DIES.format(db=str(tmp_path / "calls.db"), spool=str(tmp_path / "spool"))
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 7


def test_a_sound_store_passes_and_its_gaps_are_named(run: Command, tmp_path: Path) -> None:
    fill(tmp_path / "calls.db")
    result = run("doctor")
    found = findings(result)
    assert result.exit_code == 0
    assert {row["state"] for row in found.values()} == {"ok", "note", "warn"}
    assert found["stream usage"]["finding"].startswith("1 stream")
    assert ADD_USAGE in found["stream usage"]["remedy"]
    assert "acme/acme-1 (1 call" in found["prices"]["finding"]
    assert found["size"]["finding"].startswith("8 calls")
    assert found["running"]["state"] == "note"


def test_damage_is_a_failed_check(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    fill(path)
    data = bytearray(path.read_bytes())
    for start in range(8 * 4096, len(data), 4096):
        data[start : start + 64] = b"\xa5" * 64
    path.write_bytes(data)
    result = run("doctor")
    assert result.exit_code == 1
    assert "fail" in {row["state"] for row in findings(result).values()}


def test_reading_commands_bring_in_what_the_dead_left(run: Command, tmp_path: Path) -> None:
    die(tmp_path)
    result = run("calls")
    calls = json.loads(result.stdout)
    assert [call["status"] for call in calls] == ["lost", "ok", "ok", "ok"]
    assert "hub: brought in" in result.stderr
    again = run("calls")
    assert again.stderr == ""
    found = findings(run("doctor"))
    assert found["lost calls"]["state"] == "warn"
    assert found["spools"]["finding"].startswith("nothing waits")


def test_a_running_process_is_shown_with_its_counts_and_left_alone(run: Command, tmp_path: Path) -> None:
    with hub.Hub(load({"otel": "off"}, os.environ, tmp_path)) as one:
        with one.call(provider="acme", model="m", messages="hi") as call:
            call.response("ho")
        assert one.flush(10) == 0
        found = findings(run("doctor"))
        spools = [row for check, row in found.items() if check.startswith("spool ")]
        assert len(spools) == 1
        assert spools[0]["finding"].startswith("running, emitted ")
        assert "0 waiting + none dropped" in spools[0]["finding"]
        assert "1 running" in found["sqlite"]["finding"]


@pytest.mark.parametrize("ending", ["", "os._exit(7)", "os.kill(os.getpid(), 9)"])
def test_calls_that_sampling_left_out_are_told_however_their_program_ended(
    run: Command, tmp_path: Path, ending: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SAMPLES + ending)
    for _ in range(2):
        subprocess.run([sys.executable, str(program)], timeout=30)
    found = findings(run("doctor"))
    assert found["sampling"]["finding"].startswith("6 calls")
    assert found["spools"]["finding"].startswith("nothing waits")
    assert run("doctor").stderr == ""


def test_calls_that_sampling_leaves_out_are_told_while_their_program_runs_and_when_it_has_ended(
    run: Command, tmp_path: Path
) -> None:
    with hub.Hub(load({"otel": "off", "sample_rate": 0.0}, os.environ, tmp_path)) as one:
        with one.call(provider="acme", model="m", messages="hi") as call:
            call.response("ho")
        assert one.flush(10) == 0
        found = findings(run("doctor"))
        [spool] = [row for check, row in found.items() if check.startswith("spool ")]
        assert "1 calls left out by sampling" in spool["finding"]
        assert "sampling" not in found
        one.shutdown(timeout=20.0)  # however busy the machine is
    assert not list(one.settings.spool_root.iterdir())
    assert findings(run("doctor"))["sampling"]["finding"].startswith("1 call ")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "spool"
    folder.mkdir()
    yield folder
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_spools_that_cannot_be_seen_are_said(run: Command, tmp_path: Path, read_only: Path) -> None:
    fill(tmp_path / "calls.db")
    load({}, os.environ, tmp_path).spool_root.mkdir()
    read_only.chmod(0)
    result = run("calls")
    assert result.exit_code == 0
    assert "cannot be seen" in result.stderr


def test_the_otel_state_is_told_without_credentials(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector:4318?key=secret")
    text = findings(run("doctor"))["otel"]["finding"]
    assert "collector:4318" in text
    assert "secret" not in text
