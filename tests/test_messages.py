from __future__ import annotations

import enum
import sqlite3
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.messages import count_and_system, parts, summarise, tool_name

Read = list[tuple[Any, ...]]
IMAGE = "data:image/png;base64," + "iVBORw0K" * 100

# Shape, message, and of each part: role, type, name, tool_call_id, path.
SHAPES: list[tuple[str, Any, Read]] = [
    ("string", "hi", [(None, "text", None, None, "$")]),
    ("openai", {"role": "user", "content": "hi"}, [("user", "text", None, None, "$.content")]),
    ("author", {"role": "user", "name": "ann", "content": "hi"}, [("user", "text", "ann", None, "$.content")]),
    (
        "openai blocks",
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": IMAGE}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
            ],
        },
        [
            ("user", "text", None, None, "$.content[0].text"),
            ("user", "image", None, None, None),
            ("user", "audio", None, None, None),
            ("user", "file", None, None, None),
        ],
    ),
    (
        "openai tool calls",
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        },
        [("assistant", "tool_call", "add", "c1", "$.tool_calls[0].function.arguments")],
    ),
    (
        "openai legacy call",
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
        [("assistant", "tool_call", "add", None, "$.function_call.arguments")],
    ),
    (
        "openai tool",
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        [("tool", "tool_result", None, "c1", "$.content")],
    ),
    (
        "openai function",
        {"role": "function", "name": "add", "content": "3"},
        [("function", "tool_result", "add", None, "$.content")],
    ),
    (
        "openai refusal and audio",
        {"role": "assistant", "content": None, "refusal": "no", "audio": {"id": "a", "transcript": "said"}},
        [
            ("assistant", "refusal", None, None, "$.refusal"),
            ("assistant", "audio", None, None, "$.audio.transcript"),
        ],
    ),
    (
        "reasoning beside content",
        {"role": "assistant", "reasoning_content": "hm", "content": "yes"},
        [
            ("assistant", "thinking", None, None, "$.reasoning_content"),
            ("assistant", "text", None, None, "$.content"),
        ],
    ),
    (
        "responses message",
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
        [("assistant", "text", None, None, "$.content[0].text")],
    ),
    (
        "responses call",
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "add", "arguments": "{}"},
        [("assistant", "tool_call", "add", "c1", "$.arguments")],
    ),
    (
        "responses output",
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        [("tool", "tool_result", None, "c1", "$.output")],
    ),
    (
        "responses reasoning",
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        [("assistant", "thinking", None, None, "$.summary[0].text")],
    ),
    (
        "responses hidden reasoning",
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "xyz"},
        [("assistant", "redacted_thinking", None, None, None)],
    ),
    (
        "responses built-in call",
        {"type": "web_search_call", "id": "w", "status": "completed"},
        [("assistant", "tool_call", "web_search", "w", "$")],
    ),
    (
        "anthropic",
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "yes"},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
            ],
        },
        [
            ("assistant", "thinking", None, None, "$.content[0].thinking"),
            ("assistant", "redacted_thinking", None, None, None),
            ("assistant", "text", None, None, "$.content[2].text"),
            ("assistant", "tool_call", "add", "c1", "$.content[3].input"),
        ],
    ),
    (
        "anthropic results",
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "3"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "4"}]},
                {"type": "tool_result", "tool_use_id": "c3", "content": [{"type": "image"}, {"type": "image"}]},
                {"type": "tool_result", "tool_use_id": "c4"},
                {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
            ],
        },
        [
            ("user", "tool_result", None, "c1", "$.content[0].content"),
            ("user", "tool_result", None, "c2", "$.content[1].content[0].text"),
            ("user", "tool_result", None, "c3", "$.content[2].content"),
            ("user", "tool_result", None, "c4", None),
            ("user", "image", None, None, None),
        ],
    ),
    (
        "amplifier",
        {
            "role": "assistant",
            "content": [
                {"type": "tool_call", "id": "c1", "name": "add", "input": {"a": 1}, "visibility": None},
                {"type": "tool_result", "tool_call_id": "c1", "output": 3},
                {"type": "reasoning", "content": ["hm"], "summary": []},
            ],
        },
        [
            ("assistant", "tool_call", "add", "c1", "$.content[0].input"),
            ("assistant", "tool_result", None, "c1", "$.content[1].output"),
            ("assistant", "thinking", None, None, "$.content[2].content[0]"),
        ],
    ),
    (
        "spine",
        {
            "role": "assistant",
            "content": "yes",
            "parts": None,
            "tool_calls": [{"id": "c1", "name": "add", "arguments": {"a": 1}}],
            "tool_call_id": None,
            "name": None,
        },
        [
            ("assistant", "text", None, None, "$.content"),
            ("assistant", "tool_call", "add", "c1", "$.tool_calls[0].arguments"),
        ],
    ),
    (
        "gemini",
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"text": "yes"},
                {"functionCall": {"name": "add", "args": {"a": 1}}},
                {"functionResponse": {"name": "add", "response": {"r": 1}}},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "u"}},
            ],
        },
        [
            ("model", "thinking", None, None, "$.parts[0].text"),
            ("model", "text", None, None, "$.parts[1].text"),
            ("model", "tool_call", "add", None, "$.parts[2].functionCall.args"),
            ("model", "tool_result", "add", None, "$.parts[3].functionResponse.response"),
            ("model", "image", None, None, None),
            ("model", "file", None, None, None),
        ],
    ),
    (
        "bedrock",
        {
            "role": "assistant",
            "content": [{"text": "yes"}, {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}}],
        },
        [
            ("assistant", "text", None, None, "$.content[0].text"),
            ("assistant", "tool_call", "add", "c1", "$.content[1].toolUse.input"),
        ],
    ),
    (
        "opentelemetry",
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "yes"},
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}},
                {"type": "tool_call_response", "id": "c1", "response": "3"},
                {"type": "blob", "modality": "image", "content": "AAAA"},
            ],
        },
        [
            ("assistant", "text", None, None, "$.parts[0].content"),
            ("assistant", "thinking", None, None, "$.parts[1].content"),
            ("assistant", "tool_call", "add", "c1", "$.parts[2].arguments"),
            ("assistant", "tool_result", None, "c1", "$.parts[3].response"),
            ("assistant", "image", None, None, None),
        ],
    ),
    ("strings as blocks", {"role": "user", "content": ["a"]}, [("user", "text", None, None, "$.content[0]")]),
    ("unknown block", {"role": "user", "content": [{"type": "x"}]}, [("user", "json", None, None, "$.content[0]")]),
    ("unknown", {"role": "user", "weight": 1}, [("user", "json", None, None, "$")]),
    ("nothing said", {"role": "assistant", "content": None}, [("assistant", "json", None, None, "$")]),
    ("number", 3, [(None, "json", None, None, "$")]),
]


