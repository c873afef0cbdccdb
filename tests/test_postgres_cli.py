"""The commands on a store in PostgreSQL, run as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from typer.testing import CliRunner

from hub.cli.main import app
from storage import open_store
from storage.migrate import REVISION
from tests.cli_kit import HUB, Command, commands, settle
from tests.factories import Factory
from tests.filled_store import fill
from tests.postgres_kit import connected
from tests.postgres_server import Server
from tests.postgres_shared import migrated_database, server_url


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    settle(tmp_path, monkeypatch)
    return commands()


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, list[str]]]:
    with migrated_database(server_url()) as url:
        yield url, fill(url)


def password(url: str) -> str:
    return str(urlsplit(url).password)


def test_every_reading_command_answers(hub: Command, store: tuple[str, list[str]]) -> None:
    url, ids = store
    rows = json.loads(hub("calls", "--db", url).stdout)
    assert [row["call_id"] for row in rows] == ids[::-1]
    assert rows[0]["started_at"].endswith("Z")
    assert rows[-1]["tags"] == {"feature": "search"}
    shown = json.loads(hub("show", ids[2][:13], "--db", url, "--json").stdout)
    assert [part["content"] for part in shown["messages"] if part["type"] == "text"][-1] == "It rains."
    raw = json.loads(hub("show", ids[0], "--db", url, "--raw").stdout)
    assert raw[1]["content"] == {"messages": [{"role": "user", "content": "Tell me a joke"}]}
    counted = hub("sql", "SELECT count(*) AS n FROM llm_calls WHERE provider = ?", "acme", "--db", url)
    assert json.loads(counted.stdout) == [{"n": 1}]
    assert {row["view"] for row in json.loads(hub("sql", "--schema", "--db", url).stdout)} >= {
        "llm_calls",
        "llm_events",
    }
    tail = hub("tail", "--once", "-n", "3", "--db", url)
    assert [json.loads(line)["call_id"] for line in tail.stdout.splitlines()] == ids[4:7]
    assert hub("diff", ids[0], ids[1], "--db", url).exit_code == 1
    assert json.loads(hub("rebuild", "--db", url).stdout)["events"] == 32


def test_doctor_looks_at_the_database(hub: Command, store: tuple[str, list[str]]) -> None:
    result = hub("doctor", "--db", store[0])
    found = {row["check"]: row for row in json.loads(result.stdout)}
    assert (result.exit_code, found["schema"]["state"], found["dropped"]["state"]) == (0, "ok", "ok")
    assert found["size"]["finding"].startswith("8 calls, ")
    assert found["running"]["finding"] == "1 call without an answer yet"
    assert "sqlite" not in found
    assert password(store[0]) not in result.stdout


def test_migrate_sets_a_database_up_and_says_so(hub: Command, postgres_url: str) -> None:
    refused = hub("calls", "--db", postgres_url)
    assert (refused.exit_code, "run hub migrate" in refused.stderr) == (4, True)
    made = json.loads(hub("migrate", "--db", postgres_url).stdout)
    assert (made["before"], made["after"]) == (None, REVISION)
    assert json.loads(hub("migrate", "--db", postgres_url).stdout)["before"] == REVISION
    empty = hub("calls", "--db", postgres_url)
    assert (empty.exit_code, "No calls yet" in empty.stderr) == (0, True)
    for result in (refused, empty):
        assert password(postgres_url) not in result.output


def test_migrate_makes_a_login_that_reads(hub: Command, own_migrated_url: str) -> None:
    fill(own_migrated_url)
    name = urlsplit(own_migrated_url).path[1:] + "_reader"
    made = json.loads(hub("migrate", "--read-role", name, "--db", own_migrated_url).stdout)["read_role"]
    assert (made["name"], made["left"]) == (name, [])
    assert len(json.loads(hub("calls", "--db", made["url"]).stdout)) == 8
    assert hub("sql", "SELECT 1 FROM hub_keys", "--db", made["url"]).exit_code == 2
    raw = hub("show", "--raw", "--db", made["url"])
    assert (raw.exit_code, "the views only" in raw.stderr) == (4, True)
    again = json.loads(hub("migrate", "--read-role", name, "--db", own_migrated_url).stdout)["read_role"]
    assert again["url"] is None


def test_a_reading_login_is_for_a_server(hub: Command) -> None:
    assert hub("migrate", "--read-role", "x", "--db", "calls.db").exit_code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wr0ng-secret"}, "correct user and password"),
        ({"port": "1"}, "start PostgreSQL"),
        ({"hostname": "nowhere.invalid"}, "correct the host"),
        ({"path": "/nothing_there"}, "create it, then run hub migrate"),
    ],
)
def test_what_keeps_a_server_from_being_read_is_told(
    hub: Command, own_migrated_url: str, change: dict[str, str], words: str
) -> None:
    parts = urlsplit(own_migrated_url)
    now = {
        "password": password(own_migrated_url),
        "hostname": parts.hostname,
        "port": parts.port,
        "path": parts.path,
    }
    now |= change
    url = f"postgres://{parts.username}:{now['password']}@{now['hostname']}:{now['port']}{now['path']}"
    for command in (["calls"], ["sql", "SELECT 1"], ["migrate"], ["tail", "--once"]):
        result = hub(*command, "--db", url)
        assert (result.exit_code, words in result.stderr) == (4, True), result.stderr
        assert str(now["password"]) not in result.output
        assert str(parts.hostname if "hostname" not in change else "nowhere.invalid") in result.stderr


def test_without_psycopg_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\nfrom hub.cli.main import main\n"
        "sys.argv = ['hub', 'calls', '--db', 'postgresql://u:secret@host/db']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "pip install 'llm-hub[postgres]'" in done.stderr
    assert "secret" not in done.stderr


def test_tail_is_told_of_calls_as_they_end(tmp_path: Path, own_migrated_url: str) -> None:
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    args = [HUB, "tail", "-n", "0", "--interval", "0.1", "--db", own_migrated_url]
    with subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with connected(own_migrated_url) as connection:
                _until(lambda: _looks(connection.raw) == "LISTEN hub_events")
                store, factory = open_store(own_migrated_url), Factory()
                for _ in range(3):
                    call = factory.call()
                    began = time.monotonic()
                    store.append(call)
                    assert json.loads(process.stdout.readline())["call_id"] == call[0]["call_id"]
                    assert time.monotonic() - began < 2, "not told, found"
                    time.sleep(0.2)
                store.close()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, rest) == (130, ("", ""))


def _looks(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    found = connection.execute(
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    ).fetchone()
    return found and found[0]


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tail_goes_on_when_the_server_comes_back(tmp_path: Path, own_postgres: Server) -> None:
    url = own_postgres.url()
    with connected(url) as connection:
        connection.execute("SELECT 1")
    assert CliRunner().invoke(app, ["migrate", "--db", url]).exit_code == 0
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    args = [HUB, "tail", "-n", "0", "--interval", "0.1", "--db", url]
    with subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with connected(url) as connection:
                _until(lambda: _looks(connection.raw) == "LISTEN hub_events")
            own_postgres.stop("immediate")
            own_postgres.start()
            store, call = open_store(url), Factory().call()
            store.append(call)
            assert json.loads(process.stdout.readline())["call_id"] == call[0]["call_id"]
            store.close()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, rest[1]) == (130, "")
