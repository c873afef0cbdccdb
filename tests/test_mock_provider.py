"""The scripted provider: it says what its script says, keeps what it was asked, and is a whole provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from io import StringIO
from typing import Any

import amplifier_core.message_models as amplifier
import orjson
import pytest

from providers import get_provider
from providers.config import ProviderConfig
from providers.contract import (
    ChatRequest,
    ChatResponse,
    HasTiers,
    Message,
    ModelTier,
    Provider,
    StreamChunk,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    Usage,
)
from providers.errors import (
    AuthenticationError,
    ConfigurationError,
    LLMTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
    StreamError,
)
from providers.mock import MockProvider, Scripted

CALL = ToolCall(id="call-1", name="find_order", arguments={"order": "A-1042"})


def asking(text: str = "Hello", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], **fields)


class Sleeps:
    """Waits no time, and remembers how long it should have been."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


def answer(provider: Provider, request: ChatRequest | None = None, **kwargs: Any) -> ChatResponse:
    return asyncio.run(_complete(provider, request or asking(), kwargs))


async def _complete(provider: Provider, request: ChatRequest, kwargs: dict[str, Any]) -> ChatResponse:
    return await provider.complete(request, **kwargs)


async def chunks_of(provider: Provider, request: ChatRequest | None = None) -> list[StreamChunk]:
    return [chunk async for chunk in provider.stream(request or asking())]


def test_it_is_a_provider_with_tiers_and_the_registry_makes_it() -> None:
    provider = get_provider("mock")
    assert isinstance(provider, MockProvider)
    assert isinstance(provider, Provider)
    assert isinstance(provider, HasTiers)
    assert provider.name == provider.get_info().id == "mock"


def test_without_a_script_it_repeats_what_the_user_said() -> None:
    provider = MockProvider()
    assert [answer(provider).text, answer(provider, asking("Bye")).text] == ["You said: Hello", "You said: Bye"]
    assert answer(provider, ChatRequest(messages=[])).text == "You said nothing."


def test_answers_come_in_the_order_of_the_script() -> None:
    whole = ChatResponse(content=[TextBlock(text="whole")], finish_reason="length")
    provider = MockProvider(answers=["first", CALL, [CALL, CALL], whole, Scripted(content="last")])
    first, one, two, third, last = (answer(provider) for _ in range(5))
    assert (first.text, first.finish_reason, first.model, first.id) == ("first", "stop", "mock-1", "mock-1")
    assert (provider.parse_tool_calls(one), one.finish_reason) == ([CALL], "tool_calls")
    assert len(provider.parse_tool_calls(two)) == 2
    assert third is whole
    assert last.text == "last"


def test_a_script_that_is_over_says_so() -> None:
    provider = MockProvider(answers=["only"])
    answer(provider)
    with pytest.raises(ConfigurationError, match="has 1 answers, and this is request 2"):
        answer(provider)


def test_one_answer_that_is_no_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="list"):
        MockProvider(answers="Hello")


def test_a_callable_answers_with_whatever_a_script_may_hold() -> None:
    async def later(request: ChatRequest) -> Any:
        return Scripted(content=f"later: {request.model}")

    def by_model(request: ChatRequest) -> Any:
        return {"a": "text", "b": 429, "c": later}[request.model or ""]

    provider = MockProvider(answers=by_model)
    assert answer(provider, asking(model="a")).text == "text"
    assert answer(provider, asking(model="c")).text == "later: c"
    with pytest.raises(RateLimitError):
        answer(provider, asking(model="b"))
    assert answer(MockProvider(answers=["x", lambda request: "y"])).text == "x"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (429, RateLimitError),
        (503, ProviderUnavailableError),
        (401, AuthenticationError),
        (ValueError("mine"), ValueError),
        (KeyError, KeyError),
        (StreamError, StreamError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
)
def test_errors_of_a_script_are_raised(failure: Any, expected: type[BaseException]) -> None:
    for ask in (answer, lambda provider: asyncio.run(chunks_of(provider))):
        provider = MockProvider(answers=[failure, "after"])
        with pytest.raises(expected) as caught:
            ask(provider)
        if isinstance(failure, BaseException):
            assert caught.value is failure
        if isinstance(failure, int):
            assert getattr(caught.value, "status_code", None) == failure
        assert answer(provider).text == "after"


