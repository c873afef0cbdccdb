"""An OpenAI-compatible HTTP server on loopback, for the demo and for tests: deterministic answers, faults on request.

with LoopbackServer() as server:
    client = OpenAI(base_url=server.base_url, api_key="any")
    client.chat.completions.create(..., extra_headers={"x-demo": "fail=429 times=1"})
    server.served()
"""

from __future__ import annotations

import gzip
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from zlib import crc32

import orjson

from hub.demo import openai_wire as wire
from hub.demo.answers import JSON
from hub.demo.switches import Switches, of_request

_ERRORS = {
    400: ("invalid_request_error", None, "Your request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what became of it."""

    number: int
    """From 1, in the order of arrival; the answer's id ends in it."""
    path: str
    model: str
    stream: bool
    status: int
    """0 when the connection was reset before any header."""
    fault: str = ""
    """The fault that was asked for and met; empty for a healthy answer."""
    input_tokens: int | None = None
    """Of the usage that went over the wire; None when none did."""
    output_tokens: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """As received, names in lower case."""
    body: bytes = b""
    """As received."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a server did so far."""

    requests: int
    by_status: Mapping[int, int]
    answers: int
    """Requests answered in full, with status 200."""
    input_tokens: int
    """Of all usage that went over the wire, as are `output_tokens`."""
    output_tokens: int


class LoopbackServer:
    """Serves on 127.0.0.1, a thread for each connection. Leaving `with` closes all connections and threads."""

    def __init__(self, port: int = 0, *, usual: Callable[[int, str], Switches] | None = None) -> None:
        """
        Args:
            port: 0 takes a free one.
            usual: Gives the switches of a request that brings none, from its number and model.
        """
        self.usual = usual
        self._http = _HTTPServer(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="loopback", daemon=True)
        self._lock = threading.Lock()
        self._exchanges: dict[int, Exchange] = {}
        self._count = 0
        self._met: Counter[int] = Counter()
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def base_url(self) -> str:
        """What the openai SDK takes as `base_url`: ends in /v1."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything; answers under way end in a dropped connection. Stopping twice is harmless."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._http.shutdown()
            self._http.close_connections()
            self._http.server_close()
            self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def exchanges(self) -> Sequence[Exchange]:
        """What was served, oldest first. A request is listed before its answer's last byte leaves."""
        with self._lock:
            return [self._exchanges[number] for number in sorted(self._exchanges)]

    def served(self) -> Served:
        done = self.exchanges()
        return Served(
            requests=len(done),
            by_status=dict(Counter(exchange.status for exchange in done)),
            answers=sum(exchange.status == 200 and not exchange.fault for exchange in done),
            input_tokens=sum(exchange.input_tokens or 0 for exchange in done),
            output_tokens=sum(exchange.output_tokens or 0 for exchange in done),
        )

    def next_number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def meets_fault(self, request: bytes, switches: Switches) -> bool:
        """Whether this request, identical ones counted, is among the first `times`."""
        if not switches.fault or switches.times is None:
            return bool(switches.fault)
        with self._lock:
            key = crc32(request)
            self._met[key] += 1
            return self._met[key] % (switches.times + 1) != 0

    def log(self, exchange: Exchange) -> None:
        with self._lock:
            self._exchanges[exchange.number] = exchange


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], owner: LoopbackServer) -> None:
        self.owner = owner
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        args = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=args, name="loopback-peer", daemon=True)
        self._connections = {peer: held for peer, held in self._connections.items() if peer.is_alive()}
        self._connections[thread] = request
        thread.start()

    def close_connections(self) -> None:
        """Only after shutdown(): no connection is added any more."""
        for thread, connection in self._connections.items():
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was first
            thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave in the middle are part of the job; there is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "loopback"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the exchanges are the log."""

    def do_GET(self) -> None:
        path = _api_path(self.path)
        self._number = self.server.owner.next_number()
        done = Exchange(number=self._number, path=path, model="", stream=False, status=200)
        if path == "/models":
            self._send(200, wire.models())
        elif path in ("/chat/completions", "/responses", "/embeddings"):
            done = replace(done, status=405)
            self._send(405, wire.error_body("Only POST requests are accepted.", kind="invalid_request_error"))
        else:
            done = replace(done, status=404)
            self._send(404, wire.error_body(f"Unknown request URL: GET {self.path}.", kind="invalid_request_error"))
        self.server.owner.log(done)

    def do_POST(self) -> None:
        raw = self._read_body()
        owner = self.server.owner
        self._number = owner.next_number()
        headers = {name.lower(): value for name, value in self.headers.items()}
        done = Exchange(
            number=self._number,
            path=_api_path(self.path),
            model="",
            stream=False,
            status=200,
            headers=headers,
            body=raw,
        )
        try:
            done = self._answer(done)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            done = replace(done, fault="client left")
        finally:
            owner.log(done)

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, done: Exchange) -> Exchange:
        """Answer one POST; returns *done* with what came of it."""
        try:
            body = orjson.loads(done.body)
            text, switches = of_request(done.headers, body)
            model = str(body["model"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._refuse(done, 400, f"We could not read your request: {error!r}.")
        if not text and self.server.owner.usual is not None:
            switches = self.server.owner.usual(done.number, model)
        done = replace(done, model=model, stream=bool(body.get("stream")))
        if self.server.owner.meets_fault(text.encode() + done.body, switches):
            done = replace(done, fault=switches.fault)
        else:
            switches = switches.without_fault()
        self.server.owner.stopping.wait(switches.latency)
        if switches.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self._log_and_drop(replace(done, status=0))
        if switches.fail is not None:
            return self._refuse(done, switches.fail, retry_ms=switches.retry_ms)
        try:
            document, chunks = _reply(done, body, switches)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return self._refuse(done, 400, f"We could not read your request: {error!r}.")
        if document is None and chunks is None:
            return self._refuse(done, 404, f"Unknown request URL: POST {self.path}.")
        if chunks is not None:
            return self._stream(done, chunks, switches)
        return self._document(done, document or {}, switches)

    def _refuse(self, done: Exchange, status: int, message: str | None = None, retry_ms: int | None = None) -> Exchange:
        kind, code, usual = _ERRORS.get(status, ("api_error", None, "Something went wrong."))
        headers = {}
        if retry_ms is not None and status in (408, 409, 429, 500, 502, 503, 504, 529):
            headers = {"retry-after": str(-(-retry_ms // 1000)), "retry-after-ms": str(retry_ms)}
        done = replace(done, status=status)
        self.server.owner.log(done)
        self._send(status, wire.error_body(message or usual, kind=kind, code=code), headers)
        return done

    def _document(self, done: Exchange, document: JSON, switches: Switches) -> Exchange:
        data, kind = orjson.dumps(document), "application/json"
        if switches.body == "invalid":
            data = data[: len(data) // 2]
        elif switches.body == "wrong_type":
            data, kind = b"<html><body><h1>Bad gateway</h1></body></html>", "text/html"
        elif switches.body == "empty":
            data = b""
        elif switches.cut is not None or switches.end_early is not None:
            self._head(200, kind, {"content-length": str(len(data))})
            self.wfile.write(self._pending + data[: len(data) // 2])
            return self._log_and_drop(done)
        done = done if done.fault else _with_usage(done, document.get("usage"))
        self.server.owner.log(done)
        self._send_bytes(200, data, kind, compress=switches.gzip)
        return done

    def _stream(self, done: Exchange, chunks: Iterable[JSON], switches: Switches) -> Exchange:
        self._head(200, "text/event-stream; charset=utf-8", {"transfer-encoding": "chunked"})
        self.wfile.write(self._pending)
        stop_after = switches.cut if switches.cut is not None else switches.end_early
        for sent, chunk in enumerate(chunks):
            if sent == stop_after:
                if switches.cut is not None:
                    return self._log_and_drop(done)
                break
            if sent and switches.delay and self.server.owner.stopping.wait(switches.delay):
                return self._log_and_drop(done)
            name = f"event: {chunk['type']}\n" if "type" in chunk else ""
            done = _with_usage(done, chunk.get("usage") or (chunk.get("response") or {}).get("usage"))
            self.server.owner.log(done)
            self._write_chunk(name.encode() + b"data: " + orjson.dumps(chunk) + b"\n\n")
        else:
            if done.path == "/chat/completions":
                self._write_chunk(b"data: [DONE]\n\n")
        self._write_chunk(b"")
        return done

    def _log_and_drop(self, done: Exchange) -> Exchange:
        self.server.owner.log(done)
        self.close_connection = True
        return done

    def _write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _send(self, status: int, document: JSON, headers: Mapping[str, str] | None = None) -> None:
        self._send_bytes(status, orjson.dumps(document), "application/json", headers)

    def _send_bytes(
        self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None, *, compress: bool = False
    ) -> None:
        extra = dict(headers or {})
        if compress and "gzip" in self.headers.get("accept-encoding", ""):
            data, extra["content-encoding"] = gzip.compress(data, mtime=0), "gzip"
        self._head(status, kind, {**extra, "content-length": str(len(data))})
        self.wfile.write(self._pending + data)  # one write: head and body in two cost a delayed ACK, 40 ms

    def _head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        """Put the head in `_pending`, as bytes."""
        every = {
            "date": self.date_time_string(),
            "content-type": kind,
            "openai-version": "2020-10-01",
            "x-request-id": f"req_{self._number:032d}",
            **headers,
        }
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in every.items()]
        self._pending = "\r\n".join([*lines, "", ""]).encode("latin-1")


def _api_path(path: str) -> str:
    """The operation a URL's path names, whether OpenAI's (/v1/...) or Azure's (/openai/deployments/NAME/...)."""
    return re.sub(r"^(/openai)?(/v1|/deployments/[^/]+)?", "", urlsplit(path).path)


def _reply(done: Exchange, body: JSON, switches: Switches) -> tuple[JSON | None, Iterable[JSON] | None]:
    """The document, or the chunks of a stream, that answer *body*; neither for an unknown path."""
    if done.path == "/embeddings":
        return wire.embeddings(body), None
    if done.path == "/chat/completions":
        given = wire.chat_answer(body, switches.size)
        if done.stream:
            return None, wire.chat_chunks(body, given, done.number, switches.chunks)
        return wire.chat_completion(body, given, done.number), None
    if done.path == "/responses":
        given = wire.responses_answer(body, switches.size)
        if done.stream:
            return None, wire.response_events(body, given, done.number, switches.chunks)
        return wire.response(body, given, done.number), None
    return None, None


def _with_usage(done: Exchange, usage: Mapping[str, int] | None) -> Exchange:
    if not usage:
        return done
    return replace(
        done,
        input_tokens=usage.get("prompt_tokens", usage.get("input_tokens")),
        output_tokens=usage.get("completion_tokens", usage.get("output_tokens", 0)),
    )
