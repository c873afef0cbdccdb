"""Answers of Chat Completions as responses of our contract, whole and streamed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from hub.demo import openai_wire
from providers.contract import ChatResponse, Message, StreamChunk, TextBlock, ThinkingBlock, ToolCall, ToolCallBlock
from providers.errors import InvalidToolCallError
from providers.openai_request import messages_of
from providers.openai_response import Assembly, calls_of, response_of, usage_in


def answer(message: dict[str, Any], **more: Any) -> ChatResponse:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    response = response_of({"id": "c-1", "model": "m-1", "choices": [choice], **more})
    assert response is not None
    return response


def call(arguments: Any, name: str = "find_order") -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_text_id_model_and_reason_are_read() -> None:
    response = answer({"content": "Hello", "refusal": None, "annotations": []}, object="chat.completion", created=7)
    assert (response.content, response.text) == ([TextBlock(text="Hello")], "Hello")
    assert (response.id, response.model, response.finish_reason) == ("c-1", "m-1", "stop")
    assert response.metadata == {"created": 7}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_of_compatible_servers_come_first(name: str) -> None:
    assert answer({"content": "42", name: "hm"}).content == [ThinkingBlock(thinking="hm"), TextBlock(text="42")]


def test_content_in_parts_is_read() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
    content = [thought, {"type": "text", "text": "42"}]
    assert answer({"content": content}).content == [ThinkingBlock(thinking="hm"), TextBlock(text="42")]


def test_a_refusal_is_text_and_is_marked() -> None:
    response = answer({"content": None, "refusal": "I cannot."})
    assert response.text == "I cannot."
    assert response.metadata == {"refusal": "I cannot."}


def test_calls_are_blocks_and_parsed() -> None:
    response = answer({"content": None, "tool_calls": [call('{"order":"A-1042"}')]})
    assert response.content == [ToolCallBlock(id="call_1", name="find_order", input={"order": "A-1042"})]
    assert response.tool_calls == [ToolCall(id="call_1", name="find_order", arguments={"order": "A-1042"})]
    assert calls_of(response) == response.tool_calls


@pytest.mark.parametrize("arguments", ["", " ", "null", None])
def test_no_arguments_are_none(arguments: Any) -> None:
    assert calls_of(answer({"tool_calls": [call(arguments)]}))[0].arguments == {}


@pytest.mark.parametrize("arguments", ['{"order": "A-', "[1]", "3", '"x"', "NaN", [1]])
def test_arguments_that_are_no_object_are_not_guessed_at_but_go_back_as_they_came(arguments: Any) -> None:
    response = answer({"content": "", "tool_calls": [call(arguments), call("{}", "other")]})
    assert [one.name for one in response.tool_calls or ()] == ["other"]
    with pytest.raises(InvalidToolCallError, match="'find_order' are no JSON object") as caught:
        calls_of(response)
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
    assert (caught.value.tool_name, caught.value.raw_arguments) == ("find_order", raw)
    again = ChatResponse.model_validate_json(response.model_dump_json())
    (sent,) = messages_of([Message(role="assistant", content=again.content)])
    assert sent["tool_calls"][0]["function"]["arguments"] == raw


def test_what_else_the_vendor_says_is_kept() -> None:
    logprobs: dict[str, Any] = {"content": []}
    first = {"index": 0, "message": {"content": "a", "audio": {"id": "x"}}, "logprobs": logprobs}
    second = {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"}
    response = response_of({"choices": [first, second], "service_tier": "flex", "usage": {"audio_seconds": 3}})
    assert response is not None
    assert response.metadata == {
        "service_tier": "flex",
        "usage": {"audio_seconds": 3},
        "logprobs": logprobs,
        "message": {"audio": {"id": "x"}},
        "choices": [second],
    }
    assert response.usage is None


@pytest.mark.parametrize(
    "document", [{}, {"choices": []}, {"choices": None}, {"choices": ["x"]}, {"choices": [{"text": "old"}]}]
)
def test_what_is_no_answer_is_none(document: dict[str, Any]) -> None:
    assert response_of(document) is None


def test_whole_numbers_in_arguments_are_exact_however_large() -> None:
    (call_with,) = calls_of(answer({"tool_calls": [call('{"wei": 123456789012345678901234567890}')]}))
    assert call_with.arguments == {"wei": 123456789012345678901234567890}


def test_tokens_are_never_less_than_none() -> None:
    usage = usage_in(
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cache_write_tokens": 50}}}
    )
    assert usage is not None
    assert usage.input_tokens == 0


def test_usage_contains_what_was_read_from_a_cache_and_not_what_was_written_to_it() -> None:
    usage = usage_in(
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 40},
                "cost": 0.000123,
            }
        }
    )
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (70, 50, 150)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (60, 30, 40)
    assert usage.cost_usd == Decimal("0.000123")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, "many", 7])
def test_usage_that_does_not_say_enough_is_unknown(usage: Any) -> None:
    assert usage_in({"usage": usage}) is None


def assembled(*chunks: dict[str, Any]) -> tuple[list[StreamChunk], ChatResponse | None]:
    assembly = Assembly()
    shown = [piece for chunk in chunks if (piece := assembly.add(chunk)) is not None]
    return shown, assembly.response()


def delta(**delta: Any) -> dict[str, Any]:
    return {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_the_deltas_joined_are_the_response() -> None:
    shown, response = assembled(
        delta(role="assistant", content=""),
        delta(reasoning_content="h"),
        delta(reasoning_content="m"),
        delta(content="4"),
        delta(content="2"),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "obfuscation": "xyz"},
    )
    assert response is not None
    assert [(one.block_index, one.block_type) for one in shown] == [(0, "thinking")] * 2 + [(1, "text")] * 2
    assert "".join(one.delta for one in shown) == response.text == "42"
    assert response.content[0] == ThinkingBlock(thinking="".join(one.thinking for one in shown))
    assert (response.finish_reason, response.id, response.metadata) == ("stop", "c-1", None)
    assert response.usage is not None


def test_streamed_calls_are_put_together_by_index() -> None:
    def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return delta(
            tool_calls=[
                {"index": index, "function": {"arguments": arguments, **more}, **({"id": f"c{index}"} if more else {})}
            ]
        )

    shown, response = assembled(
        piece(0, "", name="a"), piece(0, '{"x"'), piece(1, '{"y":2}', name="b"), piece(0, ":1}")
    )
    assert response is not None
    assert response.tool_calls == [
        ToolCall(id="c0", name="a", arguments={"x": 1}),
        ToolCall(id="c1", name="b", arguments={"y": 2}),
    ]
    pieces = [one.tool_calls[0] for one in shown if one.tool_calls]
    assert [(one.index, one.arguments) for one in pieces] == [(0, ""), (0, '{"x"'), (1, '{"y":2}'), (0, ":1}")]
    assert [one.block_index for one in shown] == [0, 0, 1, 0]


def test_calls_that_all_have_the_same_index_are_told_apart_by_their_ids() -> None:
    pieces = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    shown, response = assembled(delta(tool_calls=pieces[:1]), delta(tool_calls=pieces[1:]))
    assert response is not None
    assert [call.name for call in response.tool_calls or ()] == ["a", "b"]
    assert [piece.index for one in shown for piece in one.tool_calls or ()] == [0, 1]
    assert [one.block_index for one in shown] == [0, 1]


def test_streamed_content_in_parts_is_read() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    shown, response = assembled(
        delta(content=[thought]), delta(content=[{"type": "text", "text": "4"}]), delta(content="2")
    )
    assert response is not None
    assert response.content == [ThinkingBlock(thinking="hm"), TextBlock(text="42")]
    assert [(one.block_index, one.thinking, one.delta) for one in shown] == [(0, "hm", ""), (1, "", "4"), (1, "", "2")]


def test_the_blocks_of_the_response_are_in_the_order_in_which_they_began() -> None:
    shown, response = assembled(
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "a", "arguments": "{}"}}]),
        delta(content="done"),
        delta(reasoning="hm"),
    )
    assert response is not None
    assert [block.type for block in response.content] == ["tool_call", "text", "thinking"]
    assert [one.block_index for one in shown] == [0, 1, 2]


def test_one_chunk_may_hold_all_kinds() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "a", "arguments": "{}"}}
    shown, response = assembled(delta(content="42", reasoning="hm", tool_calls=[call]))
    assert response is not None
    (piece,) = shown
    assert (piece.delta, piece.thinking, len(piece.tool_calls or ())) == ("42", "hm", 1)
    assert response.text == "42"


def test_a_stream_without_any_choice_is_no_response() -> None:
    assert assembled({"choices": []}, {"usage": None})[1] is None


QUESTIONS = st.text(min_size=1, max_size=60)


@given(QUESTIONS, st.integers(0, 2), st.none() | st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_a_stream_and_a_whole_answer_say_the_same_and_what_the_sdk_reads(
    question: str, tools: int, pieces: int | None
) -> None:
    parameters = {"type": "object", "properties": {"order": {"type": "string"}, "many": {"type": "integer"}}}
    function = {"type": "function", "function": {"name": "find", "parameters": parameters}}
    body: dict[str, Any] = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": question}],
        "tools": [function] * tools,
        "stream_options": {"include_usage": True},
    }
    given_answer = openai_wire.chat_answer(body)
    whole = openai_wire.chat_completion(body, given_answer, 1)
    response = response_of(whole)
    _, streamed = assembled(*openai_wire.chat_chunks(body, given_answer, 1, pieces))
    assert response is not None
    assert streamed is not None
    left_out = {"metadata"}  # the stream's chunks have no service tier
    assert streamed.model_dump(exclude=left_out) == response.model_dump(exclude=left_out)
    sdks = ChatCompletion.model_validate(whole).choices[0]
    assert response.text == (sdks.message.content or "")
    told = [one.function for one in sdks.message.tool_calls or () if one.type == "function"]
    assert [(one.name, one.arguments) for one in response.tool_calls or ()] == [
        (one.name, json.loads(one.arguments)) for one in told
    ]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "index",
                    "usage",
                    "id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KNOWN = (ValueError, TypeError, AttributeError, KeyError, IndexError)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "id", "model", "x"]), JUNK, max_size=4))
@settings(max_examples=300, deadline=None)
def test_senseless_answers_raise_nothing_that_the_provider_does_not_know(document: dict[str, Any]) -> None:
    try:
        response_of(document)
        assembly = Assembly()
        assembly.add(document)
        assembly.response()
    except KNOWN:
        pass
