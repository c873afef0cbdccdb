"""Request and response shapes of every family, and server-sent events cut anywhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.extractors import response_facts
from hub.extractors.requests import asked
from hub.extractors.sse import SSEData
from hub.extractors.usage import cost_of, usage_of
from hub.extractors.wire import StreamReader, body_facts, inflater, operation_of, provider_of

NONE = {
    "input_tokens": None,
    "output_tokens": None,
    "cache_read_tokens": None,
    "cache_write_tokens": None,
    "reasoning_tokens": None,
}


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


SHAPES = pytest.mark.parametrize("shape", [lambda value: value, as_object], ids=["dict", "object"])


@SHAPES
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2}, {"input_tokens": 10, "output_tokens": 2}),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            {"input_tokens": 10, "output_tokens": 9, "cache_read_tokens": 4, "reasoning_tokens": 7},
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
            {
                "input_tokens": 10,
                "output_tokens": 9,
                "cache_read_tokens": 0,
                "cache_write_tokens": 3,
                "reasoning_tokens": 0,
            },
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 2,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 1000,
            },
            {"input_tokens": 1110, "output_tokens": 2, "cache_read_tokens": 100, "cache_write_tokens": 1000},
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 6},
            {"input_tokens": 10, "output_tokens": 2, "cache_read_tokens": 6},
        ),
        (  # a gateway's, of an answer of Anthropic's
            {
                "prompt_tokens": 110,
                "completion_tokens": 5,
                "total_tokens": 115,
                "prompt_tokens_details": {"cached_tokens": 100},
                "cache_creation_input_tokens": 4,
                "cache_read_input_tokens": 100,
            },
            {"input_tokens": 110, "output_tokens": 5, "cache_read_tokens": 100, "cache_write_tokens": 4},
        ),
        (  # xAI's
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            {"input_tokens": 32, "output_tokens": 103, "reasoning_tokens": 94},
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 90,
                "total_tokens": 95,
                "completion_tokens_details": {"reasoning_tokens": 80},
            },
            {"input_tokens": 5, "output_tokens": 90, "reasoning_tokens": 80},
        ),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 0, "output_tokens": 0}),
        ({"input_tokens": 4}, {"input_tokens": 4}),
        ({"input_tokens": True, "output_tokens": -1, "total_tokens": 5}, None),
        ({}, None),
    ],
)
def test_usage_becomes_inclusive_totals_and_absent_stays_unknown(
    usage: Any, expected: Any, shape: Callable[[Any], Any]
) -> None:
    assert usage_of(shape(usage)) == (None if expected is None else NONE | expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.00001"), "0.00001"),
        (1e-7, "0.0000001"),
        ("0.25", "0.25"),
        (0, "0"),
        ("much", None),
        (float("nan"), None),
        (True, None),
        (-1, None),
        (None, None),
    ],
)
def test_money_is_a_decimal_string(value: Any, expected: str | None) -> None:
    assert cost_of(value) == expected


ANTHROPIC = {
    "type": "message",
    "id": "msg-1",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 5},
}
AMPLIFIER = {
    "content": [{"type": "text", "text": "hi"}],
    "tool_calls": None,
    "usage": {
        "input_tokens": 10,
        "output_tokens": 2,
        "total_tokens": 12,
        "cache_read_tokens": 4,
        "cache_write_tokens": 5,
        "cost_usd": Decimal("0.02"),
    },
    "degradation": None,
    "finish_reason": "stop",
    "metadata": None,
}
DEBATE = {
    "content": "hi",
    "model": "mock-1",
    "usage": {"input_tokens": 0, "output_tokens": 0},
    "finish_reason": None,
    "raw_response": None,
}
SPINE = {
    "message": {"role": "assistant", "content": "hi"},
    "usage": {"input_tokens": 1, "output_tokens": 2, "cost_usd": 0.0},
    "finish_reason": "stop",
    "raw": None,
}


@SHAPES
def test_anthropics_messages_are_read(shape: Callable[[Any], Any]) -> None:
    facts = response_facts(shape(ANTHROPIC))
    assert facts["model"] == "claude"
    assert facts["response_id"] == "msg-1"
    assert facts["finish_reasons"] == ["end_turn"]
    assert facts["usage"] == NONE | {"input_tokens": 8, "output_tokens": 4, "cache_read_tokens": 5}


def test_the_contracts_responses_are_read() -> None:
    amplifier, debate, spine = (response_facts(as_object(one)) for one in (AMPLIFIER, DEBATE, SPINE))
    assert amplifier["usage"] == NONE | {
        "input_tokens": 15,
        "output_tokens": 2,
        "cache_read_tokens": 4,
        "cache_write_tokens": 5,
    }
    assert amplifier["reported_cost_usd"] == "0.02"
    assert amplifier["model"] is None
    assert debate["model"] == "mock-1"
    assert debate["usage"] == NONE | {"input_tokens": 0, "output_tokens": 0}
    assert debate["messages"] == [{"role": "assistant", "content": "hi"}]
    assert "reported_cost_usd" not in spine
    assert spine["messages"] == [{"role": "assistant", "content": "hi"}]
    assert spine["finish_reasons"] == ["stop"]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("hi", [{"role": "assistant", "content": "hi"}]),
        ({"answer": 42}, [{"role": "assistant", "content": {"answer": 42}}]),
    ],
)
def test_strings_and_dicts_are_the_answer(result: Any, said: Any) -> None:
    assert response_facts(result)["messages"] == said


class Hostile:
    def __getattr__(self, name: str) -> Any:
        return self


@pytest.mark.parametrize("result", [None, 5, object(), [1], (n for n in [1]), SimpleNamespace(a=1), Hostile()])
def test_other_results_say_nothing(result: Any) -> None:
    facts = response_facts(result)
    assert not facts.get("usage")
    assert not facts.get("model")


def test_a_failed_response_says_why() -> None:
    body = {
        "object": "response",
        "id": "r",
        "status": "failed",
        "output": [],
        "error": {"code": "server_error", "message": "x"},
    }
    facts = body_facts(orjson.dumps(body))
    assert facts["error_type"] == "server_error"
    assert facts["error_message"] == "x"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b'{"a": 1}', b"\xff"])
def test_a_body_we_do_not_know_says_nothing(body: bytes) -> None:
    assert body_facts(body) == {}


def test_only_allow_listed_parameters_are_read_and_only_short_ones() -> None:
    values = {
        "messages": [],
        "temperature": 1,
        "stop": ["a", "x" * 500],
        "reasoning": {"effort": "high", "summary": "auto"},
        "response_format": {"type": "json_schema", "json_schema": {"secret": 1}},
        "seed": 2**70,
        "user": "somebody",
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "service_tier": "x" * 500,
        "previous_response_id": "resp_1",
    }
    assert asked(values).params == {
        "temperature": 1,
        "stop": ["a"],
        "reasoning_effort": "high",
        "response_format": "json_schema",
        "seed": 2**70,
        "tool_choice": "function",
        "previous_response_id": "resp_1",
    }


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"format": {"type": "json_schema", "schema": {"s": 1}}}, "json_schema"),
        ({"verbosity": "low"}, None),
        ("x", None),
    ],
)
def test_the_form_of_an_answer_is_read_where_responses_have_it(given: Any, kind: str | None) -> None:
    params = asked({"input": "Hi", "text": given}).params
    assert params == (None if kind is None else {"response_format": kind})


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/v1/chat/completions", "chat"),
        ("post", "/chat/completions", "chat"),
        ("POST", "/openai/deployments/d/chat/completions?api-version=1", "chat"),
        ("POST", "/v1/responses/", "chat"),
        ("POST", "/v1/completions", "text_completion"),
        ("POST", "/v1/embeddings", "embeddings"),
        ("GET", "/v1/responses", None),
        ("POST", "/v1/responses/r-1/cancel", None),
        ("POST", "/v1/files", None),
    ],
)
def test_paths_tell_the_operation(method: str, path: str, operation: str | None) -> None:
    assert operation_of(method, path) == operation


def test_an_unknown_host_speaks_for_its_wire() -> None:
    assert provider_of("llm.internal") == "openai"
    assert provider_of("llm.internal", "azure.ai.openai") == "azure.ai.openai"


def events(*datas: Any, end: bytes = b"\n") -> bytes:
    return b"".join(b"event: e" + end + b"data: " + orjson.dumps(data) + end + end for data in datas)


CHUNKS = [
    {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "häl"}}, {"index": 1, "delta": {"content": "two"}}]},
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]
WHOLE = [b": hello\n\n" + events(*CHUNKS, end=end) + b"data: [DONE]" + end + end for end in (b"\n", b"\r\n")]


@pytest.mark.parametrize("whole", WHOLE, ids=["LF", "CRLF"])
def test_a_stream_cut_into_pieces_anywhere_is_read_the_same(whole: bytes) -> None:
    for at in range(len(whole) + 1):
        reader = StreamReader(1 << 20)
        reader.feed(whole[:at])
        reader.feed(whole[at:])
        facts = reader.facts()
        assert reader.ended
        assert facts["chunk_count"] == 4
        assert [message["content"] for message in facts["messages"] or ()] == ["hällo", "two"]
        assert facts["usage"] == NONE | {"input_tokens": 1, "output_tokens": 2}


@pytest.mark.parametrize("whole", WHOLE, ids=["LF", "CRLF"])
def test_a_stream_that_stops_anywhere_is_never_taken_for_whole_before_its_end_mark(whole: bytes) -> None:
    for at in range(len(whole)):
        reader = StreamReader(1 << 20)
        reader.feed(whole[:at])
        reader.facts()
        assert reader.ended == (b"[DONE]" in whole[:at])
        assert reader.whole == reader.ended, "one of its choices has no finish reason"


def test_a_stream_of_a_server_without_end_mark_is_whole_from_its_last_finish_reason_on() -> None:
    second = {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}
    said, ended, rest = events(*CHUNKS[:3]), events(second), events(CHUNKS[3])
    data = said + ended + rest
    for at in range(len(data)):
        reader = StreamReader(1 << 20)
        reader.feed(data[:at])
        reader.facts()
        tail = data[len(said + ended) : at]
        half = b"data:" in tail and not tail.rstrip().endswith(orjson.dumps(CHUNKS[3]))
        assert reader.whole == (at >= len(said + ended) - 2 and not half)
        assert not reader.ended


PIECES = st.binary(max_size=40) | st.sampled_from(
    [b"data:", b"\n", b"\r\n", b"\n\n", b"data: [DONE]", b'{"error": {"message": "no"}}', b'{"choices": [7]}', b"[1]"]
)


@given(st.lists(PIECES, max_size=30))
def test_bytes_of_any_kind_are_counted_the_same_however_they_come(pieces: list[bytes]) -> None:
    in_pieces, at_once = StreamReader(50), StreamReader(50)
    for piece in pieces:
        in_pieces.feed(piece)
    at_once.feed(b"".join(pieces))
    counts = [(reader.facts()["chunk_count"], reader.ended, reader.error) for reader in (in_pieces, at_once)]
    assert counts[0] == counts[1]


@given(st.data())
def test_events_come_out_whole_however_they_are_cut(data: st.DataObject) -> None:
    payloads = data.draw(
        st.lists(st.text(alphabet="ab:ä ", min_size=1, max_size=9).map(str.strip).filter(bool), max_size=5)
    )
    whole = "".join(f"data: {payload}\n\n" for payload in payloads).encode()
    parser, seen, at = SSEData(1 << 20), [], 0
    while at < len(whole):
        step = data.draw(st.integers(1, 6))
        seen += parser.feed(whole[at : at + step])
        at += step
    assert [one.decode() for one in seen] == payloads


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 100, b"x" * 100 + b"\n\n"],
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"data: " + b"x" * 30, b"x" * 30, b"\n\n"],
        [b"data: x\ndata: " + b"x" * 50 + b"\n\n"],
        [b"data: " + b"x" * 50, b"data: in its middle\n\n"],
    ],
    ids=["twice too long", "at once", "little by little", "two lines", "data in its middle"],
)
def test_an_event_beyond_the_bound_is_left_out_and_the_next_one_read(pieces: list[bytes]) -> None:
    parser = SSEData(50)
    assert [parser.feed(piece) for piece in pieces] == [[]] * len(pieces)
    assert parser.feed(b"data: small\n\n") == [b"small"]


def test_a_byte_order_mark_hides_no_event() -> None:
    parser = SSEData(50)
    assert parser.feed(b"\xef\xbb") + parser.feed(b"\xbfdata: first\n\n") == [b"first"]


def test_an_error_in_mid_stream_is_the_streams_error() -> None:
    reader = StreamReader(1 << 20)
    reader.feed(events(CHUNKS[0], {"error": {"message": "overloaded", "type": "server_error", "code": None}}))
    assert reader.error == {"error_type": "server_error", "error_message": "overloaded"}
    assert not reader.ended


@pytest.mark.parametrize("nothing", [{}, [], "", False, None])
def test_an_error_that_says_nothing_is_none(nothing: Any) -> None:
    reader = StreamReader(1 << 20)
    chunk: Any = CHUNKS[0]
    reader.feed(events({**chunk, "error": nothing}))
    assert reader.error is None


def test_usage_once_told_is_not_forgotten_for_an_empty_one() -> None:
    reader = StreamReader(1 << 20)
    reader.feed(events({"choices": [], "usage": {"prompt_tokens": 1}}, {"choices": [], "usage": {}}))
    assert (reader.facts()["usage"] or {})["input_tokens"] == 1


def test_what_does_not_unpack_gives_what_came_before() -> None:
    packed = gzip.compress(b"a" * 1000)
    inflate = inflater("gzip", 1 << 20)
    assert inflate is not None
    assert inflate(packed[:-4]) == b"a" * 1000
    assert inflate(b"garbage after") == b""
    assert inflater("br, gzip", 10) is None
    broken = inflater("gzip", 10)
    assert broken is not None
    assert broken(b"no gzip") == b""
