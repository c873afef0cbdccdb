"""Providers over httpx in sync, async and streaming form, and what people put around them: routers, caches, retries.

All are in adversarial-debate's shape. A form of the same thing has the same name with Sync in front.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import orjson

from hub import events
from providers.errors import LLMError, ProviderUnavailableError, RateLimitError
from tests.contract_kits.debate import LLMResponse, Message, StreamChunk

Ask = Callable[[], Awaitable[Any]]


def _payload(model: str, messages: Sequence[Message], stream: bool) -> dict[str, Any]:
    payload = {"model": model, "messages": [{"role": one.role, "content": one.content} for one in messages]}
    return {**payload, "stream": True, "stream_options": {"include_usage": True}} if stream else payload


def _checked(answer: httpx.Response, provider: str) -> None:
    if answer.status_code == 429:
        raise RateLimitError("busy", provider=provider, retry_after=0.001, status_code=429)
    if answer.status_code >= 500:
        raise ProviderUnavailableError("down", provider=provider, status_code=answer.status_code)
    if answer.status_code != 200:
        raise LLMError("refused", provider=provider, status_code=answer.status_code)


def _counted(usage: dict[str, int]) -> dict[str, int]:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def _response(data: dict[str, Any]) -> LLMResponse:
    choice = data["choices"][0]
    return LLMResponse(choice["message"]["content"], data["model"], _counted(data["usage"]), choice["finish_reason"])


def _chunk(line: str) -> StreamChunk | None:
    if not line.startswith("data: {"):
        return None
    event = orjson.loads(line[6:])
    if event["usage"]:
        return StreamChunk("", is_final=True, usage=_counted(event["usage"]))
    delta, finish = event["choices"][0]["delta"].get("content") or "", event["choices"][0]["finish_reason"]
    return StreamChunk(delta, finish_reason=finish) if delta or finish else None


class Wire:
    """Asks an OpenAI-compatible server. *retry* goes around each request."""

    def __init__(self, name: str, model: str, client: httpx.AsyncClient, retry: Any = None) -> None:
        self.name, self.model, self.client, self.retry = name, model, client, retry

    async def complete(self, messages: list[Message], *, model: str | None = None) -> LLMResponse:
        if self.retry is None:
            return await self.post(messages, model or self.model)
        answer: LLMResponse = await self.retry(lambda: self.post(messages, model or self.model))
        return answer

    async def post(self, messages: list[Message], model: str) -> LLMResponse:
        answer = await self.client.post("chat/completions", json=_payload(model, messages, False))
        _checked(answer, self.name)
        return _response(answer.json())

    async def stream(self, messages: list[Message], *, model: str | None = None) -> AsyncIterator[StreamChunk]:
        payload = _payload(model or self.model, messages, True)
        async with self.client.stream("POST", "chat/completions", json=payload) as answer:
            _checked(answer, self.name)
            async for line in answer.aiter_lines():
                if (chunk := _chunk(line)) is not None:
                    yield chunk


class SyncWire:
    def __init__(self, name: str, model: str, client: httpx.Client) -> None:
        self.name, self.model, self.client = name, model, client

    def complete(self, messages: list[Message], *, model: str | None = None) -> LLMResponse:
        answer = self.client.post("chat/completions", json=_payload(model or self.model, messages, False))
        _checked(answer, self.name)
        return _response(answer.json())

    def stream(self, messages: list[Message], *, model: str | None = None) -> Iterator[StreamChunk]:
        payload = _payload(model or self.model, messages, True)
        with self.client.stream("POST", "chat/completions", json=payload) as answer:
            _checked(answer, self.name)
            for line in answer.iter_lines():
                if (chunk := _chunk(line)) is not None:
                    yield chunk


class BaseStream:
    """Streams as the base class does: by asking `complete`."""

    name = "openai"

    def __init__(self, inner: Wire) -> None:
        self.inner = inner

    async def complete(self, messages: list[Message], *, model: str | None = None) -> LLMResponse:
        return await self.inner.post(messages, model or self.inner.model)

    async def stream(self, messages: list[Message], *, model: str | None = None) -> AsyncIterator[StreamChunk]:
        whole = await self.complete(messages, model=model)
        yield StreamChunk(whole.content, is_final=True, finish_reason=whole.finish_reason, usage=whole.usage)


Good = Callable[[str], bool]


class Router:
    """Asks one provider after the other until one answers, and answers well."""

    name = "router"

    def __init__(self, inner: Sequence[Any], good: Good = bool) -> None:
        self.inner, self.good = inner, good

    async def complete(self, messages: list[Message]) -> Any:
        for provider in self.inner[:-1]:
            try:
                answer = await provider.complete(messages)
            except LLMError:
                continue
            if self.good(answer.model):
                return answer
        return await self.inner[-1].complete(messages)

    async def stream(self, messages: list[Message]) -> AsyncIterator[StreamChunk]:
        for provider in self.inner[:-1]:
            try:
                chunks = [chunk async for chunk in provider.stream(messages)]
            except LLMError:
                continue
            if self.good(provider.model):
                for chunk in chunks:
                    yield chunk
                return
        async for chunk in self.inner[-1].stream(messages):
            yield chunk


class SyncRouter:
    name = "router"

    def __init__(self, inner: Sequence[Any], good: Good = bool) -> None:
        self.inner, self.good = inner, good

    def complete(self, messages: list[Message]) -> Any:
        for provider in self.inner[:-1]:
            try:
                answer = provider.complete(messages)
            except LLMError:
                continue
            if self.good(answer.model):
                return answer
        return self.inner[-1].complete(messages)


class Cache:
    """Keeps answers by question. *marks*: an answer from the cache is a copy that says so, else the very object."""

    name = "cache"

    def __init__(self, inner: Any, marks: bool) -> None:
        self.inner, self.marks = inner, marks
        self.kept: dict[str, Any] = {}

    async def complete(self, messages: list[Message]) -> Any:
        question = messages[-1].content
        if question not in self.kept:
            self.kept[question] = await self.inner.complete(messages)
            return self.kept[question]
        return self._again(question)

    def _again(self, question: str) -> Any:
        answer = self.kept[question]
        if self.marks:
            answer = replace(answer)
            answer.cached = True
        return answer


class SyncCache(Cache):
    def complete(self, messages: list[Message]) -> Any:
        question = messages[-1].content
        if question not in self.kept:
            self.kept[question] = self.inner.complete(messages)
            return self.kept[question]
        return self._again(question)


class Retrying:
    """Puts *retry* around a provider."""

    name = "retrying"

    def __init__(self, inner: Any, retry: Any) -> None:
        self.inner, self.retry = inner, retry

    async def complete(self, messages: list[Message]) -> Any:
        return await self.retry(lambda: self.inner.complete(messages))


class Emitting:
    """Tells of its calls itself, as Amplifier's providers do."""

    name = "openai"

    def __init__(self, inner: Wire, emit: Callable[..., None]) -> None:
        self.inner, self.emit, self.model = inner, emit, inner.model

    async def complete(self, messages: list[Message]) -> LLMResponse:
        self._asks()
        try:
            answer = await self.inner.post(messages, self.model)
        except LLMError as error:
            self._fails(error)
            raise
        self._answers(answer.usage, model=answer.model, text=answer.content)
        return answer

    async def stream(self, messages: list[Message]) -> AsyncIterator[StreamChunk]:
        self._asks(stream=True)
        usage: dict[str, int] | None = None
        try:
            async for chunk in self.inner.stream(messages):
                usage = chunk.usage or usage
                yield chunk
        except LLMError as error:
            self._fails(error)
            raise
        self._answers(usage)

    def _asks(self, **facts: Any) -> None:
        self.emit(events.LLMRequest(provider=self.name, model=self.model, message_count=1, **facts))

    def _answers(self, usage: Any, **facts: Any) -> None:
        self.emit(events.LLMResponse(status="ok", usage=usage, **facts))

    def _fails(self, error: LLMError) -> None:
        more: Any = {"error": str(error)}
        self.emit(events.LLMResponse(status="error", error_type=type(error).__name__, **more))
