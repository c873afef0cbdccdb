"""StreamingProvider: server-sent events over aiohttp, as plain strings and as chunks, in adversarial-debate's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from tests.contract_kits.debate import LLMProvider, LLMResponse, Message, ModelTier, StreamChunk


class StreamingProvider(LLMProvider):
    @property
    def name(self) -> str:
        return "streaming"

    @property
    def supports_streaming(self) -> bool:
        return True

    def _default_model(self) -> str:
        return "gpt-4o-mini"

    def get_model_for_tier(self, tier: ModelTier) -> str:
        return self._default_model()

    async def complete(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> LLMResponse:
        texts, usage, finish, served = [], None, None, ""
        async for event in self._events(messages, model, temperature, max_tokens):
            served, usage = event["model"], event.get("usage") or usage
            for choice in event["choices"]:
                texts.append(choice["delta"].get("content") or "")
                finish = choice["finish_reason"] or finish
        return LLMResponse("".join(texts), served, _counted(usage), finish_reason=finish)

    async def stream(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> AsyncIterator[StreamChunk]:
        usage, finish = None, None
        async for event in self._events(messages, model, temperature, max_tokens):
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                finish = choice["finish_reason"] or finish
                if text := choice["delta"].get("content"):
                    yield StreamChunk(text)
        yield StreamChunk("", is_final=True, finish_reason=finish, usage=_counted(usage))

    async def complete_stream(self, messages: list[Message], **kwargs: Any) -> AsyncIterator[str]:
        async for event in self._events(messages, kwargs.get("model"), kwargs.get("temperature"), None):
            for choice in event["choices"]:
                if text := choice["delta"].get("content"):
                    yield text

    async def _events(
        self, messages: list[Message], model: str | None, temperature: float | None, max_tokens: int | None
    ) -> AsyncIterator[dict[str, Any]]:
        asked, warmth, most = self._resolve_params(model, temperature, max_tokens)
        payload = {
            "model": asked,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "temperature": warmth,
            "max_tokens": most,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.config.base_url}/chat/completions", json=payload) as response,
        ):
            async for line in response.content:
                if line.startswith(b"data: {"):
                    yield orjson.loads(line[6:])


def _counted(usage: dict[str, int] | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
