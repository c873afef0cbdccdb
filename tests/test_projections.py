"""Events folded into rows: what a row says, and that nothing an event holds can break it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.events import EventRecord
from hub.pricing import PriceBook, PriceRow
from storage import projections
from storage.projections import ATTEMPT_COLUMNS, CALL_COLUMNS, CALL_TYPES, Row, bucket, fold, instant, new_call
from tests.factories import START, Factory

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)
_json = _values.filter(lambda value: "nan" not in repr(value) and "inf" not in repr(value))
_small = st.integers(-(2**63), 2**64 - 1)
_KEYS = """
    provider model operation tier server_address stream message_count has_system tool_count params capture status usage
    finish_reasons duration_ms ttft_ms reported_cost_usd cost_reporter response_id attempts status_code attempt delay_ms
    error_type chunk_count replay_of source
"""


def folded(*records: EventRecord, book: PriceBook | None = None) -> Row:
    row = new_call(records[0])
    for record in records:
        fold(row, record)
    projections.price(row, book or PriceBook())
    return row


def test_a_row_has_the_columns_in_their_order() -> None:
    assert tuple(folded(*Factory().call())) == CALL_COLUMNS


def test_a_whole_call() -> None:
    records = Factory().call(
        [{"role": "user", "content": "Hi"}],
        "Hello",
        session_id="s",
        tags={"a": "b"},
        response={"ttft_ms": 3.5, "usage": {"input_tokens": 10, "output_tokens": 0, "cache_read_tokens": 4}},
    )
    row = folded(*records)
    assert row["status"] == "ok"
    assert (row["started_ns"], row["ended_ns"]) == (START, START + 250_000_000)
    assert (row["duration_ms"], row["duration_le"]) == (250.0, 256.0)
    assert (row["ttft_ms"], row["ttft_le"]) == (3.5, 4.0)
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_tokens"]) == (10, 0, 4)
    assert row["cache_write_tokens"] is None, "absent is null, not 0"
    assert (row["finish_reason"], row["session_id"], row["tags"]) == ("stop", "s", '{"a":"b"}')
    assert (row["request_summary"], row["response_summary"]) == ("Hi", "Hello")
    assert (row["source"], row["capture"], row["params"]) == ("traced", "full", '{"temperature":0.2}')


def test_a_call_without_response_is_running() -> None:
    row = folded(*Factory().call()[:2])
    assert (row["status"], row["ended_at"], row["duration_ms"]) == ("running", None, None)


def test_a_response_alone_gives_what_it_knows() -> None:
    row = folded(*Factory().call()[2:])
    assert (row["status"], row["provider"], row["response_model"]) == ("ok", None, "gpt-4o-mini-2024-07-18")
    assert row["started_ns"] == START, "the end less the duration"


def test_a_request_that_comes_after_its_response_completes_the_row() -> None:
    records = Factory().call(session_id="s")
    assert folded(records[2], records[3], records[0], records[1]) == folded(*records)


def test_a_summary_captured_alone_is_shown_as_it_is() -> None:
    records = Factory().call(request={"capture": None})
    records[1]["content"] = {"summary": {"text": "short"}}
    row = folded(*records)
    assert (row["request_summary"], row["capture"]) == ("short", "summary")


def test_no_debug_events_no_summaries() -> None:
    request, _, response, _ = Factory().call(request={"capture": "none"})
    row = folded(request, response)
    assert (row["capture"], row["request_summary"], row["response_summary"]) == ("none", None, None)


def test_an_inner_layer_tells_only_what_was_open() -> None:
    factory = Factory()
    records = factory.call(request={"provider": None, "model": "outer"})
    inner = factory.event(
        "llm:request", stream=records[0]["stream_id"], version=5, data={"provider": "openai", "model": "inner"}
    )
    row = folded(*records, inner)
    assert (row["provider"], row["request_model"], row["started_ns"]) == ("openai", "outer", START)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_call_s_own_end_counts_more_than_its_recovery_s(order: tuple[int, int]) -> None:
    factory = Factory()
    records = factory.call()
    lost = factory.event("llm:response", stream=records[0]["stream_id"], version=5, data={"status": "lost"})
    ends = [records[2], lost]
    assert folded(records[0], *(ends[place] for place in order))["status"] == "ok"
    assert folded(records[0], lost)["status"] == "lost"


def test_a_lost_call_has_no_known_end() -> None:
    factory = Factory()
    request = factory.call()[0]
    lost = factory.event("llm:response", stream=request["stream_id"], version=3, data={"status": "lost"})
    row = folded(request, lost)
    assert (row["ended_at"], row["duration_ms"], row["duration_le"]) == (None, None, None)


def test_an_error_keeps_its_text_apart_from_its_type() -> None:
    row = folded(*Factory().call(error="it burns", response={"status": "error", "error_type": "Burn"}))
    assert (row["status"], row["error_type"], row["error_message"]) == ("error", "Burn", "it burns")


def test_failed_attempts_are_rows_of_their_own() -> None:
    factory = Factory()
    records = factory.call()
    stream = records[0]["stream_id"]
    row = folded(*records[:2])
    found = []
    for number in (1, 2):
        at = START + number * 10**9
        retry = factory.event(
            "provider:retry",
            stream=stream,
            version=2 + number,
            at=at,
            data={"attempt": number, "delay_ms": 100.0, "status_code": 429},
        )
        found.append(projections.read_attempt(row, retry, 7))
        fold(row, retry)
    first, second = found
    assert tuple(first.row) == ATTEMPT_COLUMNS
    assert (first.row["attempt"], first.row["started_ns"], first.row["duration_ms"]) == (1, START, 1000.0)
    assert (second.row["started_ns"], second.row["duration_ms"]) == (START + 1_100_000_000, 900.0)
    assert row["failed_attempts"] == 2
    assert row["attempt_ns"] == START + 2_100_000_000


# Cost.


def book(rate: str) -> PriceBook:
    prices = PriceBook()
    card = [{"rates": {"input": rate, "output": rate}}]
    prices.add([PriceRow("openai", "gpt-4o-mini", 0, "genai-prices", "v1", card)])
    return prices


def test_the_served_model_s_price_or_else_the_asked_one_s() -> None:
    row = folded(*Factory().call(), book=book("2"))
    assert (row["cost_nanos"], row["cost_source"], row["price_version"]) == (1500, "genai-prices", "v1")


def test_what_the_response_reports_comes_first() -> None:
    reported = {"reported_cost_usd": "0.000000123", "cost_reporter": "middleware"}
    row = folded(*Factory().call(response=reported), book=book("2"))
    assert (row["cost_nanos"], row["cost_source"], row["price_version"]) == (123, "middleware", None)
    row = folded(*Factory().call(response={"reported_cost_usd": "1"}))
    assert (row["cost_nanos"], row["cost_source"]) == (10**9, "response")


def test_attempts_that_add_up_to_more_than_any_call_costs_make_the_cost_unknown() -> None:
    for costs, expected in (([4 * 10**12, 6 * 10**12], 10**13), ([5 * 10**12 + 1, 5 * 10**12], None)):
        row = folded(*Factory().call())
        projections.price_by_attempts(row, [(False, True, costs[0]), (True, True, costs[1])])
        assert row["cost_nanos"] == expected


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 5}, "many", {"input_tokens": "5", "output_tokens": 1}])
def test_unknown_usage_costs_null(usage: Any) -> None:
    row = folded(*Factory().call(response={"usage": usage}), book=book("2"))
    assert (row["cost_nanos"], row["cost_source"]) == (None, None)


@pytest.mark.parametrize("count", [-1, -(2**63), 2**63 - 1])
def test_a_count_that_cannot_be_is_unknown(count: int) -> None:
    usage = {"input_tokens": count, "output_tokens": count, "cache_read_tokens": count, "reasoning_tokens": 1}
    row = folded(*Factory().call(response={"usage": usage}), book=book("2"))
    assert [row[name] for name in usage] == [None, None, None, 1]
    assert row["cost_nanos"] is None


def test_zero_tokens_are_legal_and_free() -> None:
    row = folded(*Factory().call(response={"usage": {"input_tokens": 0, "output_tokens": 0}}), book=book("2"))
    assert row["cost_nanos"] == 0


def test_folding_again_does_not_change_the_cost() -> None:
    records = Factory().call()
    row = folded(*records, book=book("2"))
    again = dict(row)
    projections.price(again, book("2"))
    assert again == row


# Whatever comes.


@settings(max_examples=150, deadline=None)
@example([("provider:retry", {"delay_ms": 1e308, "duration_ms": 1e308}, None)])
@example(
    [("llm:response", {"duration_ms": 1e308, "reported_cost_usd": "1e400", "usage": {"input_tokens": 2**63}}, None)]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CALL_TYPES)),
            st.dictionaries(st.sampled_from(_KEYS.split()), _json | _small),
            st.none() | st.dictionaries(st.sampled_from(["messages", "tools", "summary", "error", "wire"]), _json),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_payload_breaks_a_row(events: list[tuple[str, dict[str, Any], dict[str, Any] | None]]) -> None:
    factory = Factory()
    stream = factory.new_id()
    records = [
        factory.event(kind, stream=stream, version=version, data=_bounded(data), content=_bounded(content))
        for version, (kind, data, content) in enumerate(events, 1)
    ]
    row = new_call(records[0])
    with sqlite3.connect(":memory:") as connection:
        for record in records:
            attempt = projections.read_attempt(row, record, 1)
            projections.price_attempt(attempt, PriceBook())
            fold(row, record)
            projections.price(row, book("3"))
            for values in (row, attempt.row):
                bound = tuple(values.values())
                assert connection.execute(f"SELECT {','.join('?' * len(bound))}", bound).fetchone() == bound
    connection.close()


def _bounded(value: Any) -> Any:
    """As orjson could have decoded it: integers of at most 64 bits."""
    if isinstance(value, dict):
        return {key: _bounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bounded(inner) for inner in value]
    if type(value) is int:
        return max(-(2**63), min(value, 2**64 - 1))
    return value


# Small things.


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_790_000_000_123_456_999, "2026-09-21T14:13:20.123456Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775Z"),
        (10**30, None),
    ],
)
def test_instants_are_truncated_text(ns: int, text: str | None) -> None:
    assert instant(ns) == text


@given(st.floats(0, 2**22))
def test_a_bucket_is_the_smallest_bound_that_holds(value: float) -> None:
    bound = bucket(value)
    assert bound is not None
    bounds = [2 ** (k / 4) for k in range(89)]
    assert bound == next(one for one in bounds if one >= value)


def test_above_the_last_bucket_there_is_none() -> None:
    assert bucket(2.0**22) == 2**22
    assert bucket(2.0**22 + 1) is None
    assert bucket(None) is None
    assert bucket(-5.0) == 1.0


def _record(
    source: str, started: int, ended: int | None, call_id: str = "other", producer: str = "p"
) -> dict[str, Any]:
    return {"call_id": call_id, "producer": producer, "source": source, "started_ns": started, "ended_ns": ended}


@pytest.mark.parametrize(
    ("other", "repeated"),
    [
        (_record("traced", 5, 100), True),
        (_record("traced", 10, 100, "a"), True),
        (_record("traced", 10, 100, "z"), False),
        (_record("transport", 5, 100), False),
        (_record("traced", 5, 9), False),
        (_record("traced", 5, None), False),
        (_record("traced", 20, 100), False),
        (_record("traced", 5, 100, producer="q"), False),
    ],
    ids=["earlier", "tie", "tie lost", "same source", "over before", "open", "later", "other process"],
)
def test_the_earliest_of_overlapping_records_from_different_sources_counts(
    other: dict[str, Any], repeated: bool
) -> None:
    mine = _record("transport", 10, 50, "c")
    assert (mine["call_id"] in projections.repeated([mine, other])) is repeated
