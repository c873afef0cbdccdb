"""What every provider over HTTP shares: one exchange, whole or as server-sent events, and its faults as our errors.

Nothing here tries again, and nothing follows a redirect. Whatever becomes of an exchange, cancelled and abandoned ones
included, its connection is given back or closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import httpx
import orjson

from hub.extractors.openai import error_facts
from hub.extractors.sse import SSEData
from providers.connections import Connections
from providers.errors import ConfigurationError, LLMError
from providers.http_errors import MAX_BODY
from providers.http_faults import Asking

MAX_ANSWER = 64 << 20
"""Bytes of an answer, unpacked; a stream's in all."""
TIMEOUT = 600.0
"""Seconds, where none are configured: a reasoning model may take minutes before its first byte."""

_CONNECT = 10.0
GRACE = 1.0
"""httpx's own time limits are for each read, and say more: only what gets round them, byte by byte, is cut by ours."""
_DRAIN = 0.25
_PACKED = ("gzip", "deflate")
"""Neither grows more than a thousandfold, so that what httpx unpacks at a time is bounded: a piece of zstd or brotli,
or one that is packed twice, may become gigabytes before anybody can look at it."""
_READABLE = frozenset({"", "identity", *_PACKED})


class Answer(NamedTuple):
    """A whole answer with a good status."""

    body: bytes
    status: int
    kind: str
    """Its content type; empty where none was given."""


