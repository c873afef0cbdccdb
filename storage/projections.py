"""Events folded into the rows of the calls. No I/O: live writing and a rebuild run the same code on the same events.

Payloads come from other people's programs and from other versions of ours: whatever a value is, folding never raises
and every row can be stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from hub.events import Data, EventRecord
from hub.messages import newest_text
from hub.pricing import LARGEST, PriceBook, reported
from storage.key_texts import key_text

Row = dict[str, Any]
"""A row of hub_calls; keys in the order of CALL_COLUMNS."""

_CALL_COLUMNS = """
    call_id project environment service producer session_id user_id trace_id span_id parent_span_id provider operation
    request_model response_model tier response_id server_address status status_code error_type error_message
    finish_reason stream started_at started_ns ended_at ended_ns duration_ms duration_le ttft_ms ttft_le chunk_count
    attempts continuation_count message_count has_system tool_count params input_tokens output_tokens
    cache_read_tokens cache_write_tokens reasoning_tokens cost_nanos cost_source price_version response_cached counted
    capture request_summary response_summary tags source replay_of replay_run request_version
    response_version failed_attempts attempt_ns input_parts output_parts
"""
CALL_COLUMNS: Final = tuple(_CALL_COLUMNS.split())

ATTEMPT_COLUMNS: Final = (
    "position", "call_id", "attempt", "started_ns", "duration_ms", "provider", "model", "status_code", "error_type",
    "delay_ms", "input_tokens", "output_tokens", "cost_nanos", "is_last",
)  # fmt: skip

OF_CONTENT: Final[Row] = {
    "error_message": None,
    "request_summary": None,
    "response_summary": None,
    "input_parts": 0,
    "output_parts": 0,
}
"""What content alone tells of a call, and what a row has without it."""

OF_LABELS: Final[Row] = {"session_id": None, "user_id": None, "tags": None}
"""What the caller's labels alone tell, likewise."""

CALL_TYPES: Final = frozenset(
    {
        "llm:request",
        "llm:request:debug",
        "llm:response",
        "llm:response:debug",
        "provider:retry",
        "provider:attempt",
    }
)
"""The types that rows of calls are made from."""

_EMPTY: Final[Row] = dict.fromkeys(CALL_COLUMNS) | {
    "status": "running",
    "counted": 1,
    "failed_attempts": 0,
    "input_parts": 0,
    "output_parts": 0,
}

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_MOST_TOKENS = 10**12
"""More is a server's mistake, and the sum of millions of mistakes still has to fit 64 bits: one more, and SQL's sum()
would fail for all."""
_MOST_MS = 1e12
_BUCKETS: Final = [2 ** (k / 4) for k in range(89)]


def new_call(record: EventRecord) -> Row:
    """The row of a call of which nothing is known but that *record* is about it."""
    row = _EMPTY.copy()
    row["call_id"] = record["call_id"]
    _take_envelope(row, record)
    return row


def fold(row: Row, record: EventRecord) -> None:
    """Add to *row* what *record*, one of CALL_TYPES, tells. Content stands inline, if there still is any."""
    _FOLDS[record["type"]](row, record)


def _take_envelope(row: Row, record: EventRecord) -> None:
    row["project"] = record["project"]
    row["environment"] = record["environment"]
    row["service"] = key_text(record["service"])
    row["producer"] = key_text(record["producer"])
    row["session_id"] = _key(record["session_id"])
    row["user_id"] = record["user_id"]
    row["trace_id"] = record["trace_id"]
    row["span_id"] = record["span_id"]
    row["parent_span_id"] = record["parent_span_id"]
    tags = record["tags"]
    row["tags"] = None if tags is None else orjson.dumps(tags).decode()


def _fold_request(row: Row, record: EventRecord) -> None:
    """The first request is the call's; later ones come from inner layers and tell only what it left open."""
    version = record["version"]
    first = row["request_version"] is None or version < row["request_version"]
    found = _read_request(record["data"])
    if first:
        row["request_version"] = version
        _take_envelope(row, record)
        _start(row, record["occurred_at"])
        row.update({key: value for key, value in found.items() if value is not None})
    else:
        for key, value in found.items():
            if row[key] is None:
                row[key] = value


