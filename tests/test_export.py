"""Spans on the wire: both protocols, trouble at the other end, bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.sdk.trace import ReadableSpan
from requests.adapters import HTTPAdapter

from hub.otlp import ExportFailed
from hub.span_sink import SpanSink
from tests.call_events import MS, PARENT, SECRET, SPAN, T0, TRACE, CallEvents, whole_call
from tests.otlp_receiver import OtlpReceiver, receiving

STARTED = {"resource": {"service.name": "till"}, "scope": {"name": "llm-hub", "version": "1"}}


@pytest.fixture(params=["http/protobuf", "grpc"])
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving(request.param) as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def sink(receiver: OtlpReceiver) -> Iterator[SpanSink]:
    made = SpanSink(STARTED)
    yield made
    made.close()


class ListExporter:
    """Keeps what it is given, and fails as often as it is told."""

    def __init__(self, failures: Sequence[ExportFailed] = ()) -> None:
        self.batches: list[list[ReadableSpan]] = []
        self.failures = list(failures)
        self.bad_name = ""

    def export(self, spans: Sequence[ReadableSpan]) -> int:
        if self.failures:
            raise self.failures.pop(0)
        if any(span.name == self.bad_name for span in spans):
            raise ExportFailed("answered 400", refused=True)
        self.batches.append(list(spans))
        return 0

    def close(self) -> None:
        return

    @property
    def names(self) -> list[str]:
        return [span.name for batch in self.batches for span in batch]


def sink_into(exporter: ListExporter, **options: Any) -> SpanSink:
    return SpanSink(STARTED, exporter=lambda: exporter, **options)


def failed() -> ExportFailed:
    return ExportFailed("answered 503")


# On the wire.


def test_name_kind_parent_attributes_status_and_timing_arrive(receiver: OtlpReceiver, sink: SpanSink) -> None:
    call = CallEvents(parent_span_id=PARENT, parent_is_remote=True).request()
    call.add("acme:rate_limit", at_ms=10, retry_after_ms=3000)
    sink.write(call.response(status="error", error_type="boom", error=SECRET, usage={"input_tokens": 11}).records)
    (span,) = receiver.wait_for(1)
    assert (span.name, span.kind, span.status, span.description) == ("chat gpt-5", "CLIENT", "ERROR", "")
    assert (span.trace_id, span.span_id, span.parent_span_id) == (TRACE, SPAN, PARENT)
    assert (span.start, span.end) == (T0, T0 + round(250.5 * MS))
    assert span.attributes["gen_ai.usage.input_tokens"] == 11
    assert span.attributes["error.type"] == "boom"
    assert span.events == [("acme:rate_limit", T0 + 10 * MS, {"retry_after_ms": 3000})]
    assert (span.resource["service.name"], span.scope) == ("till", ("llm-hub", "1"))
    assert span.flags & 0x200, "the parent is remote"


def test_no_prompt_answer_or_error_text_goes_out_unless_asked(receiver: OtlpReceiver, sink: SpanSink) -> None:
    call = CallEvents().request().add("provider:retry", at_ms=5, content={"error": SECRET})
    sink.write(call.response(status="error", error=SECRET).records)
    receiver.wait_for(3)
    assert SECRET.encode() not in b"".join(receiver.raw)


def test_a_dead_endpoint_fails_at_once_and_gets_the_spans_when_it_is_back(
    receiver: OtlpReceiver, sink: SpanSink, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.listen(False)
    began = time.monotonic()
    with pytest.raises(ExportFailed):
        sink.write(whole_call())
    assert time.monotonic() - began < 3.0
    receiver.listen(True)
    sink.write(whole_call())
    assert len(receiver.wait_for(1)) == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry.exporter")]


def test_an_unavailable_endpoint_is_asked_once_for_each_write(receiver: OtlpReceiver, sink: SpanSink) -> None:
    receiver.answer = 503
    for _ in range(2):
        with pytest.raises(ExportFailed):
            sink.write(whole_call())
    assert receiver.requests == 2
    receiver.recover()
    sink.write(whole_call())
    assert len(receiver.wait_for(1)) == 1


def test_a_silent_endpoint_holds_a_write_no_longer_than_the_timeout(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    sink = SpanSink(STARTED)
    receiver.answer = None
    began = time.monotonic()
    with pytest.raises(ExportFailed):
        sink.write(whole_call())
    assert 0.25 < time.monotonic() - began < 3.0
    receiver.recover()
    sink.write(whole_call())
    sink.close()
    assert len(receiver.wait_for(1)) == 1


def test_headers_and_compression_are_the_exporters_own(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=search")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    sink = SpanSink(STARTED)
    sink.write(whole_call())
    sink.close()
    receiver.wait_for(1)
    headers = {key.lower(): value for key, value in receiver.headers[0].items()}
    assert headers["x-team"] == "search"


def test_closing_a_sink_in_the_middle_of_an_export_returns_at_once(receiver: OtlpReceiver, sink: SpanSink) -> None:
    receiver.answer = None
    outcome: list[str] = []

    def write() -> None:
        try:
            sink.write(whole_call())
        except ExportFailed:
            outcome.append("failed")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    while not receiver.requests:
        time.sleep(0.005)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 0.5
    receiver.close()
    writer.join(10)
    assert outcome == ["failed"]


def test_nobody_traces_the_exporters_own_requests(http: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    suppressed: list[object] = []
    send = HTTPAdapter.send

    def looking(*args: Any, **kwargs: Any) -> Any:
        suppressed.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        return send(*args, **kwargs)

    monkeypatch.setattr(HTTPAdapter, "send", looking)
    sink = SpanSink(STARTED)
    sink.write(whole_call())
    sink.close()
    assert suppressed == [True]


# Pairing and bounds.


def test_a_call_that_spans_batches_is_sent_when_it_ends() -> None:
    exporter = ListExporter()
    sink = sink_into(exporter)
    records = CallEvents().request().add("provider:retry", at_ms=1).response().records
    for record in records[:3]:
        sink.write([record])
    assert exporter.batches == []
    sink.write(records[3:])
    assert exporter.names == ["chat gpt-5", "attempt 1", "attempt 2"]


def test_a_batch_written_again_after_a_failure_gives_the_same_spans() -> None:
    exporter = ListExporter([failed()])
    sink = sink_into(exporter)
    sink.write(whole_call(1)[:2])
    batch = [*whole_call(1)[2:], *whole_call(2), *whole_call(3)[:2]]
    with pytest.raises(ExportFailed):
        sink.write(batch)
    sink.write(batch)
    sink.write(whole_call(3)[2:])
    sent = [span.attributes["hub.call.id"][-1] for batch in exporter.batches for span in batch]  # type: ignore[index]
    assert sent == ["1", "2", "3"]


def test_what_arrived_before_a_failure_is_not_sent_again() -> None:
    class SecondFails(ListExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> int:
            if len(self.batches) == 1 and not self.failures:
                self.failures.append(failed())
                raise failed()
            self.batches.append(list(spans))
            return 0

    exporter = SecondFails()
    sink = sink_into(exporter)
    batch = [record for number in range(1, 129) for record in whole_call(number)]
    with pytest.raises(ExportFailed):
        sink.write(batch)
    sink.write(batch)
    assert [len(one) for one in exporter.batches] == [64, 64]


def test_a_span_that_is_refused_for_good_does_not_fail_its_neighbours() -> None:
    exporter = ListExporter()
    exporter.bad_name = "chat bad"
    sink = sink_into(exporter)
    bad = CallEvents(5).request(model="bad").response().records
    sink.write([*whole_call(1), *whole_call(2), *bad, *whole_call(3)])
    assert len(exporter.names) == 3
    assert sink.left_out["refused"] == 1


def test_events_that_make_no_span_do_not_hold_up_the_others() -> None:
    exporter = ListExporter()
    sink = sink_into(exporter)
    sink.write([*whole_call(1), *CallEvents(2).request().response(usage="many").records, *whole_call(3)])
    assert len(exporter.names) == 2
    assert sink.left_out["broken"] == 1


def test_what_the_sampler_left_out_is_not_exported() -> None:
    exporter = ListExporter()
    sink = sink_into(exporter)
    sink.write(whole_call(trace_flags=2))
    assert exporter.batches == []
    assert sink.left_out == {"unpaired": 0, "overflow": 0, "refused": 0, "broken": 0}


@pytest.mark.parametrize("source", ["otlp", "import"])
def test_calls_that_came_from_elsewhere_are_not_sent_on(source: str) -> None:
    exporter = ListExporter()
    sink_into(exporter).write(CallEvents().request(source=source).response().records)
    assert exporter.batches == []


def test_a_response_without_its_request_is_counted() -> None:
    sink = sink_into(ListExporter())
    sink.write(whole_call()[2:])
    assert sink.left_out["unpaired"] == 1


def test_open_calls_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.span_sink.MAX_OPEN_BYTES", 10_000)
    exporter = ListExporter()
    sink = sink_into(exporter)
    for number in range(1, 21):
        sink.write(whole_call(number)[:2])
    for number in range(1, 21):
        sink.write(whole_call(number)[2:])
    assert len(exporter.names) == 6
    assert sink.left_out == {"unpaired": 14, "overflow": 14, "refused": 0, "broken": 0}


def test_spans_come_from_the_producer_that_hub_started_tells_of() -> None:
    exporter = ListExporter()
    started = CallEvents(9, trace_flags=None).add("hub:started", resource={"service.name": "other"}).records
    sink_into(exporter).write([*started, *whole_call()])
    assert exporter.batches[0][0].resource.attributes == {"service.name": "other"}


def test_a_program_that_traces_natively_by_now_gets_no_second_span() -> None:
    exporter = ListExporter()
    sink_into(exporter, wanted=lambda: False).write(whole_call())
    assert exporter.batches == []


def test_other_threads_run_while_a_batch_is_made_and_encoded() -> None:
    rests = 0

    def rest() -> None:
        nonlocal rests
        rests += 1

    exporter = ListExporter()
    sink_into(exporter, rest=rest).write([record for number in range(1, 11) for record in whole_call(number)])
    assert rests >= 4 * 10 + 10 + 10
