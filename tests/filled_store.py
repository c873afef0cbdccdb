"""A small store with one call of each kind, for the tests of reading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from hub.calls import Call
from hub.session import session
from storage import open_store
from storage.sqlite import SQLiteStore
from tests.listlog import ListLog, recorder_on

HOSTILE = "ring\x07 the \x1b[31mbell\u202e"

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASKED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Utrecht"}'}}
    ],
}


def fill(where: Path | str) -> list[str]:
    """Write eight calls, oldest first, and a contributed event, to a file or a database. Returns: their ids."""
    log = ListLog()
    recorder = recorder_on(log)
    ids = []

    def begin(content: object, model: str = "gpt-4o-mini", provider: str = "openai", **facts: Any) -> Call:
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        call = recorder.start(source="traced", provider=provider, model=model, messages=messages, **facts)
        ids.append(call.id)
        return call

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    usage = {"input_tokens": 1_200, "output_tokens": 340}
    with session("chat-1", user_id="u1", tags={"feature": "search"}):
        begin("Tell me a joke", params={"temperature": 0.2}).end(
            {"model": "gpt-4o-mini-2024-07-18", "messages": said("No."), "usage": usage, "finish_reasons": ["stop"]}
        )
        question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Utrecht?"}]
        begin(question, tools=[TOOL]).end({"messages": [ASKED], "usage": usage, "finish_reasons": ["tool_calls"]})
        answered = [*question, ASKED, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
        begin(answered, tools=[TOOL]).end({"messages": said("It rains."), "usage": usage})
    streamed = begin("Stream it", stream=True)
    streamed.first_chunk()
    streamed.end({"messages": said("done"), "chunk_count": 7})
    failed = begin("Fail")
    failed.retried(
        {"max_retries": 2, "delay_ms": 0.5, "error_type": "rate_limit", "status_code": 429}, error="slow down"
    )
    failed.end({"status_code": 500, "attempts": 2}, error=RuntimeError("the model is on fire"))
    begin("Unknown price", model="acme-1", provider="acme").end({"messages": said("x" * 9_000), "usage": usage})
    begin(HOSTILE).end({"messages": said(HOSTILE), "usage": usage})
    begin("Still running")
    recorder.emit("acme:rate_limit", {"retry_after_ms": 3000.0})
    store = open_store(where) if isinstance(where, str) else SQLiteStore(where)
    store.append(orjson.loads(_spread(orjson.dumps(log.records).decode())))
    store.close()
    return [_spread(call_id) for call_id in ids]


def _spread(text: str) -> str:
    """*text* with ids that differ as early as those of calls made one after another."""
    return re.sub(
        r"019b7000-0000-7000-8000-([0-9a-f]{12})", lambda m: f"019b7000-{int(m[1], 16) * 37:04x}-7abc-8def-{m[1]}", text
    )