def _read_request(data: Data) -> Row:
    get = data.get
    params = get("params")
    return {
        "provider": _key(get("provider")),
        "request_model": _key(get("model")),
        "operation": _text(get("operation")),
        "tier": _text(get("tier")),
        "server_address": _text(get("server_address")),
        "stream": _flag(get("stream")),
        "message_count": _integer(get("message_count")),
        "has_system": _flag(get("has_system")),
        "tool_count": _integer(get("tool_count")),
        "params": orjson.dumps(params).decode() if params else None,
        "capture": _text(get("capture")),
        "source": _text(get("source")),
        "replay_of": _text(get("replay_of")),
        "replay_run": _text(get("replay_run")),
    }


def _start(row: Row, at: int) -> None:
    row["started_ns"], row["started_at"] = at, instant(at)
    if row["attempt_ns"] is None:
        row["attempt_ns"] = at


def _fold_request_debug(row: Row, record: EventRecord) -> None:
    content = record["content"]
    if content is None:
        return
    if row["capture"] is None:
        row["capture"] = "full" if "messages" in content or "wire" in content else "summary"
    if row["request_summary"] is None:
        row["request_summary"] = _summary(content)


def _fold_response_debug(row: Row, record: EventRecord) -> None:
    content = record["content"]
    if content is not None and row["response_summary"] is None:
        row["response_summary"] = _summary(content)


def _summary(content: Data) -> str | None:
    """A preview as text: the one captured, else of the messages."""
    summary = content.get("summary")
    if isinstance(summary, dict):
        return _text(summary.get("text"))
    messages = content.get("messages")
    return newest_text(messages) if isinstance(messages, list) else None


def _fold_response(row: Row, record: EventRecord) -> None:
    """One end counts: the first that the call's own process wrote, else the one its recovery wrote."""
    data, version = record["data"], record["version"]
    status = _text(data.get("status")) or "ok"
    if row["response_version"] is not None:
        held = (row["status"] == "lost", row["response_version"])
        if held <= (status == "lost", version):
            return
    row["response_version"], row["status"] = version, status
    row.update(_read_response(data))
    content = record["content"]
    row["error_message"] = None if content is None else _text(content.get("error"))
    _end(row, record["occurred_at"])


def _read_response(data: Data) -> Row:
    get = data.get
    count = _counter(get("usage"))
    reasons = get("finish_reasons")
    duration, ttft = _duration(get("duration_ms")), _duration(get("ttft_ms"))
    return {
        "response_model": _key(get("model")),
        "response_id": _key(get("response_id")) or None,  # some servers send an empty one
        "status_code": _integer(get("status_code")),
        "error_type": _text(get("error_type")),
        "finish_reason": _text(reasons[0]) if isinstance(reasons, list) and reasons else None,
        "duration_ms": duration,
        "duration_le": bucket(duration),
        "ttft_ms": ttft,
        "ttft_le": bucket(ttft),
        "chunk_count": _integer(get("chunk_count")),
        "attempts": _integer(get("attempts")),
        "continuation_count": _integer(get("continuation_count")),
        "response_cached": _flag(get("response_cached")),
        "input_tokens": _tokens(count("input_tokens")),
        "output_tokens": _tokens(count("output_tokens")),
        "cache_read_tokens": _tokens(count("cache_read_tokens")),
        "cache_write_tokens": _tokens(count("cache_write_tokens")),
        "reasoning_tokens": _tokens(count("reasoning_tokens")),
        **_reported_cost(data),
    }


def _reported_cost(data: Data) -> Row:
    nanos = reported(data.get("reported_cost_usd"))
    source = None if nanos is None else _text(data.get("cost_reporter")) or "response"
    return {"cost_nanos": nanos, "cost_source": source, "price_version": None}


def _end(row: Row, at: int) -> None:
    if row["status"] == "lost":  # nobody saw the end: the event's time is when it was noticed
        row["ended_ns"] = row["ended_at"] = None
        return
    row["ended_ns"], row["ended_at"] = at, instant(at)
    if row["started_ns"] is None and row["duration_ms"] is not None:
        _start(row, at - _nanoseconds(row["duration_ms"]))


