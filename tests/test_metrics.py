"""Metrics of calls and of the hub itself, as a backend, a Prometheus server or the program's own provider gets them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import semconv
from hub.metric_sink import MetricSink, SpoolGauge
from hub.runtime import Hub
from hub.span_sink import SpanSink
from hub.spool.control import Accounting, SinkCounts
from hub.telemetry import Tracing
from tests.call_events import CallEvents
from tests.hub_kit import running
from tests.otlp_receiver import OtlpReceiver, receiving


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as started:
        for name, value in {**started.environ, "OTEL_METRIC_EXPORT_INTERVAL": "100"}.items():
            monkeypatch.setenv(name, value)
        yield started


def call(hub: Hub, **usage: int) -> None:
    with hub.call(provider="mistral", model="m-1", server_address="api.example:8443") as one:
        one.response("Fine.", model="m-1-large", usage=usage)


def fail(hub: Hub) -> None:
    with pytest.raises(ValueError, match="on fire"), hub.call(provider="mistral", model="m-1"):
        raise ValueError("on fire")


def test_calls_are_measured_by_the_conventions_names_units_and_buckets(receiver: OtlpReceiver, tmp_path: Path) -> None:
    with running(tmp_path, service="till", environment="test") as hub:
        usage = {"input_tokens": 100, "output_tokens": 30, "cache_read_tokens": 60, "reasoning_tokens": 5}
        call(hub, **usage)
        call(hub, **usage)
        fail(hub)
        hub.flush()
        failed = receiver.wait_for_metric(semconv.METRIC_DURATION, error_type="ValueError")
        good = receiver.wait_for_metric(semconv.METRIC_DURATION, gen_ai_response_model="m-1-large")
        assert (failed.count, good.count, good.unit, good.kind) == (1, 2, "s", "histogram")
        assert good.bounds == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
        assert good.attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mistral_ai",
            "gen_ai.request.model": "m-1",
            "gen_ai.response.model": "m-1-large",
            "server.address": "api.example",
            "server.port": 8443,
        }
        assert good.resource["service.name"] == "till"
        used = {name: receiver.wait_for_metric(name) for name in semconv.METRIC_USAGE.values() if "write" not in name}
        assert [(point.kind, point.unit, point.value) for point in used.values()] == [
            ("sum", "{token}", 200),
            ("sum", "{token}", 60),
            ("sum", "{token}", 120),
            ("sum", "{token}", 10),
        ]
        sizes = receiver.wait_for_metric(semconv.METRIC_TOKENS["input_tokens"])
        assert (sizes.count, sizes.value, sizes.bounds[:3], sizes.bounds[-1]) == (2, 200, [1, 4, 16], 67108864)


def test_older_names_are_given_where_they_are_asked_for(receiver: OtlpReceiver, tmp_path: Path) -> None:
    with running(tmp_path, otel_names="older") as hub:
        call(hub, input_tokens=100, output_tokens=30)
        used = receiver.wait_for_metric("gen_ai.client.token.usage", gen_ai_token_type="output")
        assert (used.value, used.kind, used.attributes["gen_ai.system"]) == (30, "histogram", "mistral_ai")
        assert receiver.wait_for_metric("gen_ai.client.operation.duration").count == 1
        assert not any(name.startswith("gen_ai.client.inference") for name, _ in receiver.metrics)


def test_what_is_on_the_way_at_the_end_is_exported(
    receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    with running(tmp_path) as hub:
        call(hub, input_tokens=7)
        hub.flush()
        assert receiver.exports == 0
    assert receiver.wait_for_metric(semconv.METRIC_USAGE["input_tokens"]).value == 7


def test_a_silent_endpoint_holds_up_no_exit(receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer = None
    with running(tmp_path) as hub:
        call(hub)
        hub.flush(0.2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 2


def test_an_endpoint_that_takes_no_metrics_is_left_alone(
    receiver: OtlpReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "take_metrics", lambda body: 404)
    with running(tmp_path) as hub:
        call(hub)
        receiver.wait_for(1)
        time.sleep(0.4)
    assert [record.levelname for record in caplog.records if "metrics" in record.message] in ([], ["INFO"])


def test_the_hub_counts_what_became_of_its_events(receiver: OtlpReceiver, tmp_path: Path) -> None:
    with running(tmp_path) as hub:
        for _ in range(5):
            call(hub)
        assert hub.flush() == 0
        receiver.wait_for(5)
        exports = receiver.exports
        while receiver.exports < exports + 2:
            time.sleep(0.02)
        counts = hub.spool.counters()
        assert receiver.wait_for_metric(semconv.METRIC_EMITTED).value == counts.emitted
        assert receiver.wait_for_metric(semconv.METRIC_STORED).value == counts.sinks["store"].stored
        exported = receiver.wait_for_metric(semconv.METRIC_EXPORTED, hub_sink="otlp")
        assert (exported.value, exported.kind) == (counts.sinks["otlp"].stored, "sum")
        assert receiver.wait_for_metric(semconv.METRIC_WAITING, hub_sink="store").value == 0
        assert receiver.wait_for_metric(semconv.METRIC_LAG, hub_sink="store").value == 0
        assert receiver.wait_for_metric(semconv.METRIC_WAITING_BYTES).unit == "By"


def test_lag_is_the_age_of_the_oldest_event_that_a_sink_has_not_had() -> None:
    counts = Accounting(emitted=30, sinks={"store": SinkCounts(30, 0, {}), "otlp": SinkCounts(9, 20, {"behind": 1})})
    gauge = SpoolGauge(lambda: counts, lambda: 512)
    gauge._marks.extend([(0, 0), (10, time.time_ns() - 5 * 10**9), (20, time.time_ns())])
    lags = gauge.lags()
    assert lags["store"] == 0
    assert 5 <= lags["otlp"] < 6
    dropped = SpoolGauge(_closed, lambda: 1)
    assert (dropped.accounting(), dropped.lags()) == (None, {})


def _closed() -> Accounting:
    raise ValueError("closed")


def test_a_call_is_measured_once_by_all_that_its_layers_know_and_not_if_it_came_from_elsewhere() -> None:
    taken: list[tuple[Any, Any]] = []

    class Taking:
        def record(self, asked: Any, answer: Any) -> None:
            taken.append((asked, answer["status"]))

        def close(self) -> None:
            return

    def measure(records: Any) -> None:
        sink = MetricSink(lambda started: Taking())
        sink.write(records)
        sink.write(records)  # as after a failure of the sink that shows them

    outer = CallEvents(1).request(model=None)
    outer.add("llm:request", model="inner", provider="other").response()
    measure(outer.records)
    measure(CallEvents(2).request(source="otlp").response().records)
    measure(CallEvents(3).response().records)
    assert [(asked["model"], asked["provider"], status) for asked, status in taken] == [("inner", "openai", "ok")]


def test_instruments_that_cannot_be_made_cost_the_events_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_started: object) -> None:
        raise OSError("address in use")

    sink = MetricSink(refuse)
    for number in (1, 2):
        assert sink.write(CallEvents(number).request().response().records) == ()
    assert [record.message for record in caplog.records] == ["hub: there are no metrics: address in use"]


@pytest.mark.parametrize(
    ("environ", "setting", "expected"),
    [
        ({}, "auto", 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}, "auto", 1),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:1"}, "auto", 1),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1", "OTEL_METRICS_EXPORTER": "none"}, "auto", 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}, "off", 0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1", "OTEL_SDK_DISABLED": "true"}, "auto", 0),
    ],
)
def test_nothing_is_measured_where_nothing_is_configured(environ: dict[str, str], setting: Any, expected: int) -> None:
    gauge = SpoolGauge(_closed, lambda: 0)
    assert len(Tracing(setting, environ).metric_sinks(gauge)) == expected
    assert not any(isinstance(sink, SpanSink) for sink in Tracing(setting, environ).metric_sinks(gauge))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_prometheus_server_is_answered_where_that_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="needs the extra prometheus")
    port = free_port()

    def page() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    with running(tmp_path, prometheus=str(port), otel="off") as hub:
        call(hub, input_tokens=100)
        eventually(lambda: "gen_ai_client_inference_usage_input_tokens" in page())
        text = page()
    assert 'gen_ai_request_model="m-1"' in text
    assert "hub_events_emitted" in text
    assert 'hub_events_waiting{hub_sink="store"' in text
    assert page() == "", "the port is free again"


OWN_PROVIDER = """
import sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
import hub

hub.init(db_url=sys.argv[1], spool_dir=sys.argv[2], project="shop")
with hub.call(provider="acme", model="a-1") as call:
    call.response("Fine.", usage={"input_tokens": 7})
assert hub.flush() == 0
import time
for _ in range(100):
    data = reader.get_metrics_data()
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics} if data else set()
    if "gen_ai.client.inference.usage.input_tokens" in names:
        break
    time.sleep(0.05)
print(sorted(names))
"""


def test_a_program_with_a_meter_provider_of_its_own_has_the_measures_there(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OWN_PROVIDER, str(tmp_path / "calls.db"), str(tmp_path / "spool")]
    done = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
    assert "gen_ai.client.inference.duration" in done.stdout
    assert "hub.events.emitted" in done.stdout
