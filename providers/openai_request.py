"""Requests as Chat Completions has them on the wire.

What has no place there: thinking, redacted_thinking and reasoning blocks, which belong to other endpoints and vendors,
are left out; so are `visibility`, a message's and a request's `metadata`, `conversation_id` and `timeout`, which are
for the program. Keys of requests, messages, text and image blocks and tools that our contract does not name go to the
same place on the wire. What cannot be said at all raises InvalidRequestError before anything is sent.

Source: https://platform.openai.com/docs/api-reference/chat/create and the types of the openai SDK 3.52 (2026-11-20).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from providers.contract import (
    ChatRequest,
    ImageBlock,
    Message,
    OtherBlock,
    ResponseFormatJson,
    ResponseFormatJsonSchema,
    ResponseFormatText,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolSpec,
)
from providers.errors import InvalidRequestError

JSON = dict[str, Any]

RAW_ARGUMENTS = "raw_arguments"
"""Key of a tool call block whose arguments the model wrote so that they are no JSON object: their text."""

_UNSENT = frozenset({"thinking", "redacted_thinking", "reasoning"})


def body_of(request: ChatRequest, *, max_tokens_field: str = "max_completion_tokens") -> JSON:
    """*request* as the body of a POST to /chat/completions, without `stream`.

    Raises: InvalidRequestError: It says what cannot be said there.
    """
    body: JSON = {"model": request.model, "messages": messages_of(request.messages)}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, request.tools or ())
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    plain = {
        "temperature": _finite("temperature", request.temperature),
        "top_p": _finite("top_p", request.top_p),
        max_tokens_field: request.max_output_tokens,
        "stop": request.stop,
        "reasoning_effort": request.reasoning_effort,
    }
    body.update((name, value) for name, value in plain.items() if value is not None)
    body.update(request.model_extra or {})
    return body


def messages_of(messages: Iterable[Message]) -> list[JSON]:
    """*messages* on the wire. One with several tool results becomes as many. Raises: InvalidRequestError"""
    return [said for message in messages for said in _message(message)]


def encode(body: JSON) -> bytes:
    """*body* as JSON, compact, UTF-8. Raises: InvalidRequestError: It holds what JSON has no word for."""
    try:
        return orjson.dumps(body)
    except TypeError:  # also integers beyond 64 bits and lone surrogates, which JSON can hold
        pass
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"the request cannot be written as JSON: {error}; pass plain strings, numbers, lists and dicts"
        ) from error


def _message(message: Message) -> Iterator[JSON]:
    content = message.content
    said: JSON = {"role": message.role, "content": content}
    if message.name is not None:
        said["name"] = message.name
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    said.update(message.model_extra or {})
    given = said.pop("tool_calls", None)
    if isinstance(content, str):
        calls: list[JSON] = []
    else:
        results = [block for block in content if isinstance(block, ToolResultBlock)]
        for result in results:
            yield {"role": "tool", "tool_call_id": result.tool_call_id, "content": _text_of(result.output)}
        calls = [_call_of_block(block, message.role) for block in content if isinstance(block, ToolCallBlock)]
        said["content"] = _content([_part(block) for block in content if not _is_apart(block)])
        if results and not calls and said["content"] == "":
            return
    known = {call["id"] for call in calls}
    calls += [call for one in given or () if (call := _call_as_given(one)).get("id") not in known]
    if calls:
        said["tool_calls"] = calls
        said["content"] = said["content"] or None
    yield said


def _is_apart(block: Any) -> bool:
    """Whether *block* is no part of its message's content on the wire."""
    return isinstance(block, ToolCallBlock | ToolResultBlock) or block.type in _UNSENT


def _content(parts: Sequence[JSON]) -> str | list[JSON]:
    """A single text as a string: not every server takes lists of parts, in assistant messages above all."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return list(parts)


def _part(block: Any) -> JSON:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, **(block.model_extra or {})}
    if isinstance(block, ImageBlock):
        return _image(block)
    assert isinstance(block, OtherBlock)
    return block.model_dump()  # such as input_audio or file: the vendor's own form


def _image(block: ImageBlock) -> JSON:
    source, more = block.source, dict(block.model_extra or {})
    url = source.get("url")
    if url is None and "data" in source:
        url = f"data:{source.get('media_type') or 'image/png'};base64,{source['data']}"
    if not isinstance(url, str):
        raise InvalidRequestError(
            f"an image whose source has {', '.join(map(repr, source)) or 'nothing'} cannot be sent; its source must be "
            "{'type': 'url', 'url': ...} or {'type': 'base64', 'media_type': 'image/png', 'data': ...}"
        )
    image = {"url": url}
    if (detail := source.get("detail", more.pop("detail", None))) is not None:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image, **more}


def _call_of_block(block: ToolCallBlock, role: str) -> JSON:
    if role != "assistant":
        raise InvalidRequestError(
            f"a message of role {role} has the tool call {block.id!r}; only an assistant's message calls tools"
        )
    raw = (block.model_extra or {}).get(RAW_ARGUMENTS)
    return _function_call(block.id, block.name, raw if isinstance(raw, str) else block.input)


def _call_as_given(call: Any) -> JSON:
    """A call of a message's `tool_calls`, which the contract does not have but programs do, in the vendor's form or in
    that of a ToolCall."""
    found: JSON = call.model_dump() if hasattr(call, "model_dump") else dict(call)
    name = found.get("name") or found.get("tool")
    if "function" in found or "custom" in found or name is None:
        return found
    return _function_call(found.get("id"), name, found.get("arguments", {}))


def _function_call(call_id: Any, name: Any, arguments: Any) -> JSON:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": _text_of(arguments)}}


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _tool(tool: ToolSpec) -> JSON:
    function: JSON = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": {**function, **(tool.model_extra or {})}}


_CHOICES = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def _tool_choice(choice: str | Mapping[str, Any], tools: Sequence[ToolSpec]) -> Any:
    """Anthropic's words for it are taken too, and a tool's bare name."""
    if isinstance(choice, str):
        if choice in _CHOICES:
            return _CHOICES[choice]
        return _function_named(choice) if any(tool.name == choice for tool in tools) else choice
    kind, name = choice.get("type"), choice.get("name")
    if name is not None and kind in ("tool", "function"):
        return _function_named(name)
    return _CHOICES[kind] if kind in _CHOICES and len(choice) == 1 else dict(choice)


def _function_named(name: str) -> JSON:
    return {"type": "function", "function": {"name": name}}


def _response_format(wanted: ResponseFormatText | ResponseFormatJson | ResponseFormatJsonSchema) -> JSON:
    more = wanted.model_extra or {}
    if isinstance(wanted, ResponseFormatText):
        return {"type": "text", **more}
    if isinstance(wanted, ResponseFormatJson):
        return {"type": "json_object", **more}
    schema = wanted.json_schema
    if isinstance(schema.get("schema"), Mapping) and isinstance(schema.get("name"), str):  # the vendor's own envelope
        named = {**schema, **more}
    else:
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", str(schema.get("title") or "response"))[:64]
        named = {"name": name, "schema": schema, **more}
    if wanted.strict is not None:
        named["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": named}


def _finite(name: str, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise InvalidRequestError(f"{name} is {value}; it must be a finite number")
    return value
