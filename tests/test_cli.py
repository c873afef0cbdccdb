"""The commands, run as a user runs them: output by format, exit codes, words for every failure."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.cli.main import COMMANDS, app
from storage.sqlite import SQLiteStore
from tests.cli_kit import HUB, Command, commands, on_a_terminal, settle
from tests.factories import Factory
from tests.filled_store import fill

ROOT = Path(__file__).parent.parent


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of its own for the commands, here and in processes: no settings, an empty data folder."""
    return settle(tmp_path, monkeypatch)


@pytest.fixture
def hub(env: dict[str, str]) -> Command:
    """Runs a command in this process."""
    return commands()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    path = tmp_path_factory.mktemp("filled") / "calls.db"
    return path, fill(path)


@pytest.fixture
def db(filled: tuple[Path, list[str]]) -> str:
    return str(filled[0])


@pytest.fixture
def ids(filled: tuple[Path, list[str]]) -> list[str]:
    return filled[1]


# Formats.


def test_calls_are_json_when_piped_newest_first_with_all_columns(hub: Command, db: str, ids: list[str]) -> None:
    result = hub("calls", "--db", db)
    rows = json.loads(result.stdout)
    assert (result.exit_code, [row["call_id"] for row in rows]) == (0, ids[::-1])
    first = rows[-1]
    assert (first["provider"], first["request_model"]) == ("openai", "gpt-4o-mini")
    assert (first["params"], first["tags"], first["session_id"]) == (
        {"temperature": 0.2},
        {"feature": "search"},
        "chat-1",
    )
    assert first["cost_nanos"] > 0
    assert rows[2]["cost_usd"] is None


def test_calls_as_lines_and_as_csv(hub: Command, db: str, ids: list[str]) -> None:
    lines = [json.loads(line) for line in hub("ls", "--db", db, "--jsonl", "-n", "3").stdout.splitlines()]
    assert [line["call_id"] for line in lines] == ids[:-4:-1]
    rows = list(csv.DictReader(io.StringIO(hub("calls", "--db", db, "--csv").stdout)))
    assert [row["call_id"] for row in rows] == ids[::-1]


def test_calls_are_filtered(hub: Command, db: str, ids: list[str]) -> None:
    failed = json.loads(hub("calls", "--db", db, "--where", "status = 'error' -- only those").stdout)
    assert [row["call_id"] for row in failed] == [ids[4]]
    session = json.loads(hub("calls", "--db", db, "--session", "chat-1", "-w", "tool_count = 1 OR 1 = 1").stdout)
    assert [row["call_id"] for row in session] == ids[2::-1]


def test_calls_fit_a_hundred_columns_on_a_terminal(env: dict[str, str], db: str, ids: list[str]) -> None:
    code, text = on_a_terminal(["calls", "--db", db], {**env, "NO_COLOR": "1"})
    lines = text.splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["id", "time", "model", "first", "line", "status", "latency", "first", "tokens", "cost"]
    assert len(lines) == 1 + len(ids)
    joke = lines[-1]
    assert "Tell me" in joke
    assert "1.2k→340" in joke
    assert "$0.0" in joke
    acme = next(line for line in lines if "acme/acme-1" in line)
    assert acme.split()[-2:] == ["1.2k→340", "-"]
    assert "\x1b" not in text
    shown = lines[1].split()[0]
    assert ids[-1].startswith(shown)


def test_colour_is_for_terminals_and_not_for_no_color(env: dict[str, str], db: str) -> None:
    env = {**env, "TERM": "xterm-256color"}
    assert "\x1b[" in on_a_terminal(["calls", "--db", db], env)[1]
    assert "\x1b[" not in on_a_terminal(["calls", "--db", db], {**env, "NO_COLOR": "1"})[1]


