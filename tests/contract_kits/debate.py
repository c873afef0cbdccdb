"""The provider contract of adversarial-debate 0.2.0, in the shape of its documents. It is not on PyPI: the package of
that name there is another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ModelTier(StrEnum):
    LOCAL_SMALL = "local_small"
    HOSTED_SMALL = "hosted_small"
    HOSTED_LARGE = "hosted_large"


@dataclass
class Message:
    role: str
    content: str


@dataclass
class ProviderConfig:
    api_key: str | None = None
    base_url: str | None = None
    model: str | None = None
    temperature: float = 0.7
    max_tokens: int = 4096
    timeout: float = 120.0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class LLMResponse:
    content: str
    model: str
    usage: dict[str, int]
    finish_reason: str | None = None
    raw_response: Any = None


@dataclass
class StreamChunk:
    content: str
    is_final: bool = False
    finish_reason: str | None = None
    usage: dict[str, int] | None = None


class ProviderError(Exception):
    def __init__(self, message: str, *, provider_name: str | None = None) -> None:
        super().__init__(message)
        self.provider_name = provider_name


class ProviderRateLimitError(ProviderError):
    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after_seconds = retry_after_seconds


class ProviderConnectionError(ProviderError): ...


class ProviderAuthenticationError(ProviderError): ...


class DocumentedProvider(ABC):
    """The base class as the page on extending shows it: two abstract methods, and no name."""

    def __init__(self, config: ProviderConfig | None = None) -> None:
        self.config = config or ProviderConfig()

    @abstractmethod
    async def complete(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> LLMResponse: ...

    @abstractmethod
    def get_model_for_tier(self, tier: ModelTier) -> str: ...


class LLMProvider(DocumentedProvider):
    """The base class as the package has it: four abstract members, and a stream made of `complete`."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def _default_model(self) -> str: ...

    @property
    def supports_streaming(self) -> bool:
        return False

    async def stream(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncIterator[StreamChunk]:
        whole = await self.complete(messages, model=model, temperature=temperature, max_tokens=max_tokens)
        yield StreamChunk(whole.content, is_final=True, finish_reason=whole.finish_reason, usage=whole.usage)

    def _resolve_params(
        self, model: str | None, temperature: float | None, max_tokens: int | None
    ) -> tuple[str, float, int]:
        config = self.config
        return (
            model or config.model or self._default_model(),
            config.temperature if temperature is None else temperature,
            config.max_tokens if max_tokens is None else max_tokens,
        )


class MockProvider(LLMProvider):
    """Answers from a script, whatever model is asked for, and counts no tokens."""

    def __init__(self, config: ProviderConfig | None = None, answers: Sequence[str] = ("Mock answer.",)) -> None:
        super().__init__(config)
        self.answers, self.asked = answers, 0

    @property
    def name(self) -> str:
        return "mock"

    def _default_model(self) -> str:
        return "mock-1"

    def get_model_for_tier(self, tier: ModelTier) -> str:
        return "mock-1"

    async def complete(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> LLMResponse:
        self.asked += 1
        said = self.answers[(self.asked - 1) % len(self.answers)]
        return LLMResponse(said, self._default_model(), {"input_tokens": 0, "output_tokens": 0}, finish_reason="stop")


PROVIDERS: dict[str, type[DocumentedProvider]] = {"mock": MockProvider}


def get_provider(name: str, config: ProviderConfig | None = None) -> DocumentedProvider:
    if name not in PROVIDERS:
        raise ValueError(f"Unknown provider: {name}")
    return PROVIDERS[name](config)


def list_providers() -> list[str]:
    return sorted(PROVIDERS)
