"""Callers of every kind for the tests of what servers do to calls: our provider, a user's own, the openai SDK."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
from openai import OpenAI

from hub import traced
from hub.transport import httpx_client
from providers.config import ProviderConfig
from providers.contract import ChatRequest, ChatResponse, StreamChunk
from providers.errors import LLMError
from providers.openai import OpenAIProvider
from tests.calls_of import ListHub, Seen
from tests.raw_server import Play, RawServer

PATIENCE = 20.0
"""Seconds after which something hangs."""
BRIEF = 0.15
"""Seconds a server may be silent, where a fault is that it is."""
ASK: Any = [{"role": "user", "content": "Hello?"}]
REQUEST = ChatRequest.model_validate({"messages": ASK})


class Sleeps:
    """Waits for nothing, and knows how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@contextmanager
def serving(*plays: Play | None) -> Iterator[tuple[str, RawServer | None]]:
    """A server's address, and the server; one that nobody listens at where a play is None."""
    known = [play for play in plays if play is not None]
    if len(known) < len(plays):
        with RawServer() as gone:
            address = gone.base_url
        yield address, None
        return
    with RawServer(*known) as server:
        yield server.base_url, server


def provider_at(
    address: str,
    *,
    sleep: Any = None,
    max_retries: int = 1,
    timeout: float = BRIEF,
    http_client: httpx.AsyncClient | None = None,
) -> OpenAIProvider:
    extra = {"max_retries": max_retries, "base_delay": 0}
    config = ProviderConfig(api_key="sk-any", base_url=address, model="m-1", timeout=timeout, extra=extra)
    return OpenAIProvider(config, sleep=sleep or Sleeps(), http_client=http_client)


def impatient_once() -> httpx.AsyncClient:
    """A client that gives its first request up after BRIEF, and later ones as late as they say: a good answer has all
    the time that a busy machine may take for it."""
    limits = [BRIEF]

    async def limit(request: httpx.Request) -> None:
        if limits:
            request.extensions["timeout"] = httpx.Timeout(limits.pop()).as_dict()

    return httpx.AsyncClient(verify=False, event_hooks={"request": [limit]})


async def asked(provider: OpenAIProvider, streaming: bool) -> ChatResponse:
    """The response to REQUEST, whichever way it comes."""
    if not streaming:
        return await provider.complete(REQUEST)
    response = (await collected(provider.stream(REQUEST)))[-1].response
    assert response is not None
    return response


def run(main: Awaitable[Any]) -> Any:
    """What *main* gives, or the error of a provider's that it raises; fails where it hangs."""

    async def within() -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                return await main
        except TimeoutError:
            raise AssertionError("it hangs") from None
        except LLMError as error:
            return error

    return asyncio.run(within())


async def collected(stream: AsyncGenerator[StreamChunk, None]) -> list[StreamChunk]:
    return [piece async for piece in stream]


def told(seen: Seen, error: Any) -> None:
    """The call's one terminal event says what its caller saw."""
    assert seen.status == "error"
    assert seen.response["error_type"].endswith(type(error).__qualname__)
    assert seen.error == str(error)
    assert seen.response.get("status_code") == error.status_code or error.status_code is None
    assert seen.response["retryable"] is error.retryable


def ended(seen: Seen, error: BaseException | None, streaming: bool) -> None:
    """The call has one terminal event, and it says whether its caller saw an exception."""
    if error is not None:
        assert seen.status == "error"
        raised = (error, error.__cause__)  # an SDK tells a broken stream in its own words
        kinds = [type(one).__qualname__ for one in raised]
        assert seen.response["error_type"].rpartition(".")[2] in [*kinds, "unreadable_stream"]
    elif seen.status != "ok":
        assert (streaming, seen.response["error_type"]) == (True, "incomplete_stream")


class OwnProvider:
    """A user's own: sync, over a client that records."""

    name = "own"

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def complete(self, messages: Any, *, model: str = "m-1") -> str:
        answer = self._client.post("/chat/completions", json={"model": model, "messages": messages})
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])

    def stream(self, messages: Any, *, model: str = "m-1") -> Iterator[str]:
        body = {"model": model, "messages": messages, "stream": True}
        with self._client.stream("POST", "/chat/completions", json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    yield json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        raise EOFError("no end mark")


class QuickOpenAI(OpenAI):
    """Waits for nothing."""

    def _calculate_retry_timeout(self, *args: Any, **kwargs: Any) -> float:
        return 0.0


def own(address: str, streaming: bool, hub: ListHub | None) -> Any:
    """What a user's own provider gives, traced or not."""
    settings: Any = {"base_url": address, "timeout": BRIEF, "verify": False}  # or each reads the certificates, 40 ms
    with httpx.Client(**settings) if hub is None else httpx_client(hub=hub, **settings) as client:
        provider = OwnProvider(client) if hub is None else traced(OwnProvider(client), hub=hub)
        return list(provider.stream(ASK)) if streaming else provider.complete(ASK)


def sdks(address: str, streaming: bool, hub: ListHub | None) -> Any:
    """What the openai SDK gives, traced or not."""
    http = httpx2.Client(verify=False)
    with QuickOpenAI(base_url=address, api_key="sk-any", max_retries=1, timeout=BRIEF, http_client=http) as untraced:
        client = untraced if hub is None else traced(untraced, hub=hub)
        if streaming:
            return [str(one) for one in client.chat.completions.create(model="m-1", messages=ASK, stream=True)]
        return str(client.chat.completions.create(model="m-1", messages=ASK))


def outcome(call: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    """What a call gives, or the kind and message of what it raises, and that."""
    began = time.monotonic()
    try:
        return call(*args), None
    except Exception as error:
        return (type(error), str(error)), error
    finally:
        assert time.monotonic() - began < PATIENCE, "it hangs"
