"""EchoProvider: the smallest provider of spine, and one that streams too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tests.contract_kits.spine import Message, ModelResponse, StreamChunk, Usage


class EchoProvider:
    async def complete(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> ModelResponse:
        said = messages[-1].content or ""
        return ModelResponse(
            message=Message.assistant(f"You said: {said}"),
            usage=Usage(input_tokens=len(said.split()), output_tokens=2 + len(said.split())),
            finish_reason="stop",
        )


class StreamingEchoProvider(EchoProvider):
    async def stream(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> AsyncIterator[StreamChunk]:
        whole = await self.complete(messages, tools, **kwargs)
        for word in (whole.message.content or "").split(" "):
            yield StreamChunk(delta=word + " ")
        yield StreamChunk(response=whole)
