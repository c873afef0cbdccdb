"""The events of one call, made by hand, for tests of what is made of events."""

from __future__ import annotations

from typing import Any

from hub.events import EventRecord

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
SECRET = "the cat ate my homework"


class CallEvents:
    """Appends events to one stream; `records` is what a sink would read."""

    def __init__(self, number: int = 1, **envelope: Any) -> None:
        self.records: list[EventRecord] = []
        self._envelope: dict[str, Any] = {
            "stream_id": f"01900000-0000-7000-8000-{number:012x}",
            "project": "shop",
            "environment": "test",
            "service": "till",
            "session_id": None,
            "user_id": None,
            "tags": None,
            "trace_id": TRACE,
            "span_id": SPAN if number == 1 else f"{number:016x}",
            "parent_span_id": None,
            "trace_flags": 1,
            "tracestate": None,
            "parent_is_remote": None,
            "causation_id": None,
            "producer": "p",
            **envelope,
        }
        self._envelope.setdefault("call_id", self._envelope["stream_id"])

    def add(self, kind: str, *, at_ms: float = 0, content: dict[str, Any] | None = None, **data: Any) -> CallEvents:
        version = len(self.records) + 1
        record: dict[str, Any] = {
            "id": f"{self._envelope['stream_id'][:-4]}{version:04x}",
            "type": kind,
            "schema_version": 1,
            "version": version,
            "occurred_at": T0 + round(at_ms * MS),
            "level": "debug" if kind.endswith(":debug") else "info",
            "producer_seq": version,
            "data": data,
            "content": content,
            **self._envelope,
        }
        self.records.append(record)  # type: ignore[arg-type]  # all keys are there
        return self

    def request(self, **data: Any) -> CallEvents:
        self.add(
            "llm:request", **{"source": "traced", "provider": "openai", "model": "gpt-5", "operation": "chat", **data}
        )
        messages = [{"role": "system", "content": f"Believe {SECRET}."}, {"role": "user", "content": SECRET}]
        return self.add("llm:request:debug", content={"messages": messages, "tools": [{"name": "look_up"}]})

    def response(self, *, error: str | None = None, at_ms: float = 250, **data: Any) -> CallEvents:
        content = None if error is None else {"error": error}
        self.add("llm:response", at_ms=at_ms, content=content, **{"status": "ok", "duration_ms": 250.5, **data})
        messages = [{"role": "assistant", "content": f"Why, {SECRET}!"}]
        return self.add("llm:response:debug", at_ms=at_ms, content={"messages": messages})


def whole_call(number: int = 1, **envelope: Any) -> list[EventRecord]:
    return CallEvents(number, **envelope).request().response(usage={"input_tokens": 11, "output_tokens": 7}).records
