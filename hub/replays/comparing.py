"""Two calls side by side: what they answered, what that took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.reader import StoredCall

NUMBERS = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "total_tokens"),
    *("cost_nanos", "duration_ms", "ttft_ms"),
)
_ANSWERS = ("text", "refusal")
_NO_TEXT = frozenset(("image", "audio", "video", "file"))


@dataclass(frozen=True, slots=True)
class Pair:
    """The same of two calls."""

    a: Any
    b: Any

    @property
    def same(self) -> bool:
        return bool(self.a == self.b)

    def as_json(self) -> dict[str, Any]:
        return {"same": self.same, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two calls have in common, and what not."""

    ids: Pair
    provider: Pair
    model: Pair
    """That answered, as far as it said so."""
    status: Pair
    """With the type of an error."""
    finish_reason: Pair
    text: Pair
    """None: there is none to compare."""
    tool_calls: Pair
    """Names and arguments, without ids. None: there are none to compare."""
    numbers: Mapping[str, Pair]

    @property
    def unknown(self) -> list[str]:
        """Ids of the calls whose answer is not there to be compared."""
        return [self.ids.a] * (self.text.a is None) + [self.ids.b] * (self.text.b is None)

    @property
    def same_answer(self) -> bool | None:
        """Whether text, tool calls and status agree; None when nobody can know."""
        if not self.status.same:
            return False
        if self.unknown:
            return None
        return self.text.same and self.tool_calls.same

    def as_json(self) -> dict[str, Any]:
        named = ("provider", "model", "status", "finish_reason", "text", "tool_calls")
        return {
            "a": self.ids.a,
            "b": self.ids.b,
            "same_answer": self.same_answer,
            **{name: getattr(self, name).as_json() for name in named},
            **{name: {**pair.as_json(), "change": change(pair)} for name, pair in self.numbers.items()},
        }


def compare(a: StoredCall, b: StoredCall) -> Comparison:
    """*a* and *b* side by side. Raises: StoreError"""
    return Comparison(
        ids=Pair(a.id, b.id),
        provider=Pair(a["provider"], b["provider"]),
        model=Pair(_model(a), _model(b)),
        status=Pair(_status(a), _status(b)),
        finish_reason=Pair(a["finish_reason"], b["finish_reason"]),
        text=Pair(_text(a), _text(b)),
        tool_calls=Pair(_calls(a), _calls(b)),
        numbers={name: Pair(a[name], b[name]) for name in NUMBERS},
    )


def change(pair: Pair) -> float | int | None:
    """From a to b; None where one is unknown."""
    return None if pair.a is None or pair.b is None else pair.b - pair.a


def _model(call: StoredCall) -> Any:
    return call["response_model"] or call["request_model"]


def _status(call: StoredCall) -> str:
    kind = call["error_type"]
    return f"{call['status']}: {kind}" if kind else str(call["status"])


def _text(call: StoredCall) -> str | None:
    found = [part for part in call.messages if part["direction"] == "output"]
    if not _is_comparable(call, {part["type"] for part in found}):
        return None
    return "\n\n".join(part["content"] or "" for part in found if part["type"] in _ANSWERS)


def _is_comparable(call: StoredCall, types: set[str]) -> bool:
    """Whether all that was answered is kept, and is text and calls of tools."""
    if call["operation"] == "embeddings" or types & _NO_TEXT:
        return False
    ends = [event for event in call.content if event["type"] in ("llm:response", "llm:response:debug")]
    debug = next((event for event in ends if event["type"] == "llm:response:debug"), None)
    if debug is None or call["capture"] != "full":
        return False
    if debug["content"] is not None:
        return True
    return not debug["data"].get("bytes") and not any("shed" in event["data"] for event in ends)


def _calls(call: StoredCall) -> list[dict[str, Any]] | None:
    if _text(call) is None:
        return None
    asked = [tool for tool in call.tool_calls if tool["name"] is not None]
    return [{"name": tool["name"], "arguments": _opened(tool["arguments"])} for tool in asked]


def _opened(arguments: Any) -> Any:
    try:
        return json.loads(arguments)
    except (TypeError, ValueError):
        return arguments
