"""`hub search` as people use it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest

from hub.reader import open_reader
from storage.sqlite import SQLiteStore
from storage.sqlite_file import write_lock
from tests.cli_kit import Command, commands, on_a_terminal, settle
from tests.factories import SECOND, START, Factory
from tests.filled_store import HOSTILE, fill


@pytest.fixture
def db(tmp_path: Path) -> str:
    fill(tmp_path / "calls.db")
    return str(tmp_path / "calls.db")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process."""
    settle(tmp_path, monkeypatch)
    return commands("search")


def test_it_is_off_and_says_how_to_turn_it_on(hub: Command, db: str) -> None:
    result = hub("joke", "--db", db)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "hub search --enable" in result.stderr


def test_turned_on_it_finds_calls_in_every_format(hub: Command, db: str) -> None:
    made = json.loads(hub("--enable", "--db", db).stdout)
    assert (made["store"], made["search"]) == (db, "on")
    assert made["index_bytes"] > 100
    (row,) = json.loads(hub("tell", "JOKE", "--db", db).stdout)
    assert row["snippet"] == "Tell me a joke"
    assert (row["role"], row["type"], row["session_id"], row["status"]) == ("user", "text", "chat-1", "ok")
    assert row["started_at"].endswith("Z")
    assert json.loads(hub("joke", "--db", db, "--jsonl").stdout) == row
    (listed,) = csv.DictReader(io.StringIO(hub("joke", "--db", db, "--csv").stdout))
    assert listed == {name: "" if value is None else value for name, value in row.items()}
    assert json.loads(hub("--disable", "--db", db).stdout) == {"store": db, "search": "off", "index_bytes": 0}
    assert hub("joke", "--db", db).exit_code == 2


def test_what_came_since_is_indexed_before_it_answers(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    with closing(SQLiteStore(Path(db))) as store:
        store.append(Factory("later").call([{"role": "user", "content": "A teapot, please"}]))
    result = hub("teapot", "--db", db)
    assert len(json.loads(result.stdout)) == 1
    assert result.stderr == ""


def test_filters_and_the_number_of_calls(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    with closing(SQLiteStore(Path(db))) as store:
        factory = Factory("later")
        for model in ("one", "two", "two"):
            store.append(factory.call([{"role": "user", "content": f"A teapot for {model}"}], request={"model": model}))

    def count(*args: str) -> int:
        return len(json.loads(hub("teapot", "--db", db, *args).stdout))

    assert count() == 2
    assert count("--all") == 3
    assert count("-n", "1") == 1
    assert count("--model", "one") == 1
    assert count("--role", "assistant") == 0
    assert count("--since", "2026-09-21") == 2
    assert count("--since", "2099-01-01") == 0
    assert count("--since", "9999-12-31") == 0
    assert count("--since", "999999w") == 2


def test_nothing_found_says_so(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    result = hub("nothinglikeit", "--db", db)
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert db in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "give words to search for"),
        (["joke", "--enable"], "give words to search for"),
        (["--enable", "--disable"], "give words to search for"),
        (["!?"], "there is no word"),
        (["joke", "--since", "never"], "--since takes"),
        (["joke", "--csv", "--json"], "choose one"),
        (["joke", "-n", "0"], "greater than or equal to 1"),
    ],
)
def test_bad_usage_says_what_to_do(hub: Command, db: str, args: list[str], words: str) -> None:
    result = hub(*args, "--db", db)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in re.sub(r"\s+", " ", result.stderr.replace("│", ""))


def test_without_a_store_nothing_is_found_and_nothing_made(hub: Command, tmp_path: Path) -> None:
    result = hub("joke")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert "No calls yet" in result.stderr
    for switch in ("--enable", "--disable"):
        assert hub(switch).exit_code == 4
        assert "there is no store yet" in hub(switch).stderr
    assert not list(tmp_path.rglob("*.db"))


def test_another_program_s_database_is_refused_untouched(hub: Command, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to be read as one" * 30)
    before = text.read_bytes()
    for args in (["joke"], ["--enable"], ["--disable"]):
        assert hub(*args, "--db", str(text)).exit_code == 4
    assert text.read_bytes() == before


def test_where_the_index_cannot_be_written_what_is_in_it_is_found(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    with closing(SQLiteStore(Path(db))) as store:
        store.append(Factory("later").call([{"role": "user", "content": "Another joke"}]))
    with write_lock(Path(db)):
        result = hub("joke", "--db", db)
    assert [row["snippet"] for row in json.loads(result.stdout)] == ["Tell me a joke"]
    assert "cannot be brought up to date" in result.stderr
    assert "6 messages and events are not indexed yet" in result.stderr


def test_of_common_words_it_says_that_there_may_be_more(hub: Command, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub("--enable", "--db", db)
    monkeypatch.setattr("storage.search_find.MESSAGES", 2)
    result = hub("it", "--model", "nobody", "-n", "1", "--db", db)
    assert "the words are common" in result.stderr


def test_a_table_marks_the_words_and_drives_no_terminal(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    env = {**os.environ, "HUB_SPOOL_DIR": str(Path(db).parent / "spool")}
    code, shown = on_a_terminal(["search", "ring", "--db", db], env)
    assert code == 0
    assert "\x1b[1mring" in shown
    assert HOSTILE not in shown
    assert "\x07" not in shown
    code, shown = on_a_terminal(["search", "--enable", "--db", db], env)
    assert "Search is on in" in shown.replace("\r\n", " ")


def test_a_reader_searches_what_is_indexed(hub: Command, db: str) -> None:
    hub("--enable", "--db", db)
    with open_reader(db) as reader:
        found = reader.search("joke", since_ns=START - 10**4 * SECOND * 86_400)
    assert [hit.snippet for hit in found.hits] == ["Tell me a joke"]
    assert (found.is_complete, found.waiting) == (True, 0)
