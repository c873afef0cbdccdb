"""OTLP's trace requests, protobuf and JSON, as spans. What is malformed in one span costs that span alone.

Shapes: opentelemetry-proto 1.10, trace/v1/trace.proto, and its JSON mapping: ids in hex, 64-bit integers as strings.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hub.errors import HubError

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
_MOST_DEPTH = 32

Attributes = dict[str, Any]


class MalformedRequest(HubError):
    """The request is none of OTLP's."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made spans: the resource and the instrumentation's scope."""

    resource: Attributes
    scope: str


class SpanEvent(NamedTuple):
    name: str
    at_ns: int
    attributes: Attributes


class SpanLink(NamedTuple):
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(slots=True)
class Span:
    """A span as it was sent. Ids are lower-case hex, times UTC Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    """One of KINDS."""
    start_ns: int
    end_ns: int
    status: str
    """One of STATUSES."""
    status_message: str | None
    origin: Origin
    flags: int | None = None
    tracestate: str | None = None
    attributes: Attributes = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    links: list[SpanLink] = field(default_factory=list)


class Decoded(NamedTuple):
    """What a request held."""

    spans: list[Span]
    broken: int
    """Spans that cannot be read."""
    reason: str | None
    """Of the first of them."""


def from_protobuf(raw: bytes) -> Decoded:
    """Raises: MalformedRequest"""
    try:
        request = ExportTraceServiceRequest.FromString(raw)
    except Exception:  # protobuf's DecodeError, whose package is named by no dependency of ours
        raise MalformedRequest("the body is no ExportTraceServiceRequest of OTLP") from None
    return _gather(
        (Origin(_values(group.resource.attributes), scoped.scope.name), span, _from_message)
        for group in request.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    )


def from_json(raw: bytes) -> Decoded:
    """Raises: MalformedRequest"""
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise MalformedRequest("the body is no JSON") from None
    if not isinstance(request, dict):
        raise MalformedRequest("the body is no ExportTraceServiceRequest of OTLP")
    return _gather(
        (
            Origin(
                _json_values(_dict(group, "resource").get("attributes")), str(_dict(scoped, "scope").get("name", ""))
            ),
            span,
            _from_dict,
        )
        for group in _list(request, "resourceSpans")
        for scoped in _list(group, "scopeSpans")
        for span in _list(scoped, "spans")
    )


def _gather(found: Iterator[tuple[Origin, Any, Callable[[Any, Origin], Span]]]) -> Decoded:
    spans, broken, reason = [], 0, None
    for origin, given, read in found:
        try:
            spans.append(read(given, origin))
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
            broken += 1
            reason = reason or (str(error) if isinstance(error, ValueError) else f"a span is malformed: {error!r}")
    return Decoded(spans, broken, reason)


# Protobuf.


def _from_message(span: Any, origin: Origin) -> Span:
    return Span(
        _id(span.trace_id, 16),
        _id(span.span_id, 8),
        span.parent_span_id.hex() or None,
        span.name,
        _named(KINDS, span.kind),
        *_times(span.start_time_unix_nano, span.end_time_unix_nano),
        _named(STATUSES, span.status.code),
        span.status.message or None,
        origin,
        span.flags & 0xFF,
        span.trace_state or None,
        _values(span.attributes),
        [SpanEvent(one.name, one.time_unix_nano, _values(one.attributes)) for one in span.events],
        [SpanLink(one.trace_id.hex(), one.span_id.hex(), _values(one.attributes)) for one in span.links],
    )


def _id(raw: bytes, size: int) -> str:
    if len(raw) != size or not any(raw):
        raise ValueError(f"a span has an id that is not {size} bytes, or is all zeros")
    return raw.hex()


def _values(pairs: Any) -> Attributes:
    return {pair.key: _value(pair.value, 0) for pair in pairs}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind is None or depth > _MOST_DEPTH:
        return None
    if kind == "array_value":
        return [_value(each, depth + 1) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


# JSON.


def _from_dict(span: dict[str, Any], origin: Origin) -> Span:
    status = _dict(span, "status")
    return Span(
        _hex(span["traceId"], 16),
        _hex(span["spanId"], 8),
        _hex(parent, 8) if (parent := span.get("parentSpanId")) else None,
        str(span.get("name", "")),
        _named(KINDS, _enum(span.get("kind", 0), "SPAN_KIND_", KINDS)),
        *_times(int(span.get("startTimeUnixNano", 0)), int(span.get("endTimeUnixNano", 0))),
        _named(STATUSES, _enum(status.get("code", 0), "STATUS_CODE_", STATUSES)),
        status.get("message") or None,
        origin,
        int(span.get("flags", 0)) & 0xFF,
        span.get("traceState") or None,
        _json_values(span.get("attributes")),
        [
            SpanEvent(str(one.get("name", "")), int(one.get("timeUnixNano", 0)), _json_values(one.get("attributes")))
            for one in _list(span, "events")
        ],
        [
            SpanLink(_hex(one["traceId"], 16), _hex(one["spanId"], 8), _json_values(one.get("attributes")))
            for one in _list(span, "links")
        ],
    )


def _hex(text: Any, size: int) -> str:
    return _id(bytes.fromhex(text), size)


def _enum(given: Any, prefix: str, names: tuple[str, ...]) -> int:
    """Numbers are OTLP's mapping; names are what other JSON encoders write."""
    if isinstance(given, str) and not given.isdecimal():
        name = given.removeprefix(prefix).lower()
        return names.index(name) if name in names else 0
    return int(given)


def _json_values(pairs: Any) -> Attributes:
    if pairs is None:
        return {}
    return {str(pair["key"]): _json_value(pair.get("value"), 0) for pair in pairs}


def _json_value(value: Any, depth: int) -> Any:
    if not value or depth > _MOST_DEPTH:
        return None
    ((kind, found),) = value.items()
    if kind == "intValue":
        return int(found)
    if kind == "doubleValue":
        return float(found)
    if kind == "arrayValue":
        return [_json_value(each, depth + 1) for each in found.get("values") or ()]
    if kind == "kvlistValue":
        pairs = found.get("values") or ()
        return {str(pair["key"]): _json_value(pair.get("value"), depth + 1) for pair in pairs}
    return found


def _dict(of: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = of.get(key) if isinstance(of, dict) else None
    return found if isinstance(found, dict) else {}


def _list(of: Mapping[str, Any], key: str) -> list[Any]:
    found = of.get(key) if isinstance(of, dict) else None
    return found if isinstance(found, list) else []


# Both.


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _times(start_ns: int, end_ns: int) -> tuple[int, int]:
    if not 0 < start_ns < 1 << 63:
        raise ValueError("a span has no start, or one beyond 64 bits")
    return start_ns, end_ns if start_ns <= end_ns < 1 << 63 else start_ns
