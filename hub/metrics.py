"""Metrics of calls and of the hub itself, through the program's own meter provider or one of the hub's.

Imports the SDK, so import it only in the sink's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from hub import semconv
from hub.errors import MissingExtra
from hub.events import Data
from hub.harmless import log
from hub.metric_sink import Gauge, program_meters
from hub.otlp import ExportFailed, OtlpExporter
from hub.span_names import Attributes, renamed
from hub.span_shape import error_type, provider_name, split_address

CLOSE_SECONDS = 0.3
"""That the last export may hold up an exit."""
_NO_USE = ("answered 404", "answered 405", "answered 501", "UNIMPLEMENTED")


class CallInstruments:
    """The conventional instruments, made on a meter."""

    def __init__(self, meter: Meter, gauge: Gauge, names: Collection[str], close: Callable[[], None]) -> None:
        self._close = close
        seconds = {"unit": "s", "explicit_bucket_boundaries_advisory": semconv.SECONDS_BUCKETS}
        tokens = {"unit": "{token}", "explicit_bucket_boundaries_advisory": semconv.TOKEN_BUCKETS}
        self._duration = self._first = self._old_duration = self._old_usage = None
        self._usage: dict[str, Any] = {}
        self._sizes: dict[str, Any] = {}
        if "newest" in names:
            self._duration = meter.create_histogram(semconv.METRIC_DURATION, **seconds)  # type: ignore[arg-type]
            self._first = meter.create_histogram(semconv.METRIC_FIRST_CHUNK, **seconds)  # type: ignore[arg-type]
            self._usage = {key: meter.create_counter(name, "{token}") for key, name in semconv.METRIC_USAGE.items()}
            self._sizes = {
                key: meter.create_histogram(name, **tokens)  # type: ignore[arg-type]
                for key, name in semconv.METRIC_TOKENS.items()
            }
        if "older" in names:
            self._old_duration = meter.create_histogram(semconv.OLD_METRIC_DURATION, **seconds)  # type: ignore[arg-type]
            self._old_usage = meter.create_histogram(semconv.OLD_METRIC_USAGE, **tokens)  # type: ignore[arg-type]
        _observe(meter, gauge)

    def record(self, asked: Data, answer: Data) -> None:
        attributes = call_labels(asked, answer)
        usage = answer.get("usage") or {}
        old = renamed(attributes, ("older",)) if self._old_usage is not None else {}
        if (duration := answer.get("duration_ms")) is not None:
            if self._duration is not None:
                self._duration.record(duration / 1000, attributes)
            if self._old_duration is not None:
                self._old_duration.record(duration / 1000, old)
        if (first := answer.get("ttft_ms")) is not None and self._first is not None:
            self._first.record(first / 1000, attributes)
        for key, value in usage.items():
            if not isinstance(value, int) or value < 0:
                continue
            if key in self._usage:
                self._usage[key].add(value, attributes)
            if key in self._sizes:
                self._sizes[key].record(value, attributes)
            if self._old_usage is not None and key in semconv.METRIC_TOKENS:
                kind = key.removesuffix("_tokens")
                self._old_usage.record(value, {**old, semconv.TOKEN_TYPE: kind})

    def close(self) -> None:
        self._close()


def call_labels(asked: Data, answer: Data) -> Attributes:
    """The attributes of a call's measures: those that the conventions name, none of which says who asked what."""
    address, port = split_address(asked.get("server_address"))
    found: dict[str, Any] = {
        semconv.OPERATION_NAME: asked.get("operation") or "chat",
        semconv.PROVIDER_NAME: provider_name(asked.get("provider")),
        semconv.REQUEST_MODEL: asked.get("model"),
        semconv.RESPONSE_MODEL: answer.get("model"),
        semconv.SERVER_ADDRESS: address,
        semconv.SERVER_PORT: port,
        semconv.ERROR_TYPE: error_type(answer),
    }
    return {name: value for name, value in found.items() if value is not None}


