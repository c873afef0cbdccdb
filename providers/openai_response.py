"""Answers of Chat Completions as our responses, whole and streamed.

The first choice becomes the content: thoughts that compatible servers tell (`reasoning_content`, `reasoning`), text,
tool calls. A refusal is text, and `metadata["refusal"]`. What else the vendor says is kept in `metadata`: keys of the
answer, of the first choice (`logprobs`), of its message under `message`, further choices under `choices`.

Arguments that are no JSON object are never guessed at: such a call is in `content` with an empty input and the model's
text under `raw_arguments`, and sent back as that text; it is not in `tool_calls`, and `calls_of` raises for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson

from hub.extractors.openai_stream import ChatStream, texts_of_parts
from hub.extractors.usage import cost_of, usage_of
from providers.contract import (
    ChatResponse,
    StreamChunk,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolCallBlock,
    ToolCallDelta,
    Usage,
    tool_calls_of,
)
from providers.errors import InvalidToolCallError
from providers.openai_request import RAW_ARGUMENTS

JSON = Mapping[str, Any]

_THOUGHTS = ("reasoning_content", "reasoning")
_OF_MESSAGE = frozenset({"role", "content", "refusal", "tool_calls", *_THOUGHTS})
_OF_CHOICE = frozenset({"index", "message", "delta", "finish_reason"})
_OF_ANSWER = frozenset({"id", "object", "model", "choices", "usage"})
_NOT_KEPT = frozenset({"id", "object", "model", "choices", "obfuscation"})
"""Of a stream's chunks; the last is noise that hides how long tokens are."""


