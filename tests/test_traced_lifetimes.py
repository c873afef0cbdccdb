"""What a traced call keeps alive, and what becomes of it when its steps are collected elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import OpenAI
from opentelemetry.trace import get_current_span

from hub import traced
from hub.calls import Call, current_call
from hub.demo.server import LoopbackServer
from tests.calls_of import ListHub, durable_hub
from tests.openai_kit import ASK, MODEL, demo, play, value


class Held:
    """A local variable of a frame that an exception passes."""


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def is_gone_at_once(fail: Callable[[], Any]) -> bool:
    """Whether nothing but a reference count keeps the frames that the exception of *fail* has passed."""

    def caller() -> weakref.ref[Held]:
        held = Held()
        try:
            fail()
        except Exception:
            return weakref.ref(held)
        raise AssertionError("nothing was raised")

    with without_collector():
        return caller()() is None


class Refused(Exception):
    pass


def fail(prompt: str) -> str:
    raise Refused("no")


async def afail(prompt: str) -> str:
    raise Refused("no")


def fail_late(prompt: str) -> Iterator[str]:
    yield "one"
    raise Refused("no")


def step(coroutine: Any) -> None:
    coroutine.send(None)


def test_an_exception_is_gone_with_its_last_user_as_unwrapped(hub: ListHub) -> None:
    @traced(hub=hub)
    def outer(prompt: str) -> str:
        return traced(fail, hub=hub)(prompt)

    for attempt in (
        lambda: traced(fail, hub=hub)("x"),
        lambda: step(traced(afail, hub=hub)("x")),
        lambda: list(traced(fail_late, hub=hub)("x")),
        lambda: outer("x"),
    ):
        assert is_gone_at_once(attempt)
    assert [call.status for call in hub.calls] == ["error"] * 4
    assert [call.error for call in hub.calls] == ["no"] * 4


def test_an_exception_within_a_call_that_goes_on_is_gone_too(hub: ListHub) -> None:
    @traced(hub=hub)
    def agent(prompt: str) -> str:
        assert is_gone_at_once(lambda: traced(fail, hub=hub)(prompt))
        return "text"

    assert agent("x") == "text"
    assert (hub.call.status, hub.call.response["attempts"]) == ("ok", 1)


def test_an_exception_of_a_stream_that_outlives_its_call_is_gone_too(hub: ListHub) -> None:
    streams: list[Any] = []

    @traced(hub=hub)
    def outer(prompt: str) -> str:
        streams.append(traced(fail_late, hub=hub)(prompt))
        next(streams[0])
        raise Refused("sooner")

    with pytest.raises(Refused, match="sooner"):
        outer("x")
    assert is_gone_at_once(lambda: next(streams.pop()))
    assert (hub.call.status, hub.call.error) == ("error", "sooner")


@pytest.mark.parametrize("switches", ["fail=400", "cut=1"])
def test_an_exception_of_an_sdk_is_gone_as_soon_as_unwrapped(
    hub: ListHub, server: LoopbackServer, switches: str
) -> None:
    def is_gone(client: Any) -> bool:
        create = client.chat.completions.create
        return is_gone_at_once(lambda: create(model=MODEL, messages=ASK, extra_headers=demo(switches)))

    with OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as plain:
        as_unwrapped = is_gone(plain)  # of a cut answer httpx's own frames are in a circle, from Python 3.12 on
        assert is_gone(traced(plain, hub=hub)) == as_unwrapped
    assert hub.call.status == "error"


def test_a_pooled_connection_keeps_nothing_of_the_call_that_opened_it(hub: ListHub, server: LoopbackServer) -> None:
    async def chat(client: Any) -> Any:
        await value(client.chat.completions.create(model=MODEL, messages=ASK))
        raw = await value(client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK))
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, Call) and one.recorder is hub.recorder]
        assert kept, "the connection's callbacks run in the context that it was opened in"
        assert not any(call.raw_request or call.facts["messages"] or call.outcome.facts for call in kept)  # type: ignore[union-attr]
        return raw.status_code

    assert play("async", server.base_url, chat, hub) == 200


class Suspended:
    """Awaited, it suspends and leaves the rest to whoever drives the coroutine."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def hang(prompt: str) -> str:
    await Suspended()
    return "done"


async def hang_first(prompt: str) -> AsyncIterator[str]:
    await Suspended()
    yield "done"


def begun(function: Any, context: contextvars.Context) -> Any:
    """A coroutine, or an async generator's step, that is suspended after it began in *context*."""
    started = function("x")
    driven = started if hasattr(started, "send") else started.asend(None)
    context.run(driven.send, None)
    return driven


EITHER = pytest.mark.parametrize("function", [hang, hang_first], ids=["coroutine", "async generator"])


@EITHER
def test_what_is_closed_in_another_context_is_abandoned_and_closes_as_unwrapped(hub: ListHub, function: Any) -> None:
    with pytest.raises(GeneratorExit):
        begun(traced(function, hub=hub), contextvars.copy_context()).throw(GeneratorExit())
    assert hub.call.status == "abandoned"


@EITHER
def test_what_is_driven_on_in_another_context_goes_on(hub: ListHub, function: Any) -> None:
    driven = begun(traced(function, hub=hub), contextvars.copy_context())
    with pytest.raises(StopIteration) as result:
        driven.send(None)
    assert result.value.value == "done"


@EITHER
def test_what_is_collected_within_another_call_leaves_that_one_current(hub: ListHub, function: Any) -> None:
    driven = begun(traced(function, hub=hub), contextvars.copy_context())

    @traced(hub=hub)
    def ask(prompt: str) -> tuple[Any, Any]:
        before = current_call.get(), get_current_span()
        with pytest.raises(GeneratorExit):
            driven.throw(GeneratorExit())
        return before, (current_call.get(), get_current_span())

    before, after = ask("y")
    assert before == after
    assert before[0] is not None


async def hang_and_fail(prompt: str) -> None:
    try:
        await hang_for_ever(prompt)
    finally:
        raise Refused("while cleaning up")


def test_what_fails_when_it_is_collected_in_the_middle_of_our_own_work_takes_no_lock(hub: ListHub) -> None:
    async def begun() -> Any:
        coroutine = traced(hang_and_fail, hub=hub)("x")
        coroutine.send(None)
        return coroutine

    namespace: dict[str, Any] = {"__name__": "hub.spool", "held": asyncio.run(begun()), "Refused": Refused}
    exec("def append():\n    try: held.close()\n    except Refused: pass", namespace)
    namespace["append"]()
    assert "llm:response" not in hub.log.types()
    assert (hub.call.status, hub.call.error) == ("error", "while cleaning up")


def test_what_is_collected_while_it_waits_for_the_disk_is_abandoned_and_takes_no_lock() -> None:
    hub = durable_hub()
    hub.log.syncer.future = lambda loop: loop.create_future()

    async def begun() -> Any:
        coroutine = traced(afail, hub=hub)("x")
        coroutine.send(None)
        return coroutine

    namespace: dict[str, Any] = {"__name__": "hub.spool", "held": asyncio.run(begun())}
    exec("def append(): held.close()", namespace)
    namespace["append"]()
    assert "llm:response" not in hub.log.types()
    assert hub.call.status == "abandoned"


def test_a_task_collected_while_it_waits_is_abandoned_without_a_word(
    hub: ListHub, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(traced(hang_for_ever, hub=hub)("x"))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, loop
    gc.collect()
    assert hub.call.status == "abandoned"
    assert "Exception ignored" not in capsys.readouterr().err


async def hang_for_ever(prompt: str) -> None:
    await asyncio.get_running_loop().create_future()
