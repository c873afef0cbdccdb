"""What goes over the wire: which requests call a model, whom they ask, and what the answers' bytes say."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from hub.extractors.anthropic import anthropic_facts
from hub.extractors.openai import error_facts, openai_facts
from hub.extractors.openai_stream import OpenAIStream, stream_for
from hub.extractors.pieces import Pieces
from hub.extractors.sse import SSEData
from hub.outcomes import ResponseFacts

_OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "chat",
    "/embeddings": "embeddings",
}

_HOSTS = {
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "amazonaws.com": "aws.bedrock",
    "anthropic.com": "anthropic",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "groq.com": "groq",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
"""Names as OpenTelemetry's gen_ai.provider.name has them, where it has one."""


def operation_of(method: str, path: str) -> str | None:
    """What a request asks a model for; None when it asks none. *path* may be a whole URL's and carry a query."""
    if method.upper() != "POST":
        return None
    path = path.partition("?")[0].rstrip("/")
    return next((operation for ending, operation in _OPERATIONS.items() if path.endswith(ending)), None)


def provider_of(host: str, default: str = "openai") -> str:
    """Who answers at *host*; *default*, the wire it speaks, for a host we do not know."""
    labels = host.lower().split(".")
    for start in range(len(labels) - 1):
        if (name := _HOSTS.get(".".join(labels[start:]))) is not None:
            return name
        if labels[start].endswith("-aiplatform"):
            return "gcp.vertex_ai"
    return default


def address_of(url: Any) -> str:
    """Host of a URL of httpx's, with the port where it is not the scheme's own."""
    host, port = url.host, url.port
    if port is None:
        return host  # type: ignore[no-any-return]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def request_body(raw: bytes) -> Mapping[str, Any] | None:
    """What a request's body says, even if only lenient parsers read it (lone surrogates, NaN); empty when it is JSON of
    another shape. None: nobody here can read it, packed or broken, and still it was sent to a model."""
    try:
        body = orjson.loads(raw)
    except ValueError:
        try:
            body = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
    return body if isinstance(body, dict) else {}


def body_facts(body: bytes) -> ResponseFacts:
    """What a whole answer says, an error too; empty when it is no JSON we know."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    return openai_facts(answer) or anthropic_facts(answer) or error_facts(answer) or {}


class StreamReader:
    """Server-sent events of a vendor's stream, put together as they come."""

    def __init__(self, max_bytes: int) -> None:
        """*max_bytes*: content beyond is left out; counts, usage and the end are still seen."""
        self.chunks = 0
        self.error: ResponseFacts | None = None
        self.unreadable = False
        """The newest event is no JSON: whoever stopped reading there may well have stopped because of it."""
        self._data = SSEData(max_bytes)
        self._room = max_bytes
        self._done = False
        self._assembler: OpenAIStream | None = None
        self._unread = Pieces()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._room -= len(piece)
        for data in self._data.feed(piece):
            if data.startswith(b"[DONE]"):
                self._done = True
            else:
                self._event(data)

    def _event(self, data: bytes) -> None:
        self.chunks += 1
        try:
            event: Any = orjson.loads(data)
            self.unreadable = False
        except ValueError:
            event = data.decode("utf-8", "replace")
            self.unreadable = True
        if not isinstance(event, dict):
            self._unread.add(event)
            return
        if self._assembler is None:
            self._assembler = stream_for(event)
        if self._assembler is not None:
            self._assembler.keep_content = self._room > 0
            self._assembler.add(event)
        elif self._room > 0:
            self._unread.add(event)
        if self.error is None:
            self.error = error_facts(event) or (None if self._assembler is None else self._assembler.error)

    @property
    def ended(self) -> bool:
        """Whether the wire's end mark came."""
        return self._done or (self._assembler is not None and self._assembler.ended)

    @property
    def whole(self) -> bool:
        """Whether a body that ended properly here is a whole answer. There are servers that send no end mark: a chat is
        one too that gave each choice its finish reason, and no half event after that. To be asked after `facts`."""
        return self.ended or (self._assembler is not None and self._assembler.whole and not self.unreadable)

    def facts(self) -> ResponseFacts:
        """What is known so far."""
        self.feed(b"\n\n")  # an end mark at the very end of the bytes counts without its empty line
        facts = self._assembler.facts() if self._assembler is not None else {}
        facts["chunk_count"] = self.chunks
        facts["streamed"] = self._unread.texts() + (self._assembler.pieces.texts() if self._assembler else [])
        return facts


def inflater(encoding: str, limit: int) -> Callable[[bytes], bytes] | None:
    """Undoes a content-encoding piece by piece, *limit* bytes of output at most; None for one we cannot undo.

    A piece that does not decode gives nothing, nor does what follows it.
    """
    names = [name for one in encoding.lower().split(",") if (name := one.strip()) not in ("", "identity")]
    if not names:
        return bytes
    if names in (["gzip"], ["x-gzip"], ["deflate"]):
        return _Inflater(limit, raw=False if names != ["deflate"] else None)
    if names == ["zstd"] and (unpack := _zstd()) is not None:
        return _InSlices(limit, unpack)
    return None


def _zstd() -> Callable[[bytes], bytes] | None:
    """Of the library that whoever asked for zstd has: httpx says that it takes zstd as soon as one is installed."""
    if (library := sys.modules.get("zstandard")) is not None:
        return library.ZstdDecompressor().decompressobj().decompress  # type: ignore[no-any-return]
    library = sys.modules.get("compression.zstd") or sys.modules.get("backports.zstd")
    return None if library is None else library.ZstdDecompressor().decompress


class _InSlices:
    """For libraries that cannot be told how much they may give: few bytes at a time, while there is room."""

    SLICE = 1024

    def __init__(self, limit: int, unpack: Callable[[bytes], bytes]) -> None:
        self._room, self._unpack = limit, unpack

    def __call__(self, piece: bytes) -> bytes:
        found = b""
        for start in range(0, len(piece), self.SLICE):
            if self._room <= 0:
                break
            try:
                more = self._unpack(piece[start : start + self.SLICE])[: self._room]
            except Exception:  # each library has a class of its own
                self._room = 0
                break
            self._room -= len(more)
            found += more
        return found


class _Inflater:
    def __init__(self, limit: int, *, raw: bool | None) -> None:
        """*raw* None: deflate, with or without its zlib header; the first byte tells."""
        self._room = limit
        self._inflate = None if raw is None else zlib.decompressobj(16 + zlib.MAX_WBITS)

    def __call__(self, piece: bytes) -> bytes:
        if self._room <= 0 or not piece:
            return b""
        if self._inflate is None:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if piece[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        try:
            found = self._inflate.decompress(piece, self._room)
        except zlib.error:
            self._room = 0
            return b""
        self._room -= len(found)
        return found
