"""Our own providers, traced: what the wire said is what the views say, and they are providers as before."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from amplifier_core import message_models as amplifier
from amplifier_core.testing import create_test_coordinator

from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches
from providers import (
    ChatRequest,
    ChatResponse,
    HasTiers,
    LLMError,
    Message,
    ModelTier,
    Provider,
    ProviderConfig,
    get_provider,
    register_provider,
)
from providers.mock import MockProvider
from providers.openai import OpenAIProvider
from tests.contract_kits.book import Book, book, spent

REQUEST = ChatRequest(messages=[Message(role="user", content="Where is order A-1042?")], temperature=0.2)
QUICK = {"base_delay": 0.001}


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Book]:
    with book(tmp_path) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


async def ask(provider: Any, form: str, request: Any = REQUEST, **changes: Any) -> Any:
    try:
        if form == "complete":
            return await provider.complete(request, **changes)
        return [chunk async for chunk in provider.stream(request, **changes)][-1].response
    finally:
        await provider.close()


def made(seen: Book, server: LoopbackServer, **config: Any) -> Any:
    extra = {**QUICK, **config.pop("extra", {})}
    settings = ProviderConfig(base_url=server.base_url, api_key="key", extra=extra, **config)
    return seen.hub.traced(get_provider("openai:gpt-4o-mini", settings))


@pytest.mark.parametrize("form", ["complete", "stream"])
@pytest.mark.parametrize("failures", [0, 2])
def test_a_call_has_the_servers_attempts_tokens_and_cost(
    form: str, failures: int, seen: Book, server: LoopbackServer
) -> None:
    server.usual = lambda number, model: Switches(fail=429, retry_ms=1) if number <= failures else Switches()
    answer = asyncio.run(ask(made(seen, server, max_tokens=64), form))
    call = seen.call
    assert isinstance(answer, ChatResponse)
    assert (call["provider"], call["request_model"]) == ("openai", "gpt-4o-mini")
    assert (call["response_model"], call["response_id"]) == (answer.model, answer.id)
    assert (call["input_tokens"], call["output_tokens"]) == spent(server)
    assert call["cost_nanos"] == call["input_tokens"] * 150 + call["output_tokens"] * 600
    assert call["attempts"] == len(seen.attempts) == server.served().requests == failures + 1
    assert [row["status_code"] for row in seen.attempts] == [429] * failures + [200]
    assert seen.answers == [answer.text]
    assert (call["stream"], call["status_code"]) == (form == "stream", 200)
    assert form == "complete" or 0 < call["ttft_ms"] <= call["duration_ms"]
    assert orjson.loads(call["params"])["temperature"] == 0.2
    assert orjson.loads(call["params"])["max_tokens"] == 64


@pytest.mark.parametrize("form", ["complete", "stream"])
def test_a_call_that_is_given_up_has_every_attempt_and_no_tokens(form: str, seen: Book, server: LoopbackServer) -> None:
    server.usual = lambda number, model: Switches(fail=503)
    with pytest.raises(LLMError) as caught:
        asyncio.run(ask(made(seen, server, extra={"max_retries": 1}), form))
    call = seen.call
    assert (call["status"], call["status_code"], call["input_tokens"]) == ("error", 503, None)
    assert call["attempts"] == server.served().requests == 2
    assert caught.value.retryable


@pytest.mark.parametrize("form", ["complete", "stream"])
def test_untraced_it_records_nothing(form: str, seen: Book, server: LoopbackServer) -> None:
    settings = ProviderConfig(base_url=server.base_url, api_key="key")
    asyncio.run(ask(get_provider("openai", settings), form))
    assert seen.calls == []


def test_the_tier_that_gave_the_model_is_recorded(seen: Book, server: LoopbackServer) -> None:
    async def main() -> None:
        provider = made(seen, server)
        await ask(provider, "complete", model=provider.get_model_for_tier(ModelTier.HOSTED_LARGE))

    asyncio.run(main())
    assert (seen.call["tier"], seen.call["request_model"]) == ("hosted_large", "gpt-5")


@pytest.mark.parametrize("make", [MockProvider, lambda: OpenAIProvider(ProviderConfig(api_key="k"))])
def test_a_traced_provider_is_still_one(make: Any, seen: Book) -> None:
    plain = make()
    provider = seen.hub.traced(plain)
    assert isinstance(provider, Provider)
    assert isinstance(provider, HasTiers)
    assert isinstance(provider, type(plain))
    assert (provider.name, provider.config, provider.get_info()) == (plain.name, plain.config, plain.get_info())
    assert isinstance(copy.copy(provider), type(plain))


def test_a_class_that_is_traced_and_registered_is_found_by_its_name(seen: Book) -> None:
    traced: Any = seen.hub.traced(type("Registered", (MockProvider,), {}))
    undo = register_provider("kettle", traced)
    try:
        provider = get_provider("kettle:kettle-7b")
        answer = asyncio.run(ask(provider, "complete"))
    finally:
        undo()
    assert seen.answers == [answer.text]
    assert seen.call["request_model"] == "kettle-7b"
    (request,) = seen.events("llm:request")
    assert orjson.loads(request["data"])["from_config"] == ["model"]


def test_amplifier_may_mount_one_and_send_it_requests_of_its_own(seen: Book) -> None:
    provider = seen.hub.traced(MockProvider(answers=["It was sent today."]))
    coordinator = create_test_coordinator()
    asked = amplifier.ChatRequest(messages=[amplifier.Message(role="user", content="Where is it?")], temperature=0.5)

    async def main() -> Any:
        await coordinator.mount("providers", provider, name="mock")
        return await coordinator.get("providers", "mock").complete(asked)

    answer = asyncio.run(main())
    assert amplifier.ChatResponse.model_validate(answer.model_dump()).content[0].text == "It was sent today."
    assert seen.answers == ["It was sent today."]
    assert orjson.loads(seen.call["params"]) == {"temperature": 0.5}
