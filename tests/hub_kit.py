"""A whole hub on a SQLite file of its own, and traffic of every kind to send through it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx  # noqa: F401  # the openai SDK breaks where it meets one that is half imported, as a finaliser may
import openai

import hub as api
from hub.demo.server import LoopbackServer
from hub.runtime import Hub

MODEL = "gpt-4o-mini"
KEY = "sk-" + "a1" * 20
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "find_order",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
    },
}


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Hub]:
    """A hub that keeps its calls in `folder/calls.db`, and its spool beside it."""
    started = Hub(**{"db_url": str(store_path(folder)), "spool_dir": folder / "spool", "project": "shop", **settings})
    try:
        yield started
    finally:
        started.shutdown()


def store_path(folder: Path) -> Path:
    return folder / "calls.db"


def select(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """What *sql* gives on the store in *folder*."""
    with closing(sqlite3.connect(store_path(folder))) as connection:
        return connection.execute(sql).fetchall()


def ask(text: str) -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def demo(switches: str) -> dict[str, str]:
    """Headers that tell the loopback server to misbehave."""
    return {"x-demo": switches}


class RateLimited(api.Event, type="kit:rate_limited"):
    """A typed event of the program's own."""

    retry_after_ms: float
    bucket: str | None = None


class Traffic:
    """Calls of every kind the hub traces, made against a loopback server."""

    def __init__(self, hub: Hub, server: LoopbackServer) -> None:
        self.hub, self.server = hub, server
        self.left_open: list[Any] = []

    def everything(self) -> None:
        """Some thirty calls. One stays open: `left_open` holds it."""
        with openai.OpenAI(base_url=self.server.base_url, api_key=KEY) as plain:
            client = self.hub.traced(plain)
            self._sdk(client)
            self._sdk_in_trouble(client)
            self._agent(client)
            self._twice_recorded()
        asyncio.run(self._async())
        self._functions()
        self.left_open.append(self._generator()(ask("Never finished")))
        next(self.left_open[-1])

    def _sdk(self, client: Any) -> None:
        completions = client.chat.completions
        with api.session("chat-1", user_id="u1", tags={"feature": "search", "n": 1}):
            completions.create(model=MODEL, messages=ask("Hello"), temperature=0.2, seed=7, stop=["END"], top_p=0.9)
            with completions.create(model=MODEL, messages=ask("Stream"), stream=True) as chunks:
                list(chunks)
            usage: Any = {"include_usage": True}
            list(completions.create(model=MODEL, messages=ask("Usage"), stream=True, stream_options=usage))
        client.responses.create(
            model="gpt-5-mini", input="Think", reasoning={"effort": "low"}, instructions="Be brief."
        )
        client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        client.chat.completions.create(model="acme-unpriced-1", messages=ask("No price"))
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 100}}
        parts: Any = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
        completions.create(model=MODEL, messages=parts, max_completion_tokens=8)

    def _sdk_in_trouble(self, client: Any) -> None:
        create = client.chat.completions.create
        create(model=MODEL, messages=ask("Again"), extra_headers=demo("fail=429 times=1 retry_ms=3"))
        for switches, options in (("fail=500 retry_ms=1", {}), ("fail=400", {}), ("cut=3", {"stream": True})):
            with suppress(Exception):
                list(create(model=MODEL, messages=ask(switches), extra_headers=demo(switches), **options))
        list(create(model=MODEL, messages=ask("Early"), stream=True, extra_headers=demo("end_early=2")))
        with create(model=MODEL, messages=ask("Let go"), stream=True, extra_headers=demo("chunks=40")) as chunks:
            next(iter(chunks))

    def _agent(self, client: Any) -> None:
        messages = ask("Where is order A-1042?")
        with api.session("agent-1", user_id="u2"):
            said = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
            messages.append(said.model_dump(exclude_none=True))
            for call in said.tool_calls:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"state": "sent"}'})
            client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
            self.hub.emit(RateLimited(retry_after_ms=3000.0))

    def _twice_recorded(self) -> None:
        """A function whose client is recorded too, in a thread that knows nothing of the function's call."""
        recording: Any = api.httpx_client(hub=self.hub)
        client = openai.OpenAI(base_url=self.server.base_url, api_key=KEY, http_client=recording)
        answers: list[Any] = []

        @self.hub.traced(provider="openai", model=MODEL)
        def in_a_thread(messages: list[Any]) -> Any:
            def work() -> None:
                answers.append(client.chat.completions.create(model=MODEL, messages=messages))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return answers[-1]

        with client:
            in_a_thread(ask("Counted once"))

    async def _async(self) -> None:
        async with openai.AsyncOpenAI(base_url=self.server.base_url, api_key=KEY, max_retries=1) as plain:
            create = self.hub.traced(plain).chat.completions.create

            async def streamed(number: int) -> None:
                with api.session(f"async-{number}"):
                    async for _ in await create(model=MODEL, messages=ask(f"Async {number}"), stream=True):
                        pass

            await asyncio.gather(*(streamed(number) for number in range(4)))
            await create(model=MODEL, messages=ask("Reset"), extra_headers=demo("reset times=1 retry_ms=1"))
            slow = asyncio.create_task(create(model=MODEL, messages=ask("Too slow"), extra_headers=demo("latency=5")))
            await asyncio.sleep(0.1)
            slow.cancel()
            with suppress(asyncio.CancelledError):
                await slow

        @self.hub.traced(provider="acme", model="acme-1")
        async def chunks(messages: list[Any]) -> AsyncIterator[str]:
            for word in ("so", "it", "goes"):
                yield word

        async for _ in chunks(ask("An async generator")):
            pass

    def _generator(self) -> Any:
        @self.hub.traced(provider="acme", model="acme-1")
        def words(messages: list[Any]) -> Iterator[str]:
            yield from ("one", "two", "three")

        return words

    def _functions(self) -> None:
        traced = self.hub.traced

        @traced(provider="openai", model="gpt-4o")
        def answer(messages: list[Any], temperature: float = 0.5) -> dict[str, Any]:
            self.hub.emit("kit:cache_miss", key="k-1", nested={"tried": [1, 2]})
            self.hub.emit(RateLimited(retry_after_ms=1.5, bucket="tokens"))
            usage = {"prompt_tokens": 12, "completion_tokens": 5}
            message = {"role": "assistant", "content": "Yes."}
            choice = {"message": message, "finish_reason": "stop"}
            return {"id": "resp-1", "model": "gpt-4o-2024-08-06", "choices": [choice], "usage": usage}

        @traced(provider="router", model="any")
        def router(messages: list[Any]) -> Any:
            with suppress(ValueError):
                broken(messages)
            return answer(messages)

        @traced(provider="acme", model="acme-1")
        def broken(messages: list[Any]) -> str:
            raise ValueError("the model is on fire")

        answer(ask("A function"))
        router(ask("Through a router"))
        with suppress(ValueError):
            broken(ask("Fails"))
        list(self._generator()(ask("A generator")))
        with self.hub.call(provider="bedrock", model="m-1", messages=ask("By hand"), params={"seed": 1}) as call:
            call.response("Fine.", usage={"input_tokens": 12, "output_tokens": 3}, cost_usd="0.0125", response_id="r-9")
        self.hub.emit("kit:outside", word="nobody's")
