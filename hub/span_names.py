"""The same attributes by other names: those that GenAI conventions had before, and OpenInference's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson

from hub import semconv

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]
Names = Collection[str]
"""Of newest, older and openinference, those to be used."""
NEWEST: Names = ("newest",)
_REQUEST = "gen_ai.request."
_NO_PARAMETERS = (semconv.REQUEST_MODEL, semconv.REQUEST_STREAM)


def renamed(attributes: Attributes, names: Names) -> Attributes:
    """*attributes*, which have the newest names, by the names asked for. What is the hub's own, or no matter of GenAI
    conventions, stays."""
    if names == NEWEST:
        return attributes
    found: Attributes = {}
    for name, value in attributes.items():
        if "newest" in names or not name.startswith("gen_ai."):
            found[name] = value
        if "older" in names:
            for old in semconv.OLDER.get(name, ()):
                found[old] = semconv.OLD_SYSTEMS.get(value, value) if old == semconv.OLD_SYSTEM else value  # type: ignore[arg-type]  # of a str
    if "openinference" in names:
        found.update(_openinference(attributes))
    return found


def _openinference(attributes: Attributes) -> Iterator[tuple[str, Value]]:
    operation = attributes.get(semconv.OPERATION_NAME)
    kind = semconv.OI_KINDS.get(str(operation), "LLM")
    if operation is not None:  # an attempt is no call of its own
        yield semconv.OI_KIND, kind
    for name, value in attributes.items():
        for mirror in semconv.OPENINFERENCE.get(name, ()):
            yield mirror, value
    model = attributes.get(semconv.RESPONSE_MODEL, attributes.get(semconv.REQUEST_MODEL))
    if model is not None:
        yield (semconv.OI_EMBEDDING_MODEL if kind == "EMBEDDING" else semconv.OI_MODEL), model
    used = [attributes.get(name) for name in (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS)]
    if any(isinstance(count, int) for count in used):
        yield semconv.OI_TOTAL_TOKENS, sum(count for count in used if isinstance(count, int))
    if reasons := attributes.get(semconv.RESPONSE_FINISH_REASONS):
        yield semconv.OI_FINISH_REASON, str(reasons[0]) if isinstance(reasons, Sequence) else str(reasons)
    asked = {
        name.removeprefix(_REQUEST): value
        for name, value in attributes.items()
        if name.startswith(_REQUEST) and name not in _NO_PARAMETERS
    }
    if asked:
        yield semconv.OI_PARAMETERS, orjson.dumps(asked).decode()
    yield from _messages(attributes)


def _messages(attributes: Attributes) -> Iterator[tuple[str, Value]]:
    """Behind all else: limits cut from the end."""
    system = [{"role": "system", "parts": [part]} for part in _loaded(attributes, semconv.SYSTEM_INSTRUCTIONS)]
    sent = [*system, *_loaded(attributes, semconv.INPUT_MESSAGES)]
    got = _loaded(attributes, semconv.OUTPUT_MESSAGES)
    for name, messages in ((semconv.OI_INPUT, sent), (semconv.OI_OUTPUT, got)):
        if text := (_text(messages[-1]) if messages else ""):
            yield name, text
    for number, tool in enumerate(_loaded(attributes, semconv.TOOL_DEFINITIONS)):
        yield f"{semconv.OI_TOOLS}.{number}.tool.json_schema", orjson.dumps(tool).decode()
    for name, messages in ((semconv.OI_OUTPUT_MESSAGES, got), (semconv.OI_INPUT_MESSAGES, sent)):
        for number, message in enumerate(messages):
            yield from _message(f"{name}.{number}.message.", message)


def _message(prefix: str, message: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    yield prefix + "role", str(message["role"])
    if text := _text(message):
        yield prefix + "content", text
    calls = [part for part in message["parts"] if part["type"] == "tool_call"]
    for number, call in enumerate(calls):
        of_call = f"{prefix}tool_calls.{number}.tool_call."
        if call.get("id"):
            yield of_call + "id", str(call["id"])
        yield of_call + "function.name", str(call.get("name") or "")
        yield of_call + "function.arguments", _as_text(call.get("arguments"))
    for part in message["parts"]:
        if part["type"] == "tool_call_response" and part.get("id"):
            yield prefix + "tool_call_id", str(part["id"])


def _text(message: Mapping[str, Any]) -> str:
    shown = (
        part.get("content" if part["type"] == "text" else "response")
        for part in message["parts"]
        if part["type"] in ("text", "tool_call_response")
    )
    return "\n\n".join(_as_text(value) for value in shown if value is not None)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _loaded(attributes: Attributes, name: str) -> list[Any]:
    """What JSON of ours says, empty where there is none."""
    text = attributes.get(name)
    if not isinstance(text, str):
        return []
    loaded = orjson.loads(text)
    return loaded if isinstance(loaded, list) else [loaded]
