"""What makes an object a provider, and what is read of it: name, model, parameters, tiers and cached answers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from pydantic import BaseModel

from hub import NotTraceable, traced
from hub.contracts import call_methods
from hub.session import session
from tests.calls_of import ListHub
from tests.contract_kits.debate import LLMResponse
from tests.provider_shapes import (
    ASK,
    TEXT,
    Amplifier,
    AmplifierUsage,
    ChatRequest,
    ChatResponse,
    Debate,
    DebateConfig,
    ModelTier,
    SyncAmplifier,
    SyncDebate,
    TextBlock,
    ToolCall,
    ToolCallBlock,
    amplifier_answer,
    amplifier_request,
    drained,
)

# Recognition.


def method(signature: str) -> Any:
    """A class whose `complete` has this signature."""
    namespace: dict[str, Any] = {}
    exec(f"class Made:\n    def complete{signature}:\n        return 'text'", namespace)
    return namespace["Made"]


@pytest.mark.parametrize(
    "signature",
    [
        "(self, messages)",
        "(self, request, **kwargs)",
        "(self, prompt='')",
        "(self, conversation)",
        "(self, *args, **kwargs)",
        "(self, *, messages)",
        "(*args, **kwargs)",
    ],
)
def test_a_method_is_known_by_a_conversation_among_its_arguments(signature: str) -> None:
    cls = method(signature)
    assert call_methods(cls) == call_methods(cls()) == ["complete"]


@pytest.mark.parametrize("signature", ["(self)", "(self, when=None)", "(self, *, when)", "(self, **kwargs)"])
def test_what_completes_something_else_is_refused_with_the_remedy(signature: str) -> None:
    for target in (method(signature), method(signature)()):
        with pytest.raises(NotTraceable, match="methods="):
            traced(target)


def test_only_what_calls_a_model_is_wrapped(hub: ListHub) -> None:
    class Mixed:
        stream = None

        def complete(self, messages: Any) -> str:
            return TEXT

        def complete_stream(self) -> None: ...

    provider = traced(Mixed(), hub=hub)
    assert provider.stream is None
    assert provider.complete_stream() is None  # type: ignore[func-returns-value]
    assert provider.complete(ASK) == TEXT
    assert len(hub.calls) == 1


class Statics:
    @staticmethod
    def complete(messages: Any) -> str:
        return TEXT

    @classmethod
    def stream(cls, messages: Any) -> Iterator[str]:
        yield cls.__name__


def test_static_and_class_methods_stay_what_they_are(hub: ListHub) -> None:
    providers: list[Any] = [traced(Statics(), hub=hub), traced(type("Own", (Statics,), {}), hub=hub)]
    for provider in providers:
        assert provider.complete(ASK) == TEXT
        assert list(provider.stream(ASK)) == [hub.calls[-1].request["provider"]]
    assert [call.request["provider"] for call in hub.calls] == ["Statics", "Statics", "Own", "Own"]
    assert isinstance(vars(Statics)["stream"], classmethod)


class OwnMethods:
    """Makes its methods when it is made, and when it is asked for them."""

    def __init__(self) -> None:
        self.complete: Any = lambda messages: TEXT

    @property
    def stream(self) -> Callable[[Any], Iterator[str]]:
        return lambda messages: iter([TEXT])


def test_methods_that_an_instance_makes_itself_are_traced_as_they_are_at_each_call(hub: ListHub) -> None:
    bare = OwnMethods()
    provider = traced(bare, hub=hub)
    assert provider.complete(ASK) == TEXT
    assert list(provider.stream(ASK)) == [TEXT]
    provider.complete = lambda messages: "other"
    assert bare.complete(ASK) == provider.complete(ASK) == "other"
    assert [call.request["stream"] for call in hub.calls] == [False, True, False]
    with pytest.raises(NotTraceable, match="OwnMethods"):
        traced(OwnMethods)


def test_mocks_are_traced_like_anything_else_and_what_is_written_in_c_is_refused(hub: ListHub) -> None:
    mock = MagicMock()
    mock.complete = AsyncMock(return_value=TEXT)
    provider: Any = traced(mock, provider="mock", hub=hub)
    assert asyncio.run(provider.complete(ASK)) == TEXT
    mock.complete.assert_awaited_once_with(ASK)
    assert hub.call.text == TEXT
    with pytest.raises(NotTraceable, match="written in C"):
        traced(SimpleNamespace(complete=lambda messages: TEXT))


class Renamed:
    name = "renamed"
    model = "m-1"

    def generate(self, conversation: Any, temperature: float = 0.5) -> str:
        return TEXT


def test_methods_with_unusual_names_and_arguments_are_read_like_the_others(hub: ListHub) -> None:
    traced(Renamed(), methods=["generate"], hub=hub).generate(conversation=ASK)
    request = hub.call.request
    assert (request["provider"], request["model"], request["params"]) == ("renamed", "m-1", {"temperature": 0.5})
    assert hub.call.sent["messages"] == ASK
    assert "unkept" not in request


def test_traced_as_it_is_already_it_is_the_same_object() -> None:
    provider = traced(Debate())
    assert traced(provider) is provider
    cls = type("Own", (SyncDebate,), {})
    assert traced(cls) is cls
    made = cls()
    assert traced(made) is made


def test_a_traced_instance_is_gone_with_its_last_user(hub: ListHub) -> None:
    bare = SyncDebate()
    traced(bare, hub=hub).complete(ASK)
    kept = weakref.ref(bare)
    del bare
    gc.collect()
    assert kept() is None


# Provider, model and parameters.


class Vendor(Enum):
    ACME = "acme"


def names() -> list[Any]:
    def answering(value: Any) -> Any:
        return property(lambda self: value)

    def raising(error: BaseException) -> Any:
        def fail(self: Any) -> Any:
            raise error

        return property(fail)

    raised = [raising(error) for error in (RuntimeError(), AttributeError(), asyncio.CancelledError())]
    return [
        pytest.param("acme", "acme", id="text"),
        pytest.param(Vendor.ACME, "acme", id="enum"),
        pytest.param(answering("acme"), "acme", id="property"),
        *((wrong, "Named") for wrong in ("", None, 5, lambda self: "acme", answering(object()), *raised)),
    ]


@pytest.mark.parametrize(("name", "expected"), names())
def test_the_provider_is_its_name_else_its_class(hub: ListHub, name: Any, expected: str) -> None:
    cls = type("Named", (Renamed,), {"name": name, "complete": Renamed.generate})
    for provider in (traced(cls(), hub=hub), traced(cls(), hub=hub, provider="given"), traced(cls, hub=hub)()):
        assert provider.complete(ASK) == TEXT
    assert [call.request["provider"] for call in hub.calls] == [expected, "given", expected]


class Frozen(BaseModel):
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(slots=True)
class Slots:
    model: Any = None
    temperature: Any = None
    max_tokens: Any = None


class Hostile:
    """Every setting of it raises but one."""

    model = "config-1"

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError("secret")


GIVEN: dict[str, Any] = {"model": "config-1", "temperature": 0.0, "max_tokens": 0}


@pytest.mark.parametrize(
    "config",
    [GIVEN, MappingProxyType(GIVEN), SimpleNamespace(**GIVEN), Frozen(**GIVEN), Slots(**GIVEN)],
    ids=lambda one: type(one).__name__,
)
def test_what_the_caller_leaves_out_comes_from_the_configuration_and_zero_is_a_value(hub: ListHub, config: Any) -> None:
    provider = SyncDebate()
    provider.config = config
    traced(provider, hub=hub).complete(ASK)
    request = hub.call.request
    assert request["model"] == "config-1"
    assert request["params"] == {"temperature": 0.0, "max_tokens": 0}
    assert sorted(request["from_config"]) == ["max_tokens", "model", "temperature"]


def test_settings_that_raise_or_make_no_sense_are_passed_over(hub: ListHub) -> None:
    for config in (Hostile(), 5, "text", object(), MagicMock(), {"temperature": object(), "model": 7}):
        provider = SyncDebate()
        provider.config = config  # type: ignore[assignment]
        assert traced(provider, hub=hub).complete(ASK).content == TEXT
    assert [call.request["model"] for call in hub.calls] == ["config-1", None, None, None, None, None]
    assert all("params" not in call.request for call in hub.calls)


def test_the_model_is_the_argument_then_the_requests_then_the_option_then_the_configurations(hub: ListHub) -> None:
    class Model(Enum):
        NEW = "enum-1"

    provider: Any = traced(SyncAmplifier(), hub=hub)
    provider.complete(amplifier_request(model="request-1"), model="argument-1")
    provider.complete(amplifier_request(model="request-1"))
    traced(SyncAmplifier(), model="option-1", hub=hub).complete(amplifier_request())
    provider.complete(amplifier_request())
    provider.config = {"default_model": Model.NEW}
    provider.complete(amplifier_request())
    provider.config = None
    provider.default_model = "default-1"
    provider.model = "own-1"
    provider.complete(amplifier_request())
    del provider.default_model
    provider.complete(amplifier_request())
    del provider.model
    provider.complete(amplifier_request())
    said = [(call.request["model"], "model" in call.request.get("from_config", ())) for call in hub.calls]
    assert said == [
        ("argument-1", False),
        ("request-1", False),
        ("option-1", False),
        ("amplifier-1", True),
        ("enum-1", True),
        ("default-1", True),
        ("own-1", True),
        (None, False),
    ]


def test_a_method_that_would_tell_the_model_is_not_called(hub: ListHub) -> None:
    class Asking(SyncDebate):
        def _default_model(self) -> str:
            raise AssertionError

        default_model = _default_model

    assert traced(Asking(DebateConfig(model=None)), hub=hub).complete(ASK).content == TEXT
    assert hub.call.request["model"] is None
    assert hub.call.response["model"] == "debate-1-served"


def test_parameters_given_win_over_the_configurations(hub: ListHub) -> None:
    provider = traced(Debate(), hub=hub)
    drained(provider.complete(ASK, temperature=0, json_mode=True))
    request = hub.call.request
    assert request["params"] == {"temperature": 0, "json_mode": True, "max_tokens": 4096}
    assert request["from_config"] == ["model", "max_tokens"]


def test_what_of_a_request_is_not_recorded_is_named(hub: ListHub) -> None:
    provider = traced(SyncAmplifier(), hub=hub)
    schema = {"type": "json_schema", "schema": {}}
    request = amplifier_request(
        temperature=0.5, conversation_id="c-1", stream=False, response_format=schema, own_field=1, tools=[]
    )
    provider.complete(request, timeout=5, tool_choice=None, extended_thinking=True)
    provider.complete(amplifier_request(max_output_tokens=7))
    provider.complete(request.model_dump())  # type: ignore[arg-type]
    first, second, third = (call.request for call in hub.calls)
    assert first["unkept"] == ["conversation_id", "extended_thinking", "own_field", "response_format", "timeout"]
    assert first["params"] == {"temperature": 0.5, "response_format": "json_schema"}
    assert "unkept" not in second
    assert second["params"] == {"max_tokens": 7}
    assert third["unkept"] == ["conversation_id", "own_field", "response_format"]


@pytest.mark.parametrize("kind", ["object", "slots", "class"])
def test_a_request_of_any_kind_is_read(hub: ListHub, kind: str) -> None:
    class ByClass:
        messages, temperature, model = ASK, 0.5, "request-1"

    class ByProperty:
        __slots__ = ("messages", "temperature")

        def __init__(self) -> None:
            self.messages, self.temperature = ASK, 0.5

        @property
        def model(self) -> str:
            return "request-1"

        @property
        def seed(self) -> int:
            raise ZeroDivisionError

    request: Any = {
        "object": SimpleNamespace(messages=ASK, temperature=0.5, model="request-1", own=1),
        "slots": ByProperty(),
        "class": ByClass(),
    }[kind]
    traced(SyncAmplifier(), hub=hub).complete(request)
    seen = hub.call
    assert (seen.request["model"], seen.request["params"]) == ("request-1", {"temperature": 0.5})
    assert seen.sent["messages"] == ASK
    assert seen.request.get("unkept") == (["own"] if kind == "object" else None)


# Tiers.


class Tiers(SyncDebate):
    async def get_model_for_tier(self, tier: Any) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return f"debate-{getattr(tier, 'value', tier)}"


class Size(Enum):
    SMALL = 1


def test_a_call_for_the_model_of_a_tier_has_the_tier(hub: ListHub) -> None:
    for provider in (traced(SyncDebate(), hub=hub), traced(type("Own", (SyncDebate,), {}), hub=hub)()):
        provider.complete(ASK, model=provider.get_model_for_tier(ModelTier.LOCAL_SMALL))
        provider.complete(ASK, model=provider.get_model_for_tier(tier=ModelTier.HOSTED_LARGE))
        provider.complete(ASK)
    assert [call.request.get("tier") for call in hub.calls] == ["local_small", "hosted_large", None] * 2


def test_tiers_of_async_providers_belong_to_their_own_task(hub: ListHub) -> None:
    provider = traced(Tiers(), hub=hub)

    async def agent(tier: Any) -> None:
        provider.complete(ASK, model=await provider.get_model_for_tier(tier))

    async def main() -> None:
        await asyncio.gather(agent("fast"), agent(ModelTier.HOSTED_LARGE), agent(Size.SMALL))
        provider.complete(ASK, model="debate-fast")

    asyncio.run(main())
    said = {(call.request["model"], call.request.get("tier")) for call in hub.calls}
    assert {tier for _, tier in said} == {"fast", "hosted_large", "small", None}
    assert ("debate-fast", None) in said


def test_only_the_newest_tiers_are_remembered(hub: ListHub) -> None:
    provider = traced(Tiers(), hub=hub)

    async def main() -> None:
        for number in range(40):
            await provider.get_model_for_tier(str(number))
        for number in (0, 39):
            provider.complete(ASK, model=f"debate-{number}")

    asyncio.run(main())
    assert [call.request.get("tier") for call in hub.calls] == [None, "39"]


# Answers.


def answering(*answers: Any) -> Any:
    """A provider with these answers."""

    class Scripted:
        def __init__(self) -> None:
            self.left = list(answers)

        def complete(self, messages: Any) -> Any:
            return self.left.pop(0)

    return Scripted()


def test_amplifiers_blocks_tool_calls_usage_and_cost(hub: ListHub) -> None:
    blocks: list[Any] = [TextBlock(text=TEXT, own=1), ToolCallBlock(id="c-1", name="look", input={"at": 1})]  # type: ignore[call-arg]
    calls = [ToolCall(id="c-1", name="look", arguments={"at": 1}), ToolCall(id="c-2", name="wait", arguments={})]
    usage = AmplifierUsage(
        input_tokens=10, output_tokens=5, total_tokens=15, cache_write_tokens=3, cost_usd=Decimal("0.00125")
    )
    traced(answering(ChatResponse(content=blocks, tool_calls=calls, usage=usage)), hub=hub).complete(ASK)
    (message,) = hub.call.answer["messages"]
    assert message["content"] == [
        {"type": "text", "text": TEXT, "own": 1},
        {"type": "tool_call", "id": "c-1", "name": "look", "input": {"at": 1}},
    ]
    assert message["tool_calls"] == [{"id": "c-2", "name": "wait", "arguments": {}}]
    response = hub.call.response
    assert (response["usage"]["input_tokens"], response["usage"]["cache_write_tokens"]) == (13, 3)
    assert (response["reported_cost_usd"], response["cost_reporter"]) == ("0.00125", "provider")


@pytest.mark.parametrize("mark", ["cached", "from_cache", "cache_hit", "response_cached"])
@pytest.mark.parametrize("where", ["answer", "metadata", "dict"])
def test_an_answer_that_says_it_was_cached_is_marked(hub: ListHub, mark: str, where: str) -> None:
    for said in (True, False, "yes"):
        answer: Any = amplifier_answer(metadata={mark: said} if where == "metadata" else None)
        if where == "answer":
            answer = amplifier_answer(**{mark: said})
        elif where == "dict":
            answer = {"content": TEXT, "model": "m", mark: said}
        traced(answering(answer), hub=hub).complete(ASK)
    assert [call.response.get("response_cached") for call in hub.calls] == [True, None, None]


def test_an_answer_returned_again_was_cached_unless_somebody_was_asked_for_it(hub: ListHub) -> None:
    answer = LLMResponse(TEXT, "m", {"input_tokens": 12, "output_tokens": 5})
    inner = traced(answering(*[answer] * 2), provider="inner", hub=hub)

    class Cache:
        known: Any = None

        def complete(self, messages: Any) -> Any:
            self.known = self.known or inner.complete(messages)
            return self.known

    cache = traced(Cache(), hub=hub)
    for _ in range(3):
        assert cache.complete(ASK) is answer
    assert [call.response.get("response_cached") for call in hub.calls] == [None, True, True]
    assert traced(answering(answer), hub=hub).complete(ASK) is answer
    assert "response_cached" not in hub.calls[-1].response


def test_texts_and_dicts_that_come_again_are_no_cached_answers(hub: ListHub) -> None:
    chat: dict[str, Any] = {"content": TEXT, "model": "m"}
    provider = traced(answering(TEXT, TEXT, chat, chat, None, None), hub=hub)
    for _ in range(6):
        provider.complete(ASK)
    assert all("response_cached" not in call.response for call in hub.calls)


def test_answers_are_not_kept_alive_to_be_known_again(hub: ListHub) -> None:
    provider = traced(SyncAmplifier(), hub=hub)
    gone = weakref.ref(provider.complete(amplifier_request()))
    assert gone() is None


def test_labels_of_a_session_belong_to_a_providers_calls(hub: ListHub) -> None:
    with session("chat-42"):
        drained(traced(Amplifier(), hub=hub).complete(ChatRequest.model_validate({"messages": ASK})))
    assert {record["session_id"] for record in hub.call.records} == {"chat-42"}
