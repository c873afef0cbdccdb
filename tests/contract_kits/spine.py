"""spine's messages, protocols and kernel step in the shape of spinekit 0.3.0, which itself needs Python 3.12."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, Field


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(BaseModel):
    id: str
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Message(BaseModel):
    role: Role
    content: str | None = None
    parts: list[dict[str, Any]] | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None

    @classmethod
    def user(cls, content: str) -> Message:
        return cls(role=Role.USER, content=content)

    @classmethod
    def assistant(cls, content: str | None = None, tool_calls: list[ToolCall] | None = None) -> Message:
        return cls(role=Role.ASSISTANT, content=content, tool_calls=tool_calls or [])


class Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class ModelResponse(BaseModel):
    message: Message
    usage: Usage = Field(default_factory=Usage)
    finish_reason: str | None = None
    raw: Any = Field(default=None, exclude=True, repr=False)


class StreamChunk(BaseModel):
    delta: str = ""
    response: ModelResponse | None = None


class ProviderError(Exception): ...


@runtime_checkable
class Provider(Protocol):
    async def complete(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> ModelResponse: ...


@runtime_checkable
class StreamingProvider(Protocol):
    def stream(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> AsyncIterator[StreamChunk]: ...


_factories: dict[str, Callable[[str], Provider]] = {}


def register_provider(scheme: str, factory: Callable[[str], Provider]) -> None:
    _factories[scheme] = factory


def resolve_provider(spec: str | Provider) -> Provider:
    if not isinstance(spec, str):
        if isinstance(spec, Provider):
            return spec
        raise ProviderError(f"{spec!r} is no provider")
    scheme, _, model = spec.partition(":")
    if scheme not in _factories:
        raise ProviderError(f"nobody registered {scheme!r}")
    return _factories[scheme](model)


class ErrorAction(StrEnum):
    RETRY = "retry"
    FAIL = "fail"


class Result(BaseModel):
    answer: str | None = None
    usage: Usage = Field(default_factory=Usage)
    error: str | None = None


class TraceEvent(BaseModel):
    type: str
    data: dict[str, Any] = Field(default_factory=dict)


class Agent:
    """One step of the kernel's loop: how it finds, calls and streams a provider, and asks middleware about errors."""

    def __init__(self, model: str | Provider, *, middleware: Sequence[Any] = ()) -> None:
        self.provider, self.middleware = resolve_provider(model), middleware
        self.last_result: Result | None = None

    async def run(self, input: str) -> Result:
        async for _ in self._step(input, stream_tokens=False):
            pass
        assert self.last_result is not None
        return self.last_result

    async def stream(self, input: str) -> AsyncIterator[TraceEvent]:
        async for event in self._step(input, stream_tokens=True):
            yield event

    async def _step(self, input: str, stream_tokens: bool) -> AsyncIterator[TraceEvent]:
        messages, tools = [Message.user(input)], list[dict[str, Any]]()
        while True:
            try:
                final: ModelResponse | None = None
                if stream_tokens and isinstance(self.provider, StreamingProvider):
                    async for chunk in self.provider.stream(messages, tools):
                        if chunk.delta:
                            yield TraceEvent(type="token", data={"delta": chunk.delta})
                        final = chunk.response or final
                else:
                    final = await self.provider.complete(messages, tools)
                if final is None:
                    raise ProviderError("the stream brought no response")
                break
            except Exception as error:
                if await self._on_error(error) is not ErrorAction.RETRY:
                    self.last_result = Result(error=str(error))
                    return
        self.last_result = Result(answer=final.message.content, usage=final.usage)

    async def _on_error(self, error: Exception) -> ErrorAction:
        for one in self.middleware:
            if (action := await one.on_error(None, error)) is not None:
                return ErrorAction(action)
        return ErrorAction.FAIL


class ScriptedProvider:
    """Gives the answers it was made with, one after the other; a single one again and again."""

    def __init__(self, *responses: ModelResponse) -> None:
        self._responses = list(responses)
        self.calls: list[list[Message]] = []

    def _next(self, messages: list[Message]) -> ModelResponse:
        self.calls.append(list(messages))
        return self._responses[0] if len(self._responses) == 1 else self._responses.pop(0)

    async def complete(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> ModelResponse:
        return self._next(messages)

    async def stream(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> AsyncIterator[StreamChunk]:
        response = self._next(messages)
        for word in (response.message.content or "").split():
            yield StreamChunk(delta=word + " ")
        yield StreamChunk(response=response)
