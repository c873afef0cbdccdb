"""Small providers in the shapes of the three contracts, each in three forms: sync, async and streaming.

They resemble the systems' own in what tracing looks at, and are much smaller.
"""

from __future__ import annotations

import abc
import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from tests.contract_kits.debate import LLMResponse, StreamChunk

ASK = [{"role": "user", "content": "Where is my order?"}]
WORDS = ["It ", "is ", "on ", "its ", "way."]
TEXT = "".join(WORDS)


# adversarial-debate's.


class ModelTier(Enum):
    LOCAL_SMALL = "local_small"
    HOSTED_LARGE = "hosted_large"


@dataclass
class DebateConfig:
    model: str | None = "debate-1"
    temperature: float = 0.7
    max_tokens: int = 4096
    api_key: str | None = "sk-secret"


class DebateBase(abc.ABC):
    def __init__(self, config: DebateConfig | None = None) -> None:
        self.config = config or DebateConfig()

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @abc.abstractmethod
    def complete(self, messages: Sequence[Any], *, model: str | None = None) -> Any: ...

    def get_model_for_tier(self, tier: ModelTier) -> str:
        return f"debate-{tier.value}"


class Debate(DebateBase):
    """Its `stream` is built on `complete`, its `complete_stream` on `stream`."""

    @property
    def name(self) -> str:
        return "debate"

    async def complete(
        self,
        messages: Sequence[Any],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> LLMResponse:
        await asyncio.sleep(0)
        return LLMResponse(TEXT, "debate-1-served", {"input_tokens": 12, "output_tokens": 5}, "stop")

    async def stream(self, messages: Sequence[Any], *, model: str | None = None) -> AsyncIterator[StreamChunk]:
        answer = await self.complete(messages, model=model)
        for word in WORDS:
            yield StreamChunk(word)
        yield StreamChunk("", True, answer.finish_reason, answer.usage)

    async def complete_stream(self, messages: Sequence[Any], **more: Any) -> AsyncIterator[str]:
        async for chunk in self.stream(messages, **more):
            if chunk.content:
                yield chunk.content


class SyncDebate(DebateBase):
    @property
    def name(self) -> str:
        return "debate"

    def complete(self, messages: Sequence[Any], *, model: str | None = None) -> LLMResponse:
        return LLMResponse(TEXT, "debate-1-served", {"input_tokens": 12, "output_tokens": 5}, "stop")

    def stream(self, messages: Sequence[Any], *, model: str | None = None) -> Iterator[StreamChunk]:
        answer = self.complete(messages, model=model)
        for word in WORDS:
            yield StreamChunk(word)
        yield StreamChunk("", True, answer.finish_reason, answer.usage)


# spine's.


class Role(Enum):
    USER = "user"
    ASSISTANT = "assistant"


class SpineMessage(BaseModel):
    role: Role
    content: str | None = None
    tool_calls: list[Any] = Field(default_factory=list)


class SpineUsage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class SpineResponse(BaseModel):
    message: SpineMessage
    usage: SpineUsage = Field(default_factory=SpineUsage)
    finish_reason: str | None = None


class SpineChunk(BaseModel):
    delta: str = ""
    response: SpineResponse | None = None


def spine_answer() -> SpineResponse:
    usage = SpineUsage(input_tokens=12, output_tokens=5)
    return SpineResponse(message=SpineMessage(role=Role.ASSISTANT, content=TEXT), usage=usage, finish_reason="stop")


@runtime_checkable
class SpineProvider(Protocol):
    async def complete(self, messages: list[Any], tools: list[Any] | None = None, **kwargs: Any) -> Any: ...


@runtime_checkable
class SpineStreaming(Protocol):
    def stream(self, messages: list[Any], tools: list[Any] | None = None, **kwargs: Any) -> AsyncIterator[Any]: ...


class SpineEcho:
    def __init__(self, model: str = "spine-1") -> None:
        self.model = model

    async def complete(self, messages: list[Any], tools: list[Any] | None = None, **kwargs: Any) -> SpineResponse:
        await asyncio.sleep(0)
        return spine_answer()


class Spine(SpineEcho):
    async def stream(
        self, messages: list[Any], tools: list[Any] | None = None, **kwargs: Any
    ) -> AsyncIterator[SpineChunk]:
        for word in WORDS:
            await asyncio.sleep(0)
            yield SpineChunk(delta=word)
        yield SpineChunk(response=spine_answer())


class SyncSpine:
    def __init__(self) -> None:
        self.model = "spine-1"

    def complete(self, messages: list[Any], tools: list[Any] | None = None, **kwargs: Any) -> SpineResponse:
        return spine_answer()

    def stream(self, messages: list[Any], tools: list[Any] | None = None) -> Iterator[SpineChunk]:
        for word in WORDS:
            yield SpineChunk(delta=word)
        yield SpineChunk(response=spine_answer())


# Amplifier's, whose contract ours is too.


class TextBlock(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["text"] = "text"
    text: str


class ToolCallBlock(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    input: dict[str, Any]


class ToolCall(BaseModel):
    id: str
    name: str
    arguments: dict[str, Any]


class AmplifierMessage(BaseModel):
    role: str
    content: str | list[Any]


class ChatRequest(BaseModel):
    model_config = ConfigDict(extra="allow")
    messages: list[AmplifierMessage]
    tools: list[Any] | None = None
    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    stream: bool = False
    conversation_id: str | None = None


class AmplifierUsage(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_write_tokens: int | None = None
    cost_usd: Decimal | None = None


class ChatResponse(BaseModel):
    model_config = ConfigDict(extra="allow")
    content: list[Any]
    tool_calls: list[Any] | None = None
    usage: AmplifierUsage | None = None
    finish_reason: str | None = None
    metadata: dict[str, Any] | None = None


def amplifier_request(**more: Any) -> ChatRequest:
    return ChatRequest(messages=[AmplifierMessage.model_validate(one) for one in ASK], **more)


def amplifier_answer(**more: Any) -> ChatResponse:
    usage = AmplifierUsage(input_tokens=12, output_tokens=5, total_tokens=17)
    return ChatResponse(content=[TextBlock(text=TEXT)], usage=usage, finish_reason="stop", **more)


@dataclass
class Settings:
    default_model: str = "amplifier-1"
    values: dict[str, Any] = field(default_factory=dict)


class Amplifier:
    def __init__(self, config: dict[str, Any] | None = None, **kept: Any) -> None:
        self.config = {"default_model": "amplifier-1", "api_key": "sk-secret", **(config or {})}
        self.coordinator: Any = None

    @property
    def name(self) -> str:
        return "amplifier"

    def get_info(self) -> dict[str, Any]:
        return {"id": self.name}

    async def list_models(self) -> list[dict[str, Any]]:
        return []

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        await asyncio.sleep(0)
        return amplifier_answer()

    def stream(self, request: ChatRequest, **kwargs: Any) -> AsyncIterator[SpineChunk]:
        """A plain function that returns an async generator."""
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[Any]:
        for word in WORDS:
            yield SpineChunk(delta=word)
        yield FinalChunk(delta="", response=amplifier_answer())

    def parse_tool_calls(self, response: ChatResponse) -> list[Any]:
        return response.tool_calls or []


class FinalChunk(BaseModel):
    delta: str
    response: ChatResponse


class SyncAmplifier:
    def __init__(self) -> None:
        self.name = "amplifier"
        self.config = Settings()

    def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        return amplifier_answer()

    def stream(self, request: ChatRequest, **kwargs: Any) -> Iterator[Any]:
        return self._chunks()

    def _chunks(self) -> Iterator[Any]:
        for word in WORDS:
            yield SpineChunk(delta=word)
        yield FinalChunk(delta="", response=amplifier_answer())


@dataclass(frozen=True)
class Shape:
    """One contract in one form, and what is known of its calls."""

    name: str
    make: Any
    """The provider's class."""
    ask: Callable[[], Any]
    method: str
    provider: str
    model: str

    def __str__(self) -> str:
        return self.name


_CONTRACTS: dict[str, tuple[Callable[[], Any], str, str, Any, Any]] = {
    "amplifier": (amplifier_request, "amplifier", "amplifier-1", SyncAmplifier, Amplifier),
    "debate": (lambda: ASK, "debate", "debate-1", SyncDebate, Debate),
    "spine": (lambda: ASK, "", "spine-1", SyncSpine, Spine),
}
SHAPES = [
    Shape(f"{contract} {form}", cls, ask, method, provider, model)
    for contract, (ask, provider, model, sync, async_) in _CONTRACTS.items()
    for form, cls, method in (
        ("sync", sync, "complete"),
        ("async", async_, "complete"),
        ("sync stream", sync, "stream"),
        ("async stream", async_, "stream"),
    )
]


def fresh(cls: Any) -> Any:
    """A class like *cls* that a test may change."""
    return type(cls)(
        cls.__name__, cls.__bases__, {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    )


def drained(result: Any) -> Any:
    """What a call came to: its answer, or all chunks of its stream."""
    if inspect.isasyncgen(result) or inspect.iscoroutine(result):
        return asyncio.run(_drained(result))
    return list(result) if inspect.isgenerator(result) else result


async def _drained(result: Any) -> Any:
    if inspect.iscoroutine(result):
        result = await result
    return [chunk async for chunk in result] if inspect.isasyncgen(result) else result
