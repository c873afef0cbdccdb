"""Amplifier's providers as its documents show them, with one line of `traced` added, in the real amplifier-core."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from amplifier_core import AmplifierSession
from amplifier_core.loader import ModuleLoader
from amplifier_core.message_models import ChatRequest, ChatResponse, Message, TextBlock, ToolSpec
from amplifier_core.testing import create_test_coordinator
from amplifier_core.validation import ProviderValidator

from hub.demo.server import LoopbackServer
from tests.contract_kits.book import Book, book, spent
from tests.contract_kits.examples.my_provider import MyProvider
from tests.contract_kits.loading import EXAMPLES, example

REQUEST = ChatRequest(messages=[Message(role="user", content="Where is order A-1042?")], temperature=0.2)


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Book]:
    with book(tmp_path) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


def settings(server: LoopbackServer, **more: Any) -> dict[str, Any]:
    return {"api_key": "key", "base_url": server.base_url, **more}


async def mounted(way: str, seen: Book, config: dict[str, Any]) -> tuple[Any, Any]:
    """What a coordinator got of the example with one line added, and the cleanup that `mount` returned."""
    line = {"class": "class MyProvider", "instance": "", "factory": "async def mount"}[way]
    module = example("my_provider", traced=seen.hub.traced if way == "class" else None, above=line)
    if way == "instance":
        plain = module.MyProvider
        module.MyProvider = lambda *args: seen.hub.traced(plain(*args))
    coordinator = create_test_coordinator()
    cleanup = await module.mount(coordinator, config)
    return coordinator.get("providers", "my-provider"), cleanup


async def ask(way: str, seen: Book, config: dict[str, Any], request: Any = REQUEST, **kwargs: Any) -> Any:
    provider, cleanup = await mounted(way, seen, config)
    try:
        return await provider.complete(request, **kwargs)
    finally:
        await cleanup()


@pytest.mark.parametrize("way", ["class", "instance"])
def test_a_mounted_provider_is_recorded_with_what_it_was_asked_and_what_the_server_said(
    way: str, seen: Book, server: LoopbackServer
) -> None:
    answer = asyncio.run(ask(way, seen, settings(server, max_tokens=64)))
    call, (request,) = seen.call, seen.events("llm:request")
    assert isinstance(answer, ChatResponse)
    assert (call["provider"], call["request_model"], call["status"]) == ("my-provider", "gpt-4o-mini", "ok")
    assert (call["input_tokens"], call["output_tokens"]) == spent(server)
    assert (call["attempts"], call["finish_reason"], call["stream"]) == (1, "stop", 0)
    assert orjson.loads(call["params"]) == {"temperature": 0.2, "max_tokens": 64}
    assert sorted(orjson.loads(request["data"])["from_config"]) == ["max_tokens", "model"]
    assert seen.answers == [answer.content[0].text]


@pytest.mark.parametrize("way", ["class", "instance"])
def test_the_cost_the_provider_reports_is_the_calls(way: str, seen: Book, server: LoopbackServer) -> None:
    answer = asyncio.run(ask(way, seen, settings(server)))
    call = seen.call
    assert (call["cost_nanos"], call["cost_source"]) == (int(answer.usage.cost_usd * 10**9), "provider")
    assert answer.usage.cost_usd == call["input_tokens"] * Decimal("3e-6") + call["output_tokens"] * Decimal("15e-6")


@pytest.mark.parametrize("way", ["class", "instance"])
def test_the_model_of_the_request_goes_before_the_configs_and_an_argument_before_both(
    way: str, seen: Book, server: LoopbackServer
) -> None:
    config = settings(server, default_model="gpt-4.1")
    asyncio.run(ask(way, seen, config))
    asyncio.run(ask(way, seen, config, REQUEST.model_copy(update={"model": "gpt-4o"})))
    asyncio.run(ask(way, seen, config, REQUEST.model_copy(update={"model": "gpt-4o"}), model="gpt-4.1-mini"))
    asked = [exchange.model for exchange in server.exchanges()]
    assert [call["request_model"] for call in seen.calls] == asked == ["gpt-4.1", "gpt-4o", "gpt-4.1-mini"]
    named = [orjson.loads(request["data"]).get("from_config", []) for request in seen.events("llm:request")]
    assert named == [["model"], [], []]


@pytest.mark.parametrize("way", ["class", "instance"])
def test_tools_and_tool_calls_are_recorded(way: str, seen: Book, server: LoopbackServer) -> None:
    tool = ToolSpec(name="find_order", parameters={"type": "object", "properties": {"order": {"type": "string"}}})
    request = REQUEST.model_copy(update={"tools": [tool]})
    answer = asyncio.run(ask(way, seen, settings(server), request))
    assert seen.call["tool_count"] == 1
    (row,) = seen.rows("SELECT tool_call_id, name, arguments FROM llm_tool_calls")
    assert (row["tool_call_id"], row["name"]) == (answer.tool_calls[0].id, "find_order")
    assert orjson.loads(row["arguments"]) == answer.tool_calls[0].arguments


@pytest.mark.parametrize("way", ["class", "instance"])
def test_its_other_methods_are_what_they_were(way: str, seen: Book, server: LoopbackServer) -> None:
    async def main() -> Any:
        provider, cleanup = await mounted(way, seen, settings(server))
        await cleanup()
        return provider, await provider.list_models()

    provider, models = asyncio.run(main())
    assert provider.get_info()["id"] == "my-provider"
    assert models[0]["id"] == "gpt-4o-mini"
    assert provider.parse_tool_calls(ChatResponse(content=[])) == []
    assert provider.coordinator is not None
    assert not hasattr(provider, "stream")
    assert seen.calls == []


def test_without_a_key_nothing_is_mounted_and_nothing_breaks(seen: Book) -> None:
    module = example("my_provider", traced=seen.hub.traced, above="class MyProvider")
    assert asyncio.run(module.mount(create_test_coordinator(), {})) is None


def test_code_that_sets_attributes_on_a_mounted_provider_reaches_the_provider(seen: Book) -> None:
    plain = MyProvider("key")
    provider = seen.hub.traced(plain)
    provider.config = {"default_model": "m-9"}
    provider.default_model = "m-9"
    assert (plain.default_model, plain.config) == ("m-9", {"default_model": "m-9"})
    plain.coordinator = "later"
    assert provider.coordinator == "later"
    asyncio.run(provider.client.aclose())


def test_a_copy_of_a_traced_provider_is_traced(seen: Book, server: LoopbackServer) -> None:
    async def main() -> None:
        provider = seen.hub.traced(MyProvider("key", settings(server)))
        other = copy.copy(provider)
        assert isinstance(other, MyProvider)
        await other.complete(REQUEST)
        await provider.client.aclose()

    asyncio.run(main())
    assert len(seen.calls) == 1


MODULE = """
import hub
from amplifier_core.models import ProviderInfo