def _fold_attempt(row: Row, record: EventRecord) -> None:
    delay = _number(record["data"].get("delay_ms")) or 0.0
    row["failed_attempts"] += 1
    row["attempt_ns"] = record["occurred_at"] + _nanoseconds(delay)


_FOLDS: Final = {
    "llm:request": _fold_request,
    "llm:request:debug": _fold_request_debug,
    "llm:response": _fold_response,
    "llm:response:debug": _fold_response_debug,
    "provider:retry": _fold_attempt,
    "provider:attempt": _fold_attempt,
}


class Attempt(NamedTuple):
    """An attempt of a call. Its cost is as reported, see `price_attempt`."""

    row: Row
    """Of hub_attempts, keys as ATTEMPT_COLUMNS."""
    usage: dict[str, int | None]
    models: list[str]
    """Whose price tells its cost, best first."""

    @property
    def spent(self) -> bool:
        """Whether it is known to have used tokens; asked of the row, for it is asked again of those in the store."""
        return bool(self.row["input_tokens"] or self.row["output_tokens"])


def read_attempt(row: Row, record: EventRecord, position: int) -> Attempt:
    """The attempt that *record* tells of, which was not folded into the call's *row* yet."""
    return _read_attempt(row, record, position, record["data"])


def read_last_attempt(row: Row, record: EventRecord, position: int) -> Attempt | None:
    """`read_attempt` of the response's event, folded into *row* already; None where it tells no more of the last
    attempt than of the call, or another response counts."""
    last = record["data"].get("last_attempt")
    if not isinstance(last, dict) or row["response_version"] != record["version"]:
        return None
    attempt = _read_attempt(row, record, position, last)
    attempt.row["attempt"] = max(row["attempts"] or 1, row["failed_attempts"] + 1)
    attempt.row["is_last"] = 1
    return attempt


def _read_attempt(row: Row, record: EventRecord, position: int, data: Data) -> Attempt:
    get, happened = data.get, record["occurred_at"]
    duration = _duration(get("duration_ms"))
    started = row["attempt_ns"] if duration is None else happened - _nanoseconds(duration)
    if duration is None and started is not None:
        duration = max(happened - started, 0) / 1e6
    count = _counter(get("usage"))
    attempt: Row = {
        "position": position,
        "call_id": record["call_id"],
        "attempt": _integer(get("attempt")) or row["failed_attempts"] + 1,
        "started_ns": started,
        "duration_ms": duration,
        "provider": _key(get("provider")) or row["provider"],
        "model": _key(get("model")) or row["request_model"],
        "status_code": _integer(get("status_code")),
        "error_type": _text(get("error_type")),
        "delay_ms": _duration(get("delay_ms")),
        "input_tokens": _tokens(count("input_tokens")),
        "output_tokens": _tokens(count("output_tokens")),
        "cost_nanos": reported(get("reported_cost_usd")),
        "is_last": None,
    }
    models: dict[str | None, None] = dict.fromkeys((attempt["model"], _key(get("request_model"))))
    return Attempt(attempt, {key: _tokens(count(key)) for key in _COUNTS}, [model for model in models if model])


def price_attempt(attempt: Attempt, book: PriceBook) -> None:
    """Set the attempt's cost from its usage, unless it was reported."""
    row = attempt.row
    cost = book.cost(row["provider"], models_of_attempt(attempt), attempt.usage, row["started_ns"] or 0)
    if cost is not None:
        row["cost_nanos"] = cost.nanos


def models_of_attempt(attempt: Attempt) -> list[str]:
    """As `priced_models`."""
    return attempt.models if attempt.row["cost_nanos"] is None and attempt.spent else []


def price_by_attempts(row: Row, attempts: Sequence[tuple[bool, bool, int | None]]) -> None:
    """Make the cost of a priced *row* the sum of its attempts' where the last of them has one of its own.

    Args:
        attempts: Of each whether it was the last, whether it spent tokens, and its cost in nano-dollars.
    """
    if not any(last for last, _, _ in attempts):
        return
    costs = [cost for _, spent, cost in attempts if spent or cost is not None]
    if not costs:
        return
    is_reported = row["cost_source"] is not None and row["price_version"] is None
    total = sum(cost or 0 for cost in costs)
    if abs(total) > LARGEST or any(cost is None for cost in costs):
        row["cost_nanos"] = row["cost_source"] = row["price_version"] = None
        return
    row["cost_nanos"] = max(total, row["cost_nanos"] or 0) if is_reported else total
    row["cost_source"] = row["cost_source"] or "attempts"


