"""What the spans of a call look like: events in, plain values out. Pure, and without the SDK, so that spans built from
events and spans made live on the program's own tracer say the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from opentelemetry.trace import StatusCode

from hub import semconv
from hub.events import Data, EventRecord
from hub.span_limits import UNLIMITED, Limits
from hub.span_names import NEWEST, Attributes, Names, Value, renamed

MAX_EVENT_BYTES = 8192
"""Contributed events above this do not become span events."""
_FAILED = ("error", "lost")
_INT64 = 1 << 63
_HEX = frozenset("0123456789abcdef")


@dataclass(slots=True)
class SpanEvent:
    """An event on a span; `at` in UTC Unix nanoseconds."""

    name: str
    at: int
    attributes: Attributes


@dataclass(slots=True)
class SpanShape:
    """A span but for its place in the trace. Times are UTC Unix nanoseconds."""

    name: str
    start: int
    end: int
    attributes: Attributes
    status: StatusCode = StatusCode.UNSET
    description: str | None = None
    events: list[SpanEvent] = field(default_factory=list)
    dropped_attributes: int = 0
    dropped_events: int = 0


@dataclass(slots=True)
class CallShape:
    """The spans of one call: its own, and one for each attempt when there was more than one."""

    request: EventRecord
    span: SpanShape
    attempts: list[SpanShape]
    replay_of: tuple[str, str] | None = None
    """Trace and span id of the call that this one sends again."""


def shape_of(
    records: Iterable[EventRecord],
    *,
    limits: Limits = UNLIMITED,
    content: Mapping[str, str] | None = None,
    cost_usd: float | None = None,
    names: Names = NEWEST,
) -> CallShape | None:
    """The spans that the events of one call amount to; None unless both its request and its response are among them.

    Args:
        records: Of one stream, in the order of their versions.
        content: Attributes made of prompts and answers. None: they were not asked for, and error messages, which may
            quote them, stay out as well.
        cost_usd: The computed cost; None takes what was reported with the call.
        names: HUB_OTEL_NAMES.
    """
    events = _sort(records)
    if events is None:
        return None
    request, response, asked = events.requests[0], events.response, _merged(events.requests)
    start = request["occurred_at"]
    end = _end(start, response)
    attributes = call_attributes(request, asked, response, cost_usd=cost_usd)
    if content:
        attributes.update(content)
    attributes = renamed(attributes, names)
    span = SpanShape(span_name(asked), start, end, attributes)
    _set_status(span, response["data"], response["content"] if content is not None else None)
    kept = [span_event(record) for record in events.others if start <= record["occurred_at"] <= end]
    span.events = [event for event in kept if event is not None]
    attempts = list(_attempts(request, asked, events.retries, response, end)) if events.retries else []
    for attempt in attempts:
        attempt.attributes = renamed(attempt.attributes, names)
    for one in (span, *attempts):
        apply_limits(one, limits)
    return CallShape(request, span, attempts, _replay_of(asked))


def span_name(asked: Mapping[str, Any]) -> str:
    """`{operation} {model}`, as the conventions have it."""
    model = asked.get("model")
    return f"{asked.get('operation') or 'chat'} {model}" if model else str(asked.get("operation") or "chat")


def start_attributes(asked: Mapping[str, Any], names: Names = NEWEST) -> Attributes:
    """What is known of a call before it leaves, and what samplers may look at."""
    return renamed(_clean(_request_facts(asked)), names)


def _request_facts(asked: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        semconv.OPERATION_NAME: asked.get("operation") or "chat",
        semconv.PROVIDER_NAME: provider_name(asked.get("provider")),
        semconv.REQUEST_MODEL: asked.get("model"),
        semconv.TIER: asked.get("tier"),
    }
    found[semconv.SERVER_ADDRESS], found[semconv.SERVER_PORT] = split_address(asked.get("server_address"))
    if asked.get("stream"):
        found[semconv.REQUEST_STREAM] = True
    if params := asked.get("params"):
        found.update(_param_attributes(params))
    return found


def call_attributes(
    request: EventRecord, asked: Data, response: EventRecord, *, cost_usd: float | None = None
) -> Attributes:
    """The attributes of a call's span, the most telling first: limits cut from the end."""
    answer = response["data"]
    usage = answer.get("usage") or {}
    found: dict[str, Any] = {
        semconv.CALL_ID: request["call_id"] or request["stream_id"],
        **_request_facts(asked),
        semconv.STATUS: answer.get("status"),
        semconv.ERROR_TYPE: error_type(answer),
        semconv.RESPONSE_MODEL: answer.get("model"),
        semconv.RESPONSE_ID: answer.get("response_id"),
        semconv.RESPONSE_FINISH_REASONS: answer.get("finish_reasons") or None,
        semconv.RESPONSE_TIME_TO_FIRST_CHUNK: _seconds(answer.get("ttft_ms")),
        semconv.USAGE_INPUT_TOKENS: usage.get("input_tokens"),
        semconv.USAGE_OUTPUT_TOKENS: usage.get("output_tokens"),
        semconv.USAGE_CACHE_READ: usage.get("cache_read_tokens"),
        semconv.USAGE_CACHE_WRITE: usage.get("cache_write_tokens"),
        semconv.USAGE_REASONING: usage.get("reasoning_tokens"),
        semconv.COST_USD: _number(answer.get("reported_cost_usd")) if cost_usd is None else cost_usd,
        semconv.HTTP_STATUS_CODE: answer.get("status_code"),
        semconv.ATTEMPTS: attempts if (attempts := answer.get("attempts") or 1) != 1 else None,
        semconv.PROJECT: request["project"],
        semconv.SESSION_ID: request["session_id"],
        semconv.CONVERSATION_ID: request["session_id"],
        semconv.USER_ID: request["user_id"],
        semconv.REPLAY_OF_CALL_ID: asked.get("replay_of"),
        semconv.REPLAY_RUN: asked.get("replay_run"),
    }
    for key, value in (request["tags"] or {}).items():
        found[semconv.TAG_PREFIX + key] = value
    return _clean(found)


