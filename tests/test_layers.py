"""What the layers of one call amount to: attempts, what they spent, and which of them it ended with."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from hub.calls import Call
from hub.content import Cleaner
from hub.recorder import Recorder
from tests.listlog import ListLog, recorder_on

MESSAGES = [{"role": "user", "content": "Where is my order?"}]


def begin(recorder: Recorder, provider: str = "acme", **facts: Any) -> Call:
    return recorder.start(**{"source": "traced", "provider": provider, "model": "m-1", "messages": MESSAGES, **facts})


def used(tokens_in: int, tokens_out: int, **more: Any) -> Any:
    return {"usage": {"input_tokens": tokens_in, "output_tokens": tokens_out}, **more}


def response(log: ListLog) -> dict[str, Any]:
    return log.only("llm:response")["data"]


def tries(log: ListLog) -> list[dict[str, Any]]:
    return [record["data"] for record in log.records if record["type"] in ("provider:retry", "provider:attempt")]


# Attempts.


def test_the_last_attempt_has_its_own_provider_model_and_usage(log: ListLog, recorder: Recorder) -> None:
    router = begin(recorder, "router", model="any")
    with router.active():
        begin(recorder, "first").end(used(10, 5, reported_cost_usd="0.2"), error=ValueError("filtered"))
        begin(recorder, "second", model="m-2").end(used(20, 7, model="m-2-1124", reported_cost_usd="0.1"))
    router.end(used(20, 7, model="m-2-1124"))
    assert response(log)["usage"] == {"input_tokens": 30, "output_tokens": 12}
    assert response(log)["reported_cost_usd"] == "0.3"
    (first,) = tries(log)
    assert (first["provider"], first["model"], first["usage"]["input_tokens"]) == ("first", "m-1", 10)
    last = response(log)["last_attempt"]
    assert (last["provider"], last["model"], last["request_model"]) == ("second", "m-2-1124", "m-2")
    assert (last["usage"], last["reported_cost_usd"]) == ({"input_tokens": 20, "output_tokens": 7}, "0.1")


def test_a_call_in_one_layer_more_has_no_attempt_of_its_own(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder, source="transport", model="m-1").end(used(3, 1))
    outer.end(used(3, 1))
    assert (response(log)["attempts"], tries(log)) == (1, [])
    assert "last_attempt" not in response(log)


def test_another_provider_inside_is_named_though_it_was_the_only_attempt(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder, "wrapper")
    with outer.active():
        begin(recorder, "openai").end(used(3, 1))
    outer.end()
    assert response(log)["last_attempt"]["provider"] == "openai"


def test_attempts_within_attempts_are_each_told_once(log: ListLog, recorder: Recorder) -> None:
    router = begin(recorder, "router")
    with router.active():
        provider = begin(recorder, "first")
        with provider.active():
            begin(recorder, "openai", source="transport").end(used(1, 0), status="error")
            begin(recorder, "openai", source="transport").end(used(2, 0), status="error")
        provider.end(error=TimeoutError())
        begin(recorder, "second").end(used(4, 1))
    router.end()
    assert [(one["attempt"], one["provider"], one["usage"]["input_tokens"]) for one in tries(log)] == [
        (1, "first", 1),
        (2, "first", 2),
    ]
    assert (response(log)["attempts"], response(log)["last_attempt"]["provider"]) == (3, "second")
    assert response(log)["usage"] == {"input_tokens": 7, "output_tokens": 1}


def test_of_calls_side_by_side_all_but_the_one_that_answered_were_attempts(log: ListLog, recorder: Recorder) -> None:
    hedge = begin(recorder, "hedge")
    with hedge.active():
        slow, quick = begin(recorder, "slow"), begin(recorder, "quick")
        quick.end(used(4, 1))
        slow.end(error=asyncio.CancelledError())
    hedge.end()
    (lost,) = tries(log)
    assert (lost["provider"], lost["error_type"]) == ("slow", "asyncio.exceptions.CancelledError")
    assert (response(log)["attempts"], response(log)["status"]) == (2, "ok")
    assert response(log)["last_attempt"]["provider"] == "quick"


def test_an_attempt_is_told_with_the_time_it_ended_and_how_long_the_next_one_was_in_coming(
    log: ListLog, recorder: Recorder
) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder, "first").end(error=ValueError())
        for _ in range(20):
            recorder.clock.monotonic()
            recorder.clock.wall()
        begin(recorder, "second").end()
    outer.end()
    (first,) = tries(log)
    retry = log.only("provider:retry")
    assert first["delay_ms"] >= 20
    assert retry["occurred_at"] < log.records[-2]["occurred_at"] - 20_000_000


# A retry that is told.


def test_a_retry_told_of_an_attempt_that_a_layer_recorded_is_told_once_with_what_both_know(
    log: ListLog, recorder: Recorder
) -> None:
    call = begin(recorder)
    with call.active():
        for number in range(3):
            began = recorder.clock.monotonic()
            inner = begin(recorder, "openai", source="transport")
            if number < 2:
                inner.end({"status_code": 429, "retry_after_ms": 2000.0, "error_type": "rate_limited"}, status="error")
                told: Any = {"max_retries": 3, "delay_ms": 1500.0, "error_type": "RateLimitError", "status_code": 430}
                call.retry_follows(told, error="slow down", began_ns=began)
            else:
                inner.end(used(3, 2))
    call.end()
    assert [(one["attempt"], one["max_retries"], one["delay_ms"]) for one in tries(log)] == [(1, 3, 1500), (2, 3, 1500)]
    assert {(one["status_code"], one["error_type"], one["retry_after_ms"]) for one in tries(log)} == {
        (429, "rate_limited", 2000.0)
    }
    assert log.records[-3]["content"] == {"error": "slow down"}
    assert response(log)["attempts"] == 3


def test_a_retry_that_no_layer_recorded_is_told_from_what_is_said_of_it(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.retry_follows({"delay_ms": 5.0, "error_type": "ConnectError"}, error="refused", began_ns=call.started_ns)
    call.end(used(3, 2))
    (retry,) = tries(log)
    assert (retry["attempt"], retry["error_type"], retry["delay_ms"]) == (1, "ConnectError", 5.0)
    assert retry["duration_ms"] > 0
    assert response(log)["attempts"] == 2


def test_of_attempts_side_by_side_the_one_that_failed_is_told(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    with call.active():
        failing, going = begin(recorder, "failing"), begin(recorder, "going")
        failing.end(error=ValueError())
        call.retry_follows({"delay_ms": 1.0}, error=None, began_ns=failing.started_ns)
        going.end()
    call.end()
    assert [one["provider"] for one in tries(log)] == ["failing"]


def test_a_retry_told_after_the_end_or_of_a_call_left_out_is_none(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.end()
    call.retry_follows({"delay_ms": 1.0})
    begin(recorder_on(ListLog(), sample_rate=0.0)).retry_follows({"delay_ms": 1.0})
    assert tries(log) == []


# What was spent.


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, {"input_tokens": 5, "output_tokens": 2}),
        ({"input_tokens": 9}, {"input_tokens": 9, "output_tokens": 2}),
        (
            {"input_tokens": 1, "output_tokens": 3, "reasoning_tokens": 1},
            {"input_tokens": 5, "output_tokens": 3, "reasoning_tokens": 1},
        ),
    ],
)
def test_of_each_count_the_larger_one_is_what_was_spent(
    log: ListLog, recorder: Recorder, own: Any, expected: dict[str, int]
) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end(used(5, 2))
    outer.end({"usage": own})
    assert response(log)["usage"] == expected


def test_an_answer_from_a_cache_spent_nothing(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.end(used(10, 5, reported_cost_usd="0.5", response_cached=True))
    data = response(log)
    assert (data["usage"], data["response_cached"]) == ({"input_tokens": 0, "output_tokens": 0}, True)
    assert (data["reported_cost_usd"], data["cost_reporter"]) == ("0", "cache")


def test_around_a_cached_answer_nothing_was_spent_either(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder, "router")
    with outer.active():
        begin(recorder, "first").end(used(7, 0, reported_cost_usd="0.25"), error=ValueError())
        begin(recorder, "cache").end(used(10, 5, response_cached=True))
    outer.end(used(10, 5, reported_cost_usd="0.5"))
    data = response(log)
    assert (data["usage"], data["response_cached"]) == ({"input_tokens": 7, "output_tokens": 0}, True)
    assert data["reported_cost_usd"] == "0.25"


def test_a_cache_that_asked_spent_what_was_asked(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder, "cache")
    with outer.active():
        begin(recorder, operation="embeddings").end(used(7, 0))
    outer.end(used(100, 50, response_cached=True))
    assert response(log)["usage"] == {"input_tokens": 7, "output_tokens": 0}


# What it ended with.


def test_a_call_that_went_well_without_a_layer_that_failed_says_nothing_of_the_failure(
    log: ListLog, recorder: Recorder
) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end({"status_code": 500, "error_type": "boom", "retryable": True}, status="error")
    outer.end({"messages": [{"role": "assistant", "content": "Sorry."}]})
    data = response(log)
    assert data["status"] == "ok"
    assert not data.keys() & {"status_code", "error_type", "retryable"}


def test_a_stream_cut_short_is_an_error_though_whoever_read_it_saw_none(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end({"error_type": "incomplete_stream"}, status="error")
    outer.end()
    assert (response(log)["status"], response(log)["error_type"]) == ("error", "incomplete_stream")


def test_an_exception_made_of_another_is_the_calls(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end({"status_code": 429, "error_type": "rate_limited"}, error=ValueError("429"))
    outer.end(error=LookupError("no provider left"))
    data = response(log)
    assert (data["error_type"], data["status_code"]) == ("LookupError", 429)


def test_an_exception_that_passed_through_is_as_its_layer_knew_it(log: ListLog, recorder: Recorder) -> None:
    outer, problem = begin(recorder), ValueError("429")
    with outer.active():
        begin(recorder).end({"status_code": 429, "error_type": "rate_limited"}, error=problem)
    outer.end(error=problem)
    assert (response(log)["error_type"], response(log)["status_code"]) == ("rate_limited", 429)


def test_a_call_that_failed_after_a_good_answer_is_not_shown_with_another_layers_failure(
    log: ListLog, recorder: Recorder
) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end({"status_code": 503, "error_type": "down"}, status="error")
        begin(recorder).end({"status_code": 200, "response_id": "r-2"})
    outer.end(error=KeyError("choices"))
    data = response(log)
    assert (data["error_type"], data["status_code"], data["response_id"]) == ("KeyError", 200, "r-2")


def test_the_first_token_and_the_chunks_are_those_of_the_layer_that_answered(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        broken = begin(recorder)
        broken.first_chunk()
        broken.end(error=ValueError())
        good = begin(recorder)
        good.chunk_count = 4
        good.first_chunk()
        good.end()
    outer.end()
    data = response(log)
    assert data["chunk_count"] == 4
    assert data["ttft_ms"] > tries(log)[0]["duration_ms"]


def test_a_call_in_a_layer_that_is_over_belongs_to_the_open_call_around(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        inner = begin(recorder)
        with inner.active():
            inner.end()
            begin(recorder, "later").end()
    outer.end()
    assert len({record["stream_id"] for record in log.records}) == 1
    assert response(log)["attempts"] == 2


# The bytes that left.


def sent(log: ListLog, recorder: Recorder, body: bytes, messages: Any = MESSAGES, outer_messages: Any = None) -> Any:
    """Content and data of the request whose wire *body* was."""
    if outer_messages is not None:
        outer = begin(recorder, messages=outer_messages)
        with outer.active():
            call = begin(recorder, messages=messages, defer=True)
    else:
        call = begin(recorder, messages=messages, defer=True)
    call.wire_request(body)
    call.sent()
    requests = [record for record in log.records if record["type"].startswith("llm:request")]
    first = requests[1]["content"] or {}
    return {"messages": first.get("messages"), **(requests[-1]["content"] or {})}, requests[-2]["data"]


def made_again(content: Any) -> bytes:
    wire = content["wire"]
    if "body" in wire:
        return str(wire["body"]).encode()
    return wire["head"].encode() + orjson.dumps(content["messages"]) + wire["tail"].encode()  # type: ignore[no-any-return]


AWKWARD = [
    b'{"messages": [{"role": "user", "content": "caf\\u00e9"}], "seed": 1}',
    b'{"messages":[{"role":"user","content":"x","weight":1.0}],"temperature":1e0}',
    b'{"messages":[{"role":"user","content":"x","n":18446744073709551615}]}',
    b'{"messages":[{"role":"user","content":"x","n":-0.0,"m":1e400}]}',
    b'{"messages":[{"role":"user","role":"system","content":"x"}],"messages":[]}',
    b'{"messages":[],"tools":[],"stop":[]}',
    b'\xef\xbb\xbf{"messages":[{"role":"user","content":"x"}]}',
]


@pytest.mark.parametrize("body", AWKWARD)
def test_bytes_are_made_again_from_what_is_kept_however_they_are_written(
    log: ListLog, recorder: Recorder, body: bytes
) -> None:
    try:
        messages = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))["messages"]
    except ValueError:
        messages = MESSAGES
    content, _ = sent(log, recorder, body, messages)
    assert made_again(content) == body
    assert "changed" not in content["wire"]


@pytest.mark.parametrize(
    "outer_messages",
    [
        [{"content": "x", "role": "user", "weight": 1.0}],
        [{"role": "user", "content": "x", "weight": 1}],
        [{"role": "user", "content": "x", "weight": True}],
    ],
    ids=["another order", "an integer", "a bool"],
)
def test_messages_that_are_only_equal_to_those_sent_do_not_stand_for_them(
    log: ListLog, recorder: Recorder, outer_messages: Any
) -> None:
    body = b'{"messages":[{"role":"user","content":"x","weight":1.0}]}'
    content, _ = sent(log, recorder, body, orjson.loads(body)["messages"], outer_messages)
    assert made_again(content) == body


def test_bytes_that_are_no_utf8_are_marked(log: ListLog, recorder: Recorder) -> None:
    content, data = sent(log, recorder, b'{"messages":[{"role":"user","content":"caf\xe9"}]}')
    assert content["wire"]["changed"] is True
    assert data["sanitised"] == {"bytes": 1}


def test_bytes_cut_to_what_may_be_kept_are_marked(log: ListLog, recorder: Recorder) -> None:
    recorder.cleaner = Cleaner(max_body_bytes=100)
    content, data = sent(log, recorder, b"{" + b" " * 200 + b"}")
    assert content["wire"]["changed"] is True
    assert data["sanitised"] == {"size": 1}


def test_a_try_that_sends_the_same_bytes_again_tells_nothing_new(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        for body in (b"{}", b"{}", b'{"other": 1}'):
            call = begin(recorder, defer=True)
            call.wire_request(body)
            call.end(status="error")
    outer.end()
    bodies = [record["content"] for record in log.records if record["type"] == "llm:request:debug"]
    assert [one["wire"]["body"] for one in bodies[1:] if one] == ["{}", '{"other": 1}']


def test_a_secret_beside_the_messages_is_marked(log: ListLog, recorder: Recorder) -> None:
    key = "sk-" + "a1" * 20
    body = orjson.dumps({"messages": MESSAGES, "metadata": {"note": f"use {key}"}})
    content, data = sent(log, recorder, body)
    assert (content["wire"]["changed"], data["redacted"]) == (True, 1)
    assert key not in orjson.dumps(content).decode()


def test_a_secret_in_the_messages_is_marked_where_the_bytes_are(log: ListLog, recorder: Recorder) -> None:
    messages = [{"role": "user", "content": "my key is sk-" + "a1" * 20}]
    content, data = sent(log, recorder, orjson.dumps({"messages": messages}), messages)
    assert content["wire"]["changed"] is True
    assert data["redacted"] >= 1


# Whatever a program says.


@pytest.mark.parametrize("usage", ["many", ["x"], {"input_tokens": "5"}, {"input_tokens": None, "n": object()}, 7])
def test_usage_that_is_none_harms_no_call(log: ListLog, recorder: Recorder, usage: Any) -> None:
    outer = begin(recorder)
    with outer.active():
        for own in (usage, {"input_tokens": 3}, usage):
            begin(recorder).end({"usage": own, "reported_cost_usd": "much"}, status="error")
    outer.end({"usage": usage, "response_cached": False, "reported_cost_usd": "0.5"})
    assert response(log)["status"] == "ok"
    assert response(log)["attempts"] == 3
