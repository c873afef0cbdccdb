"""hub reprice and what hub doctor says of prices, as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from hub.cli.instants import instant
from hub.cli.reprice import _print
from hub.config import load
from hub.runtime import Hub
from storage import open_store
from storage.repricing import ModelCosts
from tests.cli_kit import Command, commands, settle
from tests.factories import START, Factory

ACME = {"provider": "acme", "model": 'acme-1 "new"'}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    settle(tmp_path, monkeypatch, HUB_DB_URL=tmp_path / "calls.db", HUB_SPOOL_DIR=tmp_path / "spool", COLUMNS=140)
    return commands()


def write(tmp_path: Path, *calls: list[Any]) -> None:
    with closing(open_store(f"sqlite:///{tmp_path / 'calls.db'}", prices=load({}, {}, tmp_path).price_list)) as store:
        for call in calls:
            store.append(call)


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(result.stdout)}


@pytest.mark.parametrize("file", ["hub.toml", "pyproject.toml"])
def test_the_lines_that_doctor_says_to_add_give_the_calls_a_cost(run: Command, tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.write_text(
        "[prices.other]\ninput = 1\noutput = 1\n" if file == "hub.toml" else "[tool.hub]\nproject = 'shop'\n"
    )
    factory = Factory()
    write(tmp_path, factory.call(request=ACME, response={"model": None}))
    unpriced = findings(run("doctor", "--quick"))["prices"]
    assert unpriced["state"] == "warn"
    assert 'acme/acme-1 "new" (1 call)' in unpriced["finding"]
    said, *lines = unpriced["remedy"].splitlines()
    assert str(path) in said
    path.write_text(path.read_text() + "\n".join(lines).replace("0.0", "2.0") + "\n")
    found = findings(run("doctor", "--quick"))
    assert "prices" not in found
    assert "hub reprice" in found["reprice"]["remedy"]
    result = run("reprice")
    [row] = json.loads(result.stdout)
    assert (result.exit_code, row["cost_after_nanos"], row["unpriced_before"], row["unpriced_after"]) == (
        0,
        750 * 2000,
        1,
        0,
    )
    assert str(path) in result.stderr
    assert findings(run("doctor", "--quick"))["prices"]["state"] == "ok"


def test_a_running_hub_goes_by_the_settings(run: Command, tmp_path: Path) -> None:
    prices = {"acme/m": {"input": 2, "output": 4}}
    with Hub(load({"otel": "off", "prices": prices}, os.environ, tmp_path)) as hub:
        with hub.call(provider="acme", model="m", messages="hi") as call:
            call.response("ho", usage={"input_tokens": 3, "output_tokens": 1})
        assert hub.flush(20) == 0
    [told] = json.loads(run("calls").stdout)
    assert (told["cost_nanos"], told["cost_source"]) == (10_000, "hub.toml")


def test_calls_whose_answer_was_not_counted_are_no_matter_of_prices(run: Command, tmp_path: Path) -> None:
    write(tmp_path, Factory().call(response={"usage": {"input_tokens": 5}}))
    found = findings(run("doctor", "--quick"))["prices"]
    assert found["state"] == "note"
    assert "count of the answer's tokens" in found["finding"]


def test_a_dry_run_shows_the_difference_by_model_and_a_run_applies_it(run: Command, tmp_path: Path) -> None:
    factory = Factory()
    write(tmp_path, factory.calls(3), factory.call(request=ACME, response={"model": None}))
    before = json.loads(run("calls").stdout)
    (tmp_path / "hub.toml").write_text('[[discounts]]\nprovider = "openai"\npercent = 50\n')
    dry = run("reprice", "--dry-run")
    [row] = [row for row in json.loads(dry.stdout) if row["provider"] == "openai"]
    assert row["cost_after_nanos"] * 2 == row["cost_before_nanos"]
    assert row["difference_usd"] == row["cost_after_usd"] - row["cost_before_usd"]
    assert (row["model"], row["calls"]) == ("gpt-4o-mini", 3)
    assert "hub: would change 3 calls" in dry.stderr
    assert json.loads(run("calls").stdout) == before
    done = run("reprice", "--csv")
    assert "hub: changed 3 calls" in done.stderr
    assert next(csv.DictReader(io.StringIO(done.stdout)))["calls"] == "3"
    calls = json.loads(run("calls").stdout)
    assert {call["cost_source"] for call in calls} == {None, "hub.toml discount"}
    assert sum(call["cost_nanos"] or 0 for call in calls) == row["cost_after_nanos"]
    assert "nothing changes" in run("reprice").stderr
    back = run("reprice", "--as-of", "1s")
    assert "as the store knew them" in back.stderr


def test_options_narrow_what_is_repriced(run: Command, tmp_path: Path) -> None:
    factory = Factory()
    write(tmp_path, factory.calls(2), factory.call(request=ACME))
    assert [row["provider"] for row in json.loads(run("reprice", "--model", "acme/" + ACME["model"]).stdout)] == [
        "acme"
    ]
    assert json.loads(run("reprice", "--since", "2200-01-01", "--dry-run").stdout) == []
    assert len(json.loads(run("reprice", "--since", "2020-01-01T00:00+02:00", "--dry-run").stdout)) == 2


def test_what_cannot_be_done_is_said(run: Command, tmp_path: Path) -> None:
    nothing = run("reprice")
    assert (nothing.exit_code, "there is no store yet" in nothing.stderr) == (4, True)
    write(tmp_path, Factory().call())
    wrong = run("reprice", "--since", "yesterday")
    assert wrong.exit_code == 2
    assert "2026-01-31" in wrong.output
    (tmp_path / "hub.toml").write_text("[prices.m]\ninput = -1\noutput = 1\n")
    refused = run("reprice")
    assert refused.exit_code == 2
    assert f'prices."m".input ({tmp_path / "hub.toml"})' in refused.stderr


def test_settings_show_whose_prices_there_are(run: Command, tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(
        '[prices.default]\ninput = 1\noutput = 1\n[[discounts]]\nprovider = "openai"\npercent = 12.5\n'
    )
    rows = {row["setting"]: row for row in json.loads(run("config", "show").stdout)}
    assert rows["prices"]["value"] == ["default"]
    assert rows["discounts"]["value"] == ["openai: 12.5%"]
    assert rows["prices"]["origin"] == str(tmp_path / "hub.toml")


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    _print([ModelCosts("acme", "m\x1b[31m", 1_200, None, 2 * 10**9, 3, 0), ModelCosts("x", "y", 1, 10**9, 5 * 10**8)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["acme/m\ufffd[31m", "1,200", "-", "$2.00", "+$2.00", "3", "0"],
        ["x/y", "1", "$1.00", "$0.5000", "-$0.5000", "0", "0"],
    ]


def test_times_are_days_moments_or_how_long_ago() -> None:
    assert instant("2026-09-21", "--since") == 1_789_948_800 * 10**9
    assert instant("2026-09-21T02:00:01.5+02:00", "--since") == 1_789_948_801 * 10**9 + 5 * 10**8
    assert instant("1.5h", "--since", lambda: START) == START - 5400 * 10**9
