"""HTTP clients, one for each event loop: a connection belongs to the loop that opened it."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import httpx

from hub.transport import recording_view
from providers.errors import ConfigurationError
from providers.scrubbing import scrubbed

_MANY = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
"""An agent's fan-out is wider than httpx's 100, where the rest would wait for a connection."""


@functools.lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Shared: reading the certificates takes some 20 ms, for each client anew."""
    return httpx.create_ssl_context()


class _Kept(NamedTuple):
    client: httpx.AsyncClient
    keeper: AsyncGenerator[None, None]


class Connections:
    """Gives the client of the running loop, made at its first use; or always the program's own, seen through.

    What goes through them is recorded within traced calls alone. A loop that ends, and a provider that is collected,
    close their connections.
    """

    def __init__(self, provider: str, given: httpx.AsyncClient | None = None) -> None:
        """Raises: ConfigurationError: *given* is no async client of httpx."""
        if given is not None and not isinstance(given, httpx.AsyncClient):
            raise ConfigurationError(
                f"{provider}: http_client is a {type(given).__qualname__}; pass an httpx.AsyncClient", provider=provider
            )
        self._provider = provider
        self._given: Any = None if given is None else self._seen_through(given)
        self._kept: dict[asyncio.AbstractEventLoop, _Kept] = {}
        self._closed = False

    def client(self) -> httpx.AsyncClient:
        """To be used in the running loop only. Raises: ConfigurationError: They were closed."""
        if self._closed or (self._given is not None and self._given.is_closed):
            what = "the provider" if self._closed else "its http_client"
            raise ConfigurationError(f"{self._provider}: {what} was closed; make a new one", provider=self._provider)
        if self._given is not None:
            return self._given  # type: ignore[no-any-return]
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None:
            for other in [other for other in list(self._kept) if other.is_closed()]:
                self._kept.pop(other, None)
            kept = self._kept[loop] = self._keep()
        return kept.client

    async def close(self) -> None:
        """Close what was made here; a client that was given is its owner's."""
        self._closed = True
        here = asyncio.get_running_loop()
        while self._kept:
            loop, kept = self._kept.popitem()
            if loop is here:
                await kept.keeper.aclose()
            elif not loop.is_closed():
                asyncio.run_coroutine_threadsafe(kept.keeper.aclose(), loop)

    def _keep(self) -> _Kept:
        try:
            client = httpx.AsyncClient(limits=_MANY, verify=_trusted())
        except (ImportError, ValueError, OSError) as error:  # what the environment says of proxies and certificates
            raise ConfigurationError(
                f"{self._provider}: no HTTP client can be made ({type(error).__name__}: {scrubbed(str(error))}); see "
                "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR, or pass an http_client of yours",
                provider=self._provider,
            ) from error
        keeper = _close_at_the_end(client)
        try:
            keeper.asend(None).send(None)  # to its yield, in this loop, which from now on knows it
        except StopIteration:
            pass
        return _Kept(self._seen_through(client), keeper)

    def _seen_through(self, client: httpx.AsyncClient) -> httpx.AsyncClient:
        return recording_view(client, None, alone=False, provider=self._provider)  # type: ignore[no-any-return]


async def _close_at_the_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """What a loop closes before it ends, as it does with every generator; or when nobody holds it any more."""
    try:
        yield
    finally:
        await client.aclose()