class HTTP:
    """An API at one address. Any number of exchanges at once, in any number of event loops."""

    def __init__(
        self,
        *,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        secrets: tuple[str, ...] = (),
        auth: httpx.Auth | None = None,
        timeout: float | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """
        Args:
            base_url: Its query goes with every request, as Azure's api-version does; a user and password in it become
                basic auth.
            secrets: What no message of an error may repeat.
            auth: Signs each request, instead of what *headers* say.
            timeout: Seconds for a whole answer, and for each silence of a stream.
        Raises: ConfigurationError: One of them cannot be used.
        """
        self._base = _url(provider, base_url)
        self._asking = Asking(provider, _address(self._base), tuple(one for one in secrets if len(one) > 3))
        self._auth: Any = auth or httpx.USE_CLIENT_DEFAULT
        if self._base.userinfo:
            password = self._base.password
            self._asking = Asking(provider, self._asking.address, (*self._asking.secrets, password or "\0"))
            self._auth = auth or httpx.BasicAuth(self._base.username, password)
            self._base = self._base.copy_with(username=None, password=None)
        self._headers = {
            "user-agent": f"llm-hub/{_version()}",
            "content-type": "application/json",
            "accept-encoding": ", ".join(_PACKED),
        }
        for name, value in headers.items():
            if not (name.isascii() and value.isascii() and name.isprintable() and value.isprintable()):
                raise ConfigurationError(
                    f"{provider}: the header {name!r} has characters that cannot be sent; use printable ASCII",
                    provider=provider,
                )
            self._headers[name.lower()] = value
        self._timeout = TIMEOUT if timeout is None else timeout
        self._connections = Connections(provider, http_client)

    @property
    def host(self) -> str:
        return self._base.host

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return self._asking.address

    def asking(self, model: str | None) -> Asking:
        """Who is asked for *model*: what the other methods need for their errors."""
        known = self._asking
        return Asking(known.provider, known.address, known.secrets, model)

    async def close(self) -> None:
        """Let go of connections; calls made afterwards raise ConfigurationError."""
        await self._connections.close()

    async def get(self, asking: Asking, path: str) -> Answer:
        """What a GET gives. Raises: LLMError"""
        return await self._whole(asking, "GET", path, None, None)

    async def post(self, asking: Asking, path: str, body: bytes, *, timeout: float | None = None) -> Answer:
        """What *body* gives. Raises: LLMError"""
        return await self._whole(asking, "POST", path, body, timeout)

    async def _whole(self, asking: Asking, method: str, path: str, body: bytes | None, timeout: float | None) -> Answer:
        async with self._patience(asking, timeout) as limit:
            response = await self._send(asking, method, path, body, limit, "application/json")
            try:
                return Answer(await _read(response, asking), response.status_code, _kind(response))
            finally:
                await response.aclose()

    async def open(self, asking: Asking, path: str, body: bytes, *, timeout: float | None = None) -> httpx.Response:
        """The head of a stream that answers *body*, for `events`, which closes it.

        Raises: LLMError: What answered is an error, or no stream.
        """
        async with self._patience(asking, timeout) as limit:
            response = await self._send(asking, "POST", path, body, limit, "text/event-stream")
            if _kind(response).startswith("text/event-stream"):
                return response
            body = await _beginning(response)
            if is_error(_loaded(body)):
                raise asking.refused(response.status_code, body, response.headers)
            raise asking.not_an_answer("event stream", response.status_code, _kind(response))

    async def pieces(self, asking: Asking, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream. To be closed when it is not read to its end.

        Raises: LLMError: It breaks off, falls silent or grows too large.
        """
        size = 0
        try:
            async for piece in response.aiter_bytes():
                size += len(piece)
                if size > MAX_ANSWER:
                    raise asking.too_large(MAX_ANSWER, response.status_code)
                yield piece
        except httpx.HTTPError as error:
            raise asking.broke_off(error, response.status_code) from error
        finally:
            await response.aclose()

    async def events(
        self, asking: Asking, response: httpx.Response, *, end: bytes, whole: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """The data of each event before the one that is *end*. To be closed when it is not read to its end.

        Args:
            whole: Whether what was given is all, for a body that ended properly without *end*.
        Raises: LLMError: As `pieces`, or there is no *end* and it is not *whole*.
        """
        found, pieces = SSEData(MAX_ANSWER), self.pieces(asking, response)
        try:
            async for piece in pieces:
                for data in found.feed(piece):
                    if data == end:
                        await _drain(pieces)
                        return
                    yield data
            for data in found.feed(b"\n\n"):
                if data == end:
                    return
                yield data
            if not whole():
                raise asking.stopped(response.status_code)
        finally:
            await pieces.aclose()

    def _at(self, path: str) -> httpx.URL:
        """*path* below the base, whose own path and query go as they were written."""
        base, mark, query = self._base.raw_path.partition(b"?")
        return self._base.copy_with(raw_path=base.rstrip(b"/") + path.encode() + mark + query)

    async def _send(
        self, asking: Asking, method: str, path: str, body: bytes | None, limit: float, accept: str
    ) -> httpx.Response:
        client = self._connections.client()
        request = client.build_request(
            method,
            self._at(path),
            content=body,
            headers={**self._headers, "accept": accept},
            timeout=httpx.Timeout(limit, connect=min(limit, _CONNECT)),
        )
        response = await client.send(request, stream=True, auth=self._auth, follow_redirects=False)
        if (packed := response.headers.get("content-encoding", "identity").strip().lower()) not in _READABLE:
            await response.aclose()
            raise asking.packed(packed, response.status_code, response.headers)
        if response.status_code >= 300:
            raise asking.refused(response.status_code, await _beginning(response), response.headers)
        return response

    @asynccontextmanager
    async def _patience(self, asking: Asking, timeout: float | None) -> AsyncIterator[float]:
        """Gives the time limit, sees that it is kept, and tells faults as our errors."""
        limit = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit + GRACE):
                yield limit
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise asking.no_answer(error, limit) from error


async def _read(response: httpx.Response, asking: Asking) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > MAX_ANSWER:
            raise asking.too_large(MAX_ANSWER, response.status_code)
        pieces.append(piece)
    return b"".join(pieces)


async def _beginning(response: httpx.Response) -> bytes:
    """As much of an error's body as is worth reading; what is there when it breaks off. Closes the response."""
    found = b""
    try:
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) >= MAX_BODY:
                break
    except httpx.HTTPError:
        pass
    finally:
        await response.aclose()
    return found[:MAX_BODY]


def is_error(answer: Any) -> bool:
    """Whether a document that came with a good status is an error after all, as routers send them."""
    return isinstance(answer, dict) and error_facts(answer) is not None


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _kind(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", ""))


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read what follows the end mark, normally nothing: a connection can be used again only after its answer's end."""
    try:
        async with asyncio.timeout(_DRAIN):
            async for _ in pieces:
                pass
    except (TimeoutError, LLMError):
        pass


def _url(provider: str, base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError, ValueError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
        raise ConfigurationError(
            f"{provider}: base_url is no address of an API; give one such as https://api.openai.com/v1",
            provider=provider,
        )
    return url.copy_with(fragment=None)


def _address(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _version() -> str:
    try:
        return version("llm-hub")
    except PackageNotFoundError:
        return "0"
