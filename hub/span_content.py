"""Prompts and answers as span attributes, for those who asked for them: JSON in the GenAI conventions' shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from hub import semconv
from hub.events import EventRecord
from hub.messages import Part, parts
from hub.polite import Rest, no_rest

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_SYSTEM = ("system", "developer")


def content_attributes(
    record: EventRecord, *, finish_reasons: Sequence[str] | None = None, rest: Rest = no_rest
) -> dict[str, str]:
    """What the content of *record* adds to its call's span: nothing, unless it holds whole messages.

    Args:
        finish_reasons: Of a response's messages, in their order.
    """
    content = record["content"]
    if not content or not isinstance(messages := content.get("messages"), list):
        return {}
    if record["type"] == "llm:response:debug":
        return {semconv.OUTPUT_MESSAGES: _dump(_outputs(messages, finish_reasons or (), rest))}
    if record["type"] != "llm:request:debug":
        return {}
    start = next((place for place, one in enumerate(messages) if not _is_system(one)), len(messages))
    found = {semconv.INPUT_MESSAGES: _dump([_message(one, "user", rest) for one in messages[start:]])}
    if start:
        found[semconv.SYSTEM_INSTRUCTIONS] = _dump(
            [part for one in messages[:start] for part in _message(one, "system", rest)["parts"]]
        )
    if content.get("tools"):
        found[semconv.TOOL_DEFINITIONS] = _dump(content["tools"])
    return found


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in _SYSTEM


def _outputs(messages: Iterable[Any], reasons: Sequence[str], rest: Rest) -> Iterator[dict[str, Any]]:
    for place, message in enumerate(messages):
        one = _message(message, "assistant", rest)
        own = message.get("finish_reason") if isinstance(message, dict) else None
        one["finish_reason"] = own or (reasons[min(place, len(reasons) - 1)] if reasons else "")
        yield one


def _message(message: Any, role: str, rest: Rest) -> dict[str, Any]:
    rest()
    found = parts(message)
    shaped: dict[str, Any] = {"role": found[0].role or role, "parts": [_part(one, message) for one in found]}
    if isinstance(message, dict) and isinstance(name := message.get("name"), str):
        shaped["name"] = name
    return shaped


def _part(part: Part, message: Any) -> dict[str, Any]:
    """In the conventions' words; what they have no word for keeps ours. Images and their like are named, not carried:
    they alone would make a span too large to send."""
    value = None if part.path is None else _follow(part.path, message)
    match part.type:
        case "thinking" | "redacted_thinking":
            return {"type": "reasoning", "content": value or ""}
        case "tool_call":
            return _known({"type": "tool_call", "id": part.tool_call_id, "name": part.name or "", "arguments": value})
        case "tool_result":
            return _known({"type": "tool_call_response", "id": part.tool_call_id, "response": value})
        case other:
            return _known({"type": other, "content": value})


def _known(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value is not None}


def _follow(path: str, message: Any) -> Any:
    value = message
    for key, index in _STEP.findall(path):
        value = value[key] if key else value[int(index)]
    return value


def _dump(value: Iterable[Any]) -> str:
    return orjson.dumps(value if isinstance(value, list) else list(value)).decode()
