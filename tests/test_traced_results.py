"""What a function hands back to be run later, a generator or a coroutine, is followed to its end as what it is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hub import traced
from hub.calls import current_call
from tests.calls_of import ListHub, durable_hub
from tests.provider_shapes import ASK, TEXT, WORDS, drained


def words() -> Iterator[str]:
    for word in WORDS:
        assert current_call.get() is not None
        yield word


async def awords() -> AsyncIterator[str]:
    for word in WORDS:
        await asyncio.sleep(0)
        assert current_call.get() is not None
        yield word


async def answer() -> str:
    await asyncio.sleep(0)
    assert current_call.get() is not None
    return TEXT


async def answer_with_a_stream() -> AsyncIterator[str]:
    return awords()


MAKERS: list[Callable[[], Any]] = [words, awords, answer, answer_with_a_stream]
ALL = pytest.mark.parametrize("make", MAKERS)


def handing(make: Callable[[], Any]) -> Callable[[Any], Any]:
    def ask(messages: Any) -> Any:
        assert current_call.get() is not None
        return make()

    return ask


@ALL
def test_it_is_of_its_kind_and_name_and_ends_the_call_when_it_ends(hub: ListHub, make: Callable[[], Any]) -> None:
    result = traced(handing(make), hub=hub)(ASK)
    assert inspect.isgenerator(result) == inspect.isgeneratorfunction(make)
    assert inspect.isasyncgen(result) == inspect.isasyncgenfunction(make)
    assert inspect.iscoroutine(result) == inspect.iscoroutinefunction(make)
    assert (result.__name__, result.__qualname__) == (make.__name__, make.__qualname__)
    assert hub.call.of("llm:response") == []
    said = drained(result)
    assert said == (TEXT if make is answer else WORDS)
    assert (hub.call.status, hub.call.text) == ("ok", TEXT)
    assert hub.call.response.get("chunk_count", 0) == (0 if make is answer else len(WORDS))
    assert current_call.get() is None


@ALL
def test_dropped_before_it_began_it_is_abandoned(hub: ListHub, make: Callable[[], Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = traced(handing(make), hub=hub)(ASK)
        del result
    heard = [str(one.message) for one in caught]
    caught.clear()  # each holds what it is about
    gc.collect()
    assert hub.call.status == "abandoned"
    coroutine = inspect.iscoroutinefunction(make)
    assert heard == [f"coroutine '{make.__qualname__}' was never awaited"] * coroutine


@pytest.mark.parametrize("make", [words, awords])
def test_left_in_the_middle_it_is_abandoned(hub: ListHub, make: Callable[[], Any]) -> None:
    result = traced(handing(make), hub=hub)(ASK)

    async def first() -> None:
        await anext(result)
        await result.aclose()

    if inspect.isasyncgen(result):
        asyncio.run(first())
    else:
        next(result)
        result.close()
    assert (hub.call.status, hub.call.text) == ("abandoned", WORDS[0])


class Refused(Exception):
    pass


def test_what_it_raises_is_the_calls_error(hub: ListHub) -> None:
    error = Refused("no")

    async def fail() -> None:
        raise error

    with pytest.raises(Refused) as caught:
        traced(handing(fail), hub=hub)(ASK).send(None)
    assert caught.value is error
    assert error.__context__ is None
    assert (hub.call.status, hub.call.error) == ("error", "no")


def test_an_extractor_is_given_the_arguments_and_what_came_in_the_end(hub: ListHub) -> None:
    def extract(arguments: Any, result: Any) -> Any:
        return {"usage": {"input_tokens": len(arguments["messages"]), "output_tokens": len(result)}}

    for make in (words, answer):
        drained(traced(handing(make), extract=extract, hub=hub)(ASK))
    assert [call.response["usage"]["output_tokens"] for call in hub.calls] == [len(WORDS), len(TEXT)]


def test_a_function_known_to_hand_back_streams_says_so_in_its_next_request(hub: ListHub) -> None:
    ask = traced(handing(words), hub=hub)
    for _ in range(2):
        drained(ask(ASK))
    assert [call.request["stream"] for call in hub.calls] == [False, True]


def test_layers_that_hand_on_one_stream_are_one_call(hub: ListHub) -> None:
    inner = traced(handing(words), model="inner", hub=hub)

    def route(messages: Any) -> Any:
        return inner(messages)

    assert drained(traced(route, provider="router", hub=hub)(ASK)) == WORDS
    assert len(hub.call.of("llm:response")) == 1
    assert hub.call.text == TEXT


@ALL
def test_durable_calls_wait_for_the_disk_before_the_request(make: Callable[[], Any]) -> None:
    hub = durable_hub()
    drained(traced(handing(make), hub=hub)(ASK))
    assert hub.log.syncer.counts[0] == 2
    assert hub.call.status == "ok"


@ALL
def test_with_recording_off_it_is_the_very_object(hub: ListHub, make: Callable[[], Any]) -> None:
    hub.recorder = None
    made: list[Any] = []

    def ask(messages: Any) -> Any:
        made.append(inspect.iscoroutinefunction(make) or make())
        return made[-1]

    assert traced(ask, hub=hub)(ASK) is made[0]


def test_a_function_is_taken_for_a_stream_only_where_it_never_returned_a_whole_answer(hub: ListHub) -> None:
    def ask(messages: Any, mode: str) -> Any:
        return words() if mode == "live" else TEXT

    def tell(messages: Any) -> Any:
        return words()

    either, always = traced(ask, hub=hub), traced(tell, hub=hub)
    for mode in ("whole", "live", "whole"):
        drained(either(ASK, mode))
    for _ in range(2):
        drained(always(ASK))
    assert [call.request["stream"] for call in hub.calls] == [False, False, False, False, True]


def test_a_coroutine_handed_back_that_hands_back_a_stream_is_followed(hub: ListHub) -> None:
    def ask(messages: Any) -> Any:
        return answer_with_a_stream()

    async def told() -> str:
        return "".join([word async for word in await traced(ask, hub=hub)(ASK)])

    assert asyncio.run(told()) == hub.call.text == TEXT