def provider_name(provider: str | None) -> str | None:
    """The conventions' name for *provider*; its own where they have none."""
    return semconv.PROVIDER_NAMES.get(provider, provider) if provider else None


def split_address(address: str | None) -> tuple[str | None, int | None]:
    """Host and port of `host`, `host:port` or `[v6]:port`."""
    if not address:
        return None, None
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return address.strip("[]"), None


_PARAMS: tuple[tuple[str, type[Any], tuple[str, ...]], ...] = (
    (semconv.REQUEST_MAX_TOKENS, int, ("max_tokens", "max_completion_tokens", "max_output_tokens")),
    (semconv.REQUEST_TEMPERATURE, float, ("temperature",)),
    (semconv.REQUEST_TOP_P, float, ("top_p",)),
    (semconv.REQUEST_TOP_K, int, ("top_k",)),
    (semconv.REQUEST_SEED, int, ("seed",)),
    (semconv.REQUEST_FREQUENCY_PENALTY, float, ("frequency_penalty",)),
    (semconv.REQUEST_PRESENCE_PENALTY, float, ("presence_penalty",)),
    (semconv.REQUEST_REASONING_LEVEL, str, ("reasoning_effort",)),
    (semconv.REQUEST_PREVIOUS_RESPONSE_ID, str, ("previous_response_id",)),
)


