"""Long conversations: stretches of messages that requests share are kept once, and nobody sees it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from hub.events import EventRecord
from hub.store import Erasure
from storage.sequences import MANY
from storage.sql_store import SqlStore
from tests.factories import START, Factory


def agent(factory: Factory, turns: int, window: int | None = None, **envelope: Any) -> list[EventRecord]:
    """The calls of an agent that sends its history, or the newest *window* messages of it."""
    history: list[dict[str, str]] = [{"role": "system", "content": factory.text(40)}]
    events: list[EventRecord] = []
    for _ in range(turns):
        history.append({"role": "user", "content": factory.text(40)})
        answer = {"role": "assistant", "content": factory.text(40)}
        events += factory.call(history[-window:] if window else list(history), dict(answer), **envelope)
        history.append(answer)
    return events


def rows(store: SqlStore, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with store._apart() as connection:
        return [tuple(row) for row in connection.execute(sql, values).fetchall()]


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("batch", [4, 1_000])
def test_what_was_sent_is_read_as_it_was_sent(sql_store: SqlStore, window: int | None, batch: int) -> None:
    events = agent(Factory(), 30, window)
    for start in range(0, len(events), batch):
        sql_store.append(events[start : start + batch])
    assert list(sql_store.read_all().events) == events
    assert sql_store.append(events).new == 0
    for request in (one for one in events if one["type"] == "llm:request:debug"):
        sent = [message["content"] for message in (request["content"] or {})["messages"]]
        found = rows(
            sql_store,
            "SELECT content, position FROM llm_messages WHERE call_id = ? AND direction = 'input' ORDER BY position",
            request["call_id"],
        )
        assert found == list(zip(sent, range(len(sent)), strict=True))


def test_references_name_each_message_of_a_long_list(sql_store: SqlStore) -> None:
    events = agent(Factory(), 20)
    sql_store.append(events)
    last = [one for one in events if one["type"] == "llm:request:debug"][-1]
    refs = sql_store.references(UUID(last["stream_id"]), 2)
    found = sql_store.content(refs)
    assert [found[ref] for ref in refs] == (last["content"] or {})["messages"]


def test_the_room_a_request_takes_does_not_grow_with_its_history(sql_store: SqlStore) -> None:
    sql_store.append(agent(Factory(), 150))
    sizes = rows(
        sql_store,
        "SELECT length(content) FROM hub_events WHERE type = 'llm:request:debug' ORDER BY position DESC LIMIT 50",
    )
    flat = len("[1000,300],") * 250
    assert max(size for (size,) in sizes) < flat / 4
    shared = rows(sql_store, "SELECT coalesce(sum(length(items)), 0) FROM hub_sequences")[0][0]
    assert shared < 300 * 20, "each message stands in about one stretch"


def test_short_lists_are_kept_as_they_are(sql_store: SqlStore) -> None:
    sql_store.append(agent(Factory(), (MANY - 2) // 2))
    assert rows(sql_store, "SELECT count(*) FROM hub_sequences") == [(0,)]


def test_erasing_a_call_takes_what_only_it_said_out_of_the_middle_of_shared_history(sql_store: SqlStore) -> None:
    factory = Factory()
    kept = agent(factory, 20, user_id="u2")
    last = [one for one in kept if one["type"] == "llm:request:debug"][-1]
    history = (last["content"] or {})["messages"]
    own = [{"role": "user", "content": f"a secret {number}"} for number in range(20)]
    gone = factory.call([*history[:20], *own], "an answer of its own", user_id="u1")
    sql_store.append(kept + gone)
    report = sql_store.erase(Erasure(project="shop", before_ns=START * 2, user_id="u1"))
    assert (report.calls, report.contents) == (1, 21)
    assert list(sql_store.read_all().events)[: len(kept)] == kept
    assert rows(sql_store, "SELECT count(*) FROM llm_messages WHERE content LIKE 'a secret%'") == [(0,)]
    again = factory.call([*history[:20], *own], user_id="u3")
    sql_store.append(again)
    assert list(sql_store.read_stream(UUID(again[0]["stream_id"]))) == again


def test_a_rebuild_changes_nothing(sql_store: SqlStore) -> None:
    sql_store.append(agent(Factory(), 30))
    before = rows(sql_store, "SELECT * FROM llm_messages ORDER BY call_id, direction, position")
    sql_store.rebuild()
    assert rows(sql_store, "SELECT * FROM llm_messages ORDER BY call_id, direction, position") == before
