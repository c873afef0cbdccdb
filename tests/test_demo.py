"""`hub demo` does the main job: real calls, kept whole, and shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import hub
from hub.dashboards.sql import ENGINES, Engine
from tests import pictures
from tests.dashboards_kit import Range, database, panels
from tests.otlp_receiver import OtlpReceiver

HUB = Path(sys.executable).parent / "hub"


def run(where: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in *where*, with everything it may write below."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
    own = {"XDG_DATA_HOME": str(where / "data"), "HUB_SPOOL_DIR": str(where / "spool"), "NO_COLOR": "1"}
    return subprocess.run(
        [HUB, *words],
        cwd=where,
        env={**clean, **own, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of one run."""
    where = tmp_path_factory.mktemp("demo")
    done = run(where, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return where, done.stdout


def test_the_demo_shows_calls_costs_and_one_call_and_says_where_they_are(day: tuple[Path, str]) -> None:
    where, printed = day
    assert "the server counted the same" in printed
    for command in ("$ hub calls -n 12 --db hub-demo.db", "$ hub sql --db hub-demo.db", "$ hub show "):
        assert command in printed
    assert str(where / "hub-demo.db") in printed
    assert "p95_ms" in printed
    assert "find_order" in printed


def test_the_demo_keeps_about_two_hundred_calls_of_every_kind(day: tuple[Path, str]) -> None:
    with hub.open(str(day[0] / "hub-demo.db")) as store:
        calls = store.calls(limit=1000)
        carts = store.sql("select items, value_cents from llm_event_shop_cart_abandoned").rows
    assert len(calls) >= 200
    status = Counter(call["status"] for call in calls)
    assert set(status) == {"ok", "error", "cancelled", "abandoned"}
    assert status["ok"] == len(calls) - 5
    assert {call["operation"] for call in calls} == {"chat", "embeddings"}
    assert len({call["session_id"] for call in calls}) > 20
    assert max(call["attempts"] for call in calls) == 3
    assert {call["error_type"] for call in calls if call["status"] == "error"} >= {"incomplete_stream"}
    assert len(carts) == 5


def test_what_has_a_known_price_is_priced_and_the_rest_is_unknown(day: tuple[Path, str]) -> None:
    with hub.open(str(day[0] / "hub-demo.db")) as store:
        calls = store.calls("input_tokens is not null", limit=1000)
    unpriced = {call["request_model"] for call in calls if call["cost_nanos"] is None}
    assert unpriced == {"kettle-7b"}
    assert len(calls) > 190


def test_providers_of_all_contracts_are_among_the_demos_calls(day: tuple[Path, str]) -> None:
    with hub.open(str(day[0] / "hub-demo.db")) as store:
        rows = store.sql(
            "select provider, request_model, tier, count(*), count(response_model), max(attempts), max(stream) "
            "from llm_calls where session_id in ('menu', 'opening-hours') and source = 'traced' group by 1, 2, 3"
        ).rows
    assert set(map(tuple, rows)) == {
        ("Labels", "kettle-7b", None, 6, 0, 1, 0),
        ("kettle-recipes", "kettle-7b", None, 6, 0, 1, 0),
        ("openai", "gpt-4o-mini", "hosted_small", 6, 6, 1, 0),
        ("openai", "gpt-4o", "hosted_large", 6, 6, 1, 0),
        ("openai", "gpt-4o-mini", None, 6, 6, 2, 1),
    }


def test_the_demo_ends_with_a_replay_of_the_same_bytes_and_its_diff(day: tuple[Path, str]) -> None:
    where, printed = day
    assert "one call was replayed, exact" in printed
    with hub.open(str(where / "hub-demo.db")) as store:
        (again,) = store.calls("source = 'replay'")
        assert again["replay_of"] in {call.id for call in store.calls("session_id = 'opening-hours'")}
        assert again["trace_id"] != store.call(again["replay_of"])["trace_id"]
    (told,) = [line.removeprefix("$ ") for line in printed.splitlines() if line.startswith("$ hub diff ")]
    assert run(where, *told.split()[1:]).returncode == 0
    assert "text: the same" in printed


QUIET = {"Events dropped", "Drops"}
"""Panels without a row where nothing was lost."""


@pytest.mark.parametrize("engine", ENGINES)
def test_every_panel_of_the_dashboards_shows_the_day(
    day: tuple[Path, str], engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where, store = day[0], str(day[0] / "hub-demo.db")
    if engine == "postgresql":
        moved, store = tmp_path / "day.jsonl", request.getfixturevalue("migrated_postgres_url")
        for words in (("export", "jsonl", str(moved), "--db", "hub-demo.db"), ("import", str(moved), "--db", store)):
            done = run(where, *words)
            assert done.returncode == 0, done.stderr
    now = int(time.time())
    today = Range(since=now - 86_400, until=now)
    with database(engine, store) as asked:
        empty = {panel["title"] for _, panel in panels(engine) if not asked.answer(panel, today).rows}
    assert empty == QUIET


def test_what_the_demo_tells_to_type_next_works(day: tuple[Path, str]) -> None:
    where, printed = day
    told = [line.strip() for line in printed.splitlines() if line.startswith("  hub ")]
    assert len(told) == 4
    environment = {
        **os.environ,
        "PATH": f"{HUB.parent}{os.pathsep}{os.environ['PATH']}",
        "HUB_SPOOL_DIR": str(where / "spool"),
    }
    for command in told:
        done = subprocess.run(
            ["bash", "-c", command], cwd=where, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, command + done.stderr
        assert done.stdout.strip(), command


def test_the_demo_leaves_nothing_but_its_store(day: tuple[Path, str]) -> None:
    where, _ = day
    assert not list((where / "spool").rglob("*.seg"))
    assert not (where / "data").exists()


def test_run_again_it_adds_a_day_and_its_traces_arrive(day: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copy(day[0] / "hub-demo.db", tmp_path / "own.db")
    receiver = OtlpReceiver()
    try:
        again = run(tmp_path, "demo", HUB_DB_URL=f"sqlite:///{tmp_path}/own.db", **receiver.environ)
        assert again.returncode == 0, again.stderr
        assert f"traces are at {receiver.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}" in again.stdout
        with hub.open(str(tmp_path / "own.db")) as store:
            (calls,) = store.sql("select count(*) from llm_calls where counted = 1").rows[0]
        spans = {span.attributes.get("hub.call.id") for span in receiver.spans} - {None}
        assert len(spans) == calls / 2
    finally:
        receiver.close()
    assert not (tmp_path / "hub-demo.db").exists()


def test_traces_that_nobody_takes_are_no_failure_and_are_told(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0
    assert "the traces did not reach http://127.0.0.1:9" in done.stderr
    assert "the server counted the same" in done.stdout


def test_without_the_openai_sdk_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("raise ImportError('no SDK here', name='openai')")
    done = run(tmp_path, "demo", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'llm-hub[demo]'" in done.stderr
    assert not (tmp_path / "hub-demo.db").exists()


def test_a_store_that_is_not_the_hubs_is_refused_untouched(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database at all" * 100)
    done = run(tmp_path, "demo", "--db", str(other))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert other.read_bytes() == b"this is no database at all" * 100


def test_the_picture_in_the_readme_is_what_hub_calls_prints_today(day: tuple[Path, str]) -> None:
    with hub.open(str(day[0] / "hub-demo.db")) as store:
        drawn = pictures.calls(store)
    kept = (pictures.DOCS / "calls.svg").read_text()
    assert pictures.shape(kept) == pictures.shape(drawn), "hub calls looks otherwise by now: make pictures"