{source}

class Informed(MyProvider):
    def get_info(self):
        return ProviderInfo(id="my-provider", display_name="My Provider", credential_env_vars=[], capabilities=[],
                            defaults={{}}, config_fields=[])


async def mount_traced(coordinator, config=None):
    provider = {made}
    await coordinator.mount("providers", provider, name="my-provider")
    return provider.client.aclose

mount = mount_traced
"""


@pytest.fixture(params=["class", "instance"])
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A module for Amplifier whose provider is traced, in files as it is handed in for validation."""
    folder = tmp_path / f"amplifier_module_provider_my_{request.param}"
    folder.mkdir()
    made = "hub.traced(Informed)('key')" if request.param == "class" else "hub.traced(Informed('key'))"
    _future, _, source = (EXAMPLES / "my_provider.py").read_text().partition("from __future__ import annotations\n")
    (folder / "__init__.py").write_text(MODULE.format(source=source, made=made))
    return folder


def test_a_package_whose_provider_is_traced_passes_amplifiers_validator(package: Path) -> None:
    result = asyncio.run(ProviderValidator().validate(package))
    assert result.passed, result.errors
    assert [check.message for check in result.checks if not check.passed] == []
    assert any("implements Provider interface" in check.message for check in result.checks)


def test_a_package_whose_provider_is_traced_passes_amplifiers_command(package: Path) -> None:
    command = Path(sys.executable).with_name("amplifier-core")
    ran = subprocess.run([command, "validate", "provider", package], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "✗" not in ran.stdout


class Loop:
    """An orchestrator: one question to the first provider."""

    async def execute(self, prompt: str, context: Any, providers: Any, tools: Any, hooks: Any, **_more: Any) -> str:
        (provider,) = providers.values()
        answer = await provider.complete(ChatRequest(messages=[Message(role="user", content=prompt)]))
        return str(answer.content[0].text)


class Context:
    """A context manager that forgets everything."""

    async def add_message(self, message: Any) -> None: ...
    async def get_messages(self) -> list[Any]:
        return []

    async def get_messages_for_request(self, token_budget: Any = None, provider: Any = None) -> list[Any]:
        return []

    async def set_messages(self, messages: Any) -> None: ...
    async def clear(self) -> None: ...


class Parts(ModuleLoader):  # type: ignore[misc]  # amplifier-core says nothing of its types
    """Loads a session's modules from *mounts* instead of from packages that are installed."""

    def __init__(self, **mounts: Any) -> None:
        super().__init__()
        self._mounts = mounts

    async def load(self, module_id: str, config: Any = None, source_hint: Any = None, coordinator: Any = None) -> Any:
        async def mount(coordinator: Any) -> Any:
            place, part = self._mounts[module_id]
            await coordinator.mount(place, part, name=module_id if place == "providers" else None)

        return mount


def test_a_traced_provider_works_in_an_amplifier_session(seen: Book, server: LoopbackServer) -> None:
    async def main() -> Any:
        provider = seen.hub.traced(MyProvider("key", settings(server)))
        parts = {"loop": ("orchestrator", Loop()), "forgets": ("context", Context()), "mine": ("providers", provider)}
        plan = {"session": {"orchestrator": "loop", "context": "forgets"}, "providers": [{"module": "mine"}]}
        session = AmplifierSession(plan)
        session.coordinator.loader = Parts(**parts)
        await session.initialize()
        try:
            return await session.execute("Where is order A-1042?")
        finally:
            await provider.client.aclose()
            await session.cleanup()

    said = asyncio.run(main())
    assert seen.answers == [said]
    assert seen.call["provider"] == "my-provider"


def test_a_scripted_provider_traced_answers_in_order(seen: Book) -> None:
    class Scripted:
        """Amplifier's contract with answers from a list."""

        def __init__(self, *texts: str) -> None:
            self.name, self.texts = "scripted", list(texts)

        def get_info(self) -> Any: ...
        async def list_models(self) -> list[Any]:
            return []

        async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
            return ChatResponse(content=[TextBlock(text=self.texts.pop(0))])

        def parse_tool_calls(self, response: ChatResponse) -> list[Any]:
            return []

    provider = seen.hub.traced(Scripted("One.", "Two."))
    coordinator = create_test_coordinator()

    async def main() -> None:
        await coordinator.mount("providers", provider, name="scripted")
        for _ in range(2):
            await coordinator.get("providers", "scripted").complete(REQUEST)

    asyncio.run(main())
    assert seen.answers == ["One.", "Two."]
    assert [(call["provider"], call["input_tokens"], call["cost_nanos"]) for call in seen.calls] == [
        ("scripted", None, None)
    ] * 2
