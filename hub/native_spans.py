"""Spans made live on the program's own tracer, on the caller's path, with the same attributes as exported ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from hub.events import EventRecord
from hub.span_content import content_attributes
from hub.span_names import NEWEST, Names
from hub.span_shape import CallShape, SpanShape, is_id, shape_of, span_name, start_attributes
from hub.tracing_context import Mint, Minted

MAX_OPEN = 16_384
"""Spans kept for calls that have not ended. The oldest go first: calls that nobody ever ends leave no others."""
_TOLD = (
    *("provider", "model", "operation", "tier", "server_address", "stream", "params"),
    *("replay_of_trace_id", "replay_of_span_id"),
)
"""What a span is told of a request at its start."""


def not_at_all(data: dict[str, Any]) -> tuple[dict[str, Any], object]:
    """Cleans nothing."""
    return data, None


class NativeSpan(Minted):
    """A call's span, open on the program's tracer. Without its response it is never exported."""

    __slots__ = ("begun", "content", "records", "span")

    def __init__(self, envelope: dict[str, Any], context: Context, span: Span, begun: int) -> None:
        super().__init__(envelope, context)
        self.span, self.begun = span, begun
        self.records: list[EventRecord] = []
        self.content: dict[str, str] = {}


class NativeTracer:
    """Starts and ends spans on the program's tracer.

    Args:
        mint: Gives ids where the program's tracer gives none: no provider is installed, or it is switched off.
        content: Whether prompts and answers go into the spans.
        provider: None: OpenTelemetry's global one.
        clean: Takes secrets out of what a call's request says.
        clock: UTC Unix nanoseconds.
        names: HUB_OTEL_NAMES.
    """

    def __init__(
        self,
        mint: Mint,
        *,
        content: bool = False,
        provider: trace.TracerProvider | None = None,
        clean: Callable[[dict[str, Any]], tuple[dict[str, Any], object]] = not_at_all,
        clock: Callable[[], int] = time.time_ns,
        names: Names = NEWEST,
    ) -> None:
        self._names = names
        self._tracer = trace.get_tracer("llm-hub", tracer_provider=provider)
        self._mint, self._content, self._clean, self._clock = mint, content, clean, clock
        self._open: dict[str, NativeSpan] = {}
        # Not by weak references: the collector clears those to a stream before the stream's finaliser ends its call.

    def begin(self, request: Mapping[str, Any]) -> Minted:
        """Start a span in the current context for a call of which *request* is known."""
        ambient = get_current()
        parent = trace.get_current_span(ambient).get_span_context()
        begun = self._clock()
        span = self._start(request, ambient, begun)
        own = span.get_span_context()
        if not own.is_valid or own.span_id == parent.span_id:
            return self._mint.start()
        envelope: dict[str, Any] = {
            "trace_id": f"{own.trace_id:032x}",
            "span_id": f"{own.span_id:016x}",
            "trace_flags": int(own.trace_flags),
        }
        if parent.is_valid:
            envelope["parent_span_id"] = f"{parent.span_id:016x}"
            envelope["parent_is_remote"] = parent.is_remote
        if own.trace_state:
            envelope["tracestate"] = own.trace_state.to_header()
        native = NativeSpan(envelope, trace.set_span_in_context(span, ambient), span, begun)
        if span.is_recording():
            self._open[envelope["span_id"]] = native
            if len(self._open) > MAX_OPEN:
                self._forget_the_oldest()
        return native

    def _forget_the_oldest(self) -> None:
        try:
            self._open.pop(next(iter(self._open)), None)
        except RuntimeError:  # another thread came between; the next call sees to it
            pass

    def _start(self, given: Mapping[str, Any], ambient: Context, begun: int) -> Span:
        request, _ = self._clean({key: given[key] for key in _TOLD if given.get(key)})
        name, links = span_name(request), []
        trace_id, span_id = str(request.get("replay_of_trace_id")), str(request.get("replay_of_span_id"))
        if is_id(trace_id, 32) and is_id(span_id, 16):
            links = [Link(SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(1)))]
        return self._tracer.start_span(
            name,
            ambient,
            SpanKind.CLIENT,
            attributes=start_attributes(request, self._names),
            links=links,
            start_time=begun,
        )

    def observe(self, records: Sequence[EventRecord]) -> None:
        """Take events of one call, as they are written. Its span ends with its response."""
        native = self._open.get(records[0]["span_id"] or "") if records else None
        if native is None:
            return
        response: EventRecord | None = None
        for record in records:
            if record["type"] == "llm:response":
                response = record
            if self._content:
                reasons = None if response is None else response["data"].get("finish_reasons")
                native.content.update(content_attributes(record, finish_reasons=reasons))
            if not record["type"].endswith(":debug"):
                native.records.append(record)
        if response is not None:
            self._open.pop(native.envelope["span_id"], None)
            shape = shape_of(native.records, content=native.content if self._content else None, names=self._names)
            if shape is not None:
                self._finish(native, shape)

    def _finish(self, native: NativeSpan, call: CallShape) -> None:
        shape = call.span
        for attempt in call.attempts:
            child = self._tracer.start_span(
                attempt.name, native.context, SpanKind.CLIENT, attributes=attempt.attributes, start_time=attempt.start
            )
            _dress(child, attempt)
            child.end(attempt.end)
        native.span.update_name(shape.name)
        native.span.set_attributes(shape.attributes)
        _dress(native.span, shape)
        native.span.end(native.begun + shape.end - shape.start)


def _dress(span: Span, shape: SpanShape) -> None:
    if shape.status is not StatusCode.UNSET:
        span.set_status(shape.status, shape.description)
    for event in shape.events:
        span.add_event(event.name, event.attributes, event.at)
