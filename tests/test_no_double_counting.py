"""However many layers see a call, what the store's views say is what the server itself counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

import hub as api
from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches
from providers import ChatRequest, ProviderConfig, get_provider, with_retry, with_retry_sync
from tests.contract_kits.book import Row, book
from tests.contract_kits.debate import LLMResponse, Message, ProviderRateLimitError
from tests.contract_kits.examples.acme_provider import with_retry as acmes_with_retry
from tests.contract_kits.nested import BaseStream, Cache, Emitting, Retrying, Router, SyncCache, SyncRouter, Wire
from tests.contract_kits.scene import ASK, Scene

quick = partial(with_retry, base_delay=0.001)
quick_sync = partial(with_retry_sync, base_delay=0.001)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def scene(tmp_path: Path, server: LoopbackServer, form: str) -> Iterator[Scene]:
    with book(tmp_path) as seen:
        yield Scene(seen, server, form)


def forms(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("form", names)


EVERY = forms("sync", "async", "stream", "sync stream")


@EVERY
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_traced_provider(scene: Scene, recorded: bool) -> None:
    scene.run(lambda s: s.ask(s.traced(s.wire(recorded=recorded))))
    (call,) = scene.agrees(1)
    assert (call["provider"], call["request_model"], call["response_model"]) == (
        "openai",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18" if recorded or "stream" not in scene.form else None,
    )


@EVERY
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_provider_traced_twice(scene: Scene, recorded: bool) -> None:
    scene.run(lambda s: s.ask(s.traced(s.traced(s.wire(recorded=recorded)), provider="outer")))
    (call,) = scene.agrees(1)
    assert call["provider"] == "outer"


@EVERY
def test_an_instance_of_a_traced_class_traced_again(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        plain = s.wire()
        cls: Any = type("Decorated", (type(plain),), {})
        again = s.traced(cls)(plain.name, plain.model, plain.client)
        await s.ask(s.traced(again, provider="outer"))

    scene.run(play)
    scene.agrees(1)


@forms("async", "stream")
def test_a_traced_subclass_whose_traced_base_does_the_work(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        base: Any = s.traced(type("Base", (Wire,), {}))

        class Polite(base):  # type: ignore[misc]
            async def complete(self, messages: Any, **options: Any) -> Any:
                return await super().complete(messages, **options)

            async def stream(self, messages: Any, **options: Any) -> Any:
                async for chunk in super().stream(messages, **options):
                    yield chunk

        plain = s.wire()
        await s.ask(s.traced(Polite)(plain.name, plain.model, plain.client))

    scene.run(play)
    scene.agrees(1)


@forms("async", "stream")
def test_a_base_stream_that_asks_complete(scene: Scene) -> None:
    scene.run(lambda s: s.ask(s.traced(BaseStream(s.wire(recorded=True)))))
    scene.agrees(1)


@forms("async")
@pytest.mark.parametrize("failures", [0, 2])
def test_a_traced_sdk_client_inside_a_traced_provider(scene: Scene, failures: int) -> None:
    scene.fails("gpt-4o-mini", 429, failures)

    class OverTheSdk:
        name = "sdk"

        def __init__(self, client: Any) -> None:
            self.client = client

        async def complete(self, messages: list[Message]) -> LLMResponse:
            said: Any = [{"role": one.role, "content": one.content} for one in messages]
            answer = await self.client.chat.completions.create(model="gpt-4o-mini", messages=said)
            usage = {"input_tokens": answer.usage.prompt_tokens, "output_tokens": answer.usage.completion_tokens}
            return LLMResponse(answer.choices[0].message.content, answer.model, usage)

    async def play(s: Scene) -> None:
        async with AsyncOpenAI(base_url=s.server.base_url, api_key="key") as client:
            await s.ask(s.traced(OverTheSdk(s.traced(client))))

    scene.run(play)
    scene.agrees(failures + 1)
    assert scene.server.served().requests == failures + 1


def two(s: Scene, recorded: bool) -> list[Any]:
    """Two traced providers, whose models and prices differ."""
    return [
        s.traced(s.wire("openai", "gpt-4o-mini", recorded=recorded)),
        s.traced(s.wire("azure", "gpt-4o", recorded=recorded)),
    ]


def router(s: Scene, inner: list[Any], good: Any = bool) -> Any:
    return s.traced((SyncRouter if s.form == "sync" else Router)(inner, good))


BOTH = [("openai", "gpt-4o-mini"), ("azure", "gpt-4o")]


def asked(rows: list[Row]) -> list[tuple[str, str]]:
    """Whom each attempt asked, and for which family of models."""
    return [(row["provider"], row["model"].partition("-20")[0]) for row in rows]


@forms("sync", "async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_router_whose_first_provider_fails(scene: Scene, recorded: bool) -> None:
    scene.fails("gpt-4o-mini", 500)
    scene.run(lambda s: s.ask(router(s, two(s, recorded))))
    (call,) = scene.agrees(2)
    rows = scene.seen.attempts
    assert (call["provider"], call["status"]) == ("router", "ok")
    assert asked(rows) == BOTH
    assert [row["error_type"] is None for row in rows] == [False, True]
    assert rows[0]["input_tokens"] is None


@forms("sync", "async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_router_that_asks_a_second_provider_as_the_first_answered_badly(scene: Scene, recorded: bool) -> None:
    scene.run(lambda s: s.ask(router(s, two(s, recorded), lambda model: "mini" not in model)))
    scene.agrees(2)
    assert asked(scene.seen.attempts) == BOTH
    assert {row["error_type"] for row in scene.seen.attempts} == {None}


@forms("sync", "async", "stream")
def test_a_fallback_of_three_whose_last_answers(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 503)
        first, second = two(s, False)
        await s.ask(router(s, [first, s.traced(s.wire("azure")), second]))

    scene.run(play)
    scene.agrees(3)
    assert [row["provider"] for row in scene.seen.attempts] == ["openai", "azure", "azure"]


@forms("sync", "async", "stream")
def test_a_router_all_of_whose_providers_fail(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.server.usual = lambda number, model: Switches(fail=503)
        with pytest.raises(api.HubError):
            await s.ask(router(s, two(s, True)))

    scene.run(play)
    (call,) = scene.agrees(2)
    assert (call["status"], call["cost_nanos"]) == ("error", None)


@forms("sync", "async")
@pytest.mark.parametrize("marks", [True, False], ids=["says so", "the very object"])
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_cache_whose_second_answer_cost_nothing(scene: Scene, marks: bool, recorded: bool) -> None:
    async def play(s: Scene) -> None:
        inner = s.traced(s.wire(recorded=recorded))
        cached = s.traced((SyncCache if s.form == "sync" else Cache)(inner, marks))
        await s.ask(cached)
        await s.ask(cached)
        await s.ask(cached, [Message("user", "And where is order B-7?")])

    scene.run(play)
    calls = scene.agrees(1, 1, 1)
    assert scene.server.served().requests == 2
    assert [bool(call["response_cached"]) for call in calls] == [False, True, False]
    assert (calls[1]["input_tokens"], calls[1]["output_tokens"]) == (0, 0)
    assert (calls[1]["cost_nanos"], calls[1]["cost_source"]) == (0, "cache")


@forms("async")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_provider_that_retries_inside_with_ours(scene: Scene, recorded: bool) -> None:
    scene.fails("gpt-4o-mini", 429, 2)
    scene.run(lambda s: s.ask(s.traced(s.wire(recorded=recorded, retry=quick))))
    (call,) = scene.agrees(3)
    assert scene.server.served().requests == 3
    assert call["status"] == "ok"
    assert all(row["error_type"] for row in scene.seen.attempts[:2])


@forms("async")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_provider_that_retries_inside_until_it_gives_up(scene: Scene, recorded: bool) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 503)
        with pytest.raises(api.HubError):
            await s.ask(s.traced(s.wire(recorded=recorded, retry=quick)))

    scene.run(play)
    (call,) = scene.agrees(scene.server.served().requests)
    assert call["status"] == "error"


@forms("sync", "async")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
@pytest.mark.parametrize("layers", [1, 2])
def test_our_retry_around_a_traced_provider(scene: Scene, recorded: bool, layers: int) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429, 2)
        provider = s.traced(s.wire(recorded=recorded))
        if layers == 2:
            provider = s.traced(provider, provider="outer")
        if s.form == "sync":
            quick_sync(lambda: provider.complete(ASK))
        else:
            await quick(lambda: provider.complete(ASK))

    scene.run(play)
    (call,) = scene.agrees(3)
    assert scene.server.served().requests == 3
    assert (call["provider"], call["request_model"]) == ("outer" if layers == 2 else "openai", "gpt-4o-mini")
    delays = [row["delay_ms"] for row in scene.seen.attempts]
    assert None not in delays[:2]


@forms("async")
def test_our_retry_around_a_provider_that_retries_inside(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429, 3)
        provider = s.traced(s.wire(retry=partial(quick, max_retries=1)))
        await quick(lambda: provider.complete(ASK))

    scene.run(play)
    scene.agrees(scene.server.served().requests)


async def acmes(func: Any) -> Any:
    """Acme's loop, which waits after errors of its own alone."""

    async def translated() -> Any:
        try:
            return await func()
        except api.HubError as error:
            raise ProviderRateLimitError(str(error), retry_after_seconds=0.001) from error

    return await acmes_with_retry(translated)


