"""The log of simonw/llm becomes calls.

The package itself writes it: `turns` as it does now, and the tables of older versions, which its migrations still make;
into them go rows as those versions wrote them (checked against a log of 0.27).
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.events import EventRecord
from hub.reader import Reader, StoredCall
from hub.transfer.files import opened
from hub.transfer.importing import import_events
from storage.sqlite import SQLiteStore
from tests.transfer_kit import Outcome, bring_in, environment, events_in, seen_in, settings_of, silent

if importlib.util.find_spec("llm") is None:
    pytest.skip("the package llm is not installed: the group dev brings it", allow_module_level=True)

SECRET = "sk-proj-" + "aB3dE5gH7jK9mN1pQ3sT5vW7" * 2

LOGGED = """
import sys
import llm, sqlite_utils

class Fake(llm.Model):
    model_id = "gpt-4o-mini"
    can_stream = supports_tools = supports_schema = True
    attachment_types = {"image/png"}

    class Options(llm.Options):
        temperature: float | None = None
        shout: bool | None = None

    def execute(self, prompt, stream, response, conversation):
        response.response_json = {"id": "resp-1", "finish_reason": "stop", "content": "Hello, " * 30}
        response.set_usage(input=1200, output=340, details={"prompt_tokens_details": {"cached_tokens": 200}})
        if prompt.tools and not prompt.tool_results:
            response.add_tool_call(llm.ToolCall(name="weather", arguments={"city": "Utrecht"}, tool_call_id="call_9"))
            yield ""
            return
        response.set_resolved_model("gpt-4o-mini-2024-07-18")
        yield "Hello, "
        yield "world."

def weather(city: str) -> str:
    "The weather of a city"
    return f"rain in {city}"

model, db = Fake(), sqlite_utils.Database(sys.argv[1])

def log(response):
    response.text()
    response.log_to_db(db)

log(model.prompt("Say hello", system="Be brief", temperature=0.5, shout=True))
chat = model.conversation()
log(chat.prompt("One " + sys.argv[2]))
log(chat.prompt("Two", fragments=["A fragment that is long enough to be stored once, and apart."]))
log(model.prompt("Look", attachments=[llm.Attachment(type="image/png", content=b"PNG" * 100)]))
log(model.conversation().chain("Weather?", tools=[weather]))
log(model.prompt("As JSON", schema={"type": "object", "properties": {"a": {"type": "string"}}}))
"""

OLDER = """
import sys
import sqlite_utils
from llm.migrations import migrate

