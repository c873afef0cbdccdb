"""Spans on the program's own tracer; which mode it is, where the spans say they come from, and who else makes some."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hub import traced
from hub.span_sink import SpanSink
from hub.telemetry import Tracing, double_instrumentation, resolve_mode, resource_attributes
from tests.call_events import SECRET, CallEvents, whole_call
from tests.calls_of import ListHub
from tests.listlog import ListLog, recorder_on
from tests.otlp_receiver import OtlpReceiver, receiving


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def provider(http: OtlpReceiver) -> Iterator[TracerProvider]:
    made = TracerProvider(resource=Resource({"service.name": "app"}))
    made.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    yield made
    made.shutdown()


def retried_in(tracing: Tracing) -> dict[str, Any]:
    """A call with a retry, made live; returns its envelope."""
    minted = tracing.begin({"operation": "chat", "model": "gpt-5", "provider": "openai"})
    call = CallEvents(1, **{"parent_span_id": None, **minted.envelope}).request()
    call.add("provider:retry", at_ms=50, error_type="429", content={"error": SECRET})
    call.add("acme:note", at_ms=60, n=1).response(usage={"input_tokens": 11}, error=SECRET)
    for record in call.records:
        tracing.observe([record])
    return dict(minted.envelope)


def test_native_spans_say_the_same_as_exported_ones(http: OtlpReceiver, provider: TracerProvider) -> None:
    tracing = Tracing("auto", {}, provider=provider)
    assert (tracing.mode, tracing.live, tracing.sinks()) == ("native", True, [])
    with provider.get_tracer("app").start_as_current_span("handler") as outer:
        envelope = retried_in(tracing)
    live = {span.name: span for span in http.wait_for(4)}
    sink = SpanSink({})
    request = CallEvents(1, **{"parent_span_id": None, **envelope}).request()
    request.add("provider:retry", at_ms=50, error_type="429").add("acme:note", at_ms=60, n=1)
    sink.write(request.response(usage={"input_tokens": 11}).records)
    sink.close()
    exported = {span.name: span for span in http.wait_for(7)[4:]}
    assert set(exported) == {"chat gpt-5", "attempt 1", "attempt 2"} == set(live) - {"handler"}
    for name, span in exported.items():
        assert live[name].attributes == span.attributes
        assert (live[name].kind, live[name].status, live[name].events) == (span.kind, span.status, span.events)
        assert live[name].end - live[name].start == span.end - span.start
    call = live["chat gpt-5"]
    assert (call.trace_id, call.span_id) == (envelope["trace_id"], envelope["span_id"])
    assert call.parent_span_id == f"{outer.get_span_context().span_id:016x}" == envelope["parent_span_id"]
    assert {live[f"attempt {n}"].parent_span_id for n in (1, 2)} == {call.span_id}
    assert call.resource["service.name"] == "app"
    assert SECRET.encode() not in b"".join(http.raw)


def test_spans_inside_a_native_call_are_its_children(provider: TracerProvider) -> None:
    minted = Tracing("native", {}, provider=provider).begin({})
    inner = provider.get_tracer("app").start_span("inner", minted.context)
    assert isinstance(inner, ReadableSpan)
    assert inner.parent is not None
    assert f"{inner.parent.span_id:016x}" == minted.envelope["span_id"]


def test_a_stream_collected_in_a_circle_ends_its_span() -> None:
    ended, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    hub = ListHub()
    assert hub.recorder is not None
    hub.recorder.tracing = Tracing("native", {}, provider=provider)

    def words(prompt: str) -> Iterator[str]:
        yield from "abc"

    circle: list[Any] = [traced(words, hub=hub)("x")]
    next(circle[0])
    circle.append(circle)
    del circle
    gc.collect()
    (span,) = ended.get_finished_spans()
    assert (span.attributes or {})["hub.status"] == "abandoned"


def test_spans_of_calls_that_nobody_ends_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.native_spans.MAX_OPEN", 3)
    tracing = Tracing("native", {}, provider=TracerProvider())
    first, *_, last = [tracing.begin({}) for _ in range(9)]
    open_spans = tracing._native._open  # type: ignore[union-attr]
    assert len(open_spans) == 3
    assert last.envelope["span_id"] in open_spans
    assert first.envelope["span_id"] not in open_spans


def test_native_without_a_provider_still_gives_ids() -> None:
    minted = Tracing("native", {}, provider=trace.NoOpTracerProvider()).begin({"model": "m"})
    assert len(minted.envelope["trace_id"]) == 32
    assert minted.context is None


def test_a_tracer_that_fails_costs_the_span_and_not_the_call() -> None:
    class Broken(trace.NoOpTracer):
        def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
            raise RuntimeError(SECRET)

    class Provider(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return Broken()

    assert len(Tracing("native", {}, provider=Provider()).begin({}).envelope["trace_id"]) == 32


def test_a_span_processor_that_fails_keeps_no_event_from_subscribers() -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError(SECRET)

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    log = ListLog()
    seen: list[Any] = []
    recorder = recorder_on(log)
    recorder.tracing = Tracing("native", {}, provider=provider)
    recorder.bus.subscribe("llm:response", seen.append)
    recorder.start(source="traced").end()
    assert len(seen) == 1
    assert log.types()[-2:] == ["llm:response", "llm:response:debug"]


# Which mode.

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
NOOP = trace.NoOpTracerProvider()


def test_auto_prefers_the_programs_provider_then_an_endpoint_then_nothing() -> None:
    assert resolve_mode("auto", ENDPOINT, TracerProvider()) == "native"
    assert resolve_mode("auto", ENDPOINT, NOOP) == "export"
    assert resolve_mode("auto", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, NOOP) == "export"
    assert resolve_mode("auto", {}, NOOP) == "off"


def test_auto_heeds_the_switches_of_opentelemetry() -> None:
    assert resolve_mode("auto", {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, TracerProvider()) == "off"
    assert resolve_mode("auto", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, NOOP) == "off"


def test_a_setting_other_than_auto_is_final() -> None:
    assert resolve_mode("off", ENDPOINT, TracerProvider()) == "off"
    assert resolve_mode("export", {}, TracerProvider()) == "export"


def test_a_provider_installed_after_the_hub_is_found_at_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[trace.TracerProvider] = [NOOP]
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: installed[0])
    tracing = Tracing("auto", ENDPOINT)
    (sink,) = tracing.sinks()
    assert tracing.mode == "export"
    installed[0] = TracerProvider()
    tracing.begin({})
    assert (tracing.mode, tracing.live) == ("native", True)
    sink.write(whole_call())  # it lets them pass: nothing listens at that endpoint


def test_an_endpoint_named_after_the_start_makes_no_parents_that_nobody_sends() -> None:
    environ: dict[str, str] = {}
    tracing = Tracing("auto", environ, provider=NOOP)
    assert tracing.sinks() == []
    environ.update(ENDPOINT)
    assert tracing.begin({}).context is None


def test_off_exports_nothing_and_leaves_the_ambient_span_current() -> None:
    tracing = Tracing("off", ENDPOINT)
    assert (tracing.sinks(), tracing.begin({}).context) == ([], None)


# Who we are, and who else is there.


def test_the_resource_is_the_environments_with_the_service_as_default() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "team=search%20x, region = eu ,broken"}
    found = resource_attributes(environ, "till", "test")
    assert found["service.name"] == "till"
    assert found["deployment.environment.name"] == "test"
    assert (found["team"], found["region"]) == ("search x", "eu")
    assert "broken" not in found
    assert resource_attributes({"OTEL_SERVICE_NAME": "named"}, "till")["service.name"] == "named"


def test_the_resource_of_a_native_hub_is_its_providers() -> None:
    tracing = Tracing("native", {}, provider=TracerProvider(resource=Resource({"service.name": "app"})))
    assert tracing.started_facts("till", None, "1")["resource"] == {"service.name": "app"}


class Instrumentor:
    _instance: Any = None


def test_an_active_instrumentation_of_the_same_calls_is_found_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    name = "openinference.instrumentation.openai"
    module = ModuleType(name)
    module.OpenAIInstrumentor = type("OpenAIInstrumentor", (Instrumentor,), {})  # type: ignore[attr-defined]
    assert double_instrumentation({name: module}) is None
    active = type("Active", (), {"_is_instrumented_by_opentelemetry": True})()
    module.OpenAIInstrumentor._instance = active
    assert double_instrumentation({name: module}) == name
    sys.modules[name] = module
    try:
        tracing = Tracing("export", {})
        with caplog.at_level(logging.WARNING, "hub"):
            tracing.begin({})
            tracing.begin({})
    finally:
        del sys.modules[name]
    assert [record.message for record in caplog.records if name in record.message] == [caplog.messages[0]]


def test_logfires_instrumentation_is_found_too() -> None:
    openai = ModuleType("openai")
    openai.OpenAI = type("OpenAI", (), {"_is_instrumented_by_logfire": True})  # type: ignore[attr-defined]
    assert double_instrumentation({"openai": openai}) == "logfire.instrument_openai"


def test_the_sdk_is_not_imported_before_a_sink_writes() -> None:
    code = (
        "import sys; from hub.telemetry import Tracing; t = Tracing('export', {}); t.sinks(); t.begin({});"
        "t.started_facts('s', None, '1'); assert not [m for m in sys.modules if m.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
