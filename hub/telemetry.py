"""Whether and how calls become OpenTelemetry spans: the mode, the resource, and what the recorder asks at each call."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from opentelemetry import trace

from hub import semconv
from hub.forking import undivided
from hub.harmless import log
from hub.log_sink import LogSink
from hub.metric_sink import Instruments, MetricSink, SpoolGauge, program_meters
from hub.native_spans import NativeTracer, not_at_all
from hub.span_limits import limits_from
from hub.span_names import NEWEST, Names
from hub.span_sink import SpanSink
from hub.tracing_context import Mint, Minted, sampler_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hub.events import EventRecord


Setting = Literal["auto", "export", "native", "off"]
Mode = Literal["export", "native", "off"]

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Tracing:
    """Gives the calls of one hub their places in traces, and with native spans the spans themselves.

    Args:
        setting: HUB_OTEL.
        environ: Where the OTEL_* variables are read.
        provider: The program's tracer provider; None: OpenTelemetry's global one, looked up when it is needed.
        clean: Takes secrets out of what spans and `hub:started` are told beside events: `Cleaner.clean`.
        names: HUB_OTEL_NAMES.
    """

    def __init__(
        self,
        setting: Setting = "auto",
        environ: Mapping[str, str] = os.environ,
        *,
        provider: trace.TracerProvider | None = None,
        clean: Callable[[dict[str, Any]], tuple[dict[str, Any], object]] = not_at_all,
        names: Names = NEWEST,
    ) -> None:
        self._names = names
        self._setting, self._environ, self._provider, self._clean = setting, environ, provider, clean
        self._content = captures_content(environ)
        self._settled = False
        self.mode: Mode = "off"
        self._resolve()

    def _resolve(self) -> None:
        self.mode = resolve_mode(self._setting, self._environ, self._provider)
        self._mint = Mint(sampler_from(self._environ), attach=self.mode == "export")
        self._native = None
        if self.mode == "native":
            self._native = NativeTracer(
                self._mint, content=self._content, provider=self._provider, clean=self._clean, names=self._names
            )

    @property
    def live(self) -> bool:
        """Whether `observe` is to be told of the events of calls."""
        return self._native is not None

    def begin(self, request: Mapping[str, Any]) -> Minted:
        """A call begins in the current context. Keep what this gives for as long as the call goes on.

        Args:
            request: What is known of it, under the keys of the data of `llm:request`.
        """
        if not self._settled:
            self._settle()
        if self._native is None:
            return self._mint.start()
        try:
            return self._native.begin(request)
        except Exception as error:
            log.warning("hub: the program's tracer failed with %s; the call has no span", type(error).__name__)
            return self._mint.start()

    def observe(self, records: Sequence[EventRecord]) -> None:
        """Events of a call, as they are written; a call's span ends with its response. Only needed while `live`."""
        if self._native is None:
            return
        try:
            self._native.observe(records)
        except Exception as error:
            log.warning("hub: the program's tracer failed with %s; a call's span is incomplete", type(error).__name__)

    def _settle(self) -> None:
        """Programs set up OpenTelemetry after they set up the hub, so the first call looks again."""
        self._settled = True
        found = resolve_mode(self._setting, self._environ, self._provider)
        if self.mode != found == "native":  # export needs its sink, which is made at the start
            self._resolve()
        if self.mode != "off" and (double := double_instrumentation(sys.modules)) is not None:
            log.warning(
                "hub: %s traces the same calls, so each has two spans; switch it off, or set HUB_OTEL=off", double
            )

    def sinks(self, observe: MetricSink | None = None) -> list[SpanSink]:
        """The sink that exports spans, if any are to be exported.

        Args:
            observe: Is shown what that sink reads.
        """
        if self.mode != "export":
            return []
        started = {
            "limits": limits_from(self._environ).as_data(),
            "resource": self.resource_attributes("unknown_service"),
        }
        return [
            SpanSink(
                started, content=self._content, names=self._names, observe=observe, wanted=lambda: self.mode == "export"
            )
        ]

    def log_sinks(self) -> list[LogSink]:
        """The sink for what the program emits outside of calls, if an endpoint for logs is named."""
        environ = self._environ
        named = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or "otlp" in environ.get("OTEL_LOGS_EXPORTER", "")
        if not named or not _exports(environ, "LOGS") or _disabled(environ) or self._setting == "off":
            return []
        return [LogSink({"resource": self.resource_attributes("unknown_service")})]

    def metric_sinks(self, gauge: SpoolGauge, prometheus: tuple[str, int] | None = None) -> list[MetricSink]:
        """The sink that measures calls, if anybody is there to see the measures.

        Args:
            prometheus: Host and port that answer a Prometheus server.
        """
        environ, names = self._environ, self._names
        export = self._setting != "off" and _exports(environ, "METRICS")
        wanted = export or prometheus or (self._setting != "off" and program_meters() is not None)
        if not wanted or _disabled(environ):
            return []

        def make(started: Mapping[str, Any]) -> Instruments | None:
            with undivided():
                from hub.metrics import instruments_for  # the SDK is imported here, in the sink's thread

            return instruments_for(started, environ, gauge, names, export=export, prometheus=prometheus)

        within = SpanSink.name if self.mode == "export" else None
        return [MetricSink(make, gauge.mark, at_once=prometheus is not None, within=within)]

    def resource_attributes(self, service: str, environment: str | None = None) -> dict[str, Any]:
        """What the spans of this process are said to come from: as the program's own provider says, else as the
        environment does. For `hub:started`."""
        if self.mode == "native":
            provider = self._provider or trace.get_tracer_provider()
            attributes = getattr(getattr(provider, "resource", None), "attributes", None)
            if attributes:
                found = {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
                return self._clean(found)[0]
        return self._clean(resource_attributes(self._environ, service, environment))[0]

    def started_facts(self, service: str, environment: str | None, hub_version: str) -> dict[str, Any]:
        """What `hub:started` must hold so that spans can be made again from the store alone."""
        return {
            "resource": self.resource_attributes(service, environment),
            "scope": {"name": "llm-hub", "version": hub_version},
            "limits": limits_from(self._environ).as_data(),
        }


def resolve_mode(setting: Setting, environ: Mapping[str, str], provider: trace.TracerProvider | None = None) -> Mode:
    """What HUB_OTEL means here and now. auto: native beside a tracer provider of the program's, else export to an OTLP
    endpoint if a variable names one, else off."""
    if setting != "auto":
        return setting
    if _disabled(environ):
        return "off"
    if not isinstance(provider or trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return "native"
    return "export" if _exports(environ, "TRACES") else "off"


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _exports(environ: Mapping[str, str], signal: str) -> bool:
    """Whether the variables name an OTLP endpoint for a signal."""
    if environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environ.get(name) for name in endpoints)


def captures_content(environ: Mapping[str, str]) -> bool:
    """Whether prompts and answers may stand in spans."""
    return environ.get(CAPTURE_CONTENT, "").strip().upper() in ("SPAN_ONLY", "SPAN_AND_EVENT")


def resource_attributes(environ: Mapping[str, str], service: str, environment: str | None = None) -> dict[str, Any]:
    """The resource as the SDK would read it from OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME; *service* and
    *environment* stand where those say nothing."""
    attributes: dict[str, Any] = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": _sdk_version(),
        semconv.SERVICE_NAME: service,
    }
    if environment:
        attributes[semconv.DEPLOYMENT_ENVIRONMENT] = environment
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = item.partition("=")
        if equals and key.strip():
            attributes[key.strip()] = unquote(value.strip())
    if name := environ.get("OTEL_SERVICE_NAME"):
        attributes[semconv.SERVICE_NAME] = name
    return attributes


