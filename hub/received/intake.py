"""From spans to the events that a store keeps: a call's where a span tells of one, else the span itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, cast
from uuid import UUID

from hub import semconv
from hub.config import Settings
from hub.content import Cleaner
from hub.events import ENVELOPE_DEFAULTS, SPAN_EVENT, EventRecord
from hub.ids import uuid7_from
from hub.received.attributes import SESSION, USER, first, named_content
from hub.received.calls import call_id_of, is_call, told
from hub.received.spans import Span
from hub.retelling import Retelling
from hub.store import EventStore

_MS = 10**6
_MOST_PROGRAMS = 64
_MOST_ATTRIBUTES = 1_000


class Intake:
    """Puts spans into a store. What was taken once is taken no second time. For one thread at a time."""

    def __init__(self, store: EventStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._cleaner = Cleaner(patterns=settings.redact_patterns, max_body_bytes=int(settings.max_body_bytes))
        self._retellings: dict[tuple[str, str | None], Retelling] = {}

    def take(self, spans: Sequence[Span]) -> int:
        """Store *spans*; on return they are safe. Returns: How many cannot be stored. Raises: StoreError"""
        refused, events = 0, list[EventRecord]()
        calls = _innermost_calls(spans)
        for span in spans:
            if self._is_known(span):
                continue
            try:
                events += self._events(span, (span.trace_id, span.span_id) in calls)
            except ValueError:
                refused += 1
        self._store.append(events)
        return refused

    def _is_known(self, span: Span) -> bool:
        """Whether it is of a call that a hub recorded, and that is in the store already."""
        call_id = call_id_of(span)
        return call_id is not None and next(iter(self._store.read_stream(UUID(call_id))), None) is not None

    def _events(self, span: Span, as_call: bool) -> list[EventRecord]:
        service = str(span.origin.resource.get(semconv.SERVICE_NAME) or "unknown_service")
        environment = first(span.origin.resource, (semconv.DEPLOYMENT_ENVIRONMENT, "deployment.environment"))
        retelling = self._retelling(service, environment if isinstance(environment, str) else None)
        return retelling.events(told(span)) if as_call else [self._span_event(span, retelling)]

    def _retelling(self, service: str, environment: str | None) -> Retelling:
        found = self._retellings.get((service, environment))
        if found is None:
            if len(self._retellings) >= _MOST_PROGRAMS:
                self._retellings.clear()
            producer = f"otlp:{service}"
            found = Retelling(self._settings, service=service, producer=producer, environment=environment)
            self._retellings[service, environment] = found
        return found

    def _span_event(self, span: Span, of: Retelling) -> EventRecord:
        seed = bytes.fromhex(span.trace_id + span.span_id)
        session, user = first(span.attributes, SESSION), first(span.attributes, USER)
        attributes, _ = self._cleaner.clean(self._kept(span))
        record: dict[str, Any] = {
            **ENVELOPE_DEFAULTS,
            **of.constants,
            "id": uuid7_from(span.start_ns // _MS, seed + b"span"),
            "type": SPAN_EVENT,
            "schema_version": 1,
            "stream_id": uuid7_from(span.start_ns // _MS, seed),
            "version": 1,
            "call_id": None,
            "occurred_at": span.start_ns,
            "level": "info",
            "session_id": session if isinstance(session, str) else None,
            "user_id": user if isinstance(user, str) else None,
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
            "trace_flags": span.flags,
            "tracestate": span.tracestate,
            "producer_seq": of.next_seq(),
            "data": {
                "name": self._cleaner.text(span.name)[0],
                "kind": span.kind.upper(),
                "status": span.status.upper(),
                "duration_ms": (span.end_ns - span.start_ns) / _MS,
            },
            "content": {"attributes": attributes} if attributes else None,
        }
        return cast(EventRecord, record)

    def _kept(self, span: Span) -> dict[str, Any]:
        """The attributes that may be kept: those with prompts and answers only where all is captured."""
        capture = self._settings.capture
        if capture == "none":
            return {}
        found = dict(islice(span.attributes.items(), _MOST_ATTRIBUTES))
        return found if capture == "full" else {key: value for key, value in found.items() if not named_content(key)}


def _innermost_calls(spans: Iterable[Span]) -> Collection[tuple[str, str]]:
    """Trace and span ids of the calls among *spans*; of several around each other the innermost tells of the call."""
    calls = {(span.trace_id, span.span_id) for span in spans if is_call(span)}
    parents = {(span.trace_id, span.span_id): span.parent_span_id for span in spans}
    around: set[tuple[str, str]] = set()
    for trace_id, span_id in calls:
        above, seen = parents[trace_id, span_id], set[str]()
        while above is not None and above not in seen:
            seen.add(above)
            around.add((trace_id, above))
            above = parents.get((trace_id, above))
    return calls - around