def test_a_model_cannot_drive_the_terminal(env: dict[str, str], db: str, ids: list[str]) -> None:
    for args in (["calls"], ["show", ids[6]], ["sql", "SELECT content FROM llm_messages"], ["tail", "--once"]):
        text = on_a_terminal([*args, "--db", db], {**env, "NO_COLOR": "1"}, columns=200)[1]
        assert "the \ufffd[31mbell" in text, args
        assert "\x07" not in text
        assert "\x1b[31m" not in text


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A store in which everything that comes from outside says what a terminal would obey."""
    bad = "\x1b]0;evil\x07\x9b31m\u202e[/x]\rcr"
    call = Factory().call(
        [{"role": f"user{bad}", "content": bad}],
        {"role": bad, "tool_calls": [{"id": bad, "function": {"name": bad, "arguments": bad}}]},
        request={"provider": bad, "model": bad, "params": {bad: bad}, "tier": bad, "server_address": bad},
        response={"status": bad, "model": bad + "-1", "reported_cost_usd": "0.00003", "cost_reporter": bad}
        | {"finish_reasons": [bad], "error_type": bad, "response_id": bad},
        session_id=bad,
        user_id=bad,
        tags={bad: bad},
    )
    call[2]["content"] = {"error": bad}
    with closing(SQLiteStore(tmp_path / "hostile.db")) as store:
        store.append(call)
    return str(tmp_path / "hostile.db")


@pytest.mark.parametrize(
    "args",
    [
        *(["calls"], ["calls", "--json"], ["calls", "--jsonl"], ["calls", "--csv"], ["show"], ["show", "--json"]),
        *(["show", "--raw"], ["tail", "--once"], ["tail", "--once", "--csv"], ["doctor"]),
        *(["sql", "SELECT * FROM llm_calls"], ["sql", 'SELECT tags AS "\x1b[2J" FROM llm_calls', "--csv"]),
        *(["sql", "SELECT request_model FROM llm_calls"], ["sql", "SELECT * FROM llm_messages", "--json"]),
        ["sql", "SELECT CAST(CAST(request_model AS BLOB) || x'ff' AS TEXT) FROM llm_calls"],
    ],
    ids=" ".join,
)
def test_nothing_that_is_stored_drives_the_terminal(env: dict[str, str], hostile: str, args: list[str]) -> None:
    code, text = on_a_terminal([*args, "--db", hostile], {**env, "NO_COLOR": "1"}, columns=160)
    assert "should not have happened" not in text
    assert code in (0, 2)
    assert "evil" in text or args[0] == "doctor"
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text) == []


def test_piped_it_is_as_it_was_stored(hub: Command, hostile: str) -> None:
    (call,) = json.loads(hub("calls", "--db", hostile).stdout)
    (row,) = csv.DictReader(io.StringIO(hub("calls", "--db", hostile, "--csv").stdout, newline=""))
    assert call["request_model"] == row["request_model"] == "\x1b]0;evil\x07\x9b31m\u202e[/x]\rcr"


@pytest.mark.parametrize("args", [["calls"], ["calls", "--csv"], ["show"], ["tail", "--once"], ["doctor"]])
def test_a_terminal_that_knows_few_characters_is_no_error(env: dict[str, str], tmp_path: Path, args: list[str]) -> None:
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        store.append(Factory().call([{"role": "user", "content": "漢字 → é"}]))
    command = [HUB, *args, "--db", str(tmp_path / "calls.db")]
    env = {**env, "PYTHONIOENCODING": "ascii"}
    piped = subprocess.run(command, env=env, capture_output=True, check=False)
    assert (piped.returncode, piped.stderr) == (0, b"")
    if args[-1] in ("calls", "show"):
        json.loads(piped.stdout.decode("ascii"))
    code, text = on_a_terminal(command[1:], env)
    assert (code, text.isascii()) == (0, True)
    assert "should not have happened" not in text


# One call.


@pytest.mark.parametrize(("wanted", "index"), [("@last", -1), ("@-1", -1), ("@-2", -2)])
def test_calls_are_named_from_the_newest(hub: Command, db: str, ids: list[str], wanted: str, index: int) -> None:
    assert json.loads(hub("show", wanted, "--db", db).stdout)["call_id"] == ids[index]


def test_show_gives_the_whole_call_as_json(hub: Command, db: str, ids: list[str]) -> None:
    call = json.loads(hub("show", ids[1], "--db", db, "--json").stdout)
    assert [message["role"] for message in call["messages"]] == ["system", "user", "assistant"]
    assert call["tool_calls"][0]["name"] == "weather"
    assert call["tool_calls"][0]["result"] == "rain"
    assert call["events"][0]["type"] == "llm:request"
    assert call["events"][0]["data"]["tool_count"] == 1


def test_show_raw_has_the_content_as_it_was_stored(hub: Command, db: str, ids: list[str]) -> None:
    records = json.loads(hub("show", ids[0], "--db", db, "--raw").stdout)
    assert records[1]["content"]["messages"] == [{"role": "user", "content": "Tell me a joke"}]


def test_show_is_readable_on_a_terminal(env: dict[str, str], db: str, ids: list[str]) -> None:
    env = {**env, "NO_COLOR": "1"}
    text = on_a_terminal(["show", ids[2], "--db", db], env)[1]
    for words in (
        "gpt-4o-mini",
        "Be brief.",
        "Weather in Utrecht?",
        "weather",
        "Utrecht",
        "rain",
        "It rains.",
        "llm:response",
    ):
        assert words in text
    failed = on_a_terminal(["show", ids[4], "--db", db], env)[1]
    for words in ("error", "RuntimeError (500): the model is on fire", "Attempts", "429", "cost unknown"):
        assert words in failed
    long = on_a_terminal(["show", ids[5], "--db", db], env)[1]
    assert "5,000 more characters; --full shows them" in long
    assert "more characters" not in on_a_terminal(["show", ids[5], "--db", db, "--full"], env)[1]


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        ("ffff", 3, "hub calls lists"),
        ("@-99", 3, "the store has 8 calls"),
        ("@-0", 3, "@last or @-1"),
        ("nonsense!", 3, "beginning of a UUID"),
        ("019b", 2, "names several calls"),
    ],
)
def test_a_wrong_id_says_what_to_do(hub: Command, db: str, wanted: str, code: int, words: str) -> None:
    result = hub("show", wanted, "--db", db)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr


# SQL.


def test_sql_answers_in_each_format(hub: Command, db: str) -> None:
    query = "SELECT provider, count(*) AS calls FROM llm_calls GROUP BY 1 ORDER BY 1"
    assert json.loads(hub("sql", query, "--db", db).stdout) == [
        {"provider": "acme", "calls": 1},
        {"provider": "openai", "calls": 7},
    ]
    assert hub("sql", query, "--db", db, "--csv").stdout == "provider,calls\nacme,1\nopenai,7\n"
    assert json.loads(hub("sql", query, "--db", db, "--jsonl").stdout.splitlines()[1])["calls"] == 7


def test_sql_takes_values_and_stdin_and_shows_the_schema(hub: Command, db: str) -> None:
    bound = hub("sql", "SELECT ? AS a, ? AS a", "x' --", "2", "--db", db)
    assert json.loads(bound.stdout) == [{"a": "x' --", "a_2": 2}]
    piped = CliRunner().invoke(app, ["sql", "-", "--db", db], input="SELECT 1 AS one")
    assert json.loads(piped.stdout) == [{"one": 1}]
    listed = json.loads(hub("sql", "--schema", "--db", db).stdout)
    (cost,) = [row for row in listed if (row["view"], row["column"]) == ("llm_calls", "cost_nanos")]
    assert (cost["type"], cost["unit"]) == ("integer", "nano-dollars")


def test_sql_says_when_it_left_rows_out(hub: Command, db: str) -> None:
    result = hub("sql", "SELECT call_id FROM llm_calls", "-n", "2", "--db", db)
    assert len(json.loads(result.stdout)) == 2
    assert "only the first 2 rows" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["sql", "DELETE FROM llm_calls"], 2, "not a read"),
        (["sql", "SELECT * FROM hub_keys"], 2, "no such table: hub_keys"),
        (["sql", "SELECT nope FROM llm_calls"], 2, "hub sql --schema"),
        (
            [
                "sql",
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n",
                "--timeout",
                "0.2",
            ],
            4,
            "longer",
        ),
        (["calls", "--where", "nope = 1"], 2, "no such column"),
        (["calls", "--json", "--csv"], 2, "choose one"),
        (["calls", "--limit", "0"], 2, "--limit"),
        (["sql"], 2, "--schema"),
        (["nonsense"], 2, "nonsense"),
        (["calls", "--nonsense"], 2, "--nonsense"),
    ],
)
def test_bad_usage_says_what_to_do(env: dict[str, str], db: str, args: list[str], code: int, words: str) -> None:
    more = ["--db", db] if args[0] in COMMANDS else []
    done = subprocess.run([HUB, *args, *more], env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# Stores that are not there, or not ours.


def test_an_empty_store_says_which_file_it_is_and_how_it_was_chosen(hub: Command, tmp_path: Path) -> None:
    default = hub("calls")
    assert (default.exit_code, default.stdout) == (0, "[]\n")
    assert str(tmp_path / "data" / "llm-hub" / "calls.db") in default.stderr
    assert "HUB_DB_URL" in default.stderr
    assert "hub demo" in default.stderr
    assert "--db" in hub("calls", "--db", "other.db").stderr
    assert hub("show", "@last").exit_code == 3
    assert hub("sql", "SELECT 1").exit_code == 4
    assert hub("rebuild").exit_code == 4
    assert hub("doctor").exit_code == 0
    assert hub("tail", "--once").exit_code == 0
    assert not list(tmp_path.rglob("*.db"))


def test_a_database_that_is_not_ours_is_refused_and_untouched(hub: Command, tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.db", tmp_path / "text.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    text.write_text("not a database, but long enough to be read as one" * 30)
    for path in (foreign, text):
        before = path.read_bytes()
        for args in (["calls"], ["show"], ["sql", "SELECT 1"], ["migrate"], ["rebuild"], ["tail", "--once"]):
            result = hub(*args, "--db", str(path))
            assert result.exit_code == 4, (args, result.output)
            assert str(path) in result.stderr
        assert hub("doctor", "--db", str(path)).exit_code == 1
        assert path.read_bytes() == before


def test_a_bad_setting_is_a_usage_error(hub: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub("calls", "--db", "mysql://u:secret@h/x").exit_code == 2
    monkeypatch.setenv("HUB_CAPTURE", "loads")
    result = hub("calls")
    assert result.exit_code == 2
    assert "environment HUB_CAPTURE" in result.stderr
    assert "secret" not in result.output


# Following.


def test_tail_shows_the_last_and_stops_when_told(hub: Command, db: str, ids: list[str]) -> None:
    result = hub("tail", "--once", "-n", "3", "--db", db)
    assert [json.loads(line)["call_id"] for line in result.stdout.splitlines()] == ids[4:7]
    assert len(hub("tail", "--limit", "2", "-n", "5", "--db", db).stdout.splitlines()) == 2
    assert hub("tail", "--once", "-n", "0", "--db", db).stdout == ""
    assert hub("tail", "--once", "-n", "2", "--csv", "--db", db).stdout.count("call_id,") == 1


def test_tail_follows_until_it_is_interrupted(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    args = [HUB, "tail", "--interval", "0.05", "--db", str(path)]
    with subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert "No calls yet" in process.stderr.readline()
            made = fill(path)
            lines = [json.loads(process.stdout.readline()) for _ in range(7)]
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)
        finally:
            process.kill()
    assert [line["call_id"] for line in lines] == made[:7]
    assert process.returncode == 130
    assert "Traceback" not in rest[1]


def test_a_reader_that_has_enough_is_no_error(env: dict[str, str], db: str) -> None:
    line = f"'{HUB}' sql \"{ENDLESS}\" --jsonl -n 100000 --db '{db}' | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[1] == "0"
    assert done.stderr == ""


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 90000) SELECT i FROM n"


# Keeping a store up.


def test_migrate_makes_a_store_and_is_safe_to_run_again(hub: Command, tmp_path: Path) -> None:
    made = json.loads(hub("migrate", "--db", "new.db").stdout)
    assert (made["before"], made["backup"]) == (None, None)
    again = json.loads(hub("migrate", "--db", "new.db").stdout)
    assert again["before"] == again["after"] == made["after"]
    assert (tmp_path / "new.db").exists()


def test_rebuild_gives_the_same_answers(hub: Command, tmp_path: Path) -> None:
    path = str(tmp_path / "calls.db")
    fill(Path(path))
    before = hub("calls", "--db", path).stdout
    assert json.loads(hub("rebuild", "--db", path).stdout)["events"] > 20
    assert hub("calls", "--db", path).stdout == before


def test_a_newer_store_is_refused(hub: Command, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE hub_schema SET version_num = '9999'")
        connection.commit()
    for args in (["migrate"], ["rebuild"]):
        result = hub(*args, "--db", str(path))
        assert result.exit_code == 4
        assert "upgrade llm-hub" in result.stderr
    assert hub("doctor", "--db", str(path)).exit_code == 1


# Settings.


def test_config_show_tells_values_and_origins(hub: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub.toml").write_text('retain_bodies = "30d"\n')
    monkeypatch.setenv("HUB_PROJECT", "shop")
    rows = {row["setting"]: row for row in json.loads(hub("config", "show", "--db", "x.db").stdout)}
    assert rows["db_url"]["value"] == f"sqlite:///{tmp_path / 'x.db'}"
    assert rows["db_url"]["origin"] == "argument"
    assert (rows["project"]["value"], rows["project"]["origin"]) == ("shop", "environment HUB_PROJECT")
    assert (rows["retain_bodies"]["value"], rows["retain_bodies"]["origin"]) == ("30d", str(tmp_path / "hub.toml"))
    assert rows["capture"]["origin"] == "default"


# Help.


def test_every_command_has_help_and_is_documented(hub: Command) -> None:
    documented = (ROOT / "docs" / "commands.md").read_text()
    names = [*COMMANDS, "config show", "export jsonl", "export parquet", "export dashboards"]
    for name in names:
        result = hub(*name.split(), "--help")
        assert result.exit_code == 0
        text = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
        assert "--db" in text
        assert f"\n## hub {name}\n" in documented
    options = set(re.findall(r"--[a-z][a-z-]+", " ".join(hub(*name.split(), "--help").stdout for name in names)))
    missing = {option for option in options - {"--help"} if option not in documented}
    assert not missing


def test_help_needs_no_database_library() -> None:
    heavy = ("sqlalchemy", "rich.table", "httpx", "openai", "storage.sqlite")
    code = f"import sys, hub.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]"
