"""Answers in the shapes of OpenAI's API: chat.completions, responses, embeddings, models, errors.

Source: https://platform.openai.com/docs/api-reference and the types of the openai SDK 3.52, read 2026-11-20.
"""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from hub.demo.answers import JSON, Answer, ToolCall, answer, count_tokens, embedding

CREATED = 1_780_000_000
"""Of every object: a constant, so that the same request gets the same bytes."""

SERVED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
}
"""The dated model that answers for an alias; other names answer for themselves."""


def served_model(asked: str) -> str:
    return SERVED.get(asked, asked)


def error_body(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> JSON:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models() -> JSON:
    names = sorted({*SERVED, *SERVED.values(), "text-embedding-3-small"})
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": CREATED, "owned_by": "system"} for name in names],
    }


def embeddings(body: Mapping[str, Any]) -> JSON:
    """One vector for each input, as floats or, which the SDK asks for by default, as base64 of little-endian floats."""
    given = body.get("input", "")
    texts = [given] if isinstance(given, str) else [text if isinstance(text, str) else str(text) for text in given]
    dimensions = int(body.get("dimensions") or 8)
    packed = body.get("encoding_format") == "base64"
    tokens = sum(count_tokens(text) for text in texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(embedding(text, dimensions), packed)}
            for index, text in enumerate(texts)
        ],
        "model": served_model(str(body["model"])),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(numbers: list[float], packed: bool) -> list[float] | str:
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode() if packed else numbers


# --- chat.completions ---


def chat_answer(body: Mapping[str, Any], size: int | None = None) -> Answer:
    tools = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return answer(
        body["messages"],
        model=str(body["model"]),
        tools=[] if body.get("tool_choice") == "none" else tools,
        schema=_schema(body.get("response_format") or {}),
        max_tokens=limit,
        size=size,
    )


