"""Events to OpenTelemetry spans: the same events give the same spans, ids included, whenever they are made.

Imports the SDK, so import it only where spans are built: a sink's thread, a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hub.events import EventRecord
from hub.span_limits import Limits, from_data
from hub.span_names import NEWEST, Names
from hub.span_shape import CallShape, SpanShape, attempt_span_id, shape_of

_FLAGS = tuple(TraceFlags(bits) for bits in range(256))
_NO_STATE = TraceState()


class ProjectedSpan(ReadableSpan):
    """A span made of events. It knows what our limits have cut, which a plain `ReadableSpan` cannot be told."""

    def __init__(
        self,
        shape: SpanShape,
        *,
        context: SpanContext,
        parent: SpanContext | None,
        origin: Origin,
        links: Sequence[Link] = (),
    ) -> None:
        super().__init__(
            shape.name,
            context=context,
            parent=parent,
            resource=origin.resource,
            attributes=shape.attributes,
            events=[Event(event.name, event.attributes, event.at) for event in shape.events],
            links=links,
            kind=SpanKind.CLIENT,
            status=_UNSET if shape.status is StatusCode.UNSET else Status(shape.status, shape.description),
            start_time=shape.start,
            end_time=shape.end,
            instrumentation_scope=origin.scope,
        )
        self._shape = shape

    @property
    def dropped_attributes(self) -> int:
        return self._shape.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._shape.dropped_events


_UNSET = Status(StatusCode.UNSET)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made the spans, and within which limits: what `hub:started` records of a producer."""

    resource: Resource
    scope: InstrumentationScope
    limits: Limits = field(default_factory=Limits)


def origin_of(started: Mapping[str, Any]) -> Origin:
    """The origin that the data of a `hub:started` event tells of. What it lacks has OpenTelemetry's defaults."""
    scope = started.get("scope") or {}
    return Origin(
        Resource(started.get("resource") or {}),
        InstrumentationScope(scope.get("name") or "llm-hub", scope.get("version")),
        from_data(started.get("limits") or {}),
    )


def spans_of(
    records: Iterable[EventRecord],
    *,
    origin: Origin,
    content: Mapping[str, str] | None = None,
    cost_usd: float | None = None,
    names: Names = NEWEST,
) -> list[ReadableSpan]:
    """The spans of one call: its own first, then one for each attempt when there was more than one.

    Args:
        records: The events of the call's stream in the order of their versions. Without request or response there is
            no span.
        content: Attributes from `hub.span_content`; None: no text of any kind goes into the spans, errors' included.
        cost_usd: A computed cost; None takes the reported one.
        names: HUB_OTEL_NAMES.
    """
    shape = shape_of(records, limits=origin.limits, content=content, cost_usd=cost_usd, names=names)
    return [] if shape is None else spans_of_shape(shape, origin)


def spans_of_shape(call: CallShape, origin: Origin) -> list[ReadableSpan]:
    """The spans of a call whose looks are known already."""
    request = call.request
    trace_id, span_id = request["trace_id"], request["span_id"]
    if trace_id is None or span_id is None:
        return []
    flags = _FLAGS[(request["trace_flags"] or 0) & 0xFF]
    state = TraceState.from_header([request["tracestate"]]) if request["tracestate"] else _NO_STATE
    own = SpanContext(int(trace_id, 16), int(span_id, 16), False, flags, state)
    parent = None
    if (parent_id := request["parent_span_id"]) is not None:
        parent = SpanContext(own.trace_id, int(parent_id, 16), bool(request["parent_is_remote"]), flags, state)
    spans: list[ReadableSpan] = [
        ProjectedSpan(call.span, context=own, parent=parent, origin=origin, links=replay_links(call))
    ]
    for number, attempt in enumerate(call.attempts, 1):
        context = SpanContext(own.trace_id, attempt_span_id(span_id, number), False, flags, state)
        spans.append(ProjectedSpan(attempt, context=context, parent=own, origin=origin))
    return spans


def replay_links(call: CallShape) -> tuple[Link, ...]:
    """From a replay to the call it repeats, which is in another trace."""
    if call.replay_of is None:
        return ()
    trace_id, span_id = call.replay_of
    return (Link(SpanContext(int(trace_id, 16), int(span_id, 16), True, _FLAGS[1])),)
