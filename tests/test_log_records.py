"""Contributed events that no span carries, as log records where an endpoint for logs is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from hub.telemetry import Tracing
from tests.hub_kit import running, select
from tests.otlp_receiver import OtlpReceiver, receiving

LARGE = "x" * 10_000


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as started:
        for name, value in {**started.environ, "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none"}.items():
            monkeypatch.setenv(name, value)
        yield started


def test_events_outside_of_calls_and_large_ones_are_log_records_and_others_span_events(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    ambient = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1)))
    with running(tmp_path, otel="export") as hub, use_span(ambient):
        with hub.call(provider="acme", model="a-1") as call:
            hub.emit("acme:small", key="k-1")
            hub.emit("acme:large", text=LARGE)
            call.response("Fine.")
        hub.emit("acme:later", key="k-2", count=3)
        assert hub.flush() == 0
        (span,) = receiver.wait_for(1)
        large, later = sorted(receiver.wait_for_logs(2))
    ((call_id,),) = select(tmp_path, "SELECT call_id FROM llm_calls")
    assert [name for name, _, _ in span.events] == ["acme:small"]
    assert (large[0], later[0]) == ("acme:large", "acme:later")
    assert json.loads(large[1]) == {"text": LARGE}
    assert large[2] == {"hub.call.id": call_id, "hub.project": "shop"}
    assert large[3] == (span.trace_id, span.span_id)
    assert (later[2]["key"], later[2]["count"]) == ("k-2", 3)


def test_log_records_wait_for_an_endpoint_that_is_away(receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer = 503
    with running(tmp_path, otel="export") as hub:
        hub.emit("acme:later", key="k-1")
        assert hub.flush() == 0
        receiver.recover()
        assert [name for name, *_ in receiver.wait_for_logs(1)] == ["acme:later"]


def test_without_an_endpoint_for_logs_there_are_none() -> None:
    general = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}
    assert Tracing("auto", general).log_sinks() == []
    assert len(Tracing("auto", general | {"OTEL_LOGS_EXPORTER": "otlp"}).log_sinks()) == 1
    assert len(Tracing("auto", {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x:1/v1/logs"}).log_sinks()) == 1
    assert Tracing("off", general | {"OTEL_LOGS_EXPORTER": "otlp"}).log_sinks() == []
