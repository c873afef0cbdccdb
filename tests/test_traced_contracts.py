"""Providers of the three contracts, in every form, keep to what the design says of them when they are traced."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from hub import traced
from hub.calls import current_call
from tests.calls_of import ListHub, Seen
from tests.provider_shapes import (
    ASK,
    SHAPES,
    TEXT,
    WORDS,
    Amplifier,
    Debate,
    DebateBase,
    Shape,
    Spine,
    SpineEcho,
    SpineProvider,
    SpineStreaming,
    SyncDebate,
    drained,
    fresh,
)


def by_class(shape: Shape, hub: ListHub, **options: Any) -> Any:
    """An instance of a traced class."""
    return traced(fresh(shape.make), hub=hub, **options)()


def by_instance(shape: Shape, hub: ListHub, **options: Any) -> Any:
    """A traced instance."""
    return traced(shape.make(), hub=hub, **options)


class Delegating:
    """Has its methods by `__getattr__`, as proxies have."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)


def by_getattr(shape: Shape, hub: ListHub, **options: Any) -> Any:
    """A traced object that forwards everything."""
    return traced(Delegating(shape.make()), hub=hub, **options)


ALL = pytest.mark.parametrize("shape", SHAPES, ids=str)
STREAMS = pytest.mark.parametrize("shape", [one for one in SHAPES if one.method == "stream"], ids=str)
PLAIN = pytest.mark.parametrize("shape", [one for one in SHAPES if one.method == "complete"], ids=str)
WAYS = pytest.mark.parametrize("way", [by_class, by_instance, by_getattr])


