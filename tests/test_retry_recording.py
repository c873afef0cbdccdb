"""What the hub sees of retries: one call with its attempts, whoever tries again and wherever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from hub import traced
from hub.demo.server import LoopbackServer
from hub.recorder import set_default
from hub.span_shape import shape_of
from providers.config import ProviderConfig
from providers.contract import ChatRequest, Message
from providers.errors import InvalidRequestError, RateLimitError
from providers.mock import MockProvider, Scripted
from providers.retry import with_retry, with_retry_sync
from tests.calls_of import ListHub
from tests.trial import Trial


def slow(**facts: Any) -> RateLimitError:
    return RateLimitError("slow", **facts)


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


def asking() -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content="Hello")])


async def again(function: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    return await with_retry(function, sleep=no_sleep, random=lambda: 1.0, **options)


def function(hub: ListHub, *errors: BaseException, provider: str = "acme") -> Callable[[], Awaitable[str]]:
    """A traced function that fails first."""
    trial = Trial(*errors)

    @traced(provider=provider, model="acme-1", hub=hub)
    async def ask(prompt: str) -> str:
        return trial()

    return lambda: ask("Hello")


def test_a_traced_function_that_is_tried_again_is_one_call(hub: ListHub) -> None:
    failing = function(hub, slow(status_code=429, retry_after=0.5), ConnectionError("gone"))
    assert asyncio.run(again(failing)) == "done"
    seen = hub.call
    assert (seen.status, seen.response["attempts"]) == ("ok", 3)
    first, second = seen.retries
    assert (first["attempt"], first["max_retries"], first["delay_ms"], first["status_code"]) == (1, 3, 1000.0, 429)
    assert (first["retry_after_ms"], first["error_type"]) == (500.0, "providers.errors.RateLimitError")
    assert (second["attempt"], second["delay_ms"], second["error_type"]) == (2, 2000.0, "ConnectionError")
    assert seen.request["provider"] == "acme"


def test_so_it_is_in_sync(hub: ListHub) -> None:
    trial = Trial(slow())

    @traced(provider="acme", model="acme-1", hub=hub)
    def ask(prompt: str) -> str:
        return trial()

    assert with_retry_sync(lambda: ask("Hello"), sleep=lambda seconds: None) == "done"
    assert hub.call.response["attempts"] == 2
    assert len(hub.call.retries) == 1


def test_a_call_that_never_goes_well_is_one_failed_call(hub: ListHub) -> None:
    with pytest.raises(RateLimitError):
        asyncio.run(again(function(hub, slow(), slow(), slow()), max_retries=2))
    seen = hub.call
    assert (seen.status, seen.response["attempts"], len(seen.retries)) == ("error", 3, 2)
    assert seen.response["error_type"] == "providers.errors.RateLimitError"


def test_one_failure_that_is_not_tried_again_is_one_call_with_one_attempt(hub: ListHub) -> None:
    with pytest.raises(InvalidRequestError):
        asyncio.run(again(function(hub, InvalidRequestError("bad"))))
    assert (hub.call.status, hub.call.response["attempts"], hub.call.retries) == ("error", 1, [])


def test_retries_inside_a_traced_call_are_its_attempts(hub: ListHub) -> None:
    trial = Trial(slow(status_code=429), slow())

    async def untraced() -> str:
        return trial()

    @traced(provider="acme", model="acme-1", hub=hub)
    async def ask(prompt: str) -> str:
        return str(await again(untraced))

    assert asyncio.run(ask("Hello")) == "done"
    seen = hub.call
    assert (seen.status, seen.response["attempts"]) == ("ok", 3)
    assert [(retry["attempt"], retry["delay_ms"], retry.get("status_code")) for retry in seen.retries] == [
        (1, 1000.0, 429),
        (2, 2000.0, None),
    ]
    assert all(record["content"] == {"error": "slow"} for record in seen.of("provider:retry"))


def test_retries_around_a_provider_within_a_traced_call_are_written_once(hub: ListHub) -> None:
    inner = function(hub, slow(), slow(), provider="inner")

    @traced(provider="outer", model="acme-1", hub=hub)
    async def ask(prompt: str) -> str:
        return str(await again(inner))

    assert asyncio.run(ask("Hello")) == "done"
    assert hub.call.request["provider"] == "outer"
    assert hub.call.response["attempts"] == 3
    assert [retry["delay_ms"] for retry in hub.call.retries] == [1000.0, 2000.0]


def test_retries_around_retries_are_one_call_with_every_attempt(hub: ListHub) -> None:
    failing = function(hub, slow(), slow(), slow())
    assert asyncio.run(again(lambda: again(failing, max_retries=1), max_retries=1)) == "done"
    assert hub.call.response["attempts"] == 4
    assert len(hub.call.retries) == 3


def test_each_thing_that_is_tried_is_a_call_of_its_own(hub: ListHub) -> None:
    async def main() -> None:
        await asyncio.gather(*(again(function(hub, slow())) for _ in range(20)))
        await again(function(hub))
        await function(hub)()

    asyncio.run(main())
    assert sorted(seen.response["attempts"] for seen in hub.calls) == [1, 1, *[2] * 20]


def test_calls_of_two_hubs_are_told_apart(hub: ListHub) -> None:
    other = ListHub()

    async def ask() -> str:
        await function(other, provider="there")()
        return str(await failing())

    failing = function(hub, slow())
    asyncio.run(again(ask))
    assert hub.call.response["attempts"] == 2
    assert [seen.response["attempts"] for seen in other.calls] == [1, 1]

    @traced(provider="outer", model="m", hub=other)
    async def outer(prompt: str) -> str:
        return str(await again(function(hub, slow(), provider="mine")))

    asyncio.run(outer("Hello"))
    assert [seen.response["attempts"] for seen in hub.calls] == [2, 2]
    assert [seen.response["attempts"] for seen in other.calls][2:] == [2]


def test_of_an_agent_that_is_tried_as_a_whole_each_call_is_one_with_its_own_attempts(hub: ListHub) -> None:
    first, second = function(hub), function(hub, slow(), provider="flaky")

    async def agent() -> str:
        await first()
        return str(await second())

    assert asyncio.run(again(agent)) == "done"
    assert [(seen.request["provider"], seen.status, seen.response["attempts"]) for seen in hub.calls] == [
        ("acme", "ok", 1),
        ("flaky", "ok", 2),
        ("acme", "ok", 1),
    ]


def test_an_answer_of_no_use_that_is_asked_for_again_is_one_call(hub: ListHub) -> None:
    trial = Trial(TimeoutError("took too long to read"))

    async def read() -> str:
        await answering()
        return trial()

    answering = function(hub)
    assert asyncio.run(again(read)) == "done"
    assert (hub.call.status, hub.call.response["attempts"]) == ("ok", 2)


def test_an_error_after_the_answer_is_not_the_calls(hub: ListHub) -> None:
    async def parsed() -> None:
        await answering()
        raise ValueError("no JSON")

    answering = function(hub)
    with pytest.raises(ValueError, match="no JSON"):
        asyncio.run(again(parsed))
    assert (hub.call.status, hub.call.response["attempts"]) == ("ok", 1)


def test_calls_side_by_side_in_one_try_are_calls_of_their_own(hub: ListHub) -> None:
    async def both() -> None:
        await asyncio.gather(*(function(hub, provider=name)() for name in "ab"))

    asyncio.run(again(both))
    assert [(seen.request["provider"], seen.response["attempts"]) for seen in hub.calls] == [("a", 1), ("b", 1)]


def test_what_calls_no_model_records_nothing_and_starts_no_hub(hub: ListHub) -> None:
    assert asyncio.run(again(lambda: asyncio.sleep(0, "done"))) == "done"
    started = []
    set_default(lambda: started.append(1))
    try:
        with_retry_sync(Trial(slow()), base_delay=0)
    finally:
        set_default(lambda: None)
    assert (hub.calls, started) == ([], [])


def test_an_untraced_provider_that_tries_again_starts_no_hub() -> None:
    code = """