def priced_models(row: Row) -> list[str]:
    """The models whose price tells what the call cost, best first; none when its cost needs no price."""
    if row["input_tokens"] is None and row["output_tokens"] is None:
        return []
    if row["cost_source"] is not None and row["price_version"] is None:
        return []
    return [model for model in dict.fromkeys((row["response_model"], row["request_model"])) if model]


def price(row: Row, book: PriceBook) -> None:
    """Set the row's cost from its usage, unless the response told it."""
    models = priced_models(row)
    if not models:
        return
    row["cost_nanos"] = row["cost_source"] = row["price_version"] = None
    cost = book.cost(row["provider"], models, _usage(row), row["started_ns"] or 0)
    if cost is not None:
        row["cost_nanos"], row["cost_source"], row["price_version"] = cost


def _usage(row: Row) -> dict[str, int | None]:
    return {key: row.get(key) for key in _COUNTS}


_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def repeated(calls: Iterable[Mapping[str, Any]]) -> set[str]:
    """Of *calls* with one response id those that another layer of the same program recorded too, and earlier: the
    earliest record counts.

    Two records are of one call when the producer and the response's id agree, their times overlap, and they come from
    different sources.
    """
    ends: dict[str, dict[str | None, int]] = {}
    found = set()
    for call in sorted(calls, key=lambda one: (one["started_ns"] or 0, one["call_id"])):
        start, source = call["started_ns"] or 0, call["source"]
        seen = ends.setdefault(call["producer"], {})
        if any(end >= start for other, end in seen.items() if other != source):
            found.add(call["call_id"])
        seen[source] = max(seen.get(source, 0), call["ended_ns"] or 0)
    return found


def bucket(milliseconds: float | None) -> float | None:
    """The smallest 2^(k/4), k = 0..88, that is not below *milliseconds*; None when there is none."""
    if milliseconds is None or milliseconds > _BUCKETS[-1]:
        return None
    if milliseconds <= 1:
        return _BUCKETS[0]
    place = math.ceil(4 * math.log2(milliseconds))
    while place > 0 and _BUCKETS[place - 1] >= milliseconds:
        place -= 1
    while _BUCKETS[place] < milliseconds:
        place += 1
    return _BUCKETS[place]


def instant(ns: int) -> str | None:
    """*ns*, UTC Unix nanoseconds, as YYYY-MM-DDTHH:MM:SS.ffffffZ, truncated; None outside the years 1000 to 9999."""
    second = _second_text(ns // 10**9)
    return second and f"{second}.{ns % 10**9 // 1000:06d}Z"


@lru_cache(maxsize=64)
def _second_text(second: int) -> str | None:
    try:
        moment = time.gmtime(second)
    except (ValueError, OverflowError, OSError):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) if 1000 <= moment.tm_year <= 9999 else None


def _text(value: object) -> str | None:
    return value if type(value) is str else None


def _key(value: object) -> str | None:
    return key_text(value) if type(value) is str else None


def _integer(value: object) -> int | None:
    return value if type(value) is int and _INT_MIN <= value <= _INT_MAX else None


def _tokens(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _number(value: object) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    return float(value) if type(value) is int and _INT_MIN <= value <= _INT_MAX else None


def _duration(value: object) -> float | None:
    """Milliseconds, of 31 years at most: with one mistake of 1e300 among them PostgreSQL's avg() fails for all."""
    number = _number(value)
    return number if number is None or abs(number) <= _MOST_MS else None


def _nanoseconds(milliseconds: float) -> int:
    """Bounded to 31 years, so that no instant made of it leaves 64 bits."""
    return int(min(max(milliseconds, -_MOST_MS), _MOST_MS) * 1e6)


def _flag(value: object) -> int | None:
    return int(value) if type(value) is bool else None


def _counter(usage: object) -> Callable[[str], object]:
    return usage.get if isinstance(usage, dict) else _nothing


def _nothing(_key: str) -> None:
    return None
