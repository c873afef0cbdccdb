"""Requests of our contract as Chat Completions has them on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from providers.contract import (
    ChatRequest,
    ImageBlock,
    Message,
    ReasoningBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolSpec,
)
from providers.errors import InvalidRequestError
from providers.openai_request import body_of, encode, messages_of

ORDER = ToolCallBlock(id="call_1", name="find_order", input={"order": "A-1042"})
WIRE_ORDER = {"id": "call_1", "type": "function", "function": {"name": "find_order", "arguments": '{"order":"A-1042"}'}}


def wire(**fields: Any) -> dict[str, Any]:
    """The body of a request with these fields."""
    return body_of(ChatRequest.model_validate({"model": "m", "messages": [], **fields}))


def said(*blocks: Any, role: str = "user", **fields: Any) -> list[dict[str, Any]]:
    return messages_of([Message.model_validate({"role": role, "content": list(blocks), **fields})])


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "function", "tool"])
def test_a_message_of_any_role_keeps_its_role_text_and_name(role: str) -> None:
    (message,) = messages_of([Message(role=role, content="Hello", name="ann")])  # type: ignore[arg-type]
    assert message == {"role": role, "content": "Hello", "name": "ann"}


def test_a_single_text_block_is_a_string_and_several_are_parts() -> None:
    assert said(TextBlock(text="a")) == [{"role": "user", "content": "a"}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert said(TextBlock(text="a"), TextBlock(text="b")) == [{"role": "user", "content": parts}]


def test_keys_that_no_field_names_go_to_the_same_place() -> None:
    cached = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    assert said(cached) == [{"role": "user", "content": [cached]}]
    assert messages_of([Message.model_validate({"role": "assistant", "content": "{", "prefix": True})])[0]["prefix"]
    assert wire(seed=7, logit_bias={"50256": -100})["logit_bias"] == {"50256": -100}
    tool = {"name": "f", "parameters": {}, "strict": True}
    assert wire(tools=[tool])["tools"] == [{"type": "function", "function": tool}]


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ({"type": "url", "url": "https://shop.test/a.png"}, "https://shop.test/a.png"),
        ({"type": "base64", "media_type": "image/jpeg", "data": "AAA="}, "data:image/jpeg;base64,AAA="),
        ({"data": "AAA="}, "data:image/png;base64,AAA="),
    ],
)
def test_images_are_sent_as_urls(source: dict[str, Any], url: str) -> None:
    (message,) = said(TextBlock(text="What is this?"), ImageBlock(source=source))
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": url}}


def test_an_images_detail_may_stand_beside_or_in_its_source() -> None:
    beside = {"type": "image", "source": {"url": "u"}, "detail": "low"}
    inside = {"type": "image", "source": {"url": "u", "detail": "low"}}
    assert [said(one)[0]["content"][0]["image_url"] for one in (beside, inside)] == [{"url": "u", "detail": "low"}] * 2


def test_an_image_whose_source_cannot_be_sent_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"'file_id'.*must be"):
        said(ImageBlock(source={"file_id": "f-1"}))


def test_thoughts_stay_behind() -> None:
    thoughts = [
        ThinkingBlock(thinking="hm", signature="s"),
        RedactedThinkingBlock(data="x"),
        ReasoningBlock(content=["c"], summary=["s"]),
    ]
    assert said(*thoughts, TextBlock(text="42"), role="assistant") == [{"role": "assistant", "content": "42"}]
    assert said(*thoughts, role="assistant") == [{"role": "assistant", "content": ""}]


def test_a_tools_round_trip() -> None:
    asked = Message(role="assistant", content=[TextBlock(text="Let me see"), ORDER])
    silent = Message(role="assistant", content=[ORDER])
    result = Message(role="tool", content=[ToolResultBlock(tool_call_id="call_1", output={"state": "sent"})])
    assert messages_of([asked, silent, result]) == [
        {"role": "assistant", "content": "Let me see", "tool_calls": [WIRE_ORDER]},
        {"role": "assistant", "content": None, "tool_calls": [WIRE_ORDER]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"state":"sent"}'},
    ]


def test_a_tools_result_as_a_plain_message() -> None:
    message = Message(role="tool", content="sent", tool_call_id="call_1")
    assert messages_of([message]) == [{"role": "tool", "content": "sent", "tool_call_id": "call_1"}]


def test_results_in_a_users_message_come_before_what_the_user_says() -> None:
    results = [ToolResultBlock(tool_call_id=name, output=name) for name in ("a", "b")]
    assert said(TextBlock(text="And now?"), *results) == [
        {"role": "tool", "tool_call_id": "a", "content": "a"},
        {"role": "tool", "tool_call_id": "b", "content": "b"},
        {"role": "user", "content": "And now?"},
    ]


@pytest.mark.parametrize(
    "given_calls",
    [
        [WIRE_ORDER],
        [{"id": "call_1", "name": "find_order", "arguments": {"order": "A-1042"}}],
        [{"id": "call_1", "tool": "find_order", "arguments": {"order": "A-1042"}}],
    ],
)
@pytest.mark.parametrize("content", ["", [ORDER]])
def test_calls_beside_the_content_are_sent_once(given_calls: Any, content: Any) -> None:
    message = Message.model_validate({"role": "assistant", "content": content, "tool_calls": given_calls})
    assert messages_of([message]) == [{"role": "assistant", "content": None, "tool_calls": [WIRE_ORDER]}]


def test_only_assistants_call_tools() -> None:
    with pytest.raises(InvalidRequestError, match="role user has the tool call 'call_1'"):
        said(ORDER)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("f", {"type": "function", "function": {"name": "f"}}),
        ("nobody", "nobody"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "any"}, "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "allowed_tools", "mode": "auto"}, {"type": "allowed_tools", "mode": "auto"}),
    ],
)
def test_a_choice_of_tools_in_every_form(choice: Any, expected: Any) -> None:
    assert wire(tools=[{"name": "f", "parameters": {}}], tool_choice=choice)["tool_choice"] == expected


SCHEMA = {"title": "The verdict!", "type": "object"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, {"type": "text"}),
        ({"type": "json"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": SCHEMA, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "The_verdict_", "schema": SCHEMA, "strict": True}},
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "v", "schema": SCHEMA, "strict": False}},
            {"type": "json_schema", "json_schema": {"name": "v", "schema": SCHEMA, "strict": False}},
        ),
    ],
)
def test_a_response_format_in_every_form(wanted: Any, expected: Any) -> None:
    assert wire(response_format=wanted)["response_format"] == expected


def test_parameters_are_sent_where_they_are_given_and_zero_is_given() -> None:
    assert wire() == {"model": "m", "messages": []}
    given_all = {"temperature": 0.0, "top_p": 0.5, "stop": ["x"], "reasoning_effort": "low"}
    body = wire(**given_all, max_output_tokens=0, timeout=3, conversation_id="c", metadata={"a": 1}, stream=True)
    assert body == {"model": "m", "messages": [], **given_all, "max_completion_tokens": 0}
    request = ChatRequest(model="m", messages=[], max_output_tokens=9)
    assert body_of(request, max_tokens_field="max_tokens")["max_tokens"] == 9


@pytest.mark.parametrize("field", ["temperature", "top_p"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_has_no_word_for_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidRequestError, match=f"{field} is (nan|inf)"):
        wire(**{field: value})


def test_integers_of_any_size_and_lone_surrogates_can_be_sent() -> None:
    assert json.loads(encode({"n": 1 << 70, "s": "\ud800"})) == {"n": 1 << 70, "s": "\ud800"}


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}])
def test_what_cannot_be_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
        encode({"x": value})


TEXTS = st.text(max_size=20)
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
OBJECTS = st.dictionaries(NAMES, st.one_of(st.integers(-5, 5), TEXTS, st.booleans(), st.none()), max_size=3)
FOR_ALL = st.one_of(st.builds(TextBlock, text=TEXTS), st.builds(ThinkingBlock, thinking=TEXTS))
FOR_USERS = st.one_of(
    FOR_ALL,
    st.builds(ImageBlock, source=st.builds(lambda url: {"type": "url", "url": url}, TEXTS)),
    st.builds(ToolResultBlock, tool_call_id=NAMES, output=st.one_of(TEXTS, OBJECTS)),
)
FOR_ASSISTANTS = st.one_of(FOR_ALL, st.builds(ToolCallBlock, id=NAMES, name=NAMES, input=OBJECTS))
MESSAGES = st.one_of(
    st.builds(Message, role=st.sampled_from(["system", "developer"]), content=TEXTS),
    st.builds(Message, role=st.just("user"), content=st.one_of(TEXTS, st.lists(FOR_USERS, min_size=1, max_size=3))),
    st.builds(Message, role=st.just("assistant"), content=st.one_of(TEXTS, st.lists(FOR_ASSISTANTS, max_size=3))),
    st.builds(Message, role=st.just("tool"), content=TEXTS, tool_call_id=NAMES),
)
REQUESTS = st.builds(
    ChatRequest,
    model=NAMES,
    messages=st.lists(MESSAGES, max_size=4),
    tools=st.none() | st.lists(st.builds(ToolSpec, name=NAMES, parameters=OBJECTS, description=TEXTS), max_size=2),
    temperature=st.none() | st.floats(0, 2),
    max_output_tokens=st.none() | st.integers(1, 100),
    stop=st.none() | st.lists(TEXTS, max_size=2),
    tool_choice=st.none() | st.sampled_from(["auto", "none", "required", "any"]),
    reasoning_effort=st.none() | st.sampled_from(["low", "medium", "high"]),
    response_format=st.none() | st.sampled_from([{"type": "json"}, {"type": "json_schema", "schema": SCHEMA}]),
)
SDKS_OWN: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)


@given(REQUESTS)
@settings(max_examples=150, deadline=None)
def test_every_request_is_one_that_the_sdk_would_send(request: ChatRequest) -> None:
    SDKS_OWN.validate_python(json.loads(encode(body_of(request))))


@given(st.lists(MESSAGES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_text_call_result_or_image_is_lost(messages: list[Message]) -> None:
    sent = json.loads(encode({"messages": messages_of(messages)}))["messages"]
    texts = [message["content"] for message in sent if isinstance(message["content"], str)]
    parts = [part for message in sent if isinstance(message["content"], list) for part in message["content"]]
    texts += [part["text"] for part in parts if part["type"] == "text"]
    images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    calls = [call["function"] for message in sent for call in message.get("tool_calls", ())]
    for message in messages:
        for block in message.content if isinstance(message.content, list) else [TextBlock(text=message.content)]:
            if isinstance(block, TextBlock):
                assert block.text in texts or block.text == ""
            elif isinstance(block, ToolCallBlock):
                assert (block.name, block.input) in [(call["name"], json.loads(call["arguments"])) for call in calls]
            elif isinstance(block, ToolResultBlock):
                assert block.tool_call_id in [one.get("tool_call_id") for one in sent]
            elif isinstance(block, ImageBlock):
                assert block.source["url"] in images