import asyncio, sys
from providers import ChatRequest, Message, ProviderConfig, get_provider
provider = get_provider("mock", ProviderConfig(extra={"answers": [429, "done"], "max_retries": 1, "base_delay": 0}))
print(asyncio.run(provider.complete(ChatRequest(messages=[Message(role="user", content="x")]))).text)
print([name for name in ("hub.runtime", "sqlite3", "storage") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["done", "[]"]


def test_a_traced_provider_that_tries_again_inside_is_one_call(hub: ListHub) -> None:
    config = ProviderConfig(extra={"max_retries": 2, "answers": [429, 503, "done"]})
    provider = traced(MockProvider(config, sleep=no_sleep), hub=hub)
    assert asyncio.run(provider.complete(asking())).text == "done"
    assert (hub.call.status, hub.call.response["attempts"]) == ("ok", 3)
    assert [retry["status_code"] for retry in hub.call.retries] == [429, 503]


def test_retries_around_a_provider_that_tries_again_itself_are_one_call(hub: ListHub) -> None:
    config = ProviderConfig(extra={"max_retries": 1, "answers": [429, 503, 500, "done"]})
    provider = traced(MockProvider(config, sleep=no_sleep), hub=hub)
    assert asyncio.run(again(lambda: provider.complete(asking()))).text == "done"
    assert hub.call.response["attempts"] == 4
    assert [retry["status_code"] for retry in hub.call.retries] == [429, 503, 500]


def test_a_stream_that_is_tried_again_before_it_begins_is_one_call(hub: ListHub) -> None:
    config = ProviderConfig(extra={"max_retries": 1, "answers": [503, Scripted(chunks=["a", "b"])]})
    provider = traced(MockProvider(config, sleep=no_sleep), hub=hub)

    async def read() -> str:
        return "".join([chunk.delta async for chunk in provider.stream(asking())])

    assert asyncio.run(read()) == "ab"
    assert (hub.call.status, hub.call.response["attempts"]) == ("ok", 2)


def test_the_openai_client_that_is_tried_again_has_as_many_attempts_as_the_server_counts(hub: ListHub) -> None:
    with LoopbackServer() as server, openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as plain:
        client = traced(plain, hub=hub)
        headers = {"x-demo": "fail=503 times=2 retry_ms=1"}

        def ask() -> Any:
            return client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], extra_headers=headers
            )

        with_retry_sync(ask, sleep=lambda seconds: None)
    assert (hub.call.status, hub.call.response["attempts"], len(hub.call.retries)) == ("ok", 3, 2)
    assert [retry["status_code"] for retry in hub.call.retries] == [503, 503]


