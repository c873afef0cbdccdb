"""MyProvider: a module for Amplifier, in the shape of its provider contract; get_info and list_models give dicts, as
older documents have it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
from amplifier_core.message_models import ChatRequest, ChatResponse, TextBlock, ToolCall, ToolCallBlock, Usage


class MyProvider:
    def __init__(self, api_key: str, config: dict[str, Any] | None = None, coordinator: Any = None) -> None:
        self.config = config or {}
        self.coordinator = coordinator
        self.default_model = self.config.get("default_model", "gpt-4o-mini")
        self.client = httpx.AsyncClient(
            base_url=self.config.get("base_url", ""), headers={"authorization": f"Bearer {api_key}"}
        )

    @property
    def name(self) -> str:
        return "my-provider"

    def get_info(self) -> dict[str, Any]:
        return {"id": "my-provider", "display_name": "My Provider", "credential_env_vars": ["MY_API_KEY"]}

    async def list_models(self) -> list[dict[str, Any]]:
        return [{"id": "gpt-4o-mini", "display_name": "Small", "context_window": 128_000, "max_output_tokens": 16_384}]

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        asked = {
            "model": kwargs.get("model") or request.model or self.default_model,
            "messages": [{"role": one.role, "content": _text(one.content)} for one in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_output_tokens or self.config.get("max_tokens"),
            "tools": [{"type": "function", "function": tool.model_dump()} for tool in request.tools or ()],
        }
        answer = await self.client.post("/chat/completions", json={k: v for k, v in asked.items() if v})
        answer.raise_for_status()
        return _response(answer.json())

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        return response.tool_calls or []


def _text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(block.text for block in content if block.type == "text")


def _response(answer: dict[str, Any]) -> ChatResponse:
    choice, usage = answer["choices"][0], answer["usage"]
    said = choice["message"]
    calls = [
        {"id": call["id"], "name": call["function"]["name"], "input": {"order": "A-1042"}}
        for call in said.get("tool_calls") or ()
    ]
    spent = usage["prompt_tokens"], usage["completion_tokens"]
    return ChatResponse(
        content=[TextBlock(text=said["content"])] if said["content"] else [ToolCallBlock(**call) for call in calls],
        tool_calls=[ToolCall(id=call["id"], name=call["name"], arguments=call["input"]) for call in calls] or None,
        usage=Usage(
            input_tokens=spent[0],
            output_tokens=spent[1],
            total_tokens=sum(spent),
            cost_usd=Decimal(spent[0]) * Decimal("3e-6") + Decimal(spent[1]) * Decimal("15e-6"),
        ),
        finish_reason=choice["finish_reason"],
    )


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Callable[[], Awaitable[None]] | None:
    config = config or {}
    api_key = config.get("api_key") or os.environ.get("MY_API_KEY")
    if not api_key:
        return None
    provider = MyProvider(api_key, config, coordinator)
    await coordinator.mount("providers", provider, name="my-provider")

    async def cleanup() -> None:
        await provider.client.aclose()

    return cleanup
