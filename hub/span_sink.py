"""The otlp sink: pairs requests with their responses and sends the spans they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from hub.events import EventRecord
from hub.forking import undivided
from hub.harmless import log
from hub.polite import Rest, rest
from hub.semconv import CONTENT_SHED
from hub.span_content import content_attributes
from hub.span_shape import MAX_EVENT_BYTES
from hub.tracing_context import SAMPLED

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from hub.otlp import Exporter
    from hub.spans import Origin


MAX_SPANS = 64
"""In one request. Putting one of 512 together is a single step of 6 ms that nothing can interrupt; 64 take 0.5."""
MAX_REQUEST_BYTES = 3 << 20
"""Estimated. Collectors refuse 4 MB by default."""
MAX_OPEN_BYTES = 32 << 20
_SPAN_BYTES = 1536
_EVENTS_PER_CALL = 128
_NOT_LIVE = ("otlp", "import")
"""Sources whose calls were spans, or history, before they came to us: sending them on would close a loop."""


@dataclass(slots=True)
class _OpenCall:
    """What is kept of a call until its spans are sent: no more than they need."""

    records: dict[int, EventRecord] = field(default_factory=dict)
    """By version, so that seeing one again changes nothing."""
    content: dict[str, str] = field(default_factory=dict)
    bytes: int = _SPAN_BYTES
    shed: bool = False
    finish_reasons: Sequence[str] = ()

    def add(self, record: EventRecord, size: int) -> None:
        if record["version"] not in self.records:
            self.bytes += size
        self.records[record["version"]] = record

    def add_content(self, attributes: Mapping[str, str]) -> None:
        self.bytes += sum(len(text.encode()) for key, text in attributes.items() if key not in self.content)
        self.content.update(attributes)

    def shed_content(self) -> None:
        self.bytes -= sum(len(text.encode()) for text in self.content.values())
        self.content, self.shed = {}, True


class SpanSink:
    """Sends the spans of calls as they end. Spans are made from events alone, so a batch may be written again.

    Args:
        started: The data of this producer's `hub:started`, for a batch that comes without it.
        content: Whether prompts and answers go into the spans.
        wanted: Asked before each batch; False lets it pass unsent, as when the program traces natively by now.
        exporter: Makes the exporter, in the sink's thread; None: the SDK's, as the environment says.
    """

    name = "otlp"
    linger = 0.5
    """Seconds. A request costs a millisecond of Python that nothing can interrupt, whether it has one span or fifty."""

    def __init__(
        self,
        started: Mapping[str, Any],
        *,
        content: bool = False,
        wanted: Callable[[], bool] = lambda: True,
        exporter: Callable[[], Exporter] | None = None,
        rest: Rest = rest,
    ) -> None:
        self._started, self._content, self._wanted = started, content, wanted
        self._make_exporter, self._rest = exporter, rest
        self._exporter: Exporter | None = None
        self._origin: Origin | None = None
        self._open: dict[str, _OpenCall] = {}
        self._sent: set[str] = set()
        self._closed = False
        self.left_out = {"unpaired": 0, "overflow": 0, "refused": 0, "broken": 0}
        """Calls without a span: their request was not seen, too many were open, the endpoint will not have it, their
        events make none."""

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Send the spans of the calls that end within *records*; remember the others.

        Raises: ExportFailed: Write the same batch again; what did arrive of it is not sent twice.
        """
        if not self._wanted():
            self._open.clear()
            return ()
        ended, unpaired = self._gather(records)
        if ended:
            self._send(ended)
        for stream_id in ended:
            del self._open[stream_id]
        self._sent.clear()
        self.left_out["unpaired"] += unpaired
        self._bound()
        return ()

    def close(self) -> None:
        """Stop sending, from any thread; an export under way fails as soon as its protocol allows."""
        self._closed = True
        if self._exporter is not None:
            self._exporter.close()

    def _gather(self, records: Sequence[EventRecord]) -> tuple[dict[str, _OpenCall], int]:
        """The calls that end within *records*, and how many responses have no request."""
        ended: dict[str, _OpenCall] = {}
        unpaired = 0
        for record in records:
            self._rest()
            kind, stream_id = record["type"], record["stream_id"]
            if kind == "hub:started":
                self._started, self._origin = record["data"], None
                continue
            if not (record["trace_flags"] or 0) & SAMPLED:
                continue
            call = self._open.get(stream_id)
            if call is None:
                if kind == "llm:request" and record["data"].get("source") not in _NOT_LIVE:
                    call = self._open[stream_id] = _OpenCall()
                else:
                    unpaired += kind == "llm:response"
                    continue
            self._keep(call, record)
            if kind == "llm:response":
                ended[stream_id] = call
        return ended, unpaired

    def _keep(self, call: _OpenCall, record: EventRecord) -> None:
        kind = record["type"]
        if kind in ("llm:request:debug", "llm:response:debug"):
            if self._content and not call.shed:
                call.add_content(content_attributes(record, finish_reasons=call.finish_reasons, rest=self._rest))
            return
        size = 0
        if kind == "llm:response":
            call.finish_reasons = record["data"].get("finish_reasons") or ()
        if not kind.startswith("llm:"):
            size = len(orjson.dumps(record["data"]))
            if size > MAX_EVENT_BYTES or len(call.records) >= _EVENTS_PER_CALL:
                return
        if record["content"] is not None and not self._content:
            record = record.copy()
            record["content"] = None
        call.add(record, size)

    def _bound(self) -> None:
        """Keep what is open within its bytes: content goes first, then the calls open for longest."""
        total = sum(call.bytes for call in self._open.values())
        for call in self._open.values():
            if total <= MAX_OPEN_BYTES:
                return
            before = call.bytes
            call.shed_content()
            total -= before - call.bytes
        while total > MAX_OPEN_BYTES:
            oldest = next(iter(self._open))
            total -= self._open.pop(oldest).bytes
            self.left_out["overflow"] += 1

    def _send(self, ended: Mapping[str, _OpenCall]) -> None:
        batch: dict[str, list[ReadableSpan]] = {}
        count = size = 0
        for stream_id, call in ended.items():
            if stream_id in self._sent:
                continue
            self._rest()
            if call.bytes > MAX_REQUEST_BYTES:
                call.shed_content()
            try:
                spans = self._spans(call)
            except Exception as error:  # events nobody foresaw must not hold up those behind them
                log.warning("hub: call %s makes no span: %s", stream_id, type(error).__name__)
                self.left_out["broken"] += 1
                self._sent.add(stream_id)
                continue
            weight = call.bytes + _SPAN_BYTES * (len(spans) - 1)
            if batch and (count + len(spans) > MAX_SPANS or size + weight > MAX_REQUEST_BYTES):
                self._export(batch)
                batch, count, size = {}, 0, 0
            batch[stream_id] = spans
            count, size = count + len(spans), size + weight
        if batch:
            self._export(batch)

    def _spans(self, call: _OpenCall) -> list[ReadableSpan]:
        with undivided():
            from hub.spans import origin_of, spans_of  # the SDK is imported here, in the sink's thread

        if self._origin is None:
            self._origin = origin_of(self._started)
        content: dict[str, Any] | None = dict(call.content) if self._content else None
        if content is not None and call.shed:
            content[CONTENT_SHED] = True
        return spans_of(
            (call.records[version] for version in sorted(call.records)), origin=self._origin, content=content
        )

    def _export(self, batch: Mapping[str, list[ReadableSpan]]) -> None:
        with undivided():
            from hub.otlp import ExportFailed, OtlpExporter, RestfulSpans

        if self._closed:
            raise ExportFailed("closed")
        if self._exporter is None:
            with undivided():
                self._exporter = (self._make_exporter or OtlpExporter)()
        try:
            self._exporter.export(RestfulSpans([span for spans in batch.values() for span in spans], self._rest))
        except ExportFailed as failed:
            if not failed.refused:
                raise
            self._narrow_down(batch, failed)
        self._sent.update(batch)

    def _narrow_down(self, batch: Mapping[str, list[ReadableSpan]], failed: Exception) -> None:
        """One bad span fails its whole request: halve it until the bad one is alone, and leave that out."""
        if len(batch) == 1:
            self.left_out["refused"] += 1
            log.warning("hub: the OTLP endpoint refuses the span of call %s for good: %s", *batch, failed)
            return
        calls = list(batch.items())
        for half in (calls[: len(calls) // 2], calls[len(calls) // 2 :]):
            self._export(dict(half))