def _observe(meter: Meter, gauge: Gauge) -> None:
    """The hub's measures of itself."""

    def counting(read: Callable[[Any], Iterator[Observation]]) -> list[Any]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            accounting = gauge.accounting()
            return [] if accounting is None else list(read(accounting))

        return [callback]

    def emitted(counts: Any) -> Iterator[Observation]:
        yield Observation(counts.emitted)

    def stored(counts: Any) -> Iterator[Observation]:
        yield Observation(counts.sinks["store"].stored)

    def exported(counts: Any) -> Iterator[Observation]:
        for name, sink in counts.sinks.items():
            if name != "store":
                yield Observation(sink.stored, {semconv.SINK: name})

    def dropped(counts: Any) -> Iterator[Observation]:
        for name, sink in counts.sinks.items():
            for reason, count in sink.dropped.items():
                yield Observation(count, {semconv.SINK: name, semconv.REASON: reason})

    def waiting(counts: Any) -> Iterator[Observation]:
        for name, sink in counts.sinks.items():
            yield Observation(max(0, sink.waiting), {semconv.SINK: name})

    def lag(counts: Any) -> Iterator[Observation]:
        for name, seconds in gauge.lags().items():
            yield Observation(seconds, {semconv.SINK: name})

    def waiting_bytes(counts: Any) -> Iterator[Observation]:
        yield Observation(gauge.waiting_bytes())

    for name, read in (
        (semconv.METRIC_EMITTED, emitted),
        (semconv.METRIC_STORED, stored),
        (semconv.METRIC_EXPORTED, exported),
        (semconv.METRIC_DROPPED, dropped),
    ):
        meter.create_observable_counter(name, counting(read), "{event}")
    for name, read, unit in (
        (semconv.METRIC_WAITING, waiting, "{event}"),
        (semconv.METRIC_LAG, lag, "s"),
        (semconv.METRIC_WAITING_BYTES, waiting_bytes, "By"),
    ):
        meter.create_observable_gauge(name, counting(read), unit)


def instruments_for(
    started: Mapping[str, Any],
    environ: Mapping[str, str],
    gauge: Gauge,
    names: Collection[str],
    *,
    export: bool,
    prometheus: tuple[str, int] | None,
) -> CallInstruments | None:
    """Instruments on the program's own meter provider if it has one, else on one that exports; None: on neither.

    Args:
        export: An OTLP endpoint is configured.
        prometheus: Where to answer a Prometheus server, if at all: then the provider is the hub's own.
    """
    own = program_meters()
    if prometheus is None and own is not None:
        return CallInstruments(own.get_meter("llm-hub"), gauge, names, lambda: None)
    readers: list[MetricReader] = []
    stops: list[Callable[[], None]] = []
    if prometheus is not None:
        reader, stop = _prometheus(*prometheus)
        readers.append(reader)
        stops.append(stop)
    if export:
        sending = OtlpMetrics(environ)
        readers.append(sending)
        stops.append(sending.close)
    if not readers:
        return None
    resource = Resource(started.get("resource") or {})
    provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    for one in readers:
        if isinstance(one, OtlpMetrics):
            one.start()

    def close() -> None:
        for stop in stops:
            stop()

    return CallInstruments(provider.get_meter("llm-hub"), gauge, names, close)


class OtlpMetrics(MetricReader):
    """Exports every OTEL_METRIC_EXPORT_INTERVAL, in a thread of its own that an exit does not wait for.

    The SDK's periodic reader sleeps through its retries, and holds up an exit for up to 30 s.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._exporter = OtlpExporter(environ, signal="metrics")
        super().__init__(**self._exporter.preferences)
        self._interval = _interval(environ)
        self._closing = threading.Event()
        self._failing = self._useless = False
        self._thread = threading.Thread(target=self._run, name="hub-metrics-export", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval) and not self._useless:
            self.collect()
        if not self._useless:
            self.collect()
        self._exporter.close()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_more: Any) -> None:
        try:
            self._exporter.export(metrics_data)
            self._failing = False
        except ExportFailed as failed:
            if failed.reason in _NO_USE:
                self._useless = True
                log.info("hub: the OTLP endpoint takes no metrics (%s); none are sent", failed.reason)
            elif not self._failing:
                log.warning("hub: exporting metrics failed: %s; it is tried again", failed.reason)
            self._failing = True

    def close(self) -> None:
        """Export once more, and wait a little for it."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)

    def shutdown(self, timeout_millis: float = 30_000, **_more: Any) -> None:
        self.close()


def _interval(environ: Mapping[str, str]) -> float:
    """Seconds."""
    try:
        return max(0.05, float(environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 60_000) / 1000)
    except ValueError:
        return 60.0


def _prometheus(host: str, port: int) -> tuple[MetricReader, Callable[[], None]]:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MissingExtra("A Prometheus endpoint", "prometheus") from None
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    server, _thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return reader, stop