def chat_usage(given: Answer) -> JSON:
    return {
        "prompt_tokens": given.input_tokens,
        "completion_tokens": given.output_tokens,
        "total_tokens": given.input_tokens + given.output_tokens,
        "prompt_tokens_details": {"cached_tokens": given.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": given.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat_completion(body: Mapping[str, Any], given: Answer, number: int) -> JSON:
    message: JSON = {"role": "assistant", "content": given.text or None, "refusal": None, "annotations": []}
    if given.tool_calls:
        message["tool_calls"] = [_chat_tool_call(call) for call in given.tool_calls]
    choice = {"message": message, "logprobs": None, "finish_reason": given.finish}
    return {
        **_chat_head(body, number, "chat.completion"),
        "choices": [{"index": index, **choice} for index in range(int(body.get("n") or 1))],
        "usage": chat_usage(given),
        "service_tier": "default",
    }


def chat_chunks(body: Mapping[str, Any], given: Answer, number: int, chunks: int | None) -> Iterator[JSON]:
    """The stream's chunks. With stream_options.include_usage each carries `usage: null` and a last one, which has no
    choices, the usage; without it there is no usage on the wire at all.
    """
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    head = {**_chat_head(body, number, "chat.completion.chunk"), **({"usage": None} if with_usage else {})}

    def chunk(delta: JSON, finish: str | None = None) -> JSON:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    if given.tool_calls:
        for index, call in enumerate(given.tool_calls):
            opened = {"index": index, **_chat_tool_call(call, arguments="")}
            first = {"role": "assistant", "content": None} if index == 0 else {}
            yield chunk({**first, "tool_calls": [opened]})
            for piece in pieces(call.arguments, chunks):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in pieces(given.text, chunks):
            yield chunk({"content": piece})
    yield chunk({}, given.finish)
    if with_usage:
        yield {**head, "choices": [], "usage": chat_usage(given)}


def _chat_head(body: Mapping[str, Any], number: int, kind: str) -> JSON:
    return {
        "id": f"chatcmpl-{number:024d}",
        "object": kind,
        "created": CREATED,
        "model": served_model(str(body["model"])),
        "system_fingerprint": "fp_loopback",
    }


def _chat_tool_call(call: ToolCall, arguments: str | None = None) -> JSON:
    arguments = call.arguments if arguments is None else arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _schema(wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if wanted.get("type") == "json_schema":
        schema: Mapping[str, Any] = (wanted.get("json_schema") or wanted).get("schema") or {}
        return schema
    return {} if wanted.get("type") == "json_object" else None


def pieces(text: str, chunks: int | None) -> Iterator[str]:
    """*text* in words, or in *chunks* pieces of equal size (the last ones may be empty and are still sent)."""
    if chunks is None:
        yield from re.findall(r"\s*\S+\s*$|\s*\S+", text)
        return
    width = max(1, -(-len(text) // max(1, chunks)))
    for index in range(chunks):
        yield text[index * width : (index + 1) * width]


# --- responses ---


def responses_answer(body: Mapping[str, Any], size: int | None = None) -> Answer:
    return answer(
        _input_messages(body),
        model=str(body["model"]),
        tools=[]
        if body.get("tool_choice") == "none"
        else [tool for tool in body.get("tools") or () if tool.get("type") == "function"],
        schema=_schema((body.get("text") or {}).get("format") or {}),
        max_tokens=body.get("max_output_tokens"),
        size=size,
    )


def _input_messages(body: Mapping[str, Any]) -> list[JSON]:
    messages = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    given = body.get("input") or ""
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item.get("output")})
        elif "role" in item:
            messages.append({"role": item["role"], "content": item.get("content")})
    return messages


def response(body: Mapping[str, Any], given: Answer, number: int) -> JSON:
    return {**_response_head(body, number), **_response_end(given), "output": _items(given, number)}


def response_events(body: Mapping[str, Any], given: Answer, number: int, chunks: int | None) -> Iterator[JSON]:
    """The stream's events, in OpenAI's order; the last is response.completed (or .incomplete) with the usage."""
    for sequence, event in enumerate(_response_events(body, given, number, chunks)):
        yield {**event, "sequence_number": sequence}


def _response_events(body: Mapping[str, Any], given: Answer, number: int, chunks: int | None) -> Iterator[JSON]:
    head = _response_head(body, number)
    yield {"type": "response.created", "response": head}
    yield {"type": "response.in_progress", "response": head}
    for index, item in enumerate(_items(given, number)):
        yield from _item_events(item, index, chunks)
    whole = response(body, given, number)
    yield {"type": f"response.{whole['status']}", "response": whole}


def _item_events(item: JSON, index: int, chunks: int | None) -> Iterator[JSON]:
    place: JSON = {"item_id": item["id"], "output_index": index}
    opened = {**item, **({} if item["type"] == "reasoning" else {"status": "in_progress"})}
    if item["type"] == "function_call":
        yield {"type": "response.output_item.added", "output_index": index, "item": {**opened, "arguments": ""}}
        for piece in pieces(item["arguments"], chunks):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield {"type": "response.function_call_arguments.done", **place, **done}
    elif item["type"] == "message":
        place["content_index"] = 0
        part = item["content"][0]
        yield {"type": "response.output_item.added", "output_index": index, "item": {**opened, "content": []}}
        yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
        for piece in pieces(part["text"], chunks):
            yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part}
    else:
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _response_head(body: Mapping[str, Any], number: int) -> JSON:
    return {
        "id": f"resp_{number:048d}",
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": served_model(str(body["model"])),
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": (body.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def _response_end(given: Answer) -> JSON:
    cut = given.finish == "length"
    return {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": {
            "input_tokens": given.input_tokens,
            "input_tokens_details": {"cached_tokens": given.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": given.output_tokens,
            "output_tokens_details": {"reasoning_tokens": given.reasoning_tokens},
            "total_tokens": given.input_tokens + given.output_tokens,
        },
    }


def _items(given: Answer, number: int) -> list[JSON]:
    items: list[JSON] = []
    if given.reasoning_tokens:
        items.append({"id": f"rs_{number:048d}", "type": "reasoning", "summary": []})
    for call in given.tool_calls:
        about = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": "completed"}
        items.append({"id": f"fc_{number:048d}", "type": "function_call", **about})
    if not given.tool_calls:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": given.text}
        state = "incomplete" if given.finish == "length" else "completed"
        items.append(
            {"id": f"msg_{number:048d}", "type": "message", "status": state, "role": "assistant", "content": [part]}
        )
    return items
