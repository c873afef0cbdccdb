"""Events of calls as the recorder writes them, made in bulk and the same at every run, for tests and benchmarks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hub.events import Data, EventRecord

START = 1_790_000_000_000_000_000
"""UTC Unix ns of the first call."""
SECOND = 10**9

_TEXT = "the of and to in is that it was for on are as with his they at be this from have or by one had not but"
_WORDS = _TEXT.split()


class Factory:
    """Makes calls of one producer. Ids are UUIDv7 shaped, time-ordered and follow from `seed`."""

    def __init__(self, producer: str = "p1", *, project: str = "shop", seed: int = 0, start: int = START) -> None:
        self.producer, self.project = producer, project
        self.now = start
        self._random = random.Random(f"{producer}{seed}")
        self._seq = 0

    def new_id(self, at: int | None = None) -> str:
        """A UUIDv7 of the time *at*; ids of the same millisecond are in the order they were made."""
        self._seq += 1
        low = self._random.getrandbits(32)
        text = f"{(at or self.now) // 10**6:012x}7{self._seq >> 20 & 0xFFF:03x}8{self._seq & 0xFFFFF:05x}00{low:08x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def text(self, size: int) -> str:
        """Words, *size* characters of them."""
        return " ".join(self._random.choices(_WORDS, k=size // 3 + 1))[:size]

    def event(self, kind: str, *, stream: str, version: int, at: int | None = None, **fields: Any) -> EventRecord:
        """One event. *fields* replace what it has by default; call_id is the stream."""
        record: dict[str, Any] = {
            "id": self.new_id(at),
            "type": kind,
            "schema_version": 1,
            "stream_id": stream,
            "version": version,
            "call_id": stream,
            "occurred_at": self.now if at is None else at,
            "level": "debug" if kind.endswith(":debug") else "info",
            "project": self.project,
            "environment": "test",
            "service": "till",
            "session_id": None,
            "user_id": None,
            "tags": None,
            "trace_id": None,
            "span_id": None,
            "parent_span_id": None,
            "trace_flags": None,
            "tracestate": None,
            "parent_is_remote": None,
            "causation_id": None,
            "producer": self.producer,
            "producer_seq": self._seq,
            "data": {},
            "content": None,
        }
        record.update(fields)
        return record  # type: ignore[return-value]  # all keys are there

    def call(
        self,
        messages: Sequence[Any] | None = None,
        answer: Any = None,
        *,
        request: Data | None = None,
        response: Data | None = None,
        took_ms: float = 250.0,
        error: str | None = None,
        wire: bool = False,
        tools: Sequence[Any] | None = None,
        **envelope: Any,
    ) -> list[EventRecord]:
        """The four events of a call: by default a prompt of 1 kB and an answer of 2 kB. `now` moves on by *took_ms*.

        Args:
            request, response: Added to the events' data.
            answer: The output message; a str becomes the assistant's.
            wire: Keep the wire's bodies as a transport does.
        """
        stream = envelope.pop("stream", None) or self.new_id()
        messages = list(messages) if messages is not None else [{"role": "user", "content": self.text(1_000)}]
        if not isinstance(answer, dict):
            answer = {"role": "assistant", "content": answer if answer is not None else self.text(2_000)}
        envelope.setdefault("trace_id", f"{self._random.getrandbits(128):032x}")
        envelope.setdefault("span_id", f"{self._random.getrandbits(64):016x}")
        envelope.setdefault("trace_flags", 1)
        sent: Data = {"messages": messages} | ({"tools": list(tools)} if tools else {})
        got: Data = {"messages": [answer]}
        if wire:
            sent["wire"] = {"head": '{"model":"gpt-4o-mini","messages":', "tail": ',"temperature":0.2}'}
            got["wire"] = {"body": f'{{"id":"chatcmpl-{stream}","choices":[{{"message":{answer}}}]}}'}

        def event(kind: str, version: int, data: Data, content: Data | None) -> EventRecord:
            return self.event(kind, stream=stream, version=version, data=data, content=content, **envelope)

        asked = _request_data(messages, tools) | (request or {})
        begun = [event("llm:request", 1, asked, None), event("llm:request:debug", 2, {"bytes": 1_050}, sent)]
        self.now += round(took_ms * 10**6)
        told = _response_data(stream, took_ms) | (response or {})
        ended = [event("llm:response", 3, told, {"error": error} if error else None)]
        if error is None:
            ended.append(event("llm:response:debug", 4, {"bytes": 2_050}, got))
        return begun + ended

    def calls(self, count: int, **options: Any) -> list[EventRecord]:
        """The events of *count* default calls, one after the other."""
        return [record for _ in range(count) for record in self.call(**options)]


def _request_data(messages: Sequence[Any], tools: Sequence[Any] | None) -> Data:
    return {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "operation": "chat",
        "message_count": len(messages),
        "has_system": False,
        "tool_count": len(tools or ()),
        "stream": False,
        "params": {"temperature": 0.2},
        "tier": None,
        "server_address": "api.openai.com",
        "from_config": [],
        "source": "traced",
        "capture": "full",
    }


def _response_data(stream: str, took_ms: float) -> Data:
    return {
        "model": "gpt-4o-mini-2024-07-18",
        "status": "ok",
        "duration_ms": took_ms,
        "ttft_ms": None,
        "usage": {"input_tokens": 250, "output_tokens": 500},
        "finish_reasons": ["stop"],
        "reported_cost_usd": None,
        "cost_reporter": None,
        "response_id": f"chatcmpl-{stream}",
        "status_code": 200,
        "attempts": 1,
        "chunk_count": None,
        "continuation_count": None,
        "response_cached": None,
        "error_type": None,
        "retryable": None,
        "retry_after_ms": None,
    }
