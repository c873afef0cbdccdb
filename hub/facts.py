"""What is recorded of a call, as the data of its events: never any text of prompts, answers or errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hub.calls import Call
from hub.events import Data, FrameEvent
from hub.messages import count_and_system
from hub.outcomes import Outcome, RequestFacts

Capture = Literal["none", "summary", "full"]


def request_data(facts: RequestFacts, capture: Capture) -> Data:
    messages, tools = facts.get("messages"), facts.get("tools")
    data: Data = {
        "source": facts.get("source"),
        "provider": facts.get("provider"),
        "model": facts.get("model"),
        "operation": facts.get("operation"),
        "stream": bool(facts.get("stream")),
        "capture": capture,
    }
    for key in _MORE_OF_REQUEST:
        if value := facts.get(key):
            data[key] = value
    if more := facts.get("more"):
        data = {**more, **data}
    if origin := facts.get("replay"):
        data.update(origin)
    if messages is not None:
        data["message_count"], data["has_system"] = count_and_system(messages)
    if tools is not None:
        data["tool_count"] = len(tools)
    return data


REQUEST_TEXTS = ("provider", "model", "operation", "tier", "server_address")
REQUEST_NESTED = ("params", "from_config", "unkept")
RESPONSE_TEXTS = ("model", "response_id", "error_type", "reported_cost_usd", "cost_reporter")
RESPONSE_NESTED = ("usage", "finish_reasons")
"""Where in their data something may stand that came from outside."""

_MORE_OF_REQUEST = ("params", "tier", "server_address", "from_config")
_RESPONSE_KEYS = (
    "model",
    "usage",
    "finish_reasons",
    "reported_cost_usd",
    "cost_reporter",
    "response_id",
    "status_code",
    "continuation_count",
    "response_cached",
    "error_type",
    "retryable",
    "retry_after_ms",
)


def response_data(call: Call, outcome: Outcome) -> Data:
    facts = outcome.facts
    data: Data = {"status": outcome.status, "duration_ms": (outcome.ended_ns - call.started_ns) / 1e6}
    for key in _RESPONSE_KEYS:
        if (value := facts.get(key)) is not None:
            data[key] = value
    if more := facts.get("more"):
        data = {**more, **data}
    between = call.failed_attempts > 0 and call.ended_between_attempts()
    data["attempts"] = call.failed_attempts + (not between)
    if (attempts := facts.get("attempts")) is not None and attempts > data["attempts"]:
        data["attempts"] = attempts
    if call.first_chunk_ns is not None:
        data["ttft_ms"] = (call.first_chunk_ns - call.started_ns) / 1e6
    if chunks := call.chunk_count or facts.get("chunk_count"):
        data["chunk_count"] = chunks
    if outcome.error is not None and "error_type" not in data:
        data["error_type"] = outcome.error.type
    return data


def tells_more(data: Data, content: Data, outer: RequestFacts) -> bool:
    return bool(content) or any(data.get(key) and not outer.get(key) for key in ("provider", "model", "params"))


def without_content(event: FrameEvent) -> FrameEvent:
    if not event.get("content"):
        return event
    slim = event.copy()
    del slim["content"]
    slim["data"] = {**event["data"], "shed": {"reason": "size", "bytes": event["data"].get("bytes")}}
    return slim


def tool_names(tools: Sequence[Any] | None) -> list[str]:
    """Names of the tools a request offers, in any vendor's shape; tools that do not tell are left out."""
    names = []
    for tool in tools or ():
        try:
            if isinstance(tool, Mapping):
                inner = tool.get("function")
                name = (inner if isinstance(inner, Mapping) else tool).get("name")
            else:
                name = getattr(tool, "name", None)
        except Exception:  # an object of the program's that will not tell
            continue
        if isinstance(name, str):
            names.append(name)
    return names


def kinds(messages: Sequence[Any]) -> list[str]:
    """The kinds of parts in cleaned *messages*, sorted."""
    if len(messages) == 1 and type(messages[0]) is dict:
        body = messages[0].get("content")
        if type(body) is list and len(body) == 1 and type(body[0]) is dict and body[0].get("type") == "text":
            body = ""
        if type(body) is str:
            return _TEXT if not messages[0].get("tool_calls") else ["text", "tool_call"]
    found: set[str] = set()
    for message in messages:
        body = message.get("content") if type(message) is dict else message
        if type(body) is list:
            found.update(str(part.get("type", "text")) if type(part) is dict else "text" for part in body)
        elif body is not None:
            found.add("text")
        if type(message) is dict and message.get("tool_calls"):
            found.add("tool_call")
    return sorted(found)


_TEXT = ["text"]


def weigh(messages: Any, depth: int = 4) -> int:
    """About how many bytes of text *messages* hold, at little cost: texts of messages and of their parts."""
    if type(messages) is str:
        return len(messages)
    if depth == 0:
        return 0
    if type(messages) is dict:
        return sum(weigh(value, depth - 1) for value in messages.values() if type(value) in (str, list))
    if type(messages) in (list, tuple):
        return sum(weigh(item, depth - 1) for item in messages)
    return 0
