"""adversarial-debate's providers as its documents show them, with one line of `traced` added."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches
from tests.contract_kits import debate
from tests.contract_kits.book import Book, book, spent
from tests.contract_kits.debate import LLMProvider, Message, MockProvider, ModelTier, ProviderConfig
from tests.contract_kits.examples.streaming_provider import StreamingProvider
from tests.contract_kits.loading import example

ASK = [Message("system", "Be brief."), Message("user", "Where is order A-1042?")]
RATE_LIMITED = "tests.contract_kits.debate.ProviderRateLimitError"
WAYS = ["class", "instance", "factory"]


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Book]:
    with book(tmp_path) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


def acme(way: str, seen: Book, server: LoopbackServer, **config: Any) -> Any:
    """AcmeProvider with one line added: above the class, around an instance, or around what the factory gives."""
    settings = ProviderConfig(api_key="key", base_url=server.base_url, **config)
    if way == "class":
        return example("acme_provider", traced=seen.hub.traced, above="class AcmeProvider").AcmeProvider(settings)
    module = example("acme_provider")
    made = module.AcmeProvider(settings) if way == "instance" else module.get_provider("acme", settings)
    return seen.hub.traced(made)


def busy(times: int) -> Any:
    """The first *times* requests are told to come again."""
    return lambda number, model: Switches(fail=429, retry_ms=1) if number <= times else Switches()


@pytest.mark.parametrize("way", WAYS)
def test_acme_is_recorded_with_what_it_was_asked_and_what_the_server_said(
    way: str, seen: Book, server: LoopbackServer
) -> None:
    answer = asyncio.run(acme(way, seen, server).complete(ASK, model="gpt-4o-mini", temperature=0.0, max_tokens=50))
    call = seen.call
    assert (call["request_model"], call["response_model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (call["input_tokens"], call["output_tokens"]) == spent(server)
    assert (call["status"], call["attempts"], call["finish_reason"]) == ("ok", 1, "stop")
    assert orjson.loads(call["params"]) == {"temperature": 0.0, "max_tokens": 50, "json_mode": False}
    assert seen.answers == [answer.content]
    assert call["message_count"] == 2
    assert call["has_system"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_provider_without_a_name_has_its_class_name(way: str, seen: Book, server: LoopbackServer) -> None:
    asyncio.run(acme(way, seen, server).complete(ASK))
    assert seen.call["provider"] == "AcmeProvider"


@pytest.mark.parametrize(
    ("provider", "model", "prices"),
    [("openai", "gpt-4o-mini", (150, 600)), (None, "gpt-4o-mini", (150, 600)), (None, "acme-1", None)],
)
def test_a_vendors_model_has_its_price_under_any_name(
    provider: str | None, model: str, prices: tuple[int, int] | None, seen: Book, server: LoopbackServer
) -> None:
    traced = seen.hub.traced(acme_class()(config(server)), provider=provider)
    asyncio.run(traced.complete(ASK, model=model))
    call = seen.call
    expected = None if prices is None else call["input_tokens"] * prices[0] + call["output_tokens"] * prices[1]
    assert call["cost_nanos"] == expected


@pytest.mark.parametrize("way", WAYS)
def test_what_the_config_decides_is_recorded_and_named(way: str, seen: Book, server: LoopbackServer) -> None:
    asyncio.run(acme(way, seen, server, model="gpt-4.1-mini", temperature=0.3).complete(ASK, max_tokens=9))
    call, (request,) = seen.call, seen.events("llm:request")
    assert call["request_model"] == "gpt-4.1-mini"
    assert orjson.loads(call["params"]) == {"temperature": 0.3, "max_tokens": 9, "json_mode": False}
    assert sorted(orjson.loads(request["data"])["from_config"]) == ["model", "temperature"]


@pytest.mark.parametrize("way", WAYS)
def test_the_tier_that_gave_the_model_is_recorded(way: str, seen: Book, server: LoopbackServer) -> None:
    provider = acme(way, seen, server)

    async def main() -> None:
        await provider.complete(ASK, model=provider.get_model_for_tier(ModelTier.HOSTED_SMALL))
        await provider.complete(ASK, model="gpt-4.1")

    asyncio.run(main())
    assert [call["tier"] for call in seen.calls] == ["hosted_small", None]


@pytest.mark.parametrize("way", WAYS)
def test_acmes_own_retries_are_within_one_call(way: str, seen: Book, server: LoopbackServer) -> None:
    server.usual = busy(2)
    asyncio.run(acme(way, seen, server).complete(ASK))
    call = seen.call
    assert server.served().requests == 3
    assert (call["status"], call["input_tokens"], call["output_tokens"]) == ("ok", *spent(server))


def test_the_attempts_of_a_loop_of_its_own_show_when_the_method_it_repeats_is_named_too(
    seen: Book, server: LoopbackServer
) -> None:
    server.usual = busy(2)
    provider = seen.hub.traced(acme_class(), methods=["complete", "_post"])(config(server))
    asyncio.run(provider.complete(ASK))
    assert seen.call["attempts"] == server.served().requests == 3
    assert (seen.call["input_tokens"], seen.call["output_tokens"]) == spent(server)
    assert [one["error_type"] for one in seen.attempts] == [RATE_LIMITED, RATE_LIMITED, None]


def test_a_call_that_acme_gives_up_is_one_failed_call(seen: Book, server: LoopbackServer) -> None:
    server.usual = busy(99)
    provider = acme("class", seen, server, extra={"max_retries": 2})
    with pytest.raises(debate.ProviderRateLimitError) as caught:
        asyncio.run(provider.complete(ASK))
    assert type(caught.value) is debate.ProviderRateLimitError
    call = seen.call
    assert (call["status"], call["error_type"], call["input_tokens"]) == ("error", RATE_LIMITED, None)
    assert server.served().requests == 2


def test_agents_side_by_side_have_a_call_each(seen: Book, server: LoopbackServer) -> None:
    provider = acme("instance", seen, server)

    async def main() -> None:
        few = asyncio.Semaphore(4)

        async def agent(number: int) -> None:
            async with few:
                await provider.complete([Message("user", f"Question {number}")])

        await asyncio.gather(*(agent(number) for number in range(12)))

    asyncio.run(main())
    assert len(seen.calls) == server.served().requests == 12
    assert sum(call["input_tokens"] for call in seen.calls) == spent(server)[0]


def acme_class() -> Any:
    return example("acme_provider").AcmeProvider


def config(server: LoopbackServer, **more: Any) -> ProviderConfig:
    return ProviderConfig(api_key="key", base_url=server.base_url, **more)


def streaming(way: str, seen: Book, server: LoopbackServer) -> Any:
    if way == "class":
        module = example("streaming_provider", traced=seen.hub.traced, above="class StreamingProvider")
        return module.StreamingProvider(config(server))
    return seen.hub.traced(StreamingProvider(config(server)))


@pytest.mark.parametrize("way", ["class", "instance"])
def test_a_stream_of_chunks_is_one_call_with_text_usage_and_first_token_time(
    way: str, seen: Book, server: LoopbackServer
) -> None:
    async def main() -> list[Any]:
        return [chunk async for chunk in streaming(way, seen, server).stream(ASK, model="gpt-4o")]

    chunks = asyncio.run(main())
    call = seen.call
    assert (call["provider"], call["request_model"], call["stream"]) == ("streaming", "gpt-4o", 1)
    assert (call["input_tokens"], call["output_tokens"]) == spent(server)
    assert seen.answers == ["".join(chunk.content for chunk in chunks)]
    assert call["chunk_count"] == len(chunks)
    assert 0 < call["ttft_ms"] <= call["duration_ms"]
    assert call["finish_reason"] == "stop"


@pytest.mark.parametrize("way", ["class", "instance"])
def test_a_stream_of_plain_strings_has_its_text_and_no_usage_that_nobody_told(
    way: str, seen: Book, server: LoopbackServer
) -> None:
    async def main() -> list[str]:
        return [text async for text in streaming(way, seen, server).complete_stream(ASK)]

    texts = asyncio.run(main())
    call = seen.call
    assert seen.answers == ["".join(texts)]
    assert (call["stream"], call["chunk_count"], call["input_tokens"]) == (1, len(texts), None)
    assert 0 < call["ttft_ms"] <= call["duration_ms"]


@pytest.mark.parametrize("way", ["class", "instance"])
def test_the_base_classs_stream_that_asks_complete_is_one_call(way: str, seen: Book) -> None:
    mock: Any = type("Mock", (MockProvider,), {})
    provider = seen.hub.traced(mock)() if way == "class" else seen.hub.traced(mock())

    async def main() -> list[Any]:
        return [chunk async for chunk in provider.stream(ASK, model="big-1")]

    assert [chunk.content for chunk in asyncio.run(main())] == ["Mock answer."]
    call = seen.call
    assert (call["stream"], call["attempts"], call["request_model"], call["response_model"]) == (
        1,
        1,
        "big-1",
        "mock-1",
    )
    assert (call["input_tokens"], call["output_tokens"]) == (0, 0)


# What its own checks say of a traced provider.


@pytest.fixture
def provider(seen: Book) -> Any:
    return seen.hub.traced(MockProvider(ProviderConfig(model="m-1"), answers=["One.", "Two."]))


def test_a_traced_provider_is_an_instance_of_the_abc_and_of_its_class(provider: Any) -> None:
    assert isinstance(provider, LLMProvider)
    assert isinstance(provider, MockProvider)
    assert (provider.name, provider.supports_streaming, provider._default_model()) == ("mock", False, "mock-1")


def test_a_traced_provider_without_an_abstract_method_cannot_be_made_either(seen: Book) -> None:
    class Unfinished(LLMProvider):
        async def complete(self, messages: list[Message], **options: Any) -> Any: ...

    with pytest.raises(TypeError, match="abstract"):
        seen.hub.traced(Unfinished)()  # type: ignore[abstract]


def test_a_subclass_of_a_traced_class_that_calls_super_is_one_call(seen: Book) -> None:
    @seen.hub.traced
    class Base(MockProvider): ...

    @seen.hub.traced
    class Polite(Base):
        async def complete(self, messages: list[Message], **options: Any) -> Any:
            answer = await super().complete([Message("system", "Be polite."), *messages], **options)
            answer.content += " Thank you."
            return answer

    asyncio.run(Polite().complete(ASK))
    assert len(seen.calls) == 1
    assert seen.answers == ["Mock answer. Thank you."]
    assert seen.call["message_count"] == 2


def test_what_a_traced_provider_sets_its_original_has(provider: Any) -> None:
    provider.config.model = "m-2"
    provider.budget = 3
    assert provider.config.model == "m-2"
    asyncio.run(provider.complete(ASK))
    assert provider.asked == 1
    del provider.budget
    assert not hasattr(provider, "budget")


def test_a_traced_provider_is_pickled_as_the_provider_it_shows(provider: Any) -> None:
    again = pickle.loads(pickle.dumps(provider))
    assert type(again) is MockProvider
    assert again.config == provider.config


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_of_a_traced_provider_is_traced(way: Any, provider: Any, seen: Book) -> None:
    other = way(provider)
    asyncio.run(other.complete(ASK))
    assert isinstance(other, MockProvider)
    assert (provider.asked, other.asked) == (0, 1)
    assert seen.answers == ["One."]


def test_two_answers_of_a_traced_provider_are_the_providers_own_objects(seen: Book) -> None:
    given = debate.LLMResponse("Kept.", "m-1", {})

    class Keeps(MockProvider):
        async def complete(self, messages: list[Message], **options: Any) -> Any:
            return given

    assert asyncio.run(seen.hub.traced(Keeps()).complete(ASK)) is given