def _sdk_version() -> str:
    try:
        return version("opentelemetry-sdk")
    except PackageNotFoundError:
        return "unknown"


_INSTRUMENTORS = (
    "opentelemetry.instrumentation.openai",
    "opentelemetry.instrumentation.openai_v2",
    "openinference.instrumentation.openai",
    "opentelemetry.instrumentation.anthropic",
    "openinference.instrumentation.anthropic",
)


def double_instrumentation(modules: Mapping[str, ModuleType]) -> str | None:
    """The name of an active instrumentation that makes spans of the calls we make spans of; nothing is imported."""
    for name in _INSTRUMENTORS:
        for attribute, value in vars(modules[name]).items() if name in modules else ():
            if attribute.endswith("Instrumentor") and _is_active(value):
                return name
    openai = modules.get("openai")
    clients = (getattr(openai, name, None) for name in ("OpenAI", "AsyncOpenAI"))
    if any(getattr(client, "_is_instrumented_by_logfire", False) for client in clients):
        return "logfire.instrument_openai"
    return None


def _is_active(instrumentor: object) -> bool:
    """Instrumentors are singletons that remember whether they were switched on."""
    one = getattr(instrumentor, "_instance", None)
    return bool(getattr(one, "_is_instrumented_by_opentelemetry", False))