def response_of(answer: JSON) -> ChatResponse | None:
    """The response that *answer*, a chat.completion, is; None when it is none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        return None
    first = choices[0]
    message = first.get("message")
    if not isinstance(message, Mapping):
        return None
    content = list(_blocks(message))
    calls = [block for block in content if isinstance(block, ToolCallBlock) and not _is_unread(block)]
    return ChatResponse(
        content=content,
        tool_calls=[ToolCall(id=call.id, name=call.name, arguments=call.input) for call in calls] or None,
        usage=usage_in(answer),
        finish_reason=_text(first.get("finish_reason")),
        model=_text(answer.get("model")),
        id=_text(answer.get("id")),
        metadata=_metadata(answer, choices, message) or None,
    )


def calls_of(response: ChatResponse) -> list[ToolCall]:
    """The tools *response* asks for. Raises: InvalidToolCallError: The arguments of one are no JSON object."""
    for block in response.content:
        if isinstance(block, ToolCallBlock) and _is_unread(block):
            raise InvalidToolCallError(
                f"the model's arguments for {block.name!r} are no JSON object; tell it so, or allow it more tokens",
                tool_name=block.name,
                raw_arguments=(block.model_extra or {})[RAW_ARGUMENTS],
                model=response.model,
            )
    return tool_calls_of(response)


def usage_in(answer: JSON) -> Usage | None:
    """The tokens of *answer*; None where the counts that Usage needs are not given."""
    told = answer.get("usage")
    counts = usage_of(told) if isinstance(told, Mapping) else None
    if counts is None or counts["input_tokens"] is None or counts["output_tokens"] is None:
        return None
    assert isinstance(told, Mapping)
    cost = cost_of(told.get("cost"))
    return Usage(
        input_tokens=max(counts["input_tokens"] - (counts["cache_write_tokens"] or 0), 0),
        output_tokens=counts["output_tokens"],
        total_tokens=counts["input_tokens"] + counts["output_tokens"],
        reasoning_tokens=counts["reasoning_tokens"],
        cache_read_tokens=counts["cache_read_tokens"],
        cache_write_tokens=counts["cache_write_tokens"],
        cost_usd=None if cost is None else Decimal(cost),
    )


def _blocks(message: JSON) -> Iterator[Any]:
    thoughts = next((text for name in _THOUGHTS if (text := _text(message.get(name)))), None)
    if thoughts is not None:
        yield ThinkingBlock(thinking=thoughts)
    content = message.get("content")
    if isinstance(content, list):  # Mistral's
        yield from _blocks_of_parts(content)
    elif text := _text(content):
        yield TextBlock(text=text)
    if refusal := _text(message.get("refusal")):
        yield TextBlock(text=refusal)
    calls = message.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, Mapping):
            yield _call(call, place)


def _blocks_of_parts(parts: list[Any]) -> Iterator[Any]:
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        thought, text = texts_of_parts([part])
        if thought:
            yield ThinkingBlock(thinking=thought)
        if text:
            yield TextBlock(text=text)


def _call(call: JSON, place: int) -> ToolCallBlock:
    function = call.get("function")
    told: JSON = function if isinstance(function, Mapping) else {}
    call_id, name = _text(call.get("id")) or f"call_{place}", _text(told.get("name")) or ""
    raw = told.get("arguments")
    arguments = _arguments(raw)
    if arguments is not None:
        return ToolCallBlock(id=call_id, name=name, input=arguments)
    raw = raw if isinstance(raw, str) else orjson.dumps(raw).decode()
    return ToolCallBlock.model_validate({"id": call_id, "name": name, "input": {}, RAW_ARGUMENTS: raw})


def _arguments(raw: Any) -> dict[str, Any] | None:
    """None when they are no JSON object. Some models call tools without parameters with nothing, some with null."""
    if isinstance(raw, str):
        if not raw.strip():
            return {}
        try:
            read = orjson.loads(raw)
            raw = json.loads(raw) if _LONG_NUMBER.search(raw) else read
        except (ValueError, RecursionError):
            return None
    if raw is None:
        return {}
    return raw if isinstance(raw, dict) else None


_LONG_NUMBER = re.compile(r"\d{19}")
"""orjson rounds whole numbers beyond 64 bits; an amount in wei is one."""


def _is_unread(block: ToolCallBlock) -> bool:
    return RAW_ARGUMENTS in (block.model_extra or {})


def _metadata(answer: JSON, choices: list[Any], message: JSON) -> dict[str, Any]:
    found = {name: value for name, value in answer.items() if name not in _OF_ANSWER and value is not None}
    if answer.get("usage") and usage_in(answer) is None:
        found["usage"] = answer["usage"]
    found.update((name, value) for name, value in choices[0].items() if name not in _OF_CHOICE and value is not None)
    if refusal := _text(message.get("refusal")):
        found["refusal"] = refusal
    if more := {name: value for name, value in message.items() if name not in _OF_MESSAGE and value not in (None, [])}:
        found["message"] = more
    if len(choices) > 1:
        found["choices"] = choices[1:]
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class Assembly:
    """A stream's chunks, as ours and in the end as a whole response."""

    def __init__(self) -> None:
        self._stream = ChatStream()
        self._more: dict[str, Any] = {}
        self._blocks: list[str] = []
        """Keys of the blocks begun, in the order of the first piece of each."""
        self._calls: dict[int, str | None] = {}
        """Ids of the calls begun, by index."""

    def add(self, chunk: JSON) -> StreamChunk | None:
        """What *chunk* adds; None when that is nothing to show."""
        self._stream.add(chunk)
        for name, value in chunk.items():
            if name not in _NOT_KEPT and value is not None:
                self._more[name] = value
        for choice in chunk.get("choices") or ():
            if not choice.get("index") and choice.get("delta"):
                return self._shown(choice["delta"])
        return None

    def _shown(self, delta: JSON) -> StreamChunk | None:
        piece = StreamChunk()
        if calls := [self._call_piece(one) for one in delta.get("tool_calls") or ()]:
            piece.tool_calls = calls
            self._place(piece, "tool_call", f"call {calls[0].index}")
        content = delta.get("content")
        thoughts, text = texts_of_parts(content) if isinstance(content, list) else ("", _text(content))
        if text:
            piece.delta += text
            self._place(piece, "text", "text")
        if refusal := _text(delta.get("refusal")):
            piece.delta += refusal
            self._place(piece, "text", "refusal")
        if thought := next((text for name in _THOUGHTS if (text := _text(delta.get(name)))), thoughts):
            piece.thinking = thought
            self._place(piece, "thinking", "thinking")
        return None if piece.block_type is None else piece

    def _call_piece(self, call: JSON) -> ToolCallDelta:
        told = call.get("function") or {}
        index, call_id, name = call.get("index") or 0, _text(call.get("id")), _text(told.get("name"))
        if name and call_id and self._calls.get(index) not in (None, call_id):
            index = max(self._calls) + 1  # as ChatStream puts them together
        self._calls[index] = self._calls.get(index) or call_id
        return ToolCallDelta(index=index, id=call_id, name=name, arguments=_text(told.get("arguments")) or "")

    def _place(self, piece: StreamChunk, kind: str, key: str) -> None:
        if key not in self._blocks:
            self._blocks.append(key)
        piece.block_type, piece.block_index = kind, self._blocks.index(key)

    @property
    def whole(self) -> bool:
        """Whether every choice that began has come to its end."""
        return self._stream.whole

    def response(self) -> ChatResponse | None:
        """The whole, its blocks in the order they came in; None when no chunk had a choice."""
        facts = self._stream.facts()
        messages = facts.get("messages") or ()
        reasons = [*(facts.get("finish_reasons") or ()), *[None for _ in messages]]
        choices = [{"message": said, "finish_reason": reason} for said, reason in zip(messages, reasons, strict=False)]
        told = {"id": facts.get("response_id"), "model": facts.get("model"), "choices": choices}
        response = response_of({**self._more, **told})
        if response is not None and len(self._blocks) == len(response.content):
            keys: list[str] = [key for key in ("thinking", "text", "refusal") if key in self._blocks]
            keys += sorted((key for key in self._blocks if key.startswith("call ")), key=lambda key: int(key[5:]))
            by_key = dict(zip(keys, response.content, strict=True))
            response.content = [by_key[key] for key in self._blocks]
        return response
