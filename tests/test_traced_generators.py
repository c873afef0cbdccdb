"""Traced generators and async generators stay what they are, and end their call however they end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import get_current_span

from hub import traced
from hub.calls import current_call
from hub.extractors.streams import FOLD
from tests.calls_of import ListHub, durable_hub

WORDS = ["It ", "is ", "on ", "its ", "way."]


def tell(prompt: str) -> Iterator[str]:
    """Tells."""
    yield from WORDS


async def atell(prompt: str) -> AsyncIterator[str]:
    """Tells."""
    for word in WORDS:
        await asyncio.sleep(0)
        yield word


def drain(stream: Any) -> list[Any]:
    """What a generator or async generator yields."""
    if inspect.isasyncgen(stream):

        async def collect() -> list[Any]:
            return [chunk async for chunk in stream]

        return asyncio.run(collect())
    return list(stream)


EITHER = pytest.mark.parametrize("function", [tell, atell], ids=["sync", "async"])


@EITHER
def test_a_stream_is_recorded_with_its_text_chunks_and_first_token_time(
    hub: ListHub, function: Callable[..., Any]
) -> None:
    assert drain(traced(function, model="m", hub=hub)("where?")) == WORDS
    seen = hub.call
    assert seen.request["stream"] is True
    assert seen.status == "ok"
    assert seen.text == "It is on its way."
    assert seen.response["chunk_count"] == 5
    assert 0 < seen.response["ttft_ms"] < seen.response["duration_ms"]
    assert [r["type"] for r in seen.records].count("llm:response") == 1
    assert len(seen.records) == 4


@EITHER
def test_the_wrapper_is_a_generator_function_of_the_same_kind(hub: ListHub, function: Callable[..., Any]) -> None:
    stream = traced(function, hub=hub)
    assert inspect.isgeneratorfunction(stream) == inspect.isgeneratorfunction(function)
    assert inspect.isasyncgenfunction(stream) == inspect.isasyncgenfunction(function)
    assert inspect.signature(stream) == inspect.signature(function)
    assert stream.__doc__ == "Tells."


@EITHER
def test_a_stream_nobody_reads_is_no_call(hub: ListHub, function: Callable[..., Any]) -> None:
    stream = traced(function, hub=hub)("x")
    del stream
    gc.collect()
    assert hub.calls == []


def test_break_close_and_collection_abandon_a_stream(hub: ListHub) -> None:
    ask = traced(tell, hub=hub)
    for _ in ask("break"):
        break
    held: Any = ask("close")
    next(held)
    held.close()
    circle: dict[str, Any] = {"stream": ask("collect")}
    circle["self"] = circle
    next(circle["stream"])
    del circle
    gc.collect()
    assert [call.status for call in hub.calls] == ["abandoned"] * 3
    assert [call.text for call in hub.calls] == ["It "] * 3
    assert all("error_type" not in call.response or call.response["chunk_count"] == 1 for call in hub.calls)


def test_break_and_aclose_abandon_an_async_stream(hub: ListHub) -> None:
    ask: Any = traced(atell, hub=hub)

    async def main() -> None:
        async for _ in ask("break"):
            break
        stream = ask("aclose")
        await anext(stream)
        await stream.aclose()
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [call.status for call in hub.calls] == ["abandoned"] * 2
    assert [call.text for call in hub.calls] == ["It "] * 2


def test_a_stream_left_open_when_its_loop_ends_is_abandoned(hub: ListHub) -> None:
    ask: Any = traced(atell, hub=hub)
    kept = []

    async def main() -> None:
        stream = ask("x")
        kept.append(stream)
        await anext(stream)

    asyncio.run(main())
    assert hub.call.status == "abandoned"


def test_a_stream_that_returns_when_closed_is_abandoned_all_the_same(hub: ListHub) -> None:
    def polite() -> Iterator[str]:
        try:
            yield "It "
        except GeneratorExit:
            return

    stream: Any = traced(polite, hub=hub)()
    next(stream)
    stream.close()
    assert (hub.call.status, hub.call.text) == ("abandoned", "It ")


class Broken(Exception):
    pass


def test_an_exception_in_mid_stream_arrives_as_raised(hub: ListHub) -> None:
    error = Broken("gone")

    def fail(prompt: str) -> Iterator[str]:
        yield "It "
        raise error

    with pytest.raises(Broken) as caught:
        drain(traced(fail, hub=hub)("x"))
    assert caught.value is error
    assert error.__context__ is None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-2:] == ["wrapper", "fail"]
    assert (hub.call.status, hub.call.text, hub.call.error) == ("error", "It ", "gone")


def test_an_exception_in_mid_async_stream_arrives_as_raised(hub: ListHub) -> None:
    error = Broken("gone")

    async def fail(prompt: str) -> AsyncIterator[str]:
        yield "It "
        raise error

    with pytest.raises(Broken) as caught:
        drain(traced(fail, hub=hub)("x"))
    assert caught.value is error
    assert error.__context__ is None
    assert (hub.call.status, hub.call.text) == ("error", "It ")


def test_a_cancelled_stream_is_cancelled(hub: ListHub) -> None:
    @traced(hub=hub)
    async def slow(prompt: str) -> AsyncIterator[str]:
        yield "It "
        await asyncio.sleep(30)

    async def read() -> None:
        async for _ in slow("x"):
            pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (hub.call.status, hub.call.text) == ("cancelled", "It ")


def conversation(log: list[Any]) -> Generator[Any, Any, str]:
    """Answers whatever is sent or thrown, notes it, and returns a value."""
    got = yield "start"
    while got != "stop":
        log.append(got)
        try:
            got = yield got
        except LookupError as error:
            log.append(("caught", error.__context__))
            got = yield "recovered"
    return "value"


def play(stream: Generator[Any, Any, str]) -> list[Any]:
    """One conversation and everything that came out of it."""
    heard = [next(stream), stream.send("a"), stream.throw(KeyError("k")), stream.send("b")]
    with pytest.raises(StopIteration) as stopped:
        stream.send("stop")
    heard.append(stopped.value.value)
    return heard


def test_send_throw_and_the_return_value_pass_through(hub: ListHub) -> None:
    bare: list[Any] = []
    noted: list[Any] = []
    assert play(traced(conversation, hub=hub)(noted)) == play(conversation(bare))
    assert noted == bare
    assert hub.call.status == "ok"


def test_asend_and_athrow_pass_through(hub: ListHub) -> None:
    async def talk() -> AsyncGenerator[Any, Any]:
        got = yield "start"
        try:
            yield got
        except LookupError as error:
            yield ("caught", error.__context__)

    async def play(stream: AsyncGenerator[Any, Any]) -> list[Any]:
        return [
            await anext(stream),
            await stream.asend("a"),
            await stream.athrow(KeyError("k")),
            await anext(stream, 0),
        ]

    assert asyncio.run(play(traced(talk, hub=hub)())) == asyncio.run(play(talk()))


@pytest.mark.parametrize("reply", ["raise another", "raise from none", "return", "yield"])
def test_what_a_generator_makes_of_a_thrown_exception_is_what_it_made_unwrapped(hub: ListHub, reply: str) -> None:
    def odd() -> Generator[str, None, str]:
        caught = None
        try:
            yield "one"
        except ValueError as error:
            caught = error
        if reply == "raise another":
            raise KeyError("other")
        if reply == "raise from none":
            raise KeyError("other") from None
        if reply == "yield":
            yield "two"
        return f"saw {caught!r}"

    def outcome(stream: Generator[str, None, str]) -> Any:
        next(stream)
        try:
            return stream.throw(ValueError("v"))
        except StopIteration as stop:
            return stop.value
        except KeyError as error:
            return repr(error), repr(error.__context__), error.__suppress_context__

    assert outcome(traced(odd, hub=hub)()) == outcome(odd())


def test_closing_a_generator_that_ignores_it_raises_as_unwrapped(hub: ListHub) -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    stream: Any = traced(stubborn, hub=hub)()
    next(stream)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        stream.close()


def test_cleaning_up_happens_at_close_as_unwrapped(hub: ListHub) -> None:
    done = []

    @traced(hub=hub)
    def tidy() -> Iterator[int]:
        try:
            yield 1
        finally:
            done.append(current_call.get() is not None)

    stream: Any = tidy()
    next(stream)
    stream.close()
    assert done == [True]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_call_is_current_in_each_step_and_never_between_two(hub: ListHub, asynchronous: bool) -> None:
    inside: list[Any] = []

    def note() -> None:
        inside.append(around())

    def look(prompt: str) -> Iterator[int]:
        for n in range(3):
            note()
            yield n

    async def alook(prompt: str) -> AsyncIterator[int]:
        for n in range(3):
            await asyncio.sleep(0)
            note()
            yield n

    def around() -> Any:
        return current_call.get(), get_current_span().get_span_context().span_id

    async def main() -> list[Any]:
        return [around() async for _ in traced(alook, hub=hub)("x")]

    outside = asyncio.run(main()) if asynchronous else [around() for _ in traced(look, hub=hub)("x")]
    assert outside == [(None, 0)] * 3
    span_id = int(hub.call.records[0]["span_id"] or "0", 16)
    assert [span for _, span in inside] == [span_id] * 3
    assert len({id(call) for call, _ in inside}) == 1


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def test_context_variables_flow_between_consumer_and_stream_as_unwrapped(hub: ListHub) -> None:
    def flow(prompt: str) -> Iterator[int]:
        for _ in range(3):
            VARIABLE.set(VARIABLE.get() + 1)
            yield VARIABLE.get()

    def outcome(stream: Iterator[int]) -> list[int]:
        VARIABLE.set(0)
        seen = []
        for value in stream:
            seen.append(value)
            VARIABLE.set(VARIABLE.get() + 10)
        return seen

    assert outcome(traced(flow, hub=hub)("x")) == outcome(flow("x"))


def test_a_stream_may_be_read_step_by_step_in_several_threads(hub: ListHub) -> None:
    stream: Any = traced(tell, hub=hub)("x")
    seen: list[str] = []
    for _ in WORDS:
        thread = threading.Thread(target=lambda: seen.append(next(stream)))
        thread.start()
        thread.join()
    assert next(stream, None) is None
    assert seen == WORDS
    assert hub.call.status == "ok"


def test_a_stream_that_calls_a_traced_function_is_one_call(hub: ListHub) -> None:
    @traced(hub=hub)
    def complete(prompt: str) -> str:
        return "whole"

    @traced(hub=hub)
    def stream(prompt: str) -> Iterator[str]:
        yield complete(prompt)

    assert list(stream("x")) == ["whole"]
    assert hub.call.text == "whole"


def test_interleaved_streams_of_one_loop_pair(hub: ListHub) -> None:
    @traced(hub=hub)
    async def ask(prompt: str) -> AsyncIterator[str]:
        for word in ("re: ", prompt):
            await asyncio.sleep(0.001)
            yield word

    async def read(n: int) -> str:
        return "".join([word async for word in ask(str(n))])

    async def main() -> list[str]:
        return await asyncio.gather(*(read(n) for n in range(100)))

    assert asyncio.run(main()) == [f"re: {n}" for n in range(100)]
    assert all(call.text == "re: " + call.sent["messages"][0]["content"] for call in hub.calls)
    assert len(hub.calls) == 100


def chat_chunk(**delta: Any) -> dict[str, Any]:
    reason = delta.pop("reason", None)
    usage = delta.pop("usage", None)
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "c-1", "model": "served", "choices": choices, "usage": usage}


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", [dict, as_object])
def test_chunks_of_openai_become_a_message(hub: ListHub, shape: Callable[..., Any]) -> None:
    call = {"index": 0, "id": "t-1", "function": {"name": "find", "arguments": '{"a":'}}
    chunks = [
        chat_chunk(role="assistant", content="Let me "),
        chat_chunk(content="look.", tool_calls=[call]),
        chat_chunk(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        chat_chunk(reason="tool_calls"),
        chat_chunk(usage={"prompt_tokens": 3, "completion_tokens": 5}),
    ]
    stream: Any = traced(lambda prompt: (yield from map(shape, chunks)), hub=hub)
    assert len(list(stream("x"))) == 5
    (message,) = hub.call.answer["messages"]
    assert message["content"] == "Let me look."
    assert message["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"a":1}'}
    assert hub.call.response["usage"]["output_tokens"] == 5
    assert hub.call.response["finish_reasons"] == ["tool_calls"]
    assert hub.call.response["model"] == "served"
    assert hub.call.response["response_id"] == "c-1"


def test_chunks_of_the_contracts_become_a_message(hub: ListHub) -> None:
    debate = [
        SimpleNamespace(content="a", is_final=False, finish_reason=None, usage=None),
        SimpleNamespace(
            content="b", is_final=True, finish_reason="stop", usage={"input_tokens": 1, "output_tokens": 0}
        ),
    ]
    usage = SimpleNamespace(input_tokens=2, output_tokens=3, cost_usd=0.0)
    whole = SimpleNamespace(message=SimpleNamespace(role="assistant", content="ab"), usage=usage, finish_reason="stop")
    spine = [SimpleNamespace(delta="a", response=None), SimpleNamespace(delta="", response=whole)]
    for chunks in (debate, spine):
        stream: Any = traced(lambda prompt, chunks=chunks: (yield from chunks), hub=hub)
        list(stream("x"))
    first, second = hub.calls
    assert first.text == second.text == "ab"
    assert first.response["usage"]["output_tokens"] == 0
    assert second.response["usage"]["output_tokens"] == 3
    assert "reported_cost_usd" not in second.response


def test_an_extractor_is_given_what_was_yielded(hub: ListHub) -> None:
    def extract(arguments: Any, result: Any) -> Any:
        return {"usage": {"input_tokens": len(arguments["prompt"]), "output_tokens": len(result)}}

    list(traced(tell, extract=extract, hub=hub)("abc"))
    assert hub.call.response["usage"] == {"input_tokens": 3, "output_tokens": 5}


@EITHER
def test_long_streams_are_whole(hub: ListHub, function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WORDS", [f"{n} " for n in range(3 * FOLD + 7)])
    drain(traced(function, hub=hub)("x"))
    assert hub.call.text == "".join(WORDS)
    assert hub.call.response["chunk_count"] == len(WORDS)


@EITHER
@pytest.mark.parametrize("part", ["extractor", "chunks", "recorder"])
def test_whatever_of_ours_breaks_the_stream_goes_on(
    hub: ListHub, function: Callable[..., Any], part: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret text")

    if part == "chunks":
        monkeypatch.setattr("hub.extractors.streams.Chunks.facts", breaks)
    if part == "recorder":
        monkeypatch.setattr(hub.recorder, "start", breaks)
    stream = traced(function, extract=breaks if part == "extractor" else None, hub=hub)
    with caplog.at_level(logging.WARNING, "hub"):
        assert drain(stream("x")) == WORDS
    assert "RuntimeError" in caplog.text
    assert "secret text" not in caplog.text


@EITHER
def test_with_recording_off_a_stream_is_what_it_is(hub: ListHub, function: Callable[..., Any]) -> None:
    hub.recorder = None
    assert drain(traced(function, hub=hub)("x")) == WORDS


@EITHER
def test_a_durable_stream_waits_for_the_disk_before_its_request_leaves(function: Callable[..., Any]) -> None:
    hub = durable_hub()
    drain(traced(function, hub=hub)("x"))
    assert hub.log.syncer.counts == [2]


def test_a_partial_of_a_generator_is_still_one(hub: ListHub) -> None:
    assert inspect.isgeneratorfunction(traced(functools.partial(tell), hub=hub))


def test_a_stream_keeps_few_of_its_chunks_alive(hub: ListHub) -> None:
    class Chunk:
        alive = 0

        def __init__(self) -> None:
            Chunk.alive += 1

        def __del__(self) -> None:
            Chunk.alive -= 1

    def sing(prompt: str) -> Iterator[Chunk]:
        for _ in range(10 * FOLD):
            yield Chunk()

    most = max(Chunk.alive for _ in traced(sing, hub=hub)("x"))
    assert most <= FOLD + 2
    assert FOLD <= 64


@pytest.mark.parametrize("raised", [Broken, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_whatever_a_stream_raises_is_recorded_and_raised_again(
    hub: ListHub, raised: type[BaseException], asynchronous: bool
) -> None:
    error = raised("no")

    def fail(prompt: str) -> Iterator[str]:
        yield "It "
        raise error

    async def afail(prompt: str) -> AsyncIterator[str]:
        yield "It "
        raise error

    def read(stream: Any) -> None:
        if not asynchronous:
            next(stream)
            next(stream)
        with pytest.raises(StopIteration):
            anext(stream).send(None)
        anext(stream).send(None)

    with pytest.raises(raised) as caught:
        read(traced(afail if asynchronous else fail, hub=hub)("x"))
    assert caught.value is error
    assert error.__context__ is None
    assert hub.call.status == {Broken: "error", GeneratorExit: "abandoned"}.get(raised, "cancelled")
    assert hub.call.text == "It "


@EITHER
def test_an_extractor_that_is_interrupted_ends_the_call(hub: ListHub, function: Callable[..., Any]) -> None:
    def extract(arguments: Any, result: Any) -> Any:
        raise SystemExit

    with pytest.raises(SystemExit):
        drain(traced(function, extract=extract, hub=hub)("x"))
    assert hub.call.status == "cancelled"


def test_a_stream_collected_in_the_middle_of_our_own_work_takes_no_lock(hub: ListHub) -> None:
    stream: Any = traced(tell, hub=hub)("x")
    next(stream)
    held = [stream]
    del stream
    # As when the garbage collector runs in the middle of an append: the caller is a function of the hub's.
    namespace: dict[str, Any] = {"__name__": "hub.spool", "held": held}
    exec("def append(): held.clear()", namespace)
    namespace["append"]()
    assert [record["type"] for record in hub.log.records].count("llm:response") == 0
    assert hub.call.status == "abandoned"