def test_it_keeps_the_requests_as_they_were() -> None:
    provider, request = MockProvider(), asking("one")
    answer(provider, request, temperature=0, model="m-2")
    request.messages.append(Message(role="user", content="later"))
    answer(provider, amplifier.ChatRequest.model_validate(asking("two").model_dump()))
    first, second = provider.requests
    assert (len(first.messages), first.temperature, first.model) == (1, 0.0, "m-2")
    assert second == asking("two")


def test_the_model_is_the_requests_then_the_configurations() -> None:
    provider = MockProvider(ProviderConfig(model="m-1"))
    assert answer(provider).model == "m-1"
    assert answer(provider, asking(model="m-2")).model == "m-2"
    assert asyncio.run(provider.list_models())[0].id == "m-1"


def test_tokens_are_counted_as_words_unless_the_script_says_else() -> None:
    provider = MockProvider(answers=["three words here", Scripted(content="x", usage=usage(7, 0)), CALL])
    assert answer(provider, asking("two words")).usage == usage(2, 3)
    assert answer(provider).usage == usage(7, 0)
    assert (answer(provider).usage or usage(0, 0)).output_tokens > 0


def usage(given: int, gave: int) -> Usage:
    return Usage(input_tokens=given, output_tokens=gave, total_tokens=given + gave)


def test_the_same_script_and_requests_give_the_same() -> None:
    def play() -> list[ChatResponse]:
        provider = MockProvider(answers=["a", CALL, "b"])
        return [answer(provider, asking(f"{number}")) for number in range(3)]

    assert play() == play()


def test_a_delay_is_waited_for() -> None:
    sleeps = Sleeps()
    provider = MockProvider(answers=[Scripted(content="x", delay=1.5), "y"], sleep=sleeps)
    assert [answer(provider).text, answer(provider).text] == ["x", "y"]
    assert sleeps.waited == [1.5]


def test_a_real_delay_lets_others_run() -> None:
    async def both() -> list[str]:
        provider = MockProvider(answers=[Scripted(content="slow", delay=0.05), "quick"])
        order: list[str] = []

        async def ask() -> None:
            order.append((await provider.complete(asking())).text)

        await asyncio.gather(ask(), ask())
        return order

    assert asyncio.run(both()) == ["quick", "slow"]


def test_a_delay_beyond_the_timeout_is_a_timeout_after_that_long() -> None:
    sleeps = Sleeps()
    script = [Scripted(content="x", delay=9)] * 2
    provider = MockProvider(ProviderConfig(timeout=3), answers=script, sleep=sleeps)
    with pytest.raises(LLMTimeoutError, match="within 3 s"):
        answer(provider)
    with pytest.raises(LLMTimeoutError):
        answer(provider, asking(timeout=2))
    assert sleeps.waited == [3, 2]


# Streams.


def test_a_stream_gives_the_text_in_pieces_and_at_last_the_response() -> None:
    chunks = asyncio.run(chunks_of(MockProvider(answers=["Hello  there,\nyou two "])))
    assert "".join(chunk.delta for chunk in chunks) == "Hello  there,\nyou two "
    assert len(chunks) == 5
    assert [chunk.response is None for chunk in chunks] == [True] * 4 + [False]
    last = chunks[-1].response
    assert last is not None
    assert last.text == "Hello  there,\nyou two "
    assert last.usage is not None


@pytest.mark.parametrize("text", ["", " ", "a", "\n\n", " a  b ", "é\u2028x"])
def test_the_pieces_of_any_text_are_the_text(text: str) -> None:
    chunks = asyncio.run(chunks_of(MockProvider(answers=[text])))
    assert "".join(chunk.delta for chunk in chunks) == text


def test_pieces_can_be_chosen_and_spread_over_time() -> None:
    sleeps = Sleeps()
    script = [Scripted(chunks=["He", "llo"], delay=2, chunk_delay=0.5)]
    chunks = asyncio.run(chunks_of(MockProvider(answers=script, sleep=sleeps)))
    assert [chunk.delta for chunk in chunks] == ["He", "llo", ""]
    assert chunks[-1].response is not None
    assert chunks[-1].response.text == "Hello"
    assert sleeps.waited == [2, 0.5]


