"""The public views: their columns, as the contract spells them, and what they answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.events import EventRecord
from storage.event_views import column_name, event_view_name
from storage.sqlite import SQLiteStore
from storage.views import VIEWS
from tests.factories import SECOND, START, Factory
from tests.store_rows import rows

CONTRACT = {
    "llm_calls": """call_id, project, environment, service, producer, session_id, user_id, trace_id, span_id,
        parent_span_id, provider, operation, request_model, response_model, tier, response_id, server_address, status,
        status_code, error_type, error_message, finish_reason, stream, started_at, started_unix, ended_at, ended_unix,
        duration_ms, ttft_ms, chunk_count, attempts, continuation_count, message_count, has_system, tool_count, params,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, cost_usd,
        cost_nanos, cost_source, price_version, response_cached, counted, capture, request_summary, response_summary,
        tags, source, replay_of, replay_run""",
    "llm_messages": "call_id, direction, position, role, type, name, tool_call_id, content, bytes",
    "llm_tool_calls": "call_id, position, tool_call_id, name, arguments, result, result_call_id",
    "llm_attempts": """call_id, attempt, started_at, duration_ms, provider, model, status_code, error_type, delay_ms,
        input_tokens, output_tokens, cost_nanos""",
    "llm_events": """position, event_id, stream_id, version, call_id, type, schema_version, level, occurred_at,
        occurred_ns, recorded_at, project, session_id, trace_id, span_id, causation_id, producer, producer_seq, data""",
    "llm_costs_hourly": """hour, project, service, provider, model, calls, errors, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_usd, cost_nanos, unpriced_calls""",
    "llm_latency_hourly": "hour, project, service, provider, model, metric, le, calls",
    "llm_models": """provider, model, display_name, context_window, max_output_tokens, input, output, cache_read,
        cache_write, cost_tier, capabilities, metadata, seen_at""",
    "llm_spans": """trace_id, span_id, parent_span_id, name, kind, service, started_at, duration_ms, status,
        attributes""",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "calls.db", wall=lambda: START + 7 * SECOND + 123_456_789)
    yield store
    store.close()


@pytest.fixture
def factory() -> Factory:
    return Factory()


def test_the_columns_are_the_contract_s_in_its_order(store: SQLiteStore) -> None:
    assert set(VIEWS) == CONTRACT.keys()
    store.checkpoint("made")
    with closing(sqlite3.connect(store.path)) as connection:
        for view, columns in CONTRACT.items():
            found = [column[0] for column in connection.execute(f"SELECT * FROM {view}").description]
            assert found == [name.strip() for name in columns.split(",")], view


def test_a_call(store: SQLiteStore, factory: Factory) -> None:
    call = factory.call(
        [{"role": "user", "content": "Hi"}], "Hello", session_id="s1", tags={"k": "v"}, response={"ttft_ms": 8.0}
    )
    store.append(call)
    (row,) = rows(store.path, "SELECT * FROM llm_calls")
    assert (row["call_id"], row["session_id"], row["tags"]) == (call[0]["stream_id"], "s1", '{"k":"v"}')
    assert (row["started_at"], row["started_unix"]) == ("2026-09-21T14:13:20.000000Z", 1_790_000_000.0)
    assert (row["ended_at"], row["ended_unix"]) == ("2026-09-21T14:13:20.250000Z", 1_790_000_000.25)
    assert (row["total_tokens"], row["cost_nanos"], row["cost_usd"]) == (750, 337_500, 0.0003375)
    assert (row["stream"], row["has_system"], row["counted"]) == (0, 0, 1)
    assert row["cost_source"] == "genai-prices"
    assert row["cache_read_tokens"] is None


def test_messages_part_by_part(store: SQLiteStore, factory: Factory) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    messages: list[Any] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "see é"}, picture]},
        {"role": "user", "content": "again"},
    ]
    store.append(factory.call(messages, "done"))
    select = "SELECT direction, position, role, type, content, bytes FROM llm_messages ORDER BY direction, position"
    assert [tuple(row.values()) for row in rows(store.path, select)] == [
        ("input", 0, "system", "text", "be brief", 8),
        ("input", 1, "user", "text", "see é", 6),
        ("input", 2, "user", "image", None, 0),
        ("input", 3, "user", "text", "again", 5),
        ("output", 0, "assistant", "text", "done", 4),
    ]


def test_a_message_sent_again_is_shown_for_each_call_and_stored_once(store: SQLiteStore, factory: Factory) -> None:
    first = {"role": "user", "content": "the same"}
    store.append(factory.call([first], "a") + factory.call([first, first], "b"))
    found = rows(store.path, "SELECT call_id, position FROM llm_messages WHERE content = 'the same' ORDER BY 1, 2")
    assert [row["position"] for row in found] == [0, 0, 1]
    assert rows(store.path, "SELECT count(*) AS n FROM hub_contents WHERE body LIKE '%the same%'") == [{"n": 1}]


def test_messages_that_an_inner_layer_adds_come_behind(store: SQLiteStore, factory: Factory) -> None:
    call = factory.call([{"role": "user", "content": "outer"}], "x")
    inner = factory.event(
        "llm:request:debug",
        stream=call[0]["stream_id"],
        version=5,
        content={"messages": [{"role": "user", "content": "inner"}]},
    )
    for record in [*call, inner]:
        store.append([record])
    found = rows(store.path, "SELECT position, content FROM llm_messages WHERE direction = 'input' ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [(0, "outer"), (1, "inner")]


def test_a_tool_call_finds_its_result_in_the_next_call_of_the_session(store: SQLiteStore, factory: Factory) -> None:
    def asked(session: str, result: str) -> tuple[str, str]:
        use = {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
        asks = {"role": "assistant", "content": None, "tool_calls": [use]}
        answer = {"role": "tool", "tool_call_id": "call_0", "content": result}
        user = {"role": "user", "content": "?"}
        one = factory.call([user], asks, session_id=session)
        two = factory.call([user, asks, answer], "done", session_id=session)
        three = factory.call([user, asks, answer, user], "done", session_id=session)
        store.append(two + three)
        store.append(one)
        return one[0]["stream_id"], two[0]["stream_id"]

    calls = [asked("s1", "rain"), asked("s2", "sun")]
    found = rows(store.path, "SELECT * FROM llm_tool_calls ORDER BY call_id")
    assert [(row["call_id"], row["result_call_id"], row["result"]) for row in found] == [
        (*calls[0], "rain"),
        (*calls[1], "sun"),
    ]
    assert (found[0]["name"], found[0]["arguments"], found[0]["tool_call_id"]) == ("look", '{"at": 1}', "call_0")


def test_attempts_are_the_failed_ones_and_the_last(store: SQLiteStore, factory: Factory) -> None:
    request, debug, response, answer = factory.call(took_ms=3_000, response={"attempts": 2})
    response["version"], answer["version"] = 4, 5
    retry = factory.event(
        "provider:retry",
        stream=request["stream_id"],
        version=3,
        at=START + SECOND,
        data={"attempt": 1, "delay_ms": 500.0, "status_code": 429, "error_type": "rate_limit"},
    )
    store.append([request, debug, retry, response, answer])
    first, last = rows(store.path, "SELECT * FROM llm_attempts ORDER BY attempt")
    assert (first["attempt"], first["status_code"], first["duration_ms"], first["delay_ms"]) == (1, 429, 1000.0, 500.0)
    assert first["started_at"] == "2026-09-21T14:13:20.000000Z"
    assert (last["attempt"], last["started_at"]) == (2, "2026-09-21T14:13:21.500000Z")
    assert (last["duration_ms"], last["model"], last["input_tokens"]) == (1500.0, "gpt-4o-mini-2024-07-18", 250)


def test_a_call_that_was_called_off_between_attempts_has_those_that_were_made(
    store: SQLiteStore, factory: Factory
) -> None:
    request, debug, response, answer = factory.call(took_ms=3_000, response={"attempts": 1, "status": "cancelled"})
    response["version"], answer["version"] = 4, 5
    retry = factory.event(
        "provider:retry", stream=request["stream_id"], version=3, at=START + SECOND, data={"attempt": 1}
    )
    store.append([request, debug, retry, response, answer])
    assert rows(store.path, "SELECT attempt FROM llm_attempts") == [{"attempt": 1}]


def routed(factory: Factory, *, first: Any, last: Any, **response: Any) -> list[EventRecord]:
    """A router's call: what its first attempt and its last were."""
    served = {"model": "whatever-served"}  # has no price of its own
    given = {"attempts": 2, "last_attempt": {"duration_ms": 1000.0, **last}, **served, **response}
    request, debug, answered, answer = factory.call(
        took_ms=3_000, request={"provider": "relay", "model": "any"}, response=given
    )
    answered["version"], answer["version"] = 4, 5
    tried = factory.event(
        "provider:retry",
        stream=request["stream_id"],
        version=3,
        at=START + SECOND,
        data={"attempt": 1, "duration_ms": 800.0, "error_type": "filtered", **first},
    )
    return [request, debug, tried, answered, answer]


