"""One scenario for the openai SDK's sync and async clients, traced and not, on httpx2 and on httpx."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
from openai import AsyncOpenAI, OpenAI

from hub import traced
from tests.calls_of import ListHub

MODEL = "gpt-4o-mini"
ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is order A-1042?"}]
KINDS = ["sync", "async", "sync httpx", "async httpx"]

Scenario = Callable[[Any], Awaitable[Any]]


def demo(switches: str) -> dict[str, str]:
    """Headers that tell the loopback server to misbehave."""
    return {"x-demo": switches}


async def value(thing: Any) -> Any:
    """What a sync client gives, and what an async one gives in the end."""
    return await thing if inspect.isawaitable(thing) else thing


async def each(stream: Any) -> AsyncIterator[Any]:
    """The items of a sync or async iterable."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


@asynccontextmanager
async def within(manager: Any) -> AsyncIterator[Any]:
    """`with` or `async with`."""
    if hasattr(manager, "__aenter__"):
        async with manager as entered:
            yield entered
    else:
        with manager as entered:
            yield entered


def untraced(kind: str, base_url: str, **settings: Any) -> Any:
    """A client of one of `KINDS`."""
    if kind.endswith("httpx"):
        settings["http_client"] = httpx.AsyncClient() if kind.startswith("async") else httpx.Client()
    else:
        plain = httpx2.AsyncClient if kind.startswith("async") else httpx2.Client
        settings.setdefault("http_client", plain())
    cls = AsyncOpenAI if kind.startswith("async") else OpenAI
    return cls(base_url=base_url, api_key="sk-" + "a1" * 20, **settings)


def play(kind: str, base_url: str, scenario: Scenario, hub: ListHub | None, **settings: Any) -> Any:
    """The scenario's outcome with a new client, traced into *hub* unless that is None; or the exception it raised."""

    async def main() -> Any:
        client = untraced(kind, base_url, **settings)
        try:
            return await scenario(client if hub is None else traced(client, hub=hub))
        except Exception as error:
            return error
        finally:
            await value(client.close())

    return asyncio.run(main())