@forms("async")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
@pytest.mark.parametrize("retry", [quick, acmes], ids=["ours", "acme's"])
def test_a_traced_provider_that_puts_a_retry_around_a_traced_one(scene: Scene, recorded: bool, retry: Any) -> None:
    scene.fails("gpt-4o-mini", 429, 2)
    scene.run(lambda s: s.ask(s.traced(Retrying(s.traced(s.wire(recorded=recorded)), retry))))
    (call,) = scene.agrees(3)
    assert scene.server.served().requests == 3
    assert call["provider"] == "retrying"


@forms("sync", "async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_middleware_that_asks_three_times_inside_one_traced_call(scene: Scene, recorded: bool) -> None:
    async def play(s: Scene) -> None:
        provider = s.traced(s.wire(recorded=recorded))

        async def step(messages: list[Message]) -> str:
            for _ in range(3):
                await s.ask(provider, messages)
            return "Done."

        await s.traced(step, provider="agent")(ASK)

    scene.run(play)
    scene.agrees(3)
    assert scene.server.served().requests == 3


@forms("sync", "async", "stream")
def test_calls_one_after_the_other_in_a_session_stay_apart(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        provider = s.traced(s.wire(recorded=True))
        with api.session("chat-1"):
            for number in range(3):
                await s.ask(provider, [Message("user", f"Question {number}")])

    scene.run(play)
    scene.agrees(1, 1, 1)


@forms("async", "stream")
def test_routers_side_by_side_have_their_own_attempts(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 500)
        shared = router(s, two(s, True))
        await asyncio.gather(*(s.ask(shared, [Message("user", f"Question {number}")]) for number in range(8)))

    scene.run(play)
    scene.agrees(*[2] * 8)


@forms("async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_traced_call_that_asks_three_at_once(scene: Scene, recorded: bool) -> None:
    async def play(s: Scene) -> None:
        first, second = two(s, recorded)

        async def step(messages: list[Message]) -> str:
            await asyncio.gather(s.ask(first, messages), s.ask(second, messages), s.ask(first, messages))
            return "Done."

        await s.traced(step, provider="agent")(ASK)

    scene.run(play)
    scene.agrees(3)
    assert scene.server.served().requests == 3


@forms("async")
def test_a_cache_around_a_router_around_retries(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429)
        first, second = (s.wire(name, model, recorded=True) for name, model in BOTH)
        once = partial(quick, max_retries=1)
        tried = [s.traced(Retrying(s.traced(provider), once)) for provider in (first, second)]
        cached = s.traced(Cache(router(s, tried), marks=True))
        await s.ask(cached)
        await s.ask(cached)

    scene.run(play)
    scene.agrees(3, 1)
    assert asked(scene.seen.attempts)[:3] == [BOTH[0], BOTH[0], BOTH[1]]


@forms("sync", "async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
def test_a_call_by_hand_around_a_router(scene: Scene, recorded: bool) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 500)
        with s.seen.hub.call(provider="by-hand", messages=[{"role": "user", "content": "Where?"}]):
            await s.ask(router(s, two(s, recorded)))

    scene.run(play)
    scene.agrees(2)


@forms("async")
def test_acmes_retry_around_a_traced_provider_makes_a_call_of_each_try(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429, 2)
        provider = s.traced(s.wire())
        await acmes(lambda: provider.complete(ASK))

    scene.run(play)
    calls = scene.agrees(1, 1, 1)
    assert [call["status"] for call in calls] == ["error", "error", "ok"]


@forms("async")
def test_our_retry_around_a_router(scene: Scene) -> None:
    async def play(s: Scene) -> None:
        s.server.usual = lambda number, model: Switches(fail=503, retry_ms=1) if number <= 2 else Switches()
        provider = router(s, two(s, True))
        await quick(lambda: provider.complete(ASK))

    scene.run(play)
    scene.agrees(3)
    assert asked(scene.seen.attempts) == [BOTH[0], BOTH[1], BOTH[0]]


@forms("async", "stream")
@pytest.mark.parametrize("around", ["nothing", "our retry", "a router"])
def test_our_openai_provider_with_retries_inside(scene: Scene, around: str) -> None:
    def made(s: Scene, model: str) -> Any:
        settings = ProviderConfig(base_url=s.server.base_url, api_key="key", extra={"base_delay": 0.001})
        return s.traced(get_provider(f"openai:{model}", settings))

    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429, 2 if around == "nothing" else 4)
        provider, messages = (
            made(s, "gpt-4o-mini"),
            ChatRequest.model_validate({"messages": [{"role": "user", "content": "Where is it?"}]}),
        )
        match around:
            case "our retry":
                await quick(lambda: s.ask(provider, messages))
            case "a router":
                await s.ask(router(s, [provider, made(s, "gpt-4o")]), messages)
            case _:
                await s.ask(provider, messages)

    scene.run(play)
    scene.agrees(scene.server.served().requests)


@forms("async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
@pytest.mark.parametrize("traced", [0, 1, 2])
def test_a_provider_that_tells_of_its_calls_itself(scene: Scene, recorded: bool, traced: int) -> None:
    async def play(s: Scene) -> None:
        provider: Any = Emitting(s.wire(recorded=recorded), s.seen.hub.emit)
        for number in range(traced):
            provider = s.traced(provider, provider=f"outer-{number}")
        await s.ask(provider)
        await s.ask(provider)

    scene.run(play)
    calls = scene.agrees(1, 1)
    assert {call["provider"] for call in calls} == {f"outer-{traced - 1}" if traced else "openai"}
    assert {call["source"] for call in calls} == {"traced" if traced else "emitted"}


@forms("async", "stream")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
def test_a_router_of_providers_that_tell_of_their_calls_themselves(scene: Scene, recorded: bool, traced: bool) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 500)
        wires = [s.wire(model=model, recorded=recorded) for _, model in BOTH]
        inner: list[Any] = [Emitting(wire, s.seen.hub.emit) for wire in wires]
        await s.ask(router(s, [s.traced(one) for one in inner] if traced else inner))

    scene.run(play)
    scene.agrees(2)
    assert [model for _, model in asked(scene.seen.attempts)] == ["gpt-4o-mini", "gpt-4o"]


@forms("async")
@pytest.mark.parametrize("recorded", [False, True], ids=["", "transport inside"])
@pytest.mark.parametrize("traced", [False, True], ids=["", "traced"])
def test_our_retry_around_a_provider_that_tells_of_its_calls_itself(scene: Scene, recorded: bool, traced: bool) -> None:
    async def play(s: Scene) -> None:
        s.fails("gpt-4o-mini", 429, 2)
        provider: Any = Emitting(s.wire(recorded=recorded), s.seen.hub.emit)
        if traced:
            provider = s.traced(provider)
        await quick(lambda: provider.complete(ASK))

    scene.run(play)
    scene.agrees(3)
