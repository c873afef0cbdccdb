"""`hub replay`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.demo.server import LoopbackServer
from tests.cli_kit import HUB, on_a_terminal
from tests.hub_kit import KEY, MODEL, ask, store_path
from tests.replay_kit import Bench, bench

Run = Callable[..., subprocess.CompletedProcess[str]]

MINE = """
import os
from hub import ReplayImpossible

def answer(messages, temperature=None):
    return f"{len(messages)} at {temperature}"

class Provider:
    name = "mine"
    async def complete(self, messages, *, model):
        return f"Mine, {model}"

def make():
    return Provider()

def broken(messages):
    raise RuntimeError("refused: key " + os.environ["OPENAI_API_KEY"])
"""

MODULES = {
    "mine": MINE,
    "senseless": "def x(:",
    "leaves": "raise SystemExit(0)",
    "fails": "import os; raise RuntimeError('no ' + os.environ['OPENAI_API_KEY'])",
}


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "work").mkdir()
    for name, text in MODULES.items():
        (tmp_path / "work" / f"{name}.py").write_text(text)
    with bench(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def run(at: Bench, tmp_path: Path) -> Run:
    def running(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        assert at.hub.flush() == 0
        return subprocess.run(
            [HUB, *args, "--db", str(store_path(tmp_path))],
            env={**clean_environment(tmp_path), **environment},
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return running


def clean_environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
    return {**kept, "XDG_DATA_HOME": str(folder / "data"), "HUB_SPOOL_DIR": str(folder / "spool"), "NO_COLOR": "1"}


def record(at: Bench, **options: Any) -> str:
    with at.client(max_retries=0) as client:
        client.chat.completions.create(**{"model": MODEL, "messages": ask("Hello"), "temperature": 0.2, **options})
    return at.last.id


def test_a_call_is_sent_again_and_compared(at: Bench, run: Run) -> None:
    call = record(at)
    ran = run("replay", call[:23], "--diff")
    told = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert (told["replay_of"], told["fidelity"], told["lost"]) == (call, "exact", {})
    assert told["diff"]["same_answer"] is True
    assert told["text"] == told["diff"]["text"]["a"]
    assert at.sent[1] == at.sent[0]
    new = at.last
    assert (new.id, new["replay_of"], new["project"]) == (told["call_id"], call, "shop")
    assert f"openai at 127.0.0.1:{at.server.port}, model {MODEL}; tools are not executed" in ran.stderr
    assert KEY not in ran.stdout + ran.stderr


def test_changes_are_named_and_other_answers_exit_with_1_when_compared(at: Bench, run: Run) -> None:
    record(at)
    plain = run(
        "replay", "@last", "--model", "gpt-4o", "--set", "temperature=0", "--set", 'stop=["END"]', "--set", "user=u"
    )
    assert plain.returncode == 0, plain.stderr
    assert json.loads(plain.stdout)["lost"] == dict.fromkeys(("model", "stop", "temperature", "user"), "changed by you")
    body = json.loads(at.sent[1])
    assert (body["model"], body["temperature"], body["stop"], body["user"]) == ("gpt-4o", 0, ["END"], "u")
    assert run("replay", "@-2", "--using", "mine:answer", "--diff").returncode == 1


@pytest.mark.parametrize(
    ("using", "text"),
    [("mine:answer", "2 at 0.2"), ("mine:Provider", f"Mine, {MODEL}"), ("mine:make", f"Mine, {MODEL}")],
)
def test_objects_of_a_module_in_the_working_folder_are_asked(at: Bench, run: Run, using: str, text: str) -> None:
    call = record(at)
    ran = run("replay", "@last", "--using", using)
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["text"], told["fidelity"], len(at.sent)) == (0, text, "lossy", 1)
    assert at.last["replay_of"] == call


def test_a_provider_of_the_registry_is_asked_by_name_and_model(
    at: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(at)
    with LoopbackServer() as other:
        ran = run(
            "replay", "@last", "--using", "local:gpt-4o", LOCAL_BASE_URL=other.base_url, LOCAL_API_KEY="k-local-1"
        )
        assert ran.returncode == 0, ran.stderr
        assert json.loads(other.exchanges()[0].body)["model"] == "gpt-4o"
        assert other.exchanges()[0].headers["authorization"] == "Bearer k-local-1"
    assert f"the original went to 127.0.0.1:{at.server.port}" in ran.stderr
    assert (at.last["provider"], len(at.sent)) == ("local", 1)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["@-9"], 3, "the store has 1 calls"),
        (["@last", "--using", "nobody"], 2, "nobody"),
        (["@last", "--using", "no.such.module:thing"], 2, "neither a provider"),
        (["@last", "--using", "mine:nothing"], 2, "neither a provider"),
        (["@last", "--using", "senseless:thing"], 2, "SyntaxError"),
        (["@last", "--using", "leaves:thing"], 2, "SystemExit"),
        (["@last", "--using", "fails:thing"], 2, "RuntimeError: no [REDACTED"),
        (["@last", "--using", "..mine:make"], 2, "neither a provider"),
        (["@last", "--set", "temperature"], 2, "NAME=VALUE"),
        (["@last", "--set", "user=\udcff"], 2, "no JSON"),
        (["@last", "--set", f"seed={'9' * 400}"], 2, "no JSON"),
        (["@last", "--set", "api_key=x"], 2, "cannot be set"),
    ],
)
def test_what_cannot_be_done_is_told_and_sends_nothing(
    at: Bench, run: Run, args: list[str], code: int, words: str
) -> None:
    record(at)
    ran = run("replay", *args)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    assert words in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr
    assert len(at.sent) == 1


def test_failures_of_the_provider_exit_with_4_are_recorded_and_tell_no_key(at: Bench, run: Run) -> None:
    call = record(at)
    for key in (KEY, "no-vendors-form"):
        ran = run("replay", call, "--using", "mine:broken", OPENAI_API_KEY=key)
        assert (ran.returncode, ran.stdout) == (4, "")
        assert "RuntimeError: refused" in ran.stderr
        assert key not in ran.stderr
    assert at.last.id in ran.stderr
    ran = run("replay", call, OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert at.last["status"] == "error"
    assert "Traceback" not in ran.stderr


def test_with_recording_switched_off_it_says_so(at: Bench, run: Run) -> None:
    record(at)
    ran = run("replay", "@last", HUB_DISABLED="1")
    assert (ran.returncode, json.loads(ran.stdout)["call_id"]) == (0, None)
    assert "not recorded" in ran.stderr
    assert len(at.sent) == 2
    assert run("replay", "@last", "--diff", HUB_DISABLED="1").returncode == 1


def test_a_terminal_gets_words(at: Bench, run: Run, tmp_path: Path) -> None:
    record(at)
    assert at.hub.flush() == 0
    db = str(store_path(tmp_path))
    code, text = on_a_terminal(["replay", "@last", "--diff", "--db", db], clean_environment(tmp_path), columns=120)
    assert code == 0
    assert "exact" in text
    assert "text: the same" in text
    code, text = on_a_terminal(["replay", "@last", "--db", db, "--model", "gpt-4o"], clean_environment(tmp_path))
    assert code == 0
    assert "model: changed by you" in text


def test_nobody_reading_the_output_is_no_failure(at: Bench, tmp_path: Path) -> None:
    record(at)
    assert at.hub.flush() == 0
    command = f"{HUB} replay @last --db {store_path(tmp_path)} | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", command],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Error" not in ran.stderr


def test_a_retried_failure_of_the_server_is_told(at: Bench, run: Run) -> None:
    record(at)
    at.server.usual = lambda number, model: _failing()
    ran = run("replay", "@last")
    assert ran.returncode == 4
    assert at.last["error_type"]


def _failing() -> Any:
    from hub.demo.switches import parse

    return parse("fail=400")


def test_python_gets_the_same_without_the_command(at: Bench, tmp_path: Path) -> None:
    call = record(at)
    assert at.hub.flush() == 0
    program = f"import hub; print(hub.replay({call!r}).fidelity)"
    env = {**clean_environment(tmp_path), "HUB_DB_URL": str(store_path(tmp_path))}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout == "exact\n", ran.stderr
