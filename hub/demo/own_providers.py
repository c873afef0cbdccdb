"""The shop's own ways to its models: a provider in each contract, as its developers would write it, and the hub's own.

Three contracts because the shop grew: recipes come from an Amplifier module, verdicts from a debate, labels from a
spine agent. Only `hub.traced` and `hub.session` know of the hub.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

import hub
from providers import ChatRequest, ChatResponse, Message, ModelTier, ProviderConfig, TextBlock, Usage, get_provider

MODEL = "kettle-7b"


async def _ask(http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = (await http.post("/chat/completions", json=body)).raise_for_status().json()
    return answer


@hub.traced
class Recipes:
    """Amplifier's contract: a request object, an answer of blocks that names no model."""

    name = "kettle-recipes"
    default_model = MODEL

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        wire = await _ask(self.http, {"model": request.model or self.default_model, "messages": messages})
        said, spent = wire["choices"][0], wire["usage"]
        usage = Usage(
            input_tokens=spent["prompt_tokens"],
            output_tokens=spent["completion_tokens"],
            total_tokens=spent["total_tokens"],
        )
        return ChatResponse(
            content=[TextBlock(text=said["message"]["content"])], usage=usage, finish_reason=said["finish_reason"]
        )


@dataclass
class Opinion:
    content: str
    model: str
    usage: dict[str, int]
    finish_reason: str | None = None


class Debaters:
    """adversarial-debate's contract: messages, a model by tier, an answer that says which model served."""

    name = "openai"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    def get_model_for_tier(self, tier: ModelTier) -> str:
        return {ModelTier.HOSTED_LARGE: "gpt-4o"}.get(tier, "gpt-4o-mini")

    async def complete(
        self, messages: list[dict[str, str]], *, model: str | None = None, temperature: float | None = None
    ) -> Opinion:
        heat = 0.7 if temperature is None else temperature
        body = {"model": model or "gpt-4o-mini", "messages": messages, "temperature": heat}
        wire = await _ask(self.http, body)
        said, spent = wire["choices"][0], wire["usage"]
        usage = {"input_tokens": spent["prompt_tokens"], "output_tokens": spent["completion_tokens"]}
        return Opinion(said["message"]["content"], wire["model"], usage, said["finish_reason"])


@dataclass
class Turn:
    role: str
    content: str


@dataclass
class Spent:
    input_tokens: int
    output_tokens: int
    cost_usd: float = 0.0


@dataclass
class Reply:
    message: Turn
    usage: Spent
    finish_reason: str | None = None
    raw: Any = field(default=None, repr=False)


class Labels:
    """spine's contract: messages and tools by position, an answer without name or model of its own."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http, self.model = http, MODEL

    async def complete(self, messages: list[Turn], tools: Any = None, **kwargs: Any) -> Reply:
        asked = [{"role": message.role, "content": message.content} for message in messages]
        wire = await _ask(self.http, {"model": self.model, "messages": asked})
        said, spent = wire["choices"][0], wire["usage"]
        usage = Spent(spent["prompt_tokens"], spent["completion_tokens"])
        return Reply(Turn("assistant", said["message"]["content"]), usage, said["finish_reason"])


def _request(text: str, **more: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], **more)


async def three_contracts(base_url: str) -> int:
    """Recipes, a debate about them, and their labels."""
    async with httpx.AsyncClient(base_url=base_url) as http, hub.session("menu", tags={"feature": "menu"}):
        recipes, debaters, labels = Recipes(http), hub.traced(Debaters(http)), hub.traced(Labels(http))
        dishes = ("porridge", "green tea", "ramen")
        for dish in dishes:
            await recipes.complete(_request(f"How does one make {dish} with one kettle?"))
            for tier in (ModelTier.HOSTED_SMALL, ModelTier.HOSTED_LARGE):
                model = debaters.get_model_for_tier(tier)
                await debaters.complete([{"role": "user", "content": f"Is {dish} worth it?"}], model=model)
            await labels.complete([Turn("user", f"A label for {dish}, in three words.")])
    return 4 * len(dishes)


def our_provider(base_url: str, **extra: Any) -> Any:
    """The hub's own provider for OpenAI's protocol, pointed at *base_url*."""
    config = ProviderConfig(base_url=base_url, api_key="sk-demo", model="gpt-4o-mini", extra=extra)
    return get_provider("openai", config)


async def opening_hours(base_url: str) -> int:
    """The hub's own provider: a plain answer, a stream, and a server that is too busy at first."""
    provider = hub.traced(our_provider(base_url))
    refused = hub.traced(our_provider(base_url, base_delay=0.01, metadata={"demo": "fail=429 times=1 retry_ms=30"}))
    try:
        with hub.session("opening-hours", tags={"feature": "hours"}):
            await provider.complete(_request("When do you open on Sunday?", temperature=0))
            async for _chunk in provider.stream(_request("And when do you close?")):
                pass
            await refused.complete(_request("And on Monday?"))
    finally:
        await provider.close()
        await refused.close()
    return 3
