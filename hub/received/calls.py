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
    return named.operation_of(span.attributes) in named.INFERENCES


def told(span: Span) -> Told:
    """The call of a span for which `is_call` holds."""
    key = f"{span.trace_id}{span.span_id}"
    return Told(
        key=f"otlp {key}",
        call_id=call_id_of(span) or uuid7_from(span.start_ns // _MS, bytes.fromhex(key)),
        began_ns=span.start_ns,
        duration_ms=(span.end_ns - span.start_ns) / _MS,
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
        return str(UUID(found)) if isinstance(found, str) else None
    except ValueError:
        return None


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
        "stream": bool(invocation.get("stream") if stream is None else stream),
        "server_address": _address(own),
    }


def _address(own: Mapping[str, Any]) -> str | None:
    host, port = own.get(semconv.SERVER_ADDRESS), own.get(semconv.SERVER_PORT)
    if not isinstance(host, str) or not host:
        url = first(own, named.BASE_URL)
        return urlsplit(url).netloc.rpartition("@")[2] or None if isinstance(url, str) else None
    return f"{host}:{port}" if isinstance(port, int) and port not in (80, 443) else host


def _answered(span: Span) -> ResponseFacts:
    own = span.attributes
    chunks = named.chunk_times((event.name, event.at_ns) for event in span.events)
    found: ResponseFacts = {
        "model": _text(first(own, named.RESPONSE_MODEL)),
        "usage": named.usage_of(own),
        "finish_reasons": list(_reasons(decoded(first(own, named.FINISH_REASONS)))) or None,
        "response_id": _text(first(own, named.RESPONSE_ID)),
        "messages": messages.answered(span),
        "status_code": _integer(first(own, named.STATUS_CODE)),
        "chunk_count": len(chunks) if len(chunks) > 1 else None,
    }
    if span.status == "error":
        raised = next((event.attributes for event in span.events if event.name == "exception"), {})
        found["error_type"] = _text(first(own, named.ERROR_TYPE)) or _text(raised.get("exception.type"))
        found["error_message"] = _text(raised.get("exception.message")) or span.status_message
    return found


def _reasons(found: Any) -> Iterator[str]:
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, str) and one:
            yield one


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