MINI = {"provider": "openai", "model": "gpt-4o-mini", "usage": {"input_tokens": 100, "output_tokens": 10}}
LARGE = {"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 150, "output_tokens": 20}}
COSTS = {"gpt-4o-mini": 100 * 150 + 10 * 600, "gpt-4o": 150 * 2_500 + 20 * 10_000}
"""In nano-dollars."""


@pytest.mark.parametrize("batches", [1, 5])
def test_a_call_of_several_providers_costs_what_its_attempts_do(
    store: SQLiteStore, factory: Factory, batches: int
) -> None:
    usage = {"input_tokens": 250, "output_tokens": 30}
    records = routed(factory, first=MINI, last=LARGE, usage=usage)
    for start in range(0, 5, 5 // batches):
        store.append(records[start : start + 5 // batches])
    first, last = rows(store.path, "SELECT * FROM llm_attempts ORDER BY attempt")
    assert (first["model"], first["input_tokens"], first["cost_nanos"]) == ("gpt-4o-mini", 100, COSTS["gpt-4o-mini"])
    assert (last["attempt"], last["model"], last["cost_nanos"]) == (2, "gpt-4o", COSTS["gpt-4o"])
    assert (last["provider"], last["input_tokens"], last["duration_ms"]) == ("openai", 150, 1000.0)
    assert last["started_at"] == "2026-09-21T14:13:22.000000Z"
    (call,) = rows(store.path, "SELECT cost_nanos, cost_source, input_tokens FROM llm_calls")
    assert call == {"cost_nanos": sum(COSTS.values()), "cost_source": "attempts", "input_tokens": 250}
    (hour,) = rows(store.path, "SELECT calls, cost_nanos, unpriced_calls FROM llm_costs_hourly")
    assert hour == {"calls": 1, "cost_nanos": sum(COSTS.values()), "unpriced_calls": 0}
    late = factory.event("llm:request", stream=records[0]["stream_id"], version=6, data={"tier": "small"})
    store.append([late])
    assert rows(store.path, "SELECT cost_nanos, tier FROM llm_calls") == [
        {"cost_nanos": sum(COSTS.values()), "tier": "small"}
    ]


@pytest.mark.parametrize(
    ("first", "reported", "expected"),
    [
        ({**MINI, "reported_cost_usd": "0.5"}, None, (500_000_000 + COSTS["gpt-4o"], "attempts")),
        ({**MINI, "reported_cost_usd": "0.5"}, "0.75", (750_000_000, "response")),
        ({**MINI, "reported_cost_usd": "0.5"}, "0.001", (500_000_000 + COSTS["gpt-4o"], "response")),
        ({**MINI, "model": "unheard-of"}, None, (None, None)),
        ({"error_type": "429"}, None, (COSTS["gpt-4o"], "attempts")),
    ],
    ids=["reported", "more reported", "less reported", "unknown", "nothing spent"],
)
def test_what_is_known_of_the_attempts_costs_decides(
    store: SQLiteStore, factory: Factory, first: Any, reported: str | None, expected: Any
) -> None:
    store.append(routed(factory, first=first, last=LARGE, reported_cost_usd=reported))
    (call,) = rows(store.path, "SELECT cost_nanos, cost_source FROM llm_calls")
    assert tuple(call.values()) == expected


def test_an_attempt_that_only_read_a_cache_costs_the_same_whenever_it_was_stored(
    store: SQLiteStore, factory: Factory
) -> None:
    first = {"model": "unheard-of", "usage": {"cache_read_tokens": 5}}
    records = routed(factory, first=first, last=LARGE)
    store.append(records)
    (at_once,) = rows(store.path, "SELECT cost_nanos, cost_source FROM llm_calls")
    store.append([factory.event("llm:request", stream=records[0]["stream_id"], version=6, data={})])
    (later,) = rows(store.path, "SELECT cost_nanos, cost_source FROM llm_calls")
    assert at_once == later == {"cost_nanos": COSTS["gpt-4o"], "cost_source": "attempts"}


def test_what_a_cache_gave_an_attempt_is_priced_as_such(store: SQLiteStore, factory: Factory) -> None:
    cached = {**MINI, "usage": {**MINI["usage"], "cache_read_tokens": 100}}  # type: ignore[dict-item]
    store.append(routed(factory, first=cached, last=LARGE))
    first, _ = rows(store.path, "SELECT cost_nanos FROM llm_attempts ORDER BY attempt")
    assert first["cost_nanos"] == 100 * 75 + 10 * 600


def test_an_attempt_whose_served_model_has_no_price_costs_as_the_one_asked_for(
    store: SQLiteStore, factory: Factory
) -> None:
    store.append(
        routed(factory, first={"error_type": "429"}, last={**LARGE, "model": "deployed", "request_model": "gpt-4o"})
    )
    _, last = rows(store.path, "SELECT model, cost_nanos FROM llm_attempts ORDER BY attempt")
    assert last == {"model": "deployed", "cost_nanos": COSTS["gpt-4o"]}


def test_the_provider_that_answered_inside_prices_a_call_by_a_name_of_the_programs_own(
    store: SQLiteStore, factory: Factory
) -> None:
    store.append(factory.call(request={"provider": "mine"}, response={"usage": MINI["usage"], "last_attempt": MINI}))
    (attempt,) = rows(store.path, "SELECT attempt, provider, cost_nanos FROM llm_attempts")
    assert attempt == {"attempt": 1, "provider": "openai", "cost_nanos": COSTS["gpt-4o-mini"]}
    (call,) = rows(store.path, "SELECT provider, cost_nanos FROM llm_calls")
    assert call == {"provider": "mine", "cost_nanos": COSTS["gpt-4o-mini"]}


def test_events_as_they_happened_and_when_they_were_recorded(store: SQLiteStore, factory: Factory) -> None:
    store.append(factory.call())
    row = rows(store.path, "SELECT * FROM llm_events ORDER BY position")[0]
    assert (row["position"], row["version"], row["type"], row["occurred_ns"]) == (1, 1, "llm:request", START)
    assert (row["occurred_at"], row["recorded_at"]) == ("2026-09-21T14:13:20.000000Z", "2026-09-21T14:13:27.123456Z")


def test_costs_and_latencies_by_hour_count_each_call_once(store: SQLiteStore, factory: Factory) -> None:
    outer = factory.call(response={"ttft_ms": 5.0})
    inner = factory.call(request={"source": "transport"}, response={"response_id": outer[2]["data"]["response_id"]})
    inner[0]["occurred_at"] = START + SECOND // 10
    unpriced = factory.call(response={"model": "unheard-of", "usage": None})
    failed = factory.call(error="no", response={"status": "error", "usage": None})
    factory.now += 3600 * SECOND
    later = factory.call()[:2]
    for call in (inner, outer, unpriced, failed, later):
        store.append(call)
    first, second = rows(store.path, "SELECT * FROM llm_costs_hourly ORDER BY hour")
    assert (first["hour"], first["model"]) == ("2026-09-21T14:00:00.000000Z", "gpt-4o-mini")
    assert (first["calls"], first["errors"], first["unpriced_calls"]) == (3, 1, 1)
    assert (first["input_tokens"], first["cost_nanos"], first["cost_usd"]) == (250, 337_500, 0.0003375)
    assert (second["hour"], second["calls"], second["cost_nanos"]) == ("2026-09-21T15:00:00.000000Z", 1, None)
    found = rows(store.path, "SELECT metric, le, calls FROM llm_latency_hourly ORDER BY 1, 2")
    assert [tuple(row.values()) for row in found] == [("duration", 256.0, 3), ("ttft", 2 ** (10 / 4), 1)]


def test_a_server_s_mistake_breaks_no_sum(store: SQLiteStore, factory: Factory) -> None:
    usage = {"input_tokens": 2**63 - 1, "output_tokens": 7, "reasoning_tokens": -(2**63)}
    for _ in range(3):
        store.append(factory.call(response={"usage": usage, "reported_cost_usd": "9000000000"}))
    (row,) = rows(store.path, "SELECT * FROM llm_costs_hourly")
    assert (row["calls"], row["input_tokens"], row["output_tokens"]) == (3, None, 21)
    assert (row["reasoning_tokens"], row["cost_nanos"]) == (None, None)


def test_what_is_slower_than_every_bucket_has_no_bound(store: SQLiteStore, factory: Factory) -> None:
    store.append(factory.call(took_ms=5e6))
    assert rows(store.path, "SELECT le, calls FROM llm_latency_hourly") == [{"le": None, "calls": 1}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM llm_calls WHERE call_id = 'x'",
        "SELECT * FROM llm_calls WHERE session_id = 'x'",
        "SELECT * FROM llm_calls ORDER BY started_at DESC LIMIT 50",
        "SELECT * FROM llm_calls WHERE request_model = 'x' ORDER BY started_at DESC LIMIT 50",
        "SELECT * FROM llm_messages WHERE call_id = 'x'",
        "SELECT m.content FROM llm_calls c JOIN llm_messages m USING (call_id) WHERE c.session_id = 'x'",
        "SELECT * FROM llm_tool_calls WHERE call_id = 'x'",
        "SELECT * FROM llm_attempts WHERE call_id = 'x'",
        "SELECT * FROM llm_events WHERE call_id = 'x'",
        "SELECT * FROM llm_events WHERE stream_id = 'x' ORDER BY version",
        "SELECT * FROM llm_events WHERE position > 5 LIMIT 10",
    ],
)
def test_usual_questions_use_an_index(store: SQLiteStore, query: str) -> None:
    store.checkpoint("made")
    plan = [row["detail"] for row in rows(store.path, f"EXPLAIN QUERY PLAN {query}")]
    scans = [step for step in plan if step.startswith("SCAN") and not step.startswith("SCAN llm_")]
    assert all("VIRTUAL TABLE" in step or "USING INDEX" in step for step in scans), plan


# Views of contributed events.


def announced(factory: Factory, event_type: str, fields: dict[str, str], version: int = 1) -> Any:
    data = {"type": event_type, "schema_version": version, "fields": fields}
    return factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data=data)


def test_a_typed_event_has_a_view_with_its_fields(store: SQLiteStore, factory: Factory) -> None:
    store.append([announced(factory, "Acme:rate-Limit", {"retry_after_ms": "real", "who": "text", "seen": "json"})])
    data = {"retry_after_ms": 1.5, "who": "me", "seen": {"a": [1]}, "more": 1}
    store.append([factory.event("Acme:rate-Limit", stream=factory.new_id(), version=1, call_id=None, data=data)])
    (row,) = rows(store.path, "SELECT * FROM llm_event_acme_rate_limit")
    assert (row["retry_after_ms"], row["who"], row["seen"]) == (1.5, "me", '{"a":[1]}')
    assert (row["occurred_at"], row["position"]) == ("2026-09-21T14:13:20.000000Z", 2)
    plan = rows(store.path, "EXPLAIN QUERY PLAN SELECT * FROM llm_event_acme_rate_limit")
    assert "ix_hub_events_contributed" in plan[0]["detail"]


def test_columns_of_such_views_are_only_added(store: SQLiteStore, factory: Factory) -> None:
    store.append([announced(factory, "acme:x", {"old": "text"})])
    store.append(
        [announced(factory, "acme:x", {"new": "text"}, version=2), announced(factory, "acme:x", {"old": "text"})]
    )
    with closing(sqlite3.connect(store.path)) as connection:
        columns = [one[0] for one in connection.execute("SELECT * FROM llm_event_acme_x").description]
    assert columns[-2:] == ["old", "new"]


def test_a_field_named_like_the_envelope_takes_its_place(store: SQLiteStore, factory: Factory) -> None:
    store.append([announced(factory, "acme:x", {"Session_ID": "text", 'bad"name': "text", "position": "integer"})])
    stream = factory.new_id()
    store.append([factory.event("acme:x", stream=stream, version=1, data={"Session_ID": "mine", "position": 9})])
    (row,) = rows(store.path, "SELECT * FROM llm_event_acme_x")
    assert (row["Session_ID"], row["position"]) == ("mine", 9)
    assert 'bad"name' not in row


def test_two_types_with_one_view_name_do_not_mix(store: SQLiteStore, factory: Factory) -> None:
    store.append([announced(factory, "acme:a-b", {"x": "text"}), announced(factory, "acme:a.b", {"y": "text"})])
    assert rows(store.path, "SELECT DISTINCT type FROM hub_event_schemas") == [{"type": "acme:a-b"}]


@pytest.mark.parametrize("data", [{}, {"type": 5, "fields": {}}, {"type": "a:b", "fields": []}, {"type": "a:b"}])
def test_a_nonsensical_announcement_is_passed_over(store: SQLiteStore, factory: Factory, data: dict[str, Any]) -> None:
    record = factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data=data)
    assert store.append([record]).new == 1


def test_a_view_that_cannot_be_made_is_told_and_keeps_nothing_from_being_written(
    store: SQLiteStore, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    store.append([announced(factory, "acme:good", {"x": "text"})])
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("CREATE TABLE llm_event_acme_bad (mine)")
    assert store.append([announced(factory, "acme:bad", {"x": "text"}), *factory.call()]).new == 5
    [told] = [one.getMessage() for one in caplog.records]
    assert "llm_event_acme_bad of acme:bad" in told
    assert "DROP TABLE" in told
    store.rebuild()
    assert rows(store.path, "SELECT x FROM llm_event_acme_good") == []
    assert len(store.read_all().events) == 6


def test_a_view_has_as_many_fields_as_a_view_may_have(store: SQLiteStore, factory: Factory) -> None:
    alike = "same_" * 20
    fields = {alike + "a": "text", alike + "b": "text", **{f"field_{number}": "integer" for number in range(2_500)}}
    store.append([announced(factory, "acme:wide", fields)])
    data = {alike + "a": "one", alike + "b": "two", "field_0": 1}
    store.append([factory.event("acme:wide", stream=factory.new_id(), version=1, call_id=None, data=data)])
    (row,) = rows(store.path, "SELECT * FROM llm_event_acme_wide")
    assert [row[column_name(alike + end)] for end in "ab"] == ["one", "two"]
    assert (row["field_0"], row["field_997"], "field_998" in row) == (1, None, False)


def test_long_names_are_cut_and_told_apart_by_a_hash() -> None:
    one, two = (event_view_name(f"acme:{'x' * 80}{end}") for end in "ab")
    assert one != two
    assert len(one) == len(two) == 63
    assert event_view_name("Acme:Rate-limit.2") == "llm_event_acme_rate_limit_2"
