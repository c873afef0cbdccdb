"""Sends spans, metrics and logs with OpenTelemetry's own OTLP exporters: one try at a time. Whoever calls decides about
the next.

Imports the SDK, and gRPC only if the protocol variable says so: import it in the thread that exports.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from requests.adapters import HTTPAdapter

from hub.errors import HubError
from hub.harmless import log
from hub.polite import Rest
from hub.tracing_context import suppress_instrumentation

TIMEOUT_SECONDS = 5.0
"""Of one request, unless OTEL_EXPORTER_OTLP_TIMEOUT or _TRACES_TIMEOUT says otherwise."""
_REFUSALS = (400, 413, 422)
Signal = Literal["traces", "metrics", "logs"]
_LOGGERS = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)


class ExportFailed(HubError):
    """The OTLP endpoint did not take the spans; sending them again is harmless, their ids are the same."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(f"OTLP export: {reason}; the spans are sent again later")
        self.reason = reason
        self.refused = refused
        """The endpoint answered that it will never take these spans as they are."""


class Exporter(Protocol):
    """What a sink of spans exports through."""

    def export(self, spans: Sequence[ReadableSpan]) -> int:
        """Send *spans* in one request.

        Returns: How many of them the endpoint refused for good though it took the others.
        Raises: ExportFailed: They did not arrive, as far as is known.
        """
        ...

    def close(self) -> None:
        """End waiting and let go of connections, from any thread. Later exports fail."""
        ...


class OtlpExporter:
    """The exporter that OTEL_EXPORTER_OTLP_PROTOCOL names, set up by the other OTLP variables.

    Its own retries are switched off: they sleep for seconds where neither exit nor the sink's backoff reaches them.

    Args:
        endpoint: In place of the variables', given as OTEL_EXPORTER_OTLP_ENDPOINT is.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, endpoint: str | None = None, signal: Signal = "traces"
    ) -> None:
        self._signal: Signal = signal
        self._last: list[str | int] = []
        self._rejected: list[int] = []
        self._quiet = _Quiet()
        self._exporter = self._make(environ, endpoint)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._quiet)

    def _make(self, environ: Mapping[str, str], endpoint: str | None) -> Any:
        timeout = None if _value(environ, self._signal, "TIMEOUT") else TIMEOUT_SECONDS
        protocol = _value(environ, self._signal, "PROTOCOL") or "http/protobuf"
        if protocol == "grpc":
            return _grpc_exporter(self._signal, timeout, endpoint)
        if protocol != "http/protobuf":
            log.warning("OTEL_EXPORTER_OTLP_PROTOCOL: %r is not supported; spans go by http/protobuf", protocol)
        exporter = _exporter_class("http", self._signal)
        if endpoint is not None:
            path = f"/v1/{self._signal}"
            endpoint = endpoint.rstrip("/").removesuffix(path) + path
        if any(name.endswith("_CREDENTIAL_PROVIDER") for name in environ):
            return exporter(endpoint, timeout=timeout)  # the session is the provider's then
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _OneTry(self._last, self._rejected))
        return exporter(endpoint, timeout=timeout, session=session)

    @property
    def preferences(self) -> dict[str, Any]:
        """What a reader of metrics is told of temporality and aggregation."""
        names = ("preferred_temporality", "preferred_aggregation")
        return {name: getattr(self._exporter, f"_{name}") for name in names}

    def export(self, batch: Any) -> int:
        """Send *batch*, in the SDK's own form, in one request.

        Returns: See `Exporter`; over gRPC the SDK does not tell.
        Raises: ExportFailed
        """
        self._last.clear()
        self._rejected.clear()
        self._quiet.exporting.now = True
        try:
            with suppress_instrumentation():
                result = self._exporter.export(batch)
        except Exception as error:
            raise ExportFailed(type(error).__name__) from error
        finally:
            self._quiet.exporting.now = False
        if result.name != "SUCCESS":
            reason = self._last[-1] if self._last else "no answer"
            raise ExportFailed(f"answered {reason}" if isinstance(reason, int) else reason, refused=reason in _REFUSALS)
        return sum(self._rejected)

    def close(self) -> None:
        """Close connections; a gRPC call under way is cancelled, an HTTP request ends by its timeout."""
        self._exporter.shutdown()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._quiet)


class _NotTaken(Exception):
    """Of a class that the SDK's exporter knows nothing of, so that it does not wait and try again."""


class _OneTry(HTTPAdapter):
    """Fails at once where the exporter would retry, and notes why; notes too what was refused of a request taken."""

    def __init__(self, notes: list[str | int], rejected: list[int]) -> None:
        super().__init__()
        self._notes, self._rejected = notes, rejected

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().send(request, *args, **kwargs)
        except requests.RequestException as error:
            self._notes.append(type(error).__name__)
            raise _NotTaken from error
        if response.status_code >= 300:
            self._notes.append(response.status_code)
            response.close()
            raise _NotTaken
        if response.content:
            try:  # the answers to all signals look the same
                answer = ExportTraceServiceResponse.FromString(response.content)
                self._rejected.append(answer.partial_success.rejected_spans)
            except Exception as error:
                log.debug("hub: the OTLP endpoint's answer has another form: %s", type(error).__name__)
        return response


def _exporter_class(transport: str, signal: Signal) -> Any:
    if transport == "grpc":
        import opentelemetry.exporter.otlp.proto.grpc._log_exporter as grpc_logs
        import opentelemetry.exporter.otlp.proto.grpc.metric_exporter as grpc_metrics
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter as grpc_traces

        return {
            "traces": grpc_traces.OTLPSpanExporter,
            "metrics": grpc_metrics.OTLPMetricExporter,
            "logs": grpc_logs.OTLPLogExporter,
        }[signal]
    if signal == "metrics":
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter
    if signal == "logs":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        return OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter


def _grpc_exporter(signal: Signal, timeout: float | None, endpoint: str | None) -> Any:
    from grpc import StatusCode  # type: ignore[import-untyped]

    exporter = _exporter_class("grpc", signal)
    try:
        return exporter(endpoint, timeout=timeout, retryable_error_codes=[StatusCode.OK])  # no failure has it
    except TypeError:  # before 1.36 its retries cannot be switched off
        return exporter(endpoint, timeout=timeout)


class _Quiet(logging.Filter):
    """Keeps the exporter's word on each failure of ours out of the program's log: the pipeline says it once."""

    def __init__(self) -> None:
        super().__init__()
        self.exporting = _Exporting()

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.exporting.now


class _Exporting(threading.local):
    now = False


def _value(environ: Mapping[str, str], signal: Signal, name: str) -> str:
    value = (
        environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""
    )
    return value.strip().lower()


class RestfulSpans(list[ReadableSpan]):
    """Spans that let other threads run while an exporter goes through them: encoding 64 takes 3 ms of pure Python."""

    def __init__(self, spans: Sequence[ReadableSpan], rest: Rest) -> None:
        super().__init__(spans)
        self._rest = rest

    def __iter__(self) -> Iterator[ReadableSpan]:
        for span in super().__iter__():
            yield span
            self._rest()
