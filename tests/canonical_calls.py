"""The calls of the canonical store, read from its events as plainly as can be: what SQL's answers are held to."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from hub.events import EventRecord
from tests.canonical_store import ERASED_SESSION, EVENTS, RATES


def of_type(kind: str) -> Iterator[EventRecord]:
    return (record for record in EVENTS() if record["type"] == kind)


class Call:
    """What the events of one call say, read as plainly as can be."""

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.request: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        self.started: int | None = None
        self.status = "running"
        self.service = ""
        self.project = ""
        self.session: str | None = None
        self.user: str | None = None
        self.tags: dict[str, Any] = {}

    @property
    def model(self) -> str | None:
        model = self.request.get("model")
        found = self.response.get("model") if model is None else model
        return None if found is None else str(found)

    def tokens(self, name: str) -> int | None:
        count = (self.response.get("usage") or {}).get(f"{name}_tokens")
        return count if count is not None and 0 <= count <= 10**12 else None

    @property
    def nanos(self) -> int | None:
        if (reported := self.response.get("reported_cost_usd")) is not None:
            return round(float(reported) * 1e9)
        spent = self.response.get("last_attempt") or {**self.response, "request_model": self.request.get("model")}
        usage = spent.get("usage")
        for model in (spent.get("model"), spent.get("request_model")):
            if usage and model in RATES:
                return int(usage["input_tokens"] * RATES[model][0] + usage["output_tokens"] * RATES[model][1])
        return None

    @property
    def is_unpriced(self) -> bool:
        """It cost something that nobody knows."""
        known = self.status not in ("running", "error") or self.tokens("input") is not None
        return self.nanos is None and known

    @property
    def duration(self) -> float | None:
        """In ms."""
        return self.response.get("duration_ms")

    @property
    def ttft(self) -> float | None:
        """In ms."""
        return self.response.get("ttft_ms")

    @property
    def day(self) -> str | None:
        return None if self.started is None else f"{datetime.fromtimestamp(self.started // 10**9, UTC):%Y-%m-%d}"


def all_calls() -> list[Call]:
    calls: dict[str, Call] = {}
    for record in EVENTS():
        if record["type"] not in ("llm:request", "llm:response"):
            continue
        stream = record["stream_id"]
        call = calls.setdefault(stream, Call(stream))
        call.service, call.project = record["service"], record["project"]
        if record["session_id"] != ERASED_SESSION:
            call.session, call.user, call.tags = record["session_id"], record["user_id"], record["tags"] or {}
        if record["type"] == "llm:request":
            call.request, call.started = record["data"], record["occurred_at"]
        else:
            call.response, call.status = record["data"], record["data"]["status"]
            duration = call.response["duration_ms"]
            if call.started is None and duration is not None:
                call.started = record["occurred_at"] - int(duration * 1e6)
    return list(calls.values())


def counted_calls() -> list[Call]:
    """Without the one that a second layer recorded."""
    seen_again = next(
        one for one in all_calls() if one.response.get("response_id") == "same" and one.request["source"] == "transport"
    )
    return [call for call in all_calls() if call.id != seen_again.id]


def buckets(metric: str, calls: Iterable[Call]) -> list[float]:
    """The upper bounds of the buckets that *calls* fell into, in order."""
    bounds = [*(2 ** (k / 4) for k in range(89)), math.inf]
    values = (call.response.get(f"{metric}_ms") for call in calls if call.started is not None)
    return sorted(bounds[bisect.bisect_left(bounds, value)] for value in values if value is not None)
