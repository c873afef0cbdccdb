"""The otlp sink: pairs requests with their responses and sends the spans they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hub.events import EventRecord
from hub.metric_sink import MetricSink
from hub.polite import Rest, rest
from hub.span_names import NEWEST, Names
from hub.span_sender import PendingCall, Producer, SpanSender, has_spans
from hub.tracing_context import SAMPLED

if TYPE_CHECKING:
    from hub.otlp import Exporter


MAX_SPANS = 64
"""In one request. Putting one of 512 together is a single step of 6 ms that nothing can interrupt; 64 take 0.5."""
MAX_OPEN_BYTES = 32 << 20


class SpanSink:
    """Sends the spans of calls as they end. Spans are made from events alone, so a batch may be written again.

    Args:
        started: The data of this producer's `hub:started`, for a batch that comes without it.
        content: Whether prompts and answers go into the spans.
        names: HUB_OTEL_NAMES.
        observe: Shown each event once, before anything is sent.
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
        names: Names = NEWEST,
        observe: MetricSink | None = None,
        wanted: Callable[[], bool] = lambda: True,
        exporter: Callable[[], Exporter] | None = None,
        rest: Rest = rest,
    ) -> None:
        self._producer, self._content, self._wanted, self._rest = Producer(started), content, wanted, rest
        self._sender = SpanSender(exporter, most=MAX_SPANS, rest=rest)
        self._names, self._observe = names, observe
        self._open: dict[str, PendingCall] = {}
        self._unpaired = self._overflow = 0

    @property
    def left_out(self) -> dict[str, int]:
        """Calls without a span: their request was not seen, too many were open, the endpoint will not have it, their
        events make none."""
        return {"unpaired": self._unpaired, "overflow": self._overflow, **self._sender.left_out}

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Send the spans of the calls that end within *records*; remember the others.

        Raises: ExportFailed: Write the same batch again; what did arrive of it is not sent twice.
        """
        if self._observe is not None:
            self._observe.write(records)
        if not self._wanted():
            self._open.clear()
            return ()
        ended, unpaired = self._gather(records)
        if ended:
            self._sender.send(ended)
        for stream_id in ended:
            del self._open[stream_id]
        self._sender.forget()
        self._unpaired += unpaired
        self._bound()
        return ()

    def close(self) -> None:
        """Stop sending, from any thread; an export under way fails as soon as its protocol allows."""
        self._sender.close()
        if self._observe is not None:
            self._observe.close()

    def _gather(self, records: Sequence[EventRecord]) -> tuple[dict[str, PendingCall], int]:
        """The calls that end within *records*, and how many responses have no request."""
        ended: dict[str, PendingCall] = {}
        unpaired = 0
        for record in records:
            self._rest()
            kind, stream_id = record["type"], record["stream_id"]
            if kind == "hub:started":
                self._producer = Producer(record["data"])
                continue
            call = self._open.get(stream_id)
            if call is None:
                if kind == "llm:request" and has_spans(record):
                    call = self._open[stream_id] = PendingCall(self._producer, content=self._content, names=self._names)
                else:
                    unpaired += kind == "llm:response" and bool((record["trace_flags"] or 0) & SAMPLED)
                    continue
            call.take(record, self._rest)
            if kind == "llm:response":
                ended[stream_id] = call
        return ended, unpaired

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
            self._overflow += 1