def test_thoughts_and_tool_calls_are_streamed_apart_from_the_text() -> None:
    whole = ChatResponse.model_validate(
        {
            "content": [
                ThinkingBlock(thinking="hm").model_dump(),
                {"type": "text", "text": "I look"},
                {"type": "tool_call", "id": "1", "name": "find", "input": {"a": 1}},
                {"type": "tool_call", "id": "2", "name": "find", "input": {}},
            ]
        }
    )
    chunks = asyncio.run(chunks_of(MockProvider(answers=[whole])))
    assert "".join(chunk.delta for chunk in chunks) == "I look"
    assert "".join(chunk.thinking for chunk in chunks) == "hm"
    pieces = [piece for chunk in chunks for piece in chunk.tool_calls or ()]
    for index, (name, arguments) in enumerate([("find", {"a": 1}), ("find", {})]):
        own = [piece for piece in pieces if piece.index == index]
        assert (own[0].name, own[0].id) == (name, str(index + 1))
        assert orjson.loads("".join(piece.arguments for piece in own)) == arguments
    assert [chunk.block_type for chunk in chunks[:3]] == ["thinking", "text", "text"]
    assert chunks[-1].response is whole


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, StreamError), (503, ProviderUnavailableError), (ConnectionError("x"), ConnectionError)],
)
@pytest.mark.parametrize("after", [0, 2, 99])
def test_a_stream_breaks_off_where_the_script_says(error: Any, expected: type[Exception], after: int) -> None:
    provider = MockProvider(answers=[Scripted(content="one two three", after_chunks=after, error=error)])
    seen = StringIO()

    async def read() -> None:
        async for chunk in provider.stream(asking()):
            seen.write(chunk.delta)

    with pytest.raises(expected):
        asyncio.run(read())
    assert seen.getvalue() == {0: "", 2: "one two", 99: "one two three"}[after]


def test_a_stream_can_be_left() -> None:
    async def leave() -> str:
        provider = MockProvider(answers=["one two", "next"])
        async with aclosing(provider.stream(asking())) as stream:  # type: ignore[type-var]
            async for chunk in stream:
                assert chunk.delta == "one"
                break
        return (await provider.complete(asking())).text

    assert asyncio.run(leave()) == "next"


# Retries, tiers, the end.


def test_it_tries_again_when_it_is_configured_to() -> None:
    sleeps = Sleeps()
    config = ProviderConfig(extra={"max_retries": 2, "base_delay": 0, "answers": [429, 503, "at last"]})
    provider = MockProvider(config, sleep=sleeps)
    assert answer(provider).text == "at last"
    assert len(provider.requests) == 3
    assert sleeps.waited == [0, 0]
    with pytest.raises(RateLimitError):
        answer(MockProvider(answers=[429, "never"]))


def test_a_stream_is_tried_again_only_before_its_first_piece() -> None:
    config = ProviderConfig(extra={"max_retries": 2, "base_delay": 0})
    provider = MockProvider(config, answers=[503, Scripted(content="one two", after_chunks=1), "never"], sleep=Sleeps())
    with pytest.raises(StreamError):
        asyncio.run(chunks_of(provider))
    assert len(provider.requests) == 2


def test_a_tier_that_is_none_and_a_script_that_is_no_list_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="'huge'; there are local_small"):
        MockProvider().get_model_for_tier("huge")  # type: ignore[arg-type]
    for answers in (429, ValueError(), Scripted(content="x")):
        with pytest.raises(ConfigurationError, match="give a list"):
            MockProvider(answers=answers)  # type: ignore[arg-type]


def test_tiers_have_models_that_can_be_chosen() -> None:
    provider = MockProvider(tiers={ModelTier.HOSTED_LARGE: "big"})
    assert provider.get_model_for_tier(ModelTier.HOSTED_LARGE) == "big"
    assert provider.get_model_for_tier(ModelTier("local_small")) == "mock-local"
    assert {"big", "mock-local"} <= {model.id for model in asyncio.run(provider.list_models())}
    by_word = MockProvider(ProviderConfig(extra={"tiers": {"hosted_small": "little"}}))
    assert by_word.get_model_for_tier(ModelTier.HOSTED_SMALL) == "little"


ASK: list[Callable[[Provider], Awaitable[Any]]] = [lambda provider: provider.complete(asking()), chunks_of]


@pytest.mark.parametrize("ask", ASK)
def test_a_closed_one_refuses_calls_and_can_be_closed_again(ask: Callable[[Provider], Awaitable[Any]]) -> None:
    async def close_and_ask() -> None:
        provider = MockProvider(answers=["x"])
        await provider.close()
        await provider.close()
        await ask(provider)

    with pytest.raises(ConfigurationError, match="closed"):
        asyncio.run(close_and_ask())
