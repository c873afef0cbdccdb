"""Messages and tools of spans, in shapes that `hub.messages` reads: OpenTelemetry's own, and OpenAI's for dialects that
take messages apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from hub import semconv
from hub.received.attributes import decoded, nested
from hub.received.spans import Span

Messages = list[dict[str, Any]]


def asked(span: Span) -> Messages | None:
    """The input messages; None when the span has none."""
    own = span.attributes
    found = _said(span, semconv.INPUT_MESSAGES, "llm.input_messages", "gen_ai.prompt", answers=False) or [
        {"role": "user", "content": one["embedding"]["text"]}
        for one in nested(own, "embedding.embeddings")
        if _has(one, "embedding", "text")
    ]
    instructions = decoded(own.get(semconv.SYSTEM_INSTRUCTIONS))
    if isinstance(instructions, list) and instructions:
        found = [{"role": "system", "parts": instructions}, *found]
    return found or None


def answered(span: Span) -> Messages | None:
    """The output messages; None when the span has none."""
    found = _said(span, semconv.OUTPUT_MESSAGES, "llm.output_messages", "gen_ai.completion", answers=True)
    return [{key: value for key, value in one.items() if key != "finish_reason"} for one in found] or None


def _said(span: Span, newest: str, openinference: str, older: str, *, answers: bool) -> Messages:
    """The messages under the attributes of whichever dialect, or in the span's events."""
    own = span.attributes
    found = _whole(own, (newest, older))
    if found is not None:
        return found
    return (
        _apart(nested(own, openinference))
        or [_flat(one) for one in nested(own, older) if isinstance(one, dict)]
        or _told(span, answers=answers)
    )


def tools(span: Span) -> list[Any] | None:
    """Definitions of the tools that the model was given."""
    own = span.attributes
    found = decoded(own.get(semconv.TOOL_DEFINITIONS))
    if isinstance(found, list):
        return found or None
    schemas = [
        decoded(one["tool"]["json_schema"]) for one in nested(own, "llm.tools") if _has(one, "tool", "json_schema")
    ]
    functions = [
        {"type": "function", "function": {**one, "parameters": decoded(one.get("parameters"))}}
        for one in nested(own, "llm.request.functions")
        if isinstance(one, dict)
    ]
    return schemas or functions or None


def _whole(attributes: Mapping[str, Any], names: Iterable[str]) -> Messages | None:
    for name in names:
        found = decoded(attributes.get(name))
        if isinstance(found, list):
            return [_of_parts(one) if isinstance(one, dict) else {"role": None, "content": one} for one in found]
    return None


def _of_parts(of: dict[str, Any]) -> dict[str, Any]:
    """OpenTelemetry's messages."""
    given = of.get("parts")
    if not isinstance(given, list):
        return of
    message: dict[str, Any] = {"role": of.get("role"), "content": None}
    blocks, calls = [], []
    for part in given:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_call":
            calls.append(_call(part))
        elif kind == "tool_call_response" and len(given) == 1:
            message |= {"tool_call_id": part.get("id"), "content": _as_text(part.get("response", part.get("result")))}
        else:
            blocks.append({"type": "text", "text": part["content"]} if kind == "text" and "content" in part else part)
    if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].get("type") == "text":
        message["content"] = blocks[0]["text"]
    elif blocks:
        message["content"] = blocks
    if calls:
        message["tool_calls"] = calls
    if "name" in of:
        message["name"] = of["name"]
    return message


def _call(part: dict[str, Any]) -> dict[str, Any]:
    function = {"name": part.get("name"), "arguments": _as_text(part.get("arguments"))}
    return {"id": part.get("id"), "type": "function", "function": function}


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _apart(found: list[Any]) -> Messages:
    """OpenInference's messages."""
    return [_message(one["message"]) for one in found if isinstance(one, dict) and isinstance(one.get("message"), dict)]


def _message(of: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": of.get("role"), "content": of.get("content")}
    contents = of.get("contents")
    if isinstance(contents, list):
        message["content"] = [
            _content(one["message_content"]) for one in contents if isinstance(one, dict) and "message_content" in one
        ]
    calls = of.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {"type": "function", **one["tool_call"]} for one in calls if isinstance(one, dict) and "tool_call" in one
        ]
    for key in ("name", "tool_call_id"):
        if key in of:
            message[key] = of[key]
    return message


def _content(of: Any) -> Any:
    if not isinstance(of, dict):
        return of
    image = of.get("image")
    if isinstance(image, dict) and isinstance(image.get("image"), dict):
        return {"type": "image_url", "image_url": image["image"]}
    return of


def _flat(of: dict[str, Any]) -> dict[str, Any]:
    """Traceloop's older messages."""
    message: dict[str, Any] = {"role": of.get("role"), "content": decoded(of.get("content"))}
    calls = of.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [_call(one) for one in calls if isinstance(one, dict)]
    if "tool_call_id" in of:
        message["tool_call_id"] = of["tool_call_id"]
    return message


_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def _told(span: Span, *, answers: bool) -> Messages:
    """The older gen_ai's messages, each an event of the span."""
    found = []
    for event in span.events:
        if answers and event.name == "gen_ai.choice":
            message = decoded(event.attributes.get("message"))
            found.append({"role": "assistant", **(message if isinstance(message, dict) else {"content": message})})
        elif not answers and event.name in _ROLES:
            given = {key: decoded(value) for key, value in event.attributes.items() if key in _KEPT}
            found.append({"role": _ROLES[event.name], **{_KEPT[key]: value for key, value in given.items()}})
    return found


_KEPT = {"content": "content", "role": "role", "tool_calls": "tool_calls", "id": "tool_call_id", "name": "name"}


def _has(value: Any, *way: str) -> bool:
    for key in way:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True
