"""OpenAI's streams put together: chunks of chat and text completions, events of responses."""

from __future__ import annotations

from typing import Any

from hub.extractors.openai import error_facts, of_response
from hub.extractors.pieces import Pieces
from hub.extractors.usage import cost_of, usage_of
from hub.extractors.values import get, plain, text
from hub.outcomes import ResponseFacts

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_DELTA = frozenset({*_TEXTS, "role", "tool_calls"})


def texts_of_parts(parts: list[Any]) -> tuple[str, str]:
    """Thoughts and text of a content that is a list of parts, as Mistral's reasoning models give it."""
    thoughts: list[str | None] = []
    said: list[str | None] = []
    for part in parts:
        thought = get(part, "thinking")
        if thought is None:
            said.append(text(get(part, "text")))
        else:
            thoughts += [thought] if isinstance(thought, str) else [text(get(one, "text")) for one in thought]
    return "".join(filter(None, thoughts)), "".join(filter(None, said))


class ChatStream:
    """Chunks of chat and text completions become messages.

    `ended` is the vendor's word that all has been said, `error` what it reported in mid-stream, `pieces` the texts that
    came in pieces and are in no message.
    """

    def __init__(self) -> None:
        self.ended = False
        self.error: ResponseFacts | None = None
        self.keep_content = True
        self.pieces = Pieces()
        self._facts: ResponseFacts = {}
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Any) -> None:
        """Take one chunk, from the wire or as an object of the SDK."""
        facts = self._facts
        if not facts.get("response_id"):
            facts["model"], facts["response_id"] = text(get(chunk, "model")), text(get(chunk, "id"))
        if (usage := get(chunk, "usage")) is not None:
            facts["usage"] = usage_of(usage) or facts.get("usage")
            if (cost := cost_of(get(usage, "cost"))) is not None:
                facts["reported_cost_usd"], facts["cost_reporter"] = cost, "provider"
        for piece in get(chunk, "choices") or ():
            index = get(piece, "index") or 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice()
            choice.add(piece, self.keep_content)
            delta = get(piece, "delta")
            if self.keep_content and type(delta) is dict and not _DELTA.issuperset(delta):
                self.pieces.add({key: value for key, value in delta.items() if key not in _DELTA}, (index,))

    @property
    def whole(self) -> bool:
        """Whether every choice that began has come to its end."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def facts(self) -> ResponseFacts:
        """What is known so far."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        self._facts["finish_reasons"] = [one.finish_reason for one in choices if one.finish_reason] or None
        self._facts["messages"] = [one.message() for one in choices]
        return self._facts


class _Choice:
    __slots__ = ("finish_reason", "role", "texts", "tools")

    def __init__(self) -> None:
        self.role = "assistant"
        self.finish_reason: str | None = None
        self.texts: dict[str, list[str]] = {}
        self.tools: dict[int, dict[str, Any]] = {}

    def add(self, piece: Any, keep_content: bool) -> None:
        if (reason := text(get(piece, "finish_reason"))) is not None:
            self.finish_reason = reason
        if not keep_content:
            return
        delta = get(piece, "delta")
        if delta is None:
            self._more("content", get(piece, "text"))
            return
        self.role = text(get(delta, "role")) or self.role
        for name in _TEXTS:
            value = get(delta, name)
            if type(value) is list:
                thoughts, said = texts_of_parts(value)
                self._more("reasoning_content", thoughts)
                self._more("content", said)
            else:
                self._more(name, value)
        for call in get(delta, "tool_calls") or ():
            self._tool(call)

    def _more(self, name: str, value: Any) -> None:
        if value and isinstance(value, str):
            self.texts.setdefault(name, []).append(value)

    def _tool(self, piece: Any) -> None:
        index, call_id = get(piece, "index") or 0, text(get(piece, "id"))
        function = get(piece, "function")
        name = text(get(function, "name"))
        if name and call_id and self.tools.get(index, {}).get("id") not in (None, call_id):
            index = max(self.tools) + 1  # Gemini's compatible API gives every call the index 0
        tool = self.tools.setdefault(index, {"id": None, "type": "function", "name": "", "args": []})
        tool["id"] = tool["id"] or call_id
        tool["name"] += name or ""
        if arguments := text(get(function, "arguments")):
            tool["args"].append(arguments)

    def message(self) -> dict[str, Any]:
        said: dict[str, Any] = {"role": self.role, "content": None}
        said.update((name, "".join(parts)) for name, parts in self.texts.items())
        if self.tools:
            said["tool_calls"] = [
                {
                    "id": tool["id"],
                    "type": "function",
                    "function": {"name": tool["name"], "arguments": "".join(tool["args"])},
                }
                for _, tool in sorted(self.tools.items())
            ]
        return said


_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesStream:
    """Events of a response become its output. The last event carries the whole; the others matter if it never comes."""

    def __init__(self) -> None:
        self.ended = False
        self.error: ResponseFacts | None = None
        self.keep_content = True
        self.pieces = Pieces()
        self._facts: ResponseFacts = {}
        self._done: dict[int, Any] = {}
        self._texts: dict[int, list[str]] = {}

    def add(self, event: Any) -> None:
        """Take one event, from the wire or as an object of the SDK."""
        kind = get(event, "type")
        if kind == "response.output_text.delta":
            if self.keep_content and isinstance(piece := get(event, "delta"), str):
                self._texts.setdefault(get(event, "output_index") or 0, []).append(piece)
        elif kind == "response.output_item.done":
            if self.keep_content:
                self._done[get(event, "output_index") or 0] = plain(get(event, "item"))
        elif kind in _FINAL:
            self.ended = True
            self._facts = of_response(get(event, "response"))
            if kind == "response.failed":
                self.error = error_facts(get(event, "response")) or {"error_type": "failed"}
        elif kind == "response.created":
            self._facts = of_response(get(event, "response"))
        elif kind == "error":
            self.error = {
                "error_type": text(get(event, "code")) or "error",
                "error_message": text(get(event, "message")),
            }
        elif self.keep_content and (delta := get(event, "delta")) is not None:
            self.pieces.add(delta, (kind, get(event, "item_id"), get(event, "content_index")))

    @property
    def whole(self) -> bool:
        """Whether the last event came."""
        return self.ended

    def facts(self) -> ResponseFacts:
        """What is known so far."""
        if not self.ended:
            begun = {
                index: {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "".join(t)}],
                }
                for index, t in self._texts.items()
            }
            items = {**begun, **self._done}
            self._facts["messages"] = [items[index] for index in sorted(items)]
        return self._facts


OpenAIStream = ChatStream | ResponsesStream


def stream_for(chunk: Any) -> OpenAIStream | None:
    """The assembler for a stream that has *chunk* in it; None when it is not OpenAI's."""
    if isinstance(get(chunk, "choices"), list):
        return ChatStream()
    kind = get(chunk, "type")
    if isinstance(kind, str) and (kind.startswith("response.") or kind == "error"):
        return ResponsesStream()
    return None
