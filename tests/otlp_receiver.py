"""An OTLP endpoint in the test's own process, over HTTP and gRPC, that can be in trouble on request."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the wire carried it. Ids are hex; times are UTC Unix nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_span_id: str
    start: int
    end: int
    attributes: dict[str, Any]
    status: str
    description: str
    events: list[tuple[str, int, dict[str, Any]]]
    links: list[tuple[str, str]]
    resource: dict[str, Any]
    scope: tuple[str, str]
    dropped_attributes: int
    flags: int


@dataclass(frozen=True)
class ReceivedPoint:
    """A metric's value as the wire carried it."""

    name: str
    unit: str
    kind: str
    attributes: dict[str, Any]
    value: float
    """Of a histogram the sum."""
    count: int
    bounds: list[float]
    resource: dict[str, Any]

    def fits(self, name: str, attributes: dict[str, Any]) -> bool:
        mine = {key.replace(".", "_"): value for key, value in self.attributes.items()}
        return self.name == name and attributes.items() <= mine.items()


class OtlpReceiver:
    """Listens on 127.0.0.1 until closed.

    `answer` is the status of every answer (200, 503, 400, ...); None: accept and never answer; "reset": let go of the
    connection in the middle of the request, over HTTP. `listen(False)` refuses connections, `listen(True)` takes them
    again at the same port.
    """

    def __init__(self, protocol: str = "http/protobuf") -> None:
        self.protocol = protocol
        self.answer: int | Literal["reset"] | None = 200
        self.refuse_if: str = ""
        """A span of this name makes its whole request invalid: 400."""
        self.rejects = 0
        """So many spans of each request are said to be refused, over HTTP."""
        self.stop_after: int | None = None
        """Answer nobody any more once there are so many spans."""
        self.spans: list[ReceivedSpan] = []
        self.metrics: dict[Any, ReceivedPoint] = {}
        """The newest point of each metric and set of attributes."""
        self.logs: list[tuple[str, str, dict[str, Any], Any]] = []
        self.exports = 0
        """Of metrics."""
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.requests = 0
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._server: _Server | None = None
        self.port = 0
        self.listen(True)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead a program here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
        }

    def listen(self, on: bool) -> None:
        if on and self._server is None:
            self._server = _GrpcServer(self) if self.protocol == "grpc" else _HttpServer(self)
            self.port = self._server.port
        elif not on and self._server is not None:
            self._server.close()
            self._server = None

    def recover(self) -> None:
        """Out of any trouble."""
        self.answer = 200
        self._released.set()
        self._released = threading.Event()
        self.listen(True)

    def close(self) -> None:
        self._released.set()
        self.listen(False)

    def wait_for(self, count: int, timeout: float = 10.0, *, different: bool = False) -> list[ReceivedSpan]:
        """The spans so far, once there are *count*.

        Args:
            different: Count one that came twice once, as one does whose answer was lost.
        """
        with self._changed:

            def there() -> bool:
                return len({span.span_id for span in self.spans} if different else self.spans) >= count

            assert self._changed.wait_for(there, timeout), f"{len(self.spans)} of {count}"
            return list(self.spans)

    def met(self) -> None:
        """A request has come."""
        with self._changed:
            self.requests += 1
            self._changed.notify_all()

    def take_metrics(self, body: bytes) -> int:
        if self.answer != 200:
            return self.answer if isinstance(self.answer, int) else 503
        points = list(decode_metrics(body))
        with self._changed:
            self.metrics.update({(point.name, frozenset(point.attributes.items())): point for point in points})
            self.exports += 1
            self._changed.notify_all()
        return 200

    def take_logs(self, body: bytes) -> int:
        if self.answer != 200:
            return self.answer if isinstance(self.answer, int) else 503
        request = ExportLogsServiceRequest.FromString(body)
        with self._changed:
            for of_resource in request.resource_logs:
                for scope in of_resource.scope_logs:
                    for one in scope.log_records:
                        ids = (one.trace_id.hex(), one.span_id.hex())
                        self.logs.append((one.event_name, one.body.string_value, _attributes(one.attributes), ids))
            self._changed.notify_all()
        return 200

    def wait_for_logs(self, count: int, timeout: float = 10.0) -> list[tuple[str, str, dict[str, Any], Any]]:
        """Log records so far, once there are *count*: event name, body, attributes, trace and span id."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.logs) >= count, timeout), f"{len(self.logs)} of {count}"
            return list(self.logs)

    def wait_for_metric(self, name: str, timeout: float = 10.0, **attributes: Any) -> ReceivedPoint:
        """The newest point of a metric whose attributes (dots as underscores) are these among others."""
        with self._changed:
            found: list[ReceivedPoint] = []

            def there() -> bool:
                found[:] = [point for point in self.metrics.values() if point.fits(name, attributes)]
                return bool(found)

            assert self._changed.wait_for(there, timeout), f"no {name} {attributes} in {list(self.metrics)}"
            return found[0]

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> None:
        """Until *count* have come, whatever they were answered."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests >= count, timeout), f"{self.requests} of {count}"

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Handle one request; returns the status to answer with."""
        answer = self.answer
        self.met()
        if answer is None:
            self._released.wait(30)
            return 503
        if isinstance(answer, int) and answer != 200:
            return answer
        spans = decode(body)
        if self.refuse_if and any(span.name == self.refuse_if for span in spans):
            return 400
        with self._changed:
            self.raw.append(body)
            self.headers.append(headers)
            self.spans += spans
            if self.stop_after is not None and len(self.spans) >= self.stop_after:
                self.answer = None
            self._changed.notify_all()
        return 200


@contextmanager
def receiving(protocol: str = "http/protobuf") -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver(protocol)
    try:
        yield receiver
    finally:
        receiver.close()


class _Server:
    port: int

    def close(self) -> None:
        raise NotImplementedError


class _HttpServer(_Server):
    _connections: list[socket.socket]

    def __init__(self, receiver: OtlpReceiver) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if receiver.answer == "reset":
                    self.rfile.read(100)
                    receiver.met()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/metrics":
                    status = receiver.take_metrics(body)
                elif self.path == "/v1/logs":
                    status = receiver.take_logs(body)
                else:
                    status = 404 if self.path != "/v1/traces" else receiver.take(body, dict(self.headers))
                answer = ExportTraceServiceResponse()
                answer.partial_success.rejected_spans = receiver.rejects
                payload = answer.SerializeToString()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except OSError:  # the client gave up
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # of a client that is gone

            block_on_close = False
            allow_reuse_address = True

            def process_request(self, request: Any, client_address: Any) -> None:
                connections.append(request)
                super().process_request(request, client_address)

        connections = self._connections = []

        self._server = Server(("127.0.0.1", receiver.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        for connection in self._connections:  # kept alive, they would go on being served
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


_CODES = {503: grpc.StatusCode.UNAVAILABLE, 400: grpc.StatusCode.INVALID_ARGUMENT}


class _GrpcServer(_Server):
    def __init__(self, receiver: OtlpReceiver) -> None:
        class Service(TraceServiceServicer):
            def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
                headers = {pair.key: str(pair.value) for pair in context.invocation_metadata()}
                status = receiver.take(request.SerializeToString(), headers)
                if status != 200:
                    context.abort(_CODES[status], "in trouble")
                return ExportTraceServiceResponse()

        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        add_TraceServiceServicer_to_server(Service(), self._server)  # type: ignore[no-untyped-call]  # generated
        self.port = self._server.add_insecure_port(f"127.0.0.1:{receiver.port}")
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait(5)
        self._pool.shutdown(wait=False)


def decode(body: bytes) -> list[ReceivedSpan]:
    """The spans in the body of an export request."""
    return list(_decode(ExportTraceServiceRequest.FromString(body)))


def _decode(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    description=span.status.message,
                    events=[(one.name, one.time_unix_nano, _attributes(one.attributes)) for one in span.events],
                    links=[(one.trace_id.hex(), one.span_id.hex()) for one in span.links],
                    resource=resource,
                    scope=(of_scope.scope.name, of_scope.scope.version),
                    dropped_attributes=span.dropped_attributes_count,
                    flags=span.flags,
                )


def decode_metrics(body: bytes) -> Iterator[ReceivedPoint]:
    """The points in the body of an export request."""
    for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        resource = _attributes(of_resource.resource.attributes)
        for metric in (metric for scope in of_resource.scope_metrics for metric in scope.metrics):
            kind = str(metric.WhichOneof("data"))
            for point in getattr(metric, kind).data_points:
                histogram = kind == "histogram"
                value = point.sum if histogram else point.as_int or point.as_double
                yield ReceivedPoint(
                    name=metric.name,
                    unit=metric.unit,
                    kind=kind,
                    attributes=_attributes(point.attributes),
                    value=value,
                    count=point.count if histogram else 1,
                    bounds=list(point.explicit_bounds) if histogram else [],
                    resource=resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)
