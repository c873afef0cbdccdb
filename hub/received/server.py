"""An OTLP/HTTP receiver of traces: POST /v1/traces, protobuf or JSON, gzip.

What it answers is what senders act upon (https://opentelemetry.io/docs/specs/otlp/, read 2026-11-27): 200 once all is
committed, with partial_success where spans were refused; 400, 401, 413, 415 where sending again is of no use; 429 and
503 with Retry-After where it is.
"""

from __future__ import annotations

import hmac
import threading
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from hub.errors import ConfigError, StoreError
from hub.received.intake import Intake
from hub.received.spans import Decoded, MalformedRequest, from_json, from_protobuf

PATH = "/v1/traces"
MOST_BYTES = 20 << 20
"""Of a body, unpacked; the OpenTelemetry collector's own bound."""
_AT_ONCE = 16
_RETRY_AFTER_SECONDS = "5"
_SILENCE_SECONDS = 30.0
_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_DECODERS: dict[str, Callable[[bytes], Decoded]] = {_PROTOBUF: from_protobuf, _JSON: from_json}


class _Answer(NamedTuple):
    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):
    def __init__(self, status: int, words: str, *headers: tuple[str, str]) -> None:
        self.answer = _Answer(status, f"{words}\n".encode(), headers=headers)


class Receiver:
    """Takes spans from programs into a store, in threads of its own, from `start` to `close`.

    Args:
        host, port: Where it listens; port 0 picks one.
        token: What senders have to show as `Authorization: Bearer TOKEN`; without one it listens on loopback alone.
    Raises:
        ConfigError: There is no token, and *host* is not loopback.
        OSError: The port cannot be had.
    """

    def __init__(self, intake: Intake, *, host: str = "127.0.0.1", port: int = 4318, token: str | None = None) -> None:
        if token is None and host not in _LOOPBACK:
            raise ConfigError("host", host, "set a token, which senders must show, to listen beyond this machine")
        self._server = _Server((host, port), intake, token)
        self._thread = threading.Thread(target=self._server.serve_forever, name="hub-receiver", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT of a sender has to be."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def taken(self) -> int:
        """Spans that were stored so far."""
        return self._server.taken

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Take no more requests. Those under way are answered first."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], intake: Intake, token: str | None) -> None:
        self.intake, self.token = intake, token
        self.places = threading.BoundedSemaphore(_AT_ONCE)
        self.turn = threading.Lock()
        self.taken = 0
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that goes away is nobody's trouble."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "llm-hub", ""
    timeout = _SILENCE_SECONDS
    server: _Server

    def do_POST(self) -> None:
        try:
            self._send(self._answer())
        except _Refused as refused:
            self.close_connection = True  # what is left of the body is not read
            self._send(refused.answer)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self) -> _Answer:
        self._admit()
        kind = self.headers.get_content_type()
        decode = _DECODERS.get(kind)
        if self.path.partition("?")[0] != PATH:
            raise _Refused(404, f"only {PATH} is here")
        if decode is None:
            raise _Refused(415, f"send {_PROTOBUF} or {_JSON}")
        if not self.server.places.acquire(blocking=False):
            raise _Refused(429, "too many requests at once", ("Retry-After", _RETRY_AFTER_SECONDS))
        try:
            return self._taken(decode(self._body()), kind)
        except MalformedRequest as error:
            raise _Refused(400, str(error)) from None
        except StoreError as error:
            words = f"the store takes nothing now: {error}"
            raise _Refused(503, words, ("Retry-After", _RETRY_AFTER_SECONDS)) from None
        finally:
            self.server.places.release()

    def _admit(self) -> None:
        token = self.server.token
        if token is None:
            return
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), token.encode("utf-8", "replace")):
            raise _Refused(401, "show the token", ("WWW-Authenticate", "Bearer"))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _Refused(411, "say how long the body is")
        if int(length) > MOST_BYTES:
            raise _Refused(413, f"a body may have {MOST_BYTES:,} bytes; send fewer spans at a time")
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            raise _Refused(400, "the body is shorter than was said")
        coding = self.headers.get("Content-Encoding", "identity").lower()
        if coding == "identity":
            return raw
        if coding != "gzip":
            raise _Refused(415, "send it as it is, or with gzip")
        return _unpacked(raw)

    def _taken(self, found: Decoded, kind: str) -> _Answer:
        with self.server.turn:
            refused = found.broken + self.server.intake.take(found.spans)
            self.server.taken += len(found.spans) + found.broken - refused
        words = (found.reason or "some spans cannot be stored") if refused else ""
        if kind == _JSON:
            partial = {"partialSuccess": {"rejectedSpans": str(refused), "errorMessage": words}} if refused else {}
            return _Answer(200, orjson.dumps(partial), _JSON)
        response = ExportTraceServiceResponse()
        if refused:
            response.partial_success.rejected_spans = refused
            response.partial_success.error_message = words
        return _Answer(200, response.SerializeToString(), _PROTOBUF)


def _unpacked(raw: bytes) -> bytes:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(raw, MOST_BYTES + 1)
    except zlib.error:
        raise _Refused(400, "the body is no gzip") from None
    if len(found) > MOST_BYTES:
        raise _Refused(413, f"a body may have {MOST_BYTES:,} bytes when it is unpacked; send fewer spans at a time")
    if not unpacker.eof:
        raise _Refused(400, "the gzip ends before its end")
    return found
