"""What the loopback server answers: the same request always gets the same words, tool calls and token counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

import orjson

JSON = dict[str, Any]

_SENTENCES = (
    "Thanks for asking; I looked that up for you.",
    "The parcel left our warehouse this morning and should arrive within two working days.",
    "You can return anything unused within thirty days, free of charge.",
    "The kettle holds 1.7 litres and switches itself off when the water boils.",
    "A refund reaches your card three to five working days after we receive the return.",
    "The blue one is in stock in sizes 38 to 42; the green one comes back next week.",
    "I have added a note to your order so that the carrier rings before delivering.",
    "For hard water we recommend descaling the machine once a month.",
    "The guarantee covers two years from the date of purchase, batteries excepted.",
    "Is there anything else I can help you with?",
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for; `arguments` is JSON text, as on the wire."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One choice of a model, before it takes the shape of a wire."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "length", "tool_calls"] = "stop"
    input_tokens: int
    cached_tokens: int
    """Part of `input_tokens`."""
    output_tokens: int
    reasoning_tokens: int
    """Part of `output_tokens`."""


def count_tokens(text: str) -> int:
    """About four characters to a token, as OpenAI's rule of thumb says; 0 for an empty text."""
    return (len(text) + 3) // 4


def text_of(content: object) -> str:
    """The text of a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def answer(
    messages: Sequence[Mapping[str, Any]],
    *,
    model: str,
    tools: Sequence[Mapping[str, Any]] = (),
    schema: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    size: int | None = None,
) -> Answer:
    """Answer *messages*.

    Args:
        messages: In the shape of chat.completions; roles and texts are read, the rest only counts as tokens.
        tools: Functions as {name, parameters}. After a user message each is called once, in order; then comes text.
        schema: A JSON schema: the text is a JSON document that satisfies it. Empty: any JSON object.
        max_tokens: Longer text is cut, finish is "length".
        size: Length of the text in characters, instead of a few sentences.
    """
    input_tokens = 3 + sum(4 + count_tokens(text_of(message.get("content"))) for message in messages)
    input_tokens += sum(count_tokens(orjson.dumps(tool).decode()) for tool in tools)
    question = _last_question(messages)
    seed = crc32(question.encode("utf-8", "replace"))
    reasoning = 64 + seed % 4 * 64 if re.match(r"gpt-5|o\d", model) else 0
    cached = input_tokens // 128 * 128 if input_tokens >= 1024 else 0

    tool = _next_tool(messages, tools)
    if tool is not None:
        arguments = orjson.dumps(_instance(tool.get("parameters") or {}, question)).decode()
        call = ToolCall(f"call_{seed:08x}{len(messages):04d}", str(tool["name"]), arguments)
        return Answer(
            text="",
            tool_calls=(call,),
            finish="tool_calls",
            input_tokens=input_tokens,
            cached_tokens=cached,
            output_tokens=reasoning + 8 + count_tokens(call.name + arguments),
            reasoning_tokens=reasoning,
        )
    text = _document(schema, question) if schema is not None else _prose(seed, size)
    finish: Literal["stop", "length"] = "stop"
    if max_tokens is not None and count_tokens(text) > max_tokens:
        text, finish = text[: max_tokens * 4], "length"
    return Answer(
        text=text,
        finish=finish,
        input_tokens=input_tokens,
        cached_tokens=cached,
        output_tokens=reasoning + count_tokens(text),
        reasoning_tokens=reasoning,
    )


def embedding(text: str, dimensions: int) -> list[float]:
    """A vector that depends on *text* alone, each number between -1 and 1."""
    state = crc32(text.encode("utf-8", "replace"))
    vector = []
    for _ in range(dimensions):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF  # Numerical Recipes' generator: enough for a demo
        vector.append(state / 2**31 - 1)
    return vector


def _last_question(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return text_of(messages[-1].get("content")) if messages else ""


def _next_tool(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    answered = 0
    for message in reversed(messages):
        if message.get("role") == "user":
            break
        answered += message.get("role") == "tool"
    return tools[answered] if answered < len(tools) else None


def _prose(seed: int, size: int | None) -> str:
    first, count = seed % len(_SENTENCES), 2 + seed // 16 % 4
    text = " ".join(_SENTENCES[(first + step) % len(_SENTENCES)] for step in range(count))
    if size is None:
        return text
    return (f"{text} " * (size // len(text) + 1))[:size]


def _document(schema: Mapping[str, Any], question: str) -> str:
    value = (
        _instance(schema, question) if schema else {"answer": _prose(crc32(question.encode("utf-8", "replace")), None)}
    )
    return orjson.dumps(value).decode()


def _instance(schema: Mapping[str, Any], question: str, root: Mapping[str, Any] | None = None) -> Any:
    root = schema if root is None else root
    if "$ref" in schema:
        return _instance(root.get("$defs", {}).get(str(schema["$ref"]).rsplit("/", 1)[-1], {}), question, root)
    if schema.get("enum"):
        return schema["enum"][len(question) % len(schema["enum"])]
    if "const" in schema:
        return schema["const"]
    if schema.get("anyOf"):
        return _instance(schema["anyOf"][0], question, root)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: _instance(field, question, root) for name, field in schema.get("properties", {}).items()}
    if kind == "array":
        return [_instance(schema.get("items", {}), question, root)]
    if kind in ("integer", "number"):
        return len(question) % 10
    if kind == "boolean":
        return len(question) % 2 == 0
    return None if kind == "null" else _subject(question)


def _subject(question: str) -> str:
    """What a question is about: its first word with a digit (an order number), else its last word."""
    words = re.findall(r"[\w-]+", question)
    return next((word for word in words if any(map(str.isdigit, word))), words[-1] if words else "nothing")
