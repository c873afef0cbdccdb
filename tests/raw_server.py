"""A server on a raw socket that answers with the very bytes it is told to, cut, late or never."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

Then = Literal["close", "reset", "keep", "hang"]


@dataclass(frozen=True, slots=True)
class Play:
    """What one request gets: bytes, and what becomes of the connection after them."""

    data: bytes = b""
    then: Then = "close"


def plain(body: bytes, *, status: str = "200 OK", kind: str = "application/json", head: str = "") -> bytes:
    """A whole answer."""
    lines = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return lines.encode() + body


def streamed(*events: bytes, chunked: bool = True) -> bytes:
    """A stream of these events' data; without chunks it ends where the connection does."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    pieces = [b"data: " + event + b"\n\n" for event in events]
    if not chunked:
        return head + b"connection: close\r\n\r\n" + b"".join(pieces)
    framed = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(framed) + b"0\r\n\r\n"


def completion(text: str = "Hello you", **more: Any) -> bytes:
    """A chat.completion that says *text*."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c1", "model": "m-1", "choices": [choice], "usage": usage, **more}).encode()


def chunk(delta: dict[str, Any], **choice: Any) -> bytes:
    """A chat.completion.chunk."""
    return json.dumps({"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": delta, **choice}]}).encode()


CHUNKS = (chunk({"content": "Hello"}), chunk({"content": " you"}), chunk({}, finish_reason="stop"), b"[DONE]")


class RawServer:
    """Plays *plays* in turn, one for each request, the last one again and again."""

    def __init__(self, *plays: Play) -> None:
        self.plays: Sequence[Play] = plays
        self.requests: list[bytes] = []
        """Whole, as they came."""
        self.hanging = threading.Semaphore(0)
        """Released each time the server has nothing more to say and holds the connection open."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def open_connections(self) -> int:
        return sum(thread.is_alive() for thread in self._threads[1:])

    def all_closed(self) -> bool:
        """Whether no connection is open any more."""
        for thread in self._threads[1:]:
            thread.join(1)
        return self.open_connections == 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed before
                pass
        for thread in self._threads[1:]:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (request := _read(connection)) is not None:
                    with self._lock:
                        play = self.plays[min(len(self.requests), len(self.plays) - 1)]
                        self.requests.append(request)
                    connection.sendall(play.data)
                    if play.then == "hang":
                        self.hanging.release()
                        connection.recv(1)  # until the client, or the end of the test, closes
                    if play.then == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if play.then != "keep":
                        return
            except OSError:
                pass  # the client was first


def _read(connection: socket.socket) -> bytes | None:
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(65536)
        if not piece:
            return None
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def body_of(request: bytes) -> Any:
    """The JSON of a request."""
    return json.loads(request.partition(b"\r\n\r\n")[2])


def headers_of(request: bytes) -> dict[str, str]:
    """By name, in lower case."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