def test_a_cancelled_retry_is_a_cancelled_call(hub: ListHub) -> None:
    failing = function(hub, slow())

    async def main() -> None:
        task = asyncio.create_task(with_retry(failing, base_delay=60.0, random=lambda: 1.0))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert hub.call.status == "cancelled"
    assert (hub.call.response["attempts"], len(hub.call.retries)) == (1, 1)


@pytest.mark.parametrize("around", [False, True], ids=["one layer", "two layers"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_call_that_is_cancelled_while_it_waits_has_the_attempts_that_were_made(
    hub: ListHub, around: bool, after: int
) -> None:
    tried = []

    @traced(provider="acme", model="m", hub=hub)
    async def ask(prompt: str) -> str:
        async def attempt() -> str:
            tried.append(prompt)
            raise slow(retry_after=60.0 if len(tried) > after else 0.0)

        return await with_retry(attempt, base_delay=0.0)

    async def main() -> None:
        asked = traced(ask, provider="router", model="m", hub=hub) if around else ask
        task = asyncio.create_task(asked("Hello"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(tried) == after + 1
    assert (hub.call.status, hub.call.response["attempts"], len(hub.call.retries)) == (
        "cancelled",
        after + 1,
        after + 1,
    )
    shape = shape_of(hub.call.records)
    assert shape is not None
    assert len(shape.attempts) == after + 1


def test_a_hub_that_fails_does_not_break_the_retry(hub: ListHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr("hub.calls.Call.retry_follows", broken)
    monkeypatch.setattr("hub.tries.Tries.end", broken)
    assert asyncio.run(again(function(hub, slow(), slow()))) == "done"

    @traced(provider="acme", model="m", hub=hub)
    async def ask(prompt: str) -> str:
        return str(await again(function(hub, slow())))

    assert asyncio.run(ask("Hello")) == "done"