def said(seen: Seen) -> str:
    """Text of the answer."""
    content = seen.answer["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


@ALL
@WAYS
def test_a_call_is_recorded_with_what_the_provider_and_its_answer_say(hub: ListHub, shape: Shape, way: Any) -> None:
    provider = way(shape, hub)
    drained(getattr(provider, shape.method)(shape.ask()))
    seen = hub.call
    assert len(seen.of("llm:response")) == 1
    own_name = "Delegating" if way is by_getattr else shape.make.__name__
    assert seen.request["provider"] == (shape.provider or own_name)
    assert seen.request["model"] == shape.model
    assert "model" in seen.request["from_config"]
    assert seen.request["source"] == "traced"
    assert seen.request["stream"] is (shape.method == "stream")
    assert seen.sent["messages"] == ASK
    assert seen.status == "ok"
    assert said(seen) == TEXT
    usage = {key: count for key, count in seen.response["usage"].items() if count is not None}
    assert usage == {"input_tokens": 12, "output_tokens": 5}
    assert seen.response["finish_reasons"] == ["stop"]
    assert "reported_cost_usd" not in seen.response
    assert "sk-secret" not in repr(hub.log.records)


@PLAIN
@WAYS
def test_the_answer_is_the_same_object(hub: ListHub, shape: Shape, way: Any) -> None:
    answer = drained(shape.make().complete(shape.ask()))
    provider = way(_doing(shape, lambda: answer), hub)
    assert drained(provider.complete(shape.ask())) is answer


@STREAMS
@WAYS
def test_a_stream_stays_a_generator_of_the_same_chunks_with_its_count_and_first_token_time(
    hub: ListHub, shape: Shape, way: Any
) -> None:
    provider, bare = way(shape, hub), shape.make()
    stream, unwrapped = provider.stream(shape.ask()), bare.stream(shape.ask())
    assert type(stream) is type(unwrapped)
    assert stream.__name__ == unwrapped.__name__
    assert drained(stream) == drained(unwrapped)
    response = hub.call.response
    assert response["chunk_count"] == len(WORDS) + 1
    assert 0 < response["ttft_ms"] < response["duration_ms"]
    assert {r["type"] for r in hub.call.records} <= {
        "llm:request",
        "llm:request:debug",
        "llm:response",
        "llm:response:debug",
    }


@STREAMS
@pytest.mark.parametrize("end", ["break", "close", "collect", "exception", "cancel"])
def test_a_stream_is_closed_off_however_it_ends(hub: ListHub, shape: Shape, end: str) -> None:
    provider = by_instance(shape, hub)
    if inspect.isasyncgen(stream := provider.stream(shape.ask())):
        asyncio.run(_end_async(stream, end))
    else:
        _end_sync(stream, end)
    del stream
    gc.collect()
    ended = {"exception": "error", "cancel": "cancelled"}.get(end, "abandoned")
    assert hub.call.status == ended
    assert len(hub.call.of("llm:response")) == 1
    assert hub.call.response["chunk_count"] == 1


RAISED = {"exception": RuntimeError("no"), "cancel": asyncio.CancelledError()}


def _end_sync(stream: Any, end: str) -> None:
    next(stream)
    if end == "close":
        stream.close()
    elif (error := RAISED.get(end)) is not None:
        with pytest.raises(type(error)) as caught:
            stream.throw(error)
        assert caught.value is error


async def _end_async(stream: Any, end: str) -> None:
    async for _ in stream:
        break
    if end == "close":
        await stream.aclose()
    elif (error := RAISED.get(end)) is not None:
        with pytest.raises(type(error)) as caught:
            await stream.athrow(error)
        assert caught.value is error


class Refused(Exception):
    status_code = 429
    retryable = True
    retry_after = 1.5


@ALL
@WAYS
@pytest.mark.parametrize(
    ("kind", "status"),
    [(Refused, "error"), (asyncio.CancelledError, "cancelled"), (KeyboardInterrupt, "cancelled")],
)
def test_whatever_is_raised_is_recorded_and_arrives_as_it_is(
    hub: ListHub, shape: Shape, way: Any, kind: type[BaseException], status: str
) -> None:
    error = kind("no")
    provider = way(_raising(shape, error), hub)
    with pytest.raises(kind) as caught:
        _step(getattr(provider, shape.method)(shape.ask()))
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert hub.call.status == status
    if kind is Refused:
        response = hub.call.response
        assert response["error_type"].endswith(".Refused")
        assert (response["status_code"], response["retryable"], response["retry_after_ms"]) == (429, True, 1500.0)
        assert hub.call.error == "no"


def _raising(shape: Shape, error: BaseException) -> Shape:
    def fail() -> Any:
        raise error

    return _doing(shape, fail)


def _doing(shape: Shape, step: Callable[[], Any]) -> Shape:
    """*shape* with a method of the same kind that does *step* and no more."""

    def plain(self: Any, request: Any, **kwargs: Any) -> Any:
        return step()

    async def coroutine(self: Any, request: Any, **kwargs: Any) -> Any:
        return step()

    def generator(self: Any, request: Any, **kwargs: Any) -> Any:
        yield step()
        yield step()

    async def async_generator(self: Any, request: Any, **kwargs: Any) -> Any:
        yield step()
        yield step()

    sync, asynchronous = (plain, coroutine) if shape.method == "complete" else (generator, async_generator)
    method = asynchronous if "async" in shape.name else sync
    return replace(shape, make=type("Doing", (shape.make,), {shape.method: method}))


def _step(result: Any) -> None:
    """Drive whatever it is by hand: no loop meddles with what is raised."""
    if inspect.iscoroutine(result):
        result.send(None)
    elif inspect.isasyncgen(result):
        anext(result).send(None)
    elif inspect.isgenerator(result):
        next(result)


@ALL
@pytest.mark.parametrize("nested", ["class in instance", "instance in instance", "subclass of class", "instance twice"])
def test_one_logical_call_is_one_call_however_many_layers_see_it(hub: ListHub, shape: Shape, nested: str) -> None:
    cls = fresh(shape.make)
    if nested == "class in instance":
        provider = traced(traced(cls, hub=hub)(), provider="outer", hub=hub)
    elif nested == "instance in instance":
        provider = traced(Delegating(traced(cls(), hub=hub)), provider="outer", hub=hub)
    elif nested == "subclass of class":
        base = traced(cls, hub=hub)
        provider = traced(type("Sub", (base,), {}), provider="outer", hub=hub)()
    else:
        provider = traced(traced(cls(), hub=hub), provider="outer", model="outer-1", hub=hub)
        assert isinstance(provider, cls)
    drained(getattr(provider, shape.method)(shape.ask()))
    seen = hub.call
    assert len(seen.of("llm:response")) == 1
    assert seen.of("provider:retry") == seen.of("provider:attempt") == []
    assert seen.request["provider"] == "outer"
    assert seen.request["model"] == ("outer-1" if nested == "instance twice" else shape.model)
    assert seen.response["usage"]["input_tokens"] == 12
    assert said(seen) == TEXT


@pytest.mark.parametrize("way", [by_class, by_instance])
def test_a_stream_built_on_complete_and_a_stream_of_strings_built_on_that_are_one_call(hub: ListHub, way: Any) -> None:
    provider = way(Shape("", Debate, lambda: ASK, "", "", ""), hub)
    assert drained(provider.complete_stream(ASK, model="debate-9")) == WORDS
    seen = hub.call
    assert len(seen.of("llm:response")) == 1
    assert seen.request["model"] == "debate-9"
    assert seen.response["usage"]["output_tokens"] == 5
    assert seen.response["model"] == "debate-1-served"
    assert said(seen) == TEXT


@pytest.mark.parametrize("cls", [Spine, SpineEcho, Debate, Amplifier])
@WAYS
def test_stream_is_there_exactly_when_the_wrapped_one_has_it(hub: ListHub, cls: Any, way: Any) -> None:
    provider = way(Shape("", cls, lambda: ASK, "", "", ""), hub)
    for name in ("complete", "stream", "complete_stream", "get_model_for_tier", "close"):
        assert hasattr(provider, name) == hasattr(cls(), name), name


def test_unknown_attributes_are_forwarded_both_ways(hub: ListHub) -> None:
    bare = Amplifier()
    provider: Any = traced(bare, hub=hub)
    provider.coordinator = "set"
    assert bare.coordinator == "set"
    bare.config["new"] = 1
    assert provider.config["new"] == 1
    assert provider.get_info() == {"id": "amplifier"}
    assert asyncio.run(provider.list_models()) == []
    with pytest.raises(AttributeError, match="'Amplifier' object has no attribute 'missing'"):
        _ = provider.missing
    assert hub.calls == []


@pytest.mark.parametrize("way", [by_class, by_instance])
def test_it_passes_its_systems_own_checks(hub: ListHub, way: Any) -> None:
    debate = way(Shape("", Debate, lambda: ASK, "", "", ""), hub)
    spine = way(Shape("", Spine, lambda: ASK, "", "", ""), hub)
    echo = way(Shape("", SpineEcho, lambda: ASK, "", "", ""), hub)
    assert isinstance(debate, DebateBase)
    assert isinstance(spine, SpineProvider)
    assert isinstance(spine, SpineStreaming)
    assert isinstance(echo, SpineProvider)
    assert not isinstance(echo, SpineStreaming)
    for method in (debate.complete, spine.complete, echo.complete):
        assert inspect.iscoroutinefunction(method)
    assert inspect.isasyncgenfunction(spine.stream)
    assert inspect.signature(spine.complete) == inspect.signature(Spine().complete)


def test_abstract_classes_stay_abstract_and_can_be_implemented(hub: ListHub) -> None:
    base: Any = traced(fresh(DebateBase), hub=hub)
    with pytest.raises(TypeError, match="abstract"):
        base()

    class Own(base):  # type: ignore[misc]
        name = "own"

        def complete(self, messages: Any, *, model: str | None = None) -> Any:
            return TEXT

    assert Own().complete(ASK) == TEXT
    assert Own.__abstractmethods__ == frozenset()


def test_super_and_overriding_go_on_working(hub: ListHub) -> None:
    base = traced(fresh(SyncDebate), hub=hub)

    @traced(hub=hub)
    class Own(base):  # type: ignore[misc, valid-type]
        def complete(self, messages: Any, **kwargs: Any) -> Any:
            return super().complete([*messages, *messages], **kwargs)

    assert Own().complete(ASK).content == TEXT
    assert hub.call.sent["messages"] == ASK
    assert len(hub.call.of("llm:response")) == 1


@traced
class Kept(SyncDebate):
    """At module level, so that it can be pickled."""


def test_it_is_pickled_and_copied_as_what_it_is(hub: ListHub) -> None:
    for provider in (traced(SyncDebate(), hub=hub), Kept()):
        again = pickle.loads(pickle.dumps(provider))
        assert type(again) in (SyncDebate, Kept)
        assert again.config == provider.config
    proxy: Any = traced(Delegating(SyncDebate()), hub=hub)
    for twin in (copy.copy(proxy), copy.deepcopy(proxy)):
        twin._inner = SyncDebate()
        twin._inner.config.model = "other"
        assert twin.complete(ASK).content == TEXT
        assert hub.calls[-1].request["model"] == "other"


class Slotted(SyncDebate):
    __slots__ = ("count",)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def complete(self, messages: Any, *, model: str | None = None) -> Any:
        self.count += 1
        return super().complete(messages)


class OnlySlots:
    __slots__ = ("count", "model")

    def __init__(self) -> None:
        self.model = "slots-1"

    def complete(self, messages: Any) -> str:
        self.count = getattr(self, "count", 0) + 1
        return TEXT


@pytest.mark.parametrize("cls", [Slotted, OnlySlots])
def test_what_stands_in_slots_is_shared_with_the_instance(hub: ListHub, cls: Any) -> None:
    bare = cls()
    provider = traced(bare, hub=hub)
    provider.complete(ASK)
    provider.complete(ASK)
    assert provider.count == bare.count == 2
    del provider.count
    assert not hasattr(bare, "count")
    assert hasattr(provider, "__dict__") == hasattr(bare, "__dict__")


@ALL
@WAYS
def test_the_call_is_current_inside_each_step_and_never_between_two(hub: ListHub, shape: Shape, way: Any) -> None:
    inside: list[Any] = []
    provider = way(_doing(shape, lambda: inside.append(current_call.get())), hub)

    async def read(result: Any) -> None:
        if inspect.iscoroutine(result):
            await result
        elif inspect.isasyncgen(result):
            async for _ in result:
                assert current_call.get() is None
        else:
            for _ in result or ():
                assert current_call.get() is None

    asyncio.run(read(getattr(provider, shape.method)(shape.ask())))
    assert current_call.get() is None
    assert inside
    assert None not in inside


@ALL
def test_100_interleaved_calls_in_several_loops_and_threads_pair(hub: ListHub, shape: Shape) -> None:
    provider = by_instance(shape, hub)

    async def one() -> None:
        result = getattr(provider, shape.method)(shape.ask())
        if inspect.isasyncgen(result):
            async for _ in result:
                await asyncio.sleep(0)
        elif inspect.isgenerator(result):
            for _ in result:
                await asyncio.sleep(0)
        elif inspect.iscoroutine(result):
            await result

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(100)))

    asyncio.run(many())
    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.calls) == 300
    assert {call.status for call in hub.calls} == {"ok"}
    assert {len(call.records) for call in hub.calls} == {4}


@PLAIN
def test_a_cancelled_call_is_cancelled_and_a_dropped_one_abandoned(hub: ListHub, shape: Shape) -> None:
    if not inspect.iscoroutinefunction(shape.make.complete):
        return
    provider = by_instance(shape, hub)

    async def main() -> None:
        task = asyncio.ensure_future(provider.complete(shape.ask()))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    begun = provider.complete(shape.ask())
    begun.send(None)
    begun.close()
    assert [call.status for call in hub.calls] == ["cancelled", "abandoned"]
