"""`hub diff`: what two calls answered and took, side by side, and when the exit code says they differ."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli.main import app
from hub.reader import Reader
from hub.replays.comparing import compare
from hub.runtime import Hub
from hub.session import session
from hub.store import Erasure
from storage.sqlite import SQLiteStore
from tests.hub_kit import ask, running, store_path

Diff = Callable[..., Result]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in os.environ:
        if name.startswith(("HUB_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HUB_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def diff(hub: Hub, tmp_path: Path) -> Diff:
    def run(*args: str) -> Result:
        assert hub.flush() == 0
        return CliRunner().invoke(app, ["diff", *args, "--db", str(store_path(tmp_path))])

    return run


def told(hub: Hub, answer: Any, *, model: str = "m-1", **facts: Any) -> None:
    """A call that was answered so."""
    with hub.call(provider="acme", model=model, messages=ask("Why?")) as call:
        call.response(answer, usage={"input_tokens": 10, "output_tokens": len(str(answer))}, **facts)


def asking(arguments: str, call_id: str = "c1") -> dict[str, Any]:
    function = {"name": "find", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def test_equal_answers_exit_with_0_whatever_they_took(hub: Hub, diff: Diff) -> None:
    told(hub, "The same.", cost_usd="0.5")
    told(hub, "The same.", cost_usd="0.25", model="m-2")
    result = diff("@-2", "@last")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["same_answer"]) == (0, True)
    assert found["text"] == {"same": True, "a": "The same.", "b": "The same."}
    assert found["cost_nanos"] == {"same": False, "a": 500_000_000, "b": 250_000_000, "change": -250_000_000}
    assert found["input_tokens"]["change"] == 0
    assert found["duration_ms"]["change"] is not None
    assert found["ttft_ms"] == {"same": True, "a": None, "b": None, "change": None}
    assert (found["model"]["a"], found["model"]["b"]) == ("m-1", "m-2")


def test_another_text_exits_with_1(hub: Hub, diff: Diff) -> None:
    told(hub, "Yes.\nBecause.")
    told(hub, "No.\nBecause.")
    result = diff("@-2", "@last", "--json")
    assert (result.exit_code, json.loads(result.stdout)["same_answer"]) == (1, False)


def test_tool_calls_are_compared_by_what_they_ask_not_by_their_ids(hub: Hub, diff: Diff) -> None:
    told(hub, asking('{"a": 1, "b": 2}'))
    told(hub, asking('{"b":2,"a":1}', "c2"))
    told(hub, asking('{"a": 2}'))
    assert diff("@-3", "@-2").exit_code == 0
    result = diff("@-2", "@last")
    assert (result.exit_code, json.loads(result.stdout)["tool_calls"]["b"]) == (
        1,
        [{"name": "find", "arguments": {"a": 2}}],
    )


def test_an_error_is_another_answer_than_a_text(hub: Hub, diff: Diff) -> None:
    told(hub, "Fine.")
    with pytest.raises(ValueError, match="x"), hub.call(provider="acme", model="m-1", messages=ask("Why?")):
        raise ValueError("x")
    result = diff("@-2", "@last")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == {"same": False, "a": "ok", "b": "error: ValueError"}
    assert diff("@last", "@last").exit_code == 0


def test_answers_that_were_not_kept_are_not_called_equal(tmp_path: Path, hub: Hub, diff: Diff) -> None:
    told(hub, "Kept.")
    assert hub.flush() == 0
    with running(tmp_path, capture="summary") as other:
        told(other, "Kept.")
        assert other.flush() == 0
    result = diff("@-2", "@last")
    assert (result.exit_code, json.loads(result.stdout)["same_answer"]) == (1, None)
    assert "was not kept" in result.stderr
    assert "HUB_CAPTURE=full" in result.stderr


def test_answers_that_were_erased_or_are_not_there_yet_are_not_called_equal(
    tmp_path: Path, hub: Hub, diff: Diff
) -> None:
    with session("erased-1"):
        told(hub, "One.")
        told(hub, "Two.")
    assert hub.flush() == 0
    store = SQLiteStore(store_path(tmp_path))
    store.erase(Erasure(project="shop", before_ns=2**62, session_id="erased-1"))
    store.close()
    assert json.loads(diff("@-2", "@last").stdout)["same_answer"] is None
    with hub.call(provider="acme", model="m-1", messages=ask("Why?")):
        result = diff("@last", "@last")
        assert (result.exit_code, json.loads(result.stdout)["same_answer"]) == (1, None)


def test_answers_that_are_no_text_are_not_called_equal(hub: Hub, diff: Diff) -> None:
    for data in ("QUJD", "REVG"):
        source = {"type": "base64", "media_type": "image/png", "data": data}
        told(hub, {"role": "assistant", "content": [{"type": "image", "source": source}]})
    assert json.loads(diff("@-2", "@last").stdout)["same_answer"] is None
    for _ in range(2):
        with hub.call(provider="acme", model="m-1", operation="embeddings", messages=["Why?"]) as call:
            call.response(None, usage={"input_tokens": 1})
    assert json.loads(diff("@-2", "@last").stdout)["same_answer"] is None


def test_empty_answers_are_equal(hub: Hub, diff: Diff) -> None:
    told(hub, "")
    told(hub, "")
    assert diff("@-2", "@last").exit_code == 0


def test_a_table_shows_changes_and_the_lines_that_differ(
    hub: Hub, diff: Diff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(hub, "Yes.\nBecause \x1b[31mof that.", cost_usd="0.5")
    told(hub, "No.\nBecause \x1b[31mof that.", cost_usd="0.75")
    monkeypatch.setattr("hub.cli.diff.chosen_format", lambda json: "json" if json else "table")
    result = diff("@-2", "@last")
    assert result.exit_code == 1
    assert "-Yes." in result.stdout
    assert "+No." in result.stdout
    assert "+50%" in result.stdout
    assert "\x1b[31m" not in result.stdout
    assert "text: the same" in diff("@last", "@last").stdout


def test_calls_that_are_not_there_exit_with_3(hub: Hub, diff: Diff) -> None:
    told(hub, "One.")
    assert (diff("@last", "@-2").exit_code, diff("0000", "@last").exit_code) == (3, 3)
    assert diff("not-an-id", "@last").exit_code == 3


def test_no_store_exits_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_SPOOL_DIR", str(tmp_path / "spool"))
    result = CliRunner().invoke(app, ["diff", "@-2", "@last", "--db", str(tmp_path / "none.db")])
    assert result.exit_code == 3
    assert "no store yet" in result.stderr


def test_a_comparison_knows_the_same_answer_in_python(hub: Hub) -> None:
    told(hub, "One.")
    told(hub, "One.")
    assert hub.flush() == 0
    with Reader(hub.settings) as reader:
        assert compare(reader.call("@-2"), reader.call("@last")).same_answer is True
