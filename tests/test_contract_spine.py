"""spine's providers as its documents show them, with one line of `traced` added: in the kit, and in spinekit itself."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contract_kits import spine as kit
from tests.contract_kits.book import Book, book
from tests.contract_kits.examples.echo_provider import EchoProvider, StreamingEchoProvider
from tests.contract_kits.loading import example

needs_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="spinekit needs Python 3.12")
TEXT = "Where is order A-1042?"
ECHO = f"You said: {TEXT}"


@pytest.fixture(params=["kit", pytest.param("spinekit", marks=needs_312)])
def spine(request: pytest.FixtureRequest) -> Any:
    """spine's names, and that of the module they come from."""
    if request.param == "kit":
        return SimpleNamespace(**vars(kit), module=kit.__name__)
    core = importlib.import_module("spine_core")
    scripted = importlib.import_module("spine_core.testing").ScriptedProvider
    return SimpleNamespace(**vars(core), ScriptedProvider=scripted, module="spine_core")


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Book]:
    with book(tmp_path) as opened:
        yield opened


def echo(name: str, way: str, spine: Any, seen: Book) -> Any:
    """The example's provider *name* with one line added: above the class, around an instance or in the factory."""
    if way == "class":
        module = example("echo_provider", traced=seen.hub.traced, above=f"class {name}", spine=spine.module)
        return getattr(module, name)()
    cls = getattr(example("echo_provider", spine=spine.module), name)
    if way == "instance":
        return seen.hub.traced(cls())
    spine.register_provider("echo", lambda model: seen.hub.traced(cls(), provider="echo", model=model))
    return spine.resolve_provider("echo:parrot-1")


@pytest.mark.parametrize("way", ["class", "instance", "factory"])
@pytest.mark.parametrize("name", ["EchoProvider", "StreamingEchoProvider"])
def test_an_agents_run_is_recorded_with_the_answers_text_and_usage(name: str, way: str, spine: Any, seen: Book) -> None:
    result = asyncio.run(spine.Agent(echo(name, way, spine, seen)).run(TEXT))
    call = seen.call
    assert result.answer == ECHO
    assert seen.answers == [ECHO]
    assert (call["status"], call["attempts"], call["stream"], call["finish_reason"]) == ("ok", 1, 0, "stop")
    assert (call["input_tokens"], call["output_tokens"]) == (4, 6)
    expected = ("echo", "parrot-1") if way == "factory" else (name, None)
    assert (call["provider"], call["request_model"]) == expected


@pytest.mark.parametrize("way", ["class", "instance", "factory"])
def test_an_agents_stream_has_its_tokens_and_is_one_call_with_first_token_time(
    way: str, spine: Any, seen: Book
) -> None:
    agent = spine.Agent(echo("StreamingEchoProvider", way, spine, seen))

    async def main() -> list[str]:
        return [event.data["delta"] async for event in agent.stream(TEXT) if event.type == "token"]

    deltas = asyncio.run(main())
    call = seen.call
    assert "".join(deltas).strip() == ECHO
    assert seen.answers == [ECHO]
    assert (call["stream"], call["chunk_count"], call["attempts"]) == (1, len(deltas) + 1, 1)
    assert (call["input_tokens"], call["output_tokens"]) == (4, 6)
    assert 0 < call["ttft_ms"] <= call["duration_ms"]


@pytest.mark.parametrize("way", ["class", "instance", "factory"])
def test_stream_is_there_exactly_when_the_provider_has_it(way: str, spine: Any, seen: Book) -> None:
    plain = echo("EchoProvider", way, spine, seen)
    streaming = echo("StreamingEchoProvider", way, spine, seen)
    assert isinstance(plain, spine.Provider)
    assert isinstance(streaming, spine.Provider)
    assert not isinstance(plain, spine.StreamingProvider)
    assert isinstance(streaming, spine.StreamingProvider)
    assert hasattr(plain, "stream") is False


def test_an_agent_that_streams_asks_a_provider_without_stream_in_full(spine: Any, seen: Book) -> None:
    agent = spine.Agent(echo("EchoProvider", "instance", spine, seen))

    async def main() -> list[Any]:
        return [event async for event in agent.stream(TEXT) if event.type == "token"]

    assert asyncio.run(main()) == []
    assert (seen.call["stream"], seen.answers) == (0, [ECHO])


def test_a_traced_scripted_provider_answers_in_order_and_keeps_what_it_was_asked(spine: Any, seen: Book) -> None:
    def said(text: str, cost: float) -> Any:
        usage = spine.Usage(input_tokens=10, output_tokens=5, cost_usd=cost)
        return spine.ModelResponse(message=spine.Message.assistant(text), usage=usage, finish_reason="stop")

    scripted = spine.ScriptedProvider(said("One.", 0.0), said("Two.", 0.25))
    provider = seen.hub.traced(scripted)
    for text in ("first", "second"):
        asyncio.run(spine.Agent(provider).run(text))
    assert seen.answers == ["One.", "Two."]
    assert [messages[0].content for messages in scripted.calls] == ["first", "second"]
    assert provider.calls is scripted.calls
    costs = [(call["cost_nanos"], call["cost_source"]) for call in seen.calls]
    assert costs[1] == (250_000_000, "provider")
    assert costs[0][1] != "provider"  # 0.0 says that nobody knows


def test_each_try_of_the_kernels_retries_is_a_call_where_nothing_is_traced_around_them(spine: Any, seen: Book) -> None:
    class Again:
        async def on_error(self, ctx: Any, err: Exception) -> Any:
            return spine.ErrorAction.RETRY

    class Flaky(StreamingEchoProvider):
        tries = 0

        async def complete(self, messages: Any, tools: Any = None, **kwargs: Any) -> Any:
            self.tries += 1
            if self.tries < 3:
                raise ConnectionError("try again")
            return await example("echo_provider", spine=spine.module).EchoProvider().complete(messages)

    asyncio.run(spine.Agent(seen.hub.traced(Flaky()), middleware=[Again()]).run(TEXT))
    assert [call["status"] for call in seen.calls] == ["error", "error", "ok"]


@pytest.mark.parametrize("again", [pickle.dumps, None], ids=["pickle", "copy"])
def test_a_traced_provider_can_be_pickled_and_copied(again: Any, seen: Book) -> None:
    provider = seen.hub.traced(StreamingEchoProvider())
    other = copy.copy(provider) if again is None else pickle.loads(again(provider))
    assert isinstance(other, StreamingEchoProvider)
    assert asyncio.run(other.complete([kit.Message.user(TEXT)])).message.content == ECHO
    assert len(seen.calls) == (1 if again is None else 0)


def test_a_provider_reached_by_getattr_alone_is_traced_too(spine: Any, seen: Book) -> None:
    class Forwards:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            if name == "inner":
                raise AttributeError(name)
            return getattr(self.inner, name)

    inner = example("echo_provider", spine=spine.module).EchoProvider()
    provider = seen.hub.traced(Forwards(inner))
    assert isinstance(provider, spine.Provider)
    assert not isinstance(provider, spine.StreamingProvider)
    asyncio.run(spine.Agent(provider).run(TEXT))
    assert seen.answers == [ECHO]


def test_the_classes_of_the_example_are_left_as_they_were_by_a_traced_instance(seen: Book) -> None:
    provider = EchoProvider()
    seen.hub.traced(provider)
    asyncio.run(provider.complete([kit.Message.user(TEXT)]))
    assert seen.calls == []
