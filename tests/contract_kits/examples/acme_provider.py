"""AcmeProvider over aiohttp, with retries of its own, in the shape of adversarial-debate's page on extending."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp

from tests.contract_kits.debate import (
    DocumentedProvider,
    LLMResponse,
    Message,
    ModelTier,
    ProviderConfig,
    ProviderError,
    ProviderRateLimitError,
)

T = TypeVar("T")


async def with_retry(
    func: Callable[[], Awaitable[T]], max_retries: int = 3, base_delay: float = 1.0, max_delay: float = 60.0
) -> T:
    for attempt in range(max_retries - 1):
        try:
            return await func()
        except ProviderRateLimitError as limited:
            wait = limited.retry_after_seconds
            await asyncio.sleep(min(base_delay * 2**attempt, max_delay) if wait is None else wait)
    return await func()


class AcmeProvider(DocumentedProvider):
    DEFAULT_BASE_URL = "https://api.acme.invalid/v1"
    MODELS: dict[ModelTier, str] = {ModelTier.HOSTED_LARGE: "gpt-4o", ModelTier.HOSTED_SMALL: "gpt-4o-mini"}  # noqa: RUF012

    def __init__(self, config: ProviderConfig | None = None) -> None:
        super().__init__(config)
        self.base_url = self.config.base_url or self.DEFAULT_BASE_URL
        if not self.config.api_key:
            raise ValueError("ACME_API_KEY is required")

    def get_model_for_tier(self, tier: ModelTier) -> str:
        return self.config.model or self.MODELS.get(tier, "gpt-4o")

    async def complete(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> LLMResponse:
        payload: dict[str, Any] = {
            "model": model or self.config.model or "gpt-4o",
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "temperature": self.config.temperature if temperature is None else temperature,
            "max_tokens": max_tokens or self.config.max_tokens,
        }
        if json_mode:
            payload["response_format"] = {"type": "json_object"}
        tries = self.config.extra.get("max_retries", 3)
        return await with_retry(lambda: self._post(payload), max_retries=tries, base_delay=0.01)

    async def _post(self, payload: dict[str, Any]) -> LLMResponse:
        async with (
            aiohttp.ClientSession(headers={"authorization": f"Bearer {self.config.api_key}"}) as session,
            session.post(
                f"{self.base_url}/chat/completions",
                json=payload,
                timeout=aiohttp.ClientTimeout(total=self.config.timeout),
            ) as response,
        ):
            if response.status == 429:
                wait = float(response.headers.get("retry-after-ms", 1000)) / 1000
                raise ProviderRateLimitError("Acme is busy", retry_after_seconds=wait, provider_name="acme")
            if response.status != 200:
                raise ProviderError(f"Acme said {response.status}: {await response.text()}", provider_name="acme")
            data = await response.json()
        choice, usage = data["choices"][0], data["usage"]
        return LLMResponse(
            content=choice["message"]["content"],
            model=data["model"],
            usage={"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
            finish_reason=choice["finish_reason"],
            raw_response=data,
        )


PROVIDERS: dict[str, type[DocumentedProvider]] = {"acme": AcmeProvider}


def get_provider(name: str, config: ProviderConfig | None = None) -> DocumentedProvider:
    return PROVIDERS[name](config)
