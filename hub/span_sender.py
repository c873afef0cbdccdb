"""Calls that have ended, into requests of spans that an endpoint takes: what a live sink and a later export share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from hub.events import EventRecord
from hub.forking import undivided
from hub.harmless import log
from hub.polite import Rest
from hub.semconv import CONTENT_SHED
from hub.span_content import content_attributes
from hub.span_names import NEWEST, Names
from hub.span_shape import MAX_EVENT_BYTES
from hub.tracing_context import SAMPLED

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from hub.otlp import Exporter
    from hub.spans import Origin

MAX_REQUEST_BYTES = 3 << 20
"""Estimated. Collectors refuse 4 MB by default."""
_SPAN_BYTES = 1536
_EVENTS_PER_CALL = 128
_NOT_OURS = ("otlp", "import")
"""Sources whose calls were spans, or history, before they came to us: sending them on would close a loop."""


def has_spans(request: EventRecord) -> bool:
    """Whether the call that *request* begins is to be sent."""
    return bool((request["trace_flags"] or 0) & SAMPLED) and request["data"].get("source") not in _NOT_OURS


class Producer:
    """Who recorded a call, as the data of its `hub:started` says."""

    def __init__(self, started: Mapping[str, Any]) -> None:
        self._started = started

    @cached_property
    def origin(self) -> Origin:
        """Imports the SDK."""
        with undivided():
            from hub.spans import origin_of

        return origin_of(self._started)


class PendingCall:
    """What is kept of a call until its spans are sent: no more than they need.

    Args:
        content: Whether prompts and answers go into the spans.
        cost_usd: The computed cost; None takes the reported one.
        names: HUB_OTEL_NAMES.
    """

    __slots__ = (
        "_finish_reasons",
        "_keeps_content",
        "_names",
        "_shed",
        "bytes",
        "content",
        "cost_usd",
        "producer",
        "records",
    )

    def __init__(
        self, producer: Producer, *, content: bool = False, cost_usd: float | None = None, names: Names = NEWEST
    ) -> None:
        self.producer, self.cost_usd, self._names = producer, cost_usd, names
        self.records: dict[int, EventRecord] = {}
        """By version, so that seeing one again changes nothing."""
        self.content: dict[str, str] = {}
        self.bytes = _SPAN_BYTES
        self._keeps_content, self._shed = content, False
        self._finish_reasons: Sequence[str] = ()

    def take(self, record: EventRecord, rest: Rest) -> None:
        """One more of the call's events."""
        kind = record["type"]
        if kind in ("llm:request:debug", "llm:response:debug"):
            if self._keeps_content and not self._shed:
                self._add_content(content_attributes(record, finish_reasons=self._finish_reasons, rest=rest))
            return
        size = 0
        if kind == "llm:response":
            self._finish_reasons = record["data"].get("finish_reasons") or ()
        if not kind.startswith("llm:"):
            size = len(orjson.dumps(record["data"]))
            if size > MAX_EVENT_BYTES or len(self.records) >= _EVENTS_PER_CALL:
                return
        if record["content"] is not None and not self._keeps_content:
            record = record.copy()
            record["content"] = None
        if record["version"] not in self.records:
            self.bytes += size
        self.records[record["version"]] = record

    def _add_content(self, attributes: Mapping[str, str]) -> None:
        self.bytes += sum(self._weight(text) for key, text in attributes.items() if key not in self.content)
        self.content.update(attributes)

    def _weight(self, text: str) -> int:
        """Each way of naming it carries it once more."""
        return len(text.encode()) * len(self._names)

    def shed_content(self) -> None:
        """Do without prompts and answers, and say so in the span."""
        self.bytes -= sum(map(self._weight, self.content.values()))
        self.content, self._shed = {}, True

    def spans(self) -> list[ReadableSpan]:
        """Imports the SDK."""
        with undivided():
            from hub.spans import spans_of

        content: dict[str, Any] | None = dict(self.content) if self._keeps_content else None
        if content is not None and self._shed:
            content[CONTENT_SHED] = True
        records = (self.records[version] for version in sorted(self.records))
        return spans_of(
            records, origin=self.producer.origin, content=content, cost_usd=self.cost_usd, names=self._names
        )


class SpanSender:
    """Sends the spans of calls, a bounded request at a time, each call's at most once until `forget`.

    Args:
        exporter: Makes the exporter when the first spans are sent, in the thread that sends; None: the SDK's, as the
            environment says.
        most: Spans in one request.
    """

    def __init__(self, exporter: Callable[[], Exporter] | None, *, most: int, rest: Rest) -> None:
        self._make_exporter, self._most, self._rest = exporter, most, rest
        self._exporter: Exporter | None = None
        self._sent: set[str] = set()
        self._closed = False
        self.spans = 0
        """That the endpoint took."""
        self.left_out = {"refused": 0, "broken": 0}
        """Calls without a span: the endpoint will not have it, their events make none."""

    def send(self, calls: Mapping[str, PendingCall]) -> None:
        """Send the spans of *calls*, by their ids.

        Raises: ExportFailed: Send the same calls again; what did arrive of them is not sent twice.
        """
        batch: dict[str, list[ReadableSpan]] = {}
        count = size = 0
        for call_id, call in calls.items():
            if call_id in self._sent:
                continue
            self._rest()
            if call.bytes > MAX_REQUEST_BYTES:
                call.shed_content()
            try:
                spans = call.spans()
            except Exception as error:  # events nobody foresaw must not hold up those behind them
                log.warning("hub: call %s makes no span: %s", call_id, type(error).__name__)
                self.left_out["broken"] += 1
                self._sent.add(call_id)
                continue
            weight = call.bytes + _SPAN_BYTES * (len(spans) - 1)
            if batch and (count + len(spans) > self._most or size + weight > MAX_REQUEST_BYTES):
                self._export(batch)
                batch, count, size = {}, 0, 0
            batch[call_id] = spans
            count, size = count + len(spans), size + weight
        if count:
            self._export(batch)

    def forget(self) -> None:
        """What was sent lies behind."""
        self._sent.clear()

    def close(self) -> None:
        """Stop sending, from any thread; an export under way fails as soon as its protocol allows."""
        self._closed = True
        if self._exporter is not None:
            self._exporter.close()

    def _export(self, batch: Mapping[str, list[ReadableSpan]]) -> None:
        with undivided():
            from hub.otlp import ExportFailed, OtlpExporter, RestfulSpans

        if self._closed:
            raise ExportFailed("closed")
        if self._exporter is None:
            with undivided():
                self._exporter = (self._make_exporter or OtlpExporter)()
        spans = RestfulSpans([span for spans in batch.values() for span in spans], self._rest)
        try:
            rejected = self._exporter.export(spans)
        except ExportFailed as failed:
            if not failed.refused:
                raise
            self._narrow_down(batch, failed)
        else:
            self.spans += len(spans) - rejected
            if rejected:
                self.left_out["refused"] += rejected
                log.warning("hub: the OTLP endpoint took a request, but refused %d of its spans for good", rejected)
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