def _param_attributes(params: Mapping[str, Any]) -> Iterator[tuple[str, Value | None]]:
    for attribute, kind, names in _PARAMS:
        value = next((params[name] for name in names if params.get(name) is not None), None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and kind is not str:
            yield attribute, kind(value)
        elif isinstance(value, str) and kind is str:
            yield attribute, value
    if isinstance(reasoning := params.get("reasoning"), dict) and isinstance(effort := reasoning.get("effort"), str):
        yield semconv.REQUEST_REASONING_LEVEL, effort
    if isinstance(choices := params.get("n"), int) and choices != 1:
        yield semconv.REQUEST_CHOICE_COUNT, choices
    stop = params.get("stop", params.get("stop_sequences"))
    if isinstance(stop, str):
        yield semconv.REQUEST_STOP_SEQUENCES, [stop]
    elif isinstance(stop, list):
        yield semconv.REQUEST_STOP_SEQUENCES, [str(one) for one in stop]
    yield semconv.OUTPUT_TYPE, _output_type(params)


def _output_type(params: Mapping[str, Any]) -> str | None:
    wanted = params.get("response_format")
    wanted = wanted.get("type") if isinstance(wanted, dict) else wanted
    if params.get("json_mode") or (isinstance(wanted, str) and wanted.startswith("json")):
        return "json"
    return "text" if wanted == "text" else None


@dataclass(slots=True)
class _Sorted:
    requests: list[EventRecord]
    retries: list[EventRecord]
    others: list[EventRecord]
    response: EventRecord


def _sort(records: Iterable[EventRecord]) -> _Sorted | None:
    requests: list[EventRecord] = []
    retries: list[EventRecord] = []
    others: list[EventRecord] = []
    response: EventRecord | None = None
    for record in records:
        match record["type"]:
            case "llm:request":
                requests.append(record)
            case "llm:response":
                response = response or record
            case "provider:retry" | "provider:attempt":
                retries.append(record)
            case "llm:request:debug" | "llm:response:debug":
                pass
            case other if not other.startswith("hub:"):
                others.append(record)
    if not requests or response is None:
        return None
    return _Sorted(requests, retries, others, response)


def _merged(requests: Sequence[EventRecord]) -> Data:
    """The payload of the request; what its outer layer did not know, an inner layer's request tells."""
    asked = requests[0]["data"]
    for inner in requests[1:]:
        asked = {**asked, **{key: value for key, value in inner["data"].items() if asked.get(key) in (None, {}, [])}}
    return asked


def _end(start: int, response: EventRecord) -> int:
    """By the monotonic clock; a lost call has no duration, and ends when it was found."""
    if (duration := response["data"].get("duration_ms")) is not None:
        return start + max(0, round(float(duration) * 1e6))
    return max(start, response["occurred_at"])


def error_type(answer: Data) -> str | None:
    """What went wrong. Only of failures: a caller that cancels or lets go of a stream met no error."""
    if answer.get("status") not in _FAILED:
        return None
    return str(answer.get("error_type") or ("lost" if answer["status"] == "lost" else "_OTHER"))


def _set_status(span: SpanShape, answer: Data, content: Data | None) -> None:
    if error_type(answer) is None:
        return
    span.status = StatusCode.ERROR
    if content and isinstance(message := content.get("error"), str):
        span.description = message


def _attempts(
    request: EventRecord, asked: Data, retries: Sequence[EventRecord], response: EventRecord, end: int
) -> Iterator[SpanShape]:
    """One span for each attempt that another followed, ended when that was announced, and one for the last."""
    start = request["occurred_at"]
    for number, retry in enumerate(retries, 1):
        facts = retry["data"]
        failed_at = min(max(start, retry["occurred_at"]), end)
        if (duration := facts.get("duration_ms")) is not None:
            start = max(start, failed_at - round(duration * 1e6))
        span = SpanShape(f"attempt {number}", start, failed_at, _attempt_attributes(request, asked, facts, number))
        if retry["type"] == "provider:retry":
            span.status = StatusCode.ERROR
        yield span
        start = min(failed_at + round((facts.get("delay_ms") or 0) * 1e6), end)
    answer, number = response["data"], len(retries) + 1
    if (answer.get("attempts") or number) < number:  # called off before another began
        return
    facts = {**(answer.get("last_attempt") or {}), "error_type": error_type(answer)}
    facts.setdefault("status_code", answer.get("status_code"))
    span = SpanShape(f"attempt {number}", start, end, _attempt_attributes(request, asked, facts, number))
    _set_status(span, answer, None)
    yield span


def _attempt_attributes(request: EventRecord, asked: Data, facts: Data, number: int) -> Attributes:
    """Without operation, usage and cost: whoever adds up calls must not count an attempt."""
    address, port = split_address(asked.get("server_address"))
    return _clean(
        {
            semconv.CALL_ID: request["call_id"] or request["stream_id"],
            semconv.ATTEMPT: number,
            semconv.PROVIDER_NAME: provider_name(facts.get("provider") or asked.get("provider")),
            semconv.REQUEST_MODEL: facts.get("model") or asked.get("model"),
            semconv.SERVER_ADDRESS: address,
            semconv.SERVER_PORT: port,
            semconv.HTTP_STATUS_CODE: facts.get("status_code"),
            semconv.ERROR_TYPE: facts.get("error_type"),
            semconv.DELAY_MS: facts.get("delay_ms"),
        }
    )


def attempt_span_id(span_id: str, attempt: int) -> int:
    """The id of an attempt's span: the same whenever it is made from the same events."""
    digest = hashlib.sha256(bytes.fromhex(span_id) + attempt.to_bytes(4, "big")).digest()
    return int.from_bytes(digest[:8], "big") or 1


def span_event(record: EventRecord) -> SpanEvent | None:
    """*record* within a span; None for one that is too large. Its content is never taken."""
    attributes: Attributes = {}
    size = 0
    for key, value in record["data"].items():
        if value is None:
            continue
        if not isinstance(value, (str, bool, int, float)):
            value = orjson.dumps(value).decode()
        attributes[key] = value
        size += len(key) + (len(value) if isinstance(value, str) else 8)
    if size > MAX_EVENT_BYTES:
        return None
    return SpanEvent(record["type"], record["occurred_at"], _clean(attributes))


def _replay_of(asked: Data) -> tuple[str, str] | None:
    trace_id, span_id = str(asked.get("replay_of_trace_id")), str(asked.get("replay_of_span_id"))
    return (trace_id, span_id) if is_id(trace_id, 32) and is_id(span_id, 16) else None


def is_id(text: str, digits: int) -> bool:
    """Whether *text* names a trace or a span."""
    return len(text) == digits and _HEX.issuperset(text) and text.strip("0") != ""


def _clean(attributes: Mapping[str, Any]) -> Attributes:
    """Without the unknown, and without what an exporter cannot encode: one such value would fail its whole batch."""
    cleaned: Attributes = {}
    for key, value in attributes.items():
        if value is None:
            continue
        if isinstance(value, str):
            value = value if value.isascii() else _encodable(value)
        elif isinstance(value, int):
            value = value if -_INT64 <= value < _INT64 else str(value)
        elif isinstance(value, (list, tuple)):
            value = [_encodable(str(one)) for one in value]
        elif not isinstance(value, float):
            value = _encodable(str(value))
        cleaned[key if key.isascii() else _encodable(key)] = value
    return cleaned


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def apply_limits(span: SpanShape, limits: Limits) -> None:
    """Cut *span* down to *limits*, and count what that leaves out."""
    span.attributes, span.dropped_attributes = limits.cut(span.attributes, limits.attributes)
    if limits.events is not None and len(span.events) > limits.events:
        span.dropped_events = len(span.events) - limits.events
        del span.events[limits.events :]
    for event in span.events:
        event.attributes, _ = limits.cut(event.attributes, limits.event_attributes)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def _number(text: str | None) -> float | None:
    """A decimal string as a number; None for what is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
