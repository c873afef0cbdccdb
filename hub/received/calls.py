"""Spans that tell of calls of a model, as what was asked and what came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from hub import semconv
from hub.extractors.requests import allowed
from hub.ids import uuid7_from
from hub.outcomes import RequestFacts, ResponseFacts
from hub.received import attributes as named
from hub.received import messages
from hub.received.attributes import decoded, first
from hub.received.spans import Span
from hub.retelling import Told

_MS = 10**6


def is_call(span: Span) -> bool:
    """Whether *span* is of one call of a model, not of an agent, a tool or other work around it."""
    return named.operation_of(span.attributes) in named.INFERENCES and not _is_followed(span)


def _is_followed(span: Span) -> bool:
    """Whether Logfire tells of the call once more, in a record of its own when the stream has ended."""
    own = span.attributes
    is_open = first(own, named.RESPONSE_ID) is None and named.usage_of(own) is None and span.status != "error"
    return is_open and own.get(_LOGFIRE) in ("span", "pending_span")


_LOGFIRE = "logfire.span_type"


def _streamed_ns(span: Span) -> int | None:
    """How long the stream took of which *span* is Logfire's record at its end; None of any other span."""
    took = span.attributes.get("duration")
    if span.attributes.get(_LOGFIRE) != "log" or not isinstance(took, float) or not 0 <= took < 10**6:
        return None
    return round(took * 10**9)


def told(span: Span) -> Told:
    """The call of a span for which `is_call` holds."""
    key, streamed_ns = f"{span.trace_id}{span.span_id}", _streamed_ns(span)
    began_ns = span.start_ns - (streamed_ns or 0)
    return Told(
        key=f"otlp {key}",
        call_id=call_id_of(span) or uuid7_from(span.start_ns // _MS, bytes.fromhex(key)),
        began_ns=began_ns,
        duration_ms=(span.end_ns - began_ns) / _MS,
        ttft_ms=_ttft_ms(span),
        session_id=_text(first(span.attributes, named.SESSION)),
        user_id=_text(first(span.attributes, named.USER)),
        status="error" if span.status == "error" else "ok",
        trace=_trace(span),
        request=_asked(span),
        response=_answered(span),
    )


def call_id_of(span: Span) -> str | None:
    """The call that a hub recorded and exported as this span; None when no hub did."""
    found = span.attributes.get(semconv.CALL_ID)
    try:
        call_id = UUID(found) if isinstance(found, str) else None
    except ValueError:
        return None
    return str(call_id) if call_id is not None and call_id.version == 7 else None


def _trace(span: Span) -> Mapping[str, Any]:
    found: dict[str, Any] = {"trace_id": span.trace_id, "span_id": span.span_id, "trace_flags": span.flags}
    if span.parent_span_id is not None:
        found["parent_span_id"] = span.parent_span_id
    if span.tracestate is not None:
        found["tracestate"] = span.tracestate
    return found


def _asked(span: Span) -> RequestFacts:
    own = span.attributes
    invocation = decoded(first(own, ("llm.invocation_parameters", "embedding.invocation_parameters")))
    invocation = invocation if isinstance(invocation, dict) else {}
    model = first(own, named.REQUEST_MODEL) or invocation.get("model") or first(own, named.RESPONSE_MODEL)
    stream = first(own, named.STREAM)
    return {
        "source": "otlp",
        "provider": _text(first(own, named.PROVIDER)),
        "model": _text(model),
        "operation": named.operation_of(own) or "chat",
        "messages": messages.asked(span),
        "tools": messages.tools(span),
        "params": allowed(named.params_of(own, invocation)),
        "stream": bool(invocation.get("stream") if stream is None else stream) or _streamed_ns(span) is not None,
        "server_address": _address(own),
    }


def _address(own: Mapping[str, Any]) -> str | None:
    host, port = own.get(semconv.SERVER_ADDRESS), own.get(semconv.SERVER_PORT)
    if not isinstance(host, str) or not host:
        url = first(own, named.BASE_URL)
        return urlsplit(url).netloc.rpartition("@")[2] or None if isinstance(url, str) else None
    return f"{host}:{port}" if isinstance(port, int) and port not in (80, 443) else host


def _chunk_times(span: Span) -> list[int]:
    """When pieces of a streamed answer came, so far as events tell."""
    return [event.at_ns for event in span.events if event.name in named.CHUNKS]


def _ttft_ms(span: Span) -> float | None:
    told = first(span.attributes, named.TTFT_SECONDS)
    if isinstance(told, int | float):
        return told * 1e3
    return min(((at - span.start_ns) / _MS for at in _chunk_times(span) if at >= span.start_ns), default=None)


def _answered(span: Span) -> ResponseFacts:
    own = span.attributes
    chunks = _chunk_times(span)
    found: ResponseFacts = {
        "model": _text(first(own, named.RESPONSE_MODEL)),
        "usage": named.usage_of(own),
        "finish_reasons": list(_reasons(decoded(first(own, named.FINISH_REASONS)))) or None,
        "response_id": _text(first(own, named.RESPONSE_ID)) or _id_in(own),
        "messages": messages.answered(span),
        "status_code": _integer(first(own, named.STATUS_CODE)),
        "chunk_count": len(chunks) if len(chunks) > 1 else None,
    }
    if span.status == "error":
        raised = next((event.attributes for event in span.events if event.name == "exception"), {})
        if found["response_id"] is None and found["model"] == first(own, named.REQUEST_MODEL):
            found["model"] = None  # Logfire's guess
        found["error_type"] = _text(first(own, named.ERROR_TYPE)) or _text(raised.get("exception.type"))
        found["error_message"] = _text(raised.get("exception.message")) or span.status_message
    return found


def _id_in(own: Mapping[str, Any]) -> str | None:
    """The id in OpenInference's copy of the answer."""
    answer = decoded(own.get("output.value")) if own.get("output.mime_type") == "application/json" else None
    return _text(answer.get("id")) if isinstance(answer, dict) else None


def _reasons(found: Any) -> Iterator[str]:
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, str) and one:
            yield one


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