db = sqlite_utils.Database(sys.argv[1])
migrate(db)
db["conversations"].insert({"id": "conv-1", "name": "Weather?", "model": "gpt-4o-mini"})
usage = {"input_tokens": 12, "output_tokens": 5, "token_details": '{"cache_read_input_tokens": 100}'}
common = {"model": "gpt-4o-mini", "options_json": '{"temperature": 0.5}', "conversation_id": "conv-1"}
common["duration_ms"] = 250
db["responses"].insert_all(
    [
        {**common, **usage, "id": "01jw2r7n8q3v5x7z9b1d3f5h7k", "prompt": "Weather?", "system": "Be brief",
         "response": "", "datetime_utc": "2025-05-24T10:00:00.123456+00:00", "resolved_model": None,
         "response_json": '{"id": "resp-1", "finish_reason": "tool_calls"}', "prompt_json": '{"messages": []}'},
        {**common, "id": "01jw2r7n8q3v5x7z9b1d3f5h7m", "prompt": "", "system": None, "response": "It rains.",
         "datetime_utc": "2025-05-24T10:00:01", "resolved_model": "gpt-4o-mini-2024-07-18", "reasoning": "Wet."},
        {**common, "id": "01jw2r7n8q3v5x7z9b1d3f5h7n", "prompt": "Look", "system": None, "response": "A picture.",
         "datetime_utc": "2025-05-24T10:00:02+00:00", "conversation_id": None, "duration_ms": None},
        {**common, "id": "01jw2r7n8q3v5x7z9b1d3f5h7p", "prompt": "No time", "system": None, "response": "None.",
         "datetime_utc": "yesterday", "conversation_id": None},
    ],
    alter=True,
)
first, second, third = "01jw2r7n8q3v5x7z9b1d3f5h7k", "01jw2r7n8q3v5x7z9b1d3f5h7m", "01jw2r7n8q3v5x7z9b1d3f5h7n"
tool = {"id": 1, "hash": "h", "name": "weather", "description": "Tells.", "input_schema": '{"type": "object"}'}
db["tools"].insert(tool)
db["tool_responses"].insert_all([{"tool_id": 1, "response_id": first}, {"tool_id": 1, "response_id": second}])
used = {"tool_id": 1, "name": "weather", "tool_call_id": "call_9"}
db["tool_calls"].insert({**used, "response_id": first, "arguments": '{"city": "Utrecht"}'})
db["tool_results"].insert({**used, "response_id": second, "output": "rain"})
db["fragments"].insert_all(
    [{"id": 1, "hash": "a", "content": "Fragment."}, {"id": 2, "hash": "b", "content": " Rule. "}]
)
db["prompt_fragments"].insert({"response_id": third, "fragment_id": 1, "order": 0})
db["system_fragments"].insert({"response_id": third, "fragment_id": 2, "order": 0})
picture = {"id": "f00", "type": "image/png", "path": None, "url": "https://x.test/a.png", "content": None}
db["attachments"].insert(picture)
db["prompt_attachments"].insert({"response_id": third, "attachment_id": "f00", "order": 0})
"""


def _make(program: str, folder: Path, *more: str) -> Path:
    path = folder / "logs.db"
    surroundings = {**environment(folder), "LLM_USER_PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, "-c", program, str(path), *more], env=surroundings, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(LOGGED, tmp_path_factory.mktemp("llm"), SECRET)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(OLDER, tmp_path_factory.mktemp("llm"))


def calls_in(db: Path) -> list[StoredCall]:
    """Oldest first."""
    with closing(Reader(settings_of(db))) as reader:
        return reader.calls()[::-1]


def said(call: StoredCall) -> list[tuple[Any, ...]]:
    return [(row["direction"], row["role"], row["type"], row["content"]) for row in call.messages]


def requests(db: Path) -> list[EventRecord]:
    return [record for record in events_in(db) if record["type"] == "llm:request"]


def test_each_turn_is_a_call_with_what_is_known_of_it(logs: Path, tmp_path: Path) -> None:
    outcome = bring_in(logs, tmp_path / "calls.db", longest=1 << 24)
    assert (outcome.complaints, outcome.done.calls, outcome.done.new) == ([], 7, 28)
    first, *_ = calls = calls_in(tmp_path / "calls.db")
    assert [call["source"] for call in calls] == ["import"] * 7
    with closing(sqlite3.connect(logs)) as database:
        turns = database.execute("SELECT thread_id, duration_ms, datetime_utc FROM turns ORDER BY id").fetchall()
    assert [call["session_id"] for call in calls] == [thread for thread, _, _ in turns]
    assert [call["duration_ms"] for call in calls] == [took for _, took, _ in turns]
    assert [call["started_at"][:26] for call in calls] == [str(began)[:26] for _, _, began in turns]
    row = dict(first)
    expected = {
        "request_model": "gpt-4o-mini",
        "response_model": "gpt-4o-mini-2024-07-18",
        "status": "ok",
        "service": "llm",
        "provider": None,
        "input_tokens": 1200,
        "output_tokens": 340,
        "cache_read_tokens": 200,
        "response_id": "resp-1",
        "finish_reason": "stop",
        "params": '{"temperature":0.5}',
        "request_summary": "Say hello",
        "response_summary": "Hello, world.",
        "capture": "full",
    }
    assert {key: row[key] for key in expected} == expected
    assert row["cost_nanos"] > 0
    assert said(first) == [
        ("input", "system", "text", "Be brief"),
        ("input", "user", "text", "Say hello"),
        ("output", "assistant", "text", "Hello, world."),
    ]
    assert requests(tmp_path / "calls.db")[0]["data"]["unkept"] == ["shout"]


def test_conversations_fragments_attachments_tools_and_schemas_come_along(logs: Path, tmp_path: Path) -> None:
    bring_in(logs, tmp_path / "calls.db")
    _, one, two, look, weather, answered, schema = calls_in(tmp_path / "calls.db")
    assert one["session_id"] == two["session_id"]
    assert said(two)[:2] == [*said(one)[:1], ("input", "assistant", "text", "Hello, world.")]
    fragment = "A fragment that is long enough to be stored once, and apart."
    assert said(two)[2] == ("input", "user", "text", f"{fragment}\nTwo")
    (picture,) = look.content[1]["content"]["messages"][0]["content"][1:]  # type: ignore[index]
    assert (picture["type"], picture["mime_type"], picture["bytes"]) == ("image", "image/png", 300)
    assert "image" in [row["type"] for row in look.messages]
    (called,) = weather.tool_calls
    assert (called["name"], called["arguments"], called["result"]) == (
        "weather",
        '{"city":"Utrecht"}',
        "rain in Utrecht",
    )
    assert called["result_call_id"] == answered.id
    assert weather["tool_count"] == 1
    assert schema.content[1]["content"]["raw"]["schema"]["type"] == "object"  # type: ignore[index]
    assert schema.content[3]["content"]["raw"]["response_json"]["id"] == "resp-1"  # type: ignore[index]


def test_secrets_in_another_programs_log_are_blacked_out(logs: Path, tmp_path: Path) -> None:
    bring_in(logs, tmp_path / "calls.db")
    assert SECRET.encode() in logs.read_bytes()
    assert SECRET.encode() not in b"".join(each.read_bytes() for each in tmp_path.glob("calls.db*"))
    assert "[REDACTED" in said(calls_in(tmp_path / "calls.db")[1])[0][3]


def test_what_older_versions_logged_is_read_from_their_tables(older: Path, tmp_path: Path) -> None:
    outcome = bring_in(older, tmp_path / "calls.db")
    assert (outcome.complaints, outcome.done.calls) == ([], 4)
    calls = calls_in(tmp_path / "calls.db")
    (untimed,) = [call for call in calls if call["request_summary"] == "No time"]
    first, second, third = [call for call in calls if call is not untimed]
    assert (first["started_at"], first["duration_ms"], first["session_id"]) == (
        "2025-05-24T10:00:00.123456Z",
        250.0,
        "conv-1",
    )
    assert (first["input_tokens"], first["cache_read_tokens"]) == (112, 100), "counts are inclusive"
    assert said(first) == [
        ("input", "system", "text", "Be brief"),
        ("input", "user", "text", "Weather?"),
        ("output", "assistant", "tool_call", '{"city": "Utrecht"}'),
    ]
    assert first.content[1]["content"]["raw"]["prompt_json"] == {"messages": []}  # type: ignore[index]
    assert first.tool_calls[0]["result"] == "rain"
    assert said(second) == [
        ("input", "tool", "tool_result", "rain"),
        ("output", "assistant", "thinking", "Wet."),
        ("output", "assistant", "text", "It rains."),
    ]
    assert second["started_at"] == "2025-05-24T10:00:01.000000Z", "a time without a zone is UTC"
    assert second.content[0]["data"]["unkept"] == ["earlier messages"]
    assert said(third)[:3] == [
        ("input", "system", "text", "Rule."),
        ("input", "user", "text", "Fragment.\nLook"),
        ("input", "user", "image", None),
    ]
    assert (third["duration_ms"], third["session_id"]) == (None, None)
    assert untimed["started_at"].startswith("2025-05-"), "the id says when it was made"


def test_an_upgraded_log_has_both_and_again_changes_nothing(older: Path, tmp_path: Path) -> None:
    both = tmp_path / "logs.db"
    both.write_bytes(older.read_bytes())
    _make(LOGGED, tmp_path, SECRET)
    assert bring_in(both, tmp_path / "calls.db").done.calls == 11
    before = seen_in(tmp_path / "calls.db")
    again = bring_in(both, tmp_path / "calls.db").done
    assert (again.new, again.duplicates, again.conflicts) == (0, 44, 0)
    assert seen_in(tmp_path / "calls.db") == before
    assert both.read_bytes().startswith(b"SQLite")


def test_calls_that_were_logged_since_come_in_alone(older: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs.db"
    log.write_bytes(older.read_bytes())
    bring_in(log, tmp_path / "calls.db")
    _make(LOGGED, tmp_path, SECRET)
    done = bring_in(log, tmp_path / "calls.db").done
    assert (done.new, done.duplicates) == (28, 16)


def test_the_logs_own_projects_and_capture_are_the_settings(logs: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "calls.db", project="chats", capture="none")
    with opened(logs, settings) as source, closing(SQLiteStore(tmp_path / "calls.db")) as store:
        import_events(source, store, longest=1 << 24, complain=lambda place, why: None, advance=silent)
    events = events_in(tmp_path / "calls.db")
    assert {record["project"] for record in events} == {"chats"}
    assert [record["type"] for record in events[:2]] == ["llm:request", "llm:response"]
    assert all(record["content"] is None for record in events)


def spoilt(log: Path, tmp_path: Path, *statements: str) -> Outcome:
    copy = tmp_path / "spoilt.db"
    copy.write_bytes(log.read_bytes())
    with closing(sqlite3.connect(copy)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return bring_in(copy, tmp_path / "calls.db")


def test_rows_that_are_broken_cost_no_others(older: Path, logs: Path, tmp_path: Path) -> None:
    outcome = spoilt(
        older,
        tmp_path,
        "UPDATE responses SET datetime_utc = x'ff', id = 'odd' WHERE id LIKE '%7k'",
        "UPDATE responses SET response = 42, options_json = '[', token_details = '7', input_tokens = 'many',"
        " duration_ms = -5, datetime_utc = '0001-01-01' WHERE id LIKE '%7m'",
        "UPDATE responses SET prompt = x'ff00fe', response_json = '{cut' WHERE id LIKE '%7n'",
        "DROP TABLE attachments",
    )
    assert [place for place, _ in outcome.complaints] == ["response odd"]
    assert outcome.done.calls == 3
    (tmp_path / "calls.db").unlink()
    outcome = spoilt(
        logs,
        tmp_path,
        "UPDATE parts SET payload = '{cut' WHERE type = 'tool_call'",
        "UPDATE parts SET text = x'ff00' WHERE text = 'As JSON'",
        "UPDATE turns SET parent_message_hash = 'nowhere' WHERE id = (SELECT min(id) FROM turns)",
        "UPDATE turns SET options_json = '[[[['",
    )
    assert len(outcome.complaints) == 1
    assert "message nowhere is not there" in outcome.complaints[0][1]
    assert outcome.done.calls == 6


def test_messages_in_a_circle_are_told_of(logs: Path, tmp_path: Path) -> None:
    outcome = spoilt(logs, tmp_path, "UPDATE messages SET parent_hash = hash")
    assert len(outcome.complaints) == 7
    assert all("circle" in why for _, why in outcome.complaints)


def test_a_damaged_log_gives_what_can_be_read(older: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs.db"
    log.write_bytes(older.read_bytes())
    _make(LOGGED, tmp_path, SECRET)
    with closing(sqlite3.connect(log)) as database:
        page = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'turns'").fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    raw = bytearray(log.read_bytes())
    raw[(page - 1) * size : page * size] = b"\x07" * size
    log.write_bytes(raw)
    outcome = bring_in(log, tmp_path / "calls.db")
    assert (outcome.done.calls, outcome.done.broken) == (4, 1)
    assert outcome.complaints[0][0] == "table turns"
