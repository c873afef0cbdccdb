"""The read side as programs use it: hub.open()."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hub
from hub import events
from hub.config import load
from hub.errors import AmbiguousId, NotFound, QueryRefused, StoreUnavailable
from hub.reader import Reader
from storage.sqlite import SQLiteStore
from tests.factories import Factory
from tests.filled_store import fill


@pytest.fixture
def reader(filled_store: tuple[str, list[str]]) -> Iterator[Reader]:
    with Reader(load({"db_url": filled_store[0]}, {}, Path.cwd())) as reader:
        yield reader


@pytest.fixture
def ids(filled_store: tuple[str, list[str]]) -> list[str]:
    return filled_store[1]


def test_calls_are_mappings_newest_first(reader: Reader, ids: list[str]) -> None:
    calls = reader.calls(limit=3)
    assert [call.id for call in calls] == ids[:-4:-1]
    assert dict(calls[0])["status"] == "running"
    assert list(calls[0]) == reader.schema()["llm_calls"]


def test_calls_are_filtered_by_sql_or_by_equality(reader: Reader, ids: list[str]) -> None:
    assert [call.id for call in reader.calls("status = ?", params=("error",))] == [ids[4]]
    assert [call.id for call in reader.calls({"provider": "acme", "session_id": None})] == [ids[5]]
    assert len(reader.calls({})) == len(ids)


@pytest.mark.parametrize(
    "where", ["status = 'x') UNION SELECT * FROM hub_calls --", "1; DELETE FROM hub_calls", "nope = 1"]
)
def test_a_where_that_is_no_condition_is_refused(reader: Reader, where: str) -> None:
    with pytest.raises(QueryRefused):
        reader.calls(where)


def test_an_unknown_column_is_refused_with_the_nearest_name(reader: Reader) -> None:
    with pytest.raises(QueryRefused, match="did you mean provider"):
        reader.calls({"provder": "acme"})


def test_a_call_has_its_messages_tools_attempts_and_events(reader: Reader, ids: list[str]) -> None:
    call = reader.call(ids[2])
    assert call.request_text == "Be brief.\n\nWeather in Utrecht?"
    assert call.response_text == "It rains."
    assert [part["type"] for part in call.messages] == ["text", "text", "tool_call", "tool_result", "text"]
    assert [event["type"] for event in call.events][::2] == ["llm:request", "llm:response"]
    tool = reader.call(ids[1]).tool_calls[0]
    assert (tool["name"], tool["result"], tool["result_call_id"]) == ("weather", "rain", ids[2])
    attempts = reader.call(ids[4]).attempts
    assert [(attempt["status_code"], attempt["error_type"]) for attempt in attempts] == [
        (429, "rate_limit"),
        (500, "RuntimeError"),
    ]


def test_content_is_given_back_as_it_was_stored(reader: Reader, ids: list[str]) -> None:
    request = reader.call(ids[0]).content[1]
    assert request["content"] == {"messages": [{"role": "user", "content": "Tell me a joke"}]}


def test_a_call_is_found_by_prefix_and_from_the_newest(reader: Reader, ids: list[str]) -> None:
    short = reader.shortest_ids(ids)
    assert all(reader.resolve(short[call_id]) == call_id for call_id in ids)
    assert len(set(short.values())) == len(ids)
    assert reader.resolve(ids[3].replace("-", "").upper()) == ids[3]
    assert (reader.resolve("@last"), reader.resolve("@-2")) == (ids[-1], ids[-2])


def test_a_prefix_of_several_calls_is_ambiguous(reader: Reader) -> None:
    with pytest.raises(AmbiguousId, match="give more characters") as caught:
        reader.call("019b7000")
    assert len(caught.value.matches) > 1


@pytest.mark.parametrize("wanted", ["ffff", "", "%", "x' OR 1=1", "@-100", "@first"])
def test_what_is_not_there_is_not_found(reader: Reader, wanted: str) -> None:
    with pytest.raises(NotFound):
        reader.call(wanted)


def test_short_ids_stay_unique_in_the_whole_store(reader: Reader, ids: list[str]) -> None:
    (short,) = reader.shortest_ids([ids[3]]).values()
    assert sum(call_id.startswith(short) for call_id in ids) == 1
    assert reader.shortest_ids([]) == {}


def test_any_number_of_ids_can_be_cut_short(tmp_path: Path) -> None:
    factory = Factory()
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        for _ in range(3):
            store.append([record for _ in range(400) for record in factory.call()[::2]])
    with Reader(load({"db_url": str(tmp_path / "calls.db")}, {}, tmp_path)) as reader:
        ids = [call.id for call in reader.calls(limit=1_200)]
        assert len(set(reader.shortest_ids(ids).values())) == 1_200


def test_events_come_in_the_order_of_the_log_from_any_place(reader: Reader) -> None:
    every = [event.envelope.id for event in reader.events()]
    assert len(every) == 32
    assert [event.envelope.id for event in reader.events(after=30)] == every[30:]
    responses = list(reader.events(types=["llm:response"]))
    assert len(responses) == 7
    assert isinstance(responses[0], hub.LLMResponse)


def test_events_are_read_in_their_newest_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_upcasters", {})
    events.upcaster("acme:price", from_version=1)(lambda data: {"cents": data["euros"] * 100})
    factory = Factory()
    call = factory.call()
    price = factory.event("acme:price", stream=call[0]["stream_id"], version=5, data={"euros": 2})
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        store.append([*call, price])
    with Reader(load({"db_url": str(tmp_path / "calls.db")}, {}, tmp_path)) as reader:
        for record in (*list(reader.records())[4:], reader.call("@last").content[4]):
            assert (record["data"], record["schema_version"]) == ({"cents": 200}, 2)
        (stored,) = reader.sql("SELECT data, schema_version FROM llm_events WHERE type = 'acme:price'").rows
    assert stored == ('{"euros":2}', 1), "stored bytes never change"


def test_sql_binds_values(reader: Reader) -> None:
    result = reader.sql("SELECT count(*) AS n FROM llm_calls WHERE provider = :p", {"p": "acme"})
    assert (result.columns, result.rows) == (("n",), ((1,),))


def test_opening_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no such file"):
        hub.open(str(tmp_path / "none.db"))
    assert not list(tmp_path.iterdir())


def test_open_reads_what_a_hub_wrote(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    fill(path)
    with hub.open(f"sqlite:///{path}") as store:
        assert len(store.calls()) == 8
    assert sum(1 for _ in hub.read_events(str(path), types=["llm:request"])) == 8


def test_open_without_address_reads_what_the_default_hub_writes(tmp_path: Path) -> None:
    code = f"""
import hub
hub.init(db_url={str(tmp_path / "own.db")!r}, spool_dir={str(tmp_path / "spool")!r})
with hub.call(provider="acme", model="acme-1"):
    pass
hub.flush()
print(hub.open().call("@last")["provider"], len(list(hub.read_events(types=["llm:request"]))))
hub.shutdown()
print(hub.open().call("@last")["request_model"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["acme", "1", "acme-1"]
