"""Contributed events to OpenTelemetry log records. Imports the SDK: for a sink's thread."""

from __future__ import annotations

from typing import Any

import orjson
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from hub import semconv
from hub.events import EventRecord
from hub.span_shape import span_event
from hub.spans import Origin

MAX_BODY = 1 << 20
"""Characters of an event's data as JSON. More is cut."""
_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def log_record_of(record: EventRecord, origin: Origin) -> ReadableLogRecord:
    """*record* with its data as JSON in the body and, where it is small, field by field in the attributes too."""
    body = orjson.dumps(record["data"]).decode()
    small = span_event(record)
    attributes: dict[str, Any] = dict(small.attributes) if small is not None else {}
    known = {
        semconv.CALL_ID: record["call_id"],
        semconv.PROJECT: record["project"],
        semconv.SESSION_ID: record["session_id"],
    }
    attributes.update((name, value) for name, value in known.items() if value is not None)
    level = record["level"]
    flags = TraceFlags((record["trace_flags"] or 0) & 0xFF)
    place = SpanContext(int(record["trace_id"] or "0", 16), int(record["span_id"] or "0", 16), False, flags)
    return ReadableLogRecord(
        LogRecord(
            timestamp=record["occurred_at"],
            observed_timestamp=record["occurred_at"],
            context=set_span_in_context(NonRecordingSpan(place), Context()),
            severity_text=level,
            severity_number=_SEVERITIES.get(level, SeverityNumber.INFO),
            body=body[:MAX_BODY],
            attributes=attributes,
            event_name=record["type"],
        ),
        origin.resource,
        origin.scope,
    )