@pytest.mark.parametrize(("message", "read"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_a_message_is_read_into_its_parts(message: Any, read: Read) -> None:
    assert [part[:5] for part in parts(message)] == read


@pytest.mark.parametrize("message", [shape[1] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_sqlite_finds_what_a_path_names_and_its_size_is_as_told(message: Any) -> None:
    with sqlite3.connect(":memory:") as database:
        for part in parts(message):
            if part.path is None:
                assert part.bytes == 0
                continue
            query = "SELECT json_extract(?, ?), json_type(?, ?)"
            body = orjson.dumps(message).decode()
            value, kind = database.execute(query, (body, part.path, body, part.path)).fetchone()
            assert kind is not None
            assert (kind == "text") is not part.is_json
            assert part.bytes == len(str(value).encode()) or kind == "null"
    database.close()


def test_size_is_in_bytes_of_utf_8() -> None:
    assert parts("é漢")[0].bytes == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5) | st.sampled_from(["text", "reasoning"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "role",
                        "content",
                        "type",
                        "text",
                        "tool_calls",
                        "function",
                        "parts",
                        "name",
                        "arguments",
                        "input",
                    ),
                    *("output", "functionCall", "inlineData", "audio", "summary", "refusal", "function_call", "id"),
                ]
            ),
            inner | st.sampled_from(["tool_use", "tool_result", "web_search_call", "image", "function_call", "blob"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_shape_is_refused(message: Any) -> None:
    assert parts(message)
    orjson.dumps(summarise([message], [message]))
    count_and_system([message])


def test_the_summary_of_a_request_shows_what_was_asked_last() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": IMAGE}}],
        },
        {"role": "assistant", "content": "which?"},
    ]
    assert summarise(messages, [{"type": "function", "function": {"name": "add"}}, {"name": "sub"}]) == {
        "text": "look",
        "roles": {"system": 1, "user": 1, "assistant": 1},
        "kinds": {"text": 3, "image": 1},
        "tool_names": ["add", "sub"],
        "bytes": 18,
    }


def test_the_summary_of_an_answer_shows_its_text_else_its_calls() -> None:
    thought = {"type": "reasoning", "summary": [{"text": "secret thought"}]}
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 1}'}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]}
    assert summarise([thought, call, said])["text"] == "yes"
    assert summarise([thought, call])["text"] == 'add({"a": 1})'
    assert summarise([thought, call])["tool_names"] == ["add"]


def test_a_preview_is_cut_and_has_no_base64() -> None:
    text = summarise([{"role": "user", "content": "see " + IMAGE + " word" * 100}], limit=60)["text"]
    assert text.startswith("see [image/png, 822 characters] word word")
    assert text.endswith("more characters]")
    assert "iVBOR" not in text


@pytest.mark.parametrize(("messages", "text"), [([], ""), ("hi", "hi"), ([{"role": "system", "content": "s"}], "s")])
def test_a_summary_of_little(messages: Any, text: str) -> None:
    assert summarise(messages)["text"] == text


class Role(enum.Enum):
    SYSTEM = "system"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([{"role": "user"}, {"role": "system"}], (2, True)),
        ([{"role": "developer"}], (1, True)),
        ([{"role": "user"}], (1, False)),
        ([SimpleNamespace(role=Role.SYSTEM)], (1, True)),
        ([{"role": Role.SYSTEM}], (1, True)),
        ([{"role": []}], (1, False)),
        (["hi", 3, None], (3, False)),
        ("hi", (1, False)),
        (None, (0, False)),
        ((each for each in "ab"), (0, False)),
    ],
)
def test_messages_are_counted_and_the_systems_found(messages: Any, told: tuple[int, bool]) -> None:
    assert count_and_system(messages) == told


def test_a_tool_is_named_in_any_shape() -> None:
    shapes: list[Any] = [{"type": "function", "function": {"name": "a"}}, {"name": "a"}, {"type": "a"}]
    assert [tool_name(shape) for shape in shapes] == ["a", "a", "a"]
    assert tool_name(3) is None
