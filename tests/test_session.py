"""Sessions label what is made within them, whatever kind of function they decorate."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from hub.session import labels, session


def test_a_decorated_function_runs_in_a_session_of_its_own_each_time() -> None:
    @session("chat-1")
    def inside() -> Any:
        return labels()["session_id"]

    assert [inside(), inside()] == ["chat-1", "chat-1"]
    assert labels() == {}


def test_a_decorated_coroutine_runs_in_the_session() -> None:
    @session("chat-1", user_id="u1")
    async def inside() -> Any:
        await asyncio.sleep(0)
        return dict(labels())

    async def both() -> list[Any]:
        return list(await asyncio.gather(inside(), inside()))

    assert asyncio.run(both()) == [{"session_id": "chat-1", "user_id": "u1"}] * 2


def test_async_with_is_the_same() -> None:
    async def inside() -> Any:
        async with session("chat-2") as one:
            assert isinstance(one, session)
            return labels()["session_id"]

    assert asyncio.run(inside()) == "chat-2"


def test_a_decorated_generator_stays_one_and_its_labels_never_reach_the_consumer() -> None:
    closed: list[Any] = []

    @session("chat-1")
    def words() -> Any:
        try:
            got = yield labels()["session_id"]
            try:
                yield got
            except KeyError:
                yield labels()["session_id"]
            return "end"
        finally:
            closed.append(labels()["session_id"])

    stream = words()
    assert next(stream) == "chat-1"
    assert labels() == {}
    assert stream.send("echo") == "echo"
    assert stream.throw(KeyError()) == "chat-1"
    with pytest.raises(StopIteration) as caught:
        next(stream)
    assert caught.value.value == "end"
    abandoned = words()
    next(abandoned)
    abandoned.close()
    assert closed == ["chat-1", "chat-1"]


def test_a_decorated_async_generator_stays_one() -> None:
    closed: list[Any] = []

    @session("chat-1")
    async def words() -> AsyncIterator[Any]:
        try:
            yield labels()["session_id"]
            yield 2
        finally:
            closed.append(labels()["session_id"])

    async def consume() -> list[Any]:
        stream = words()
        first = await stream.__anext__()
        outside = dict(labels())
        await stream.aclose()  # type: ignore[attr-defined]
        return [first, outside, [item async for item in words()]]

    assert asyncio.run(consume()) == ["chat-1", {}, ["chat-1", 2]]
    assert closed == ["chat-1", "chat-1"]


def test_a_session_left_in_another_context_harms_nobody() -> None:
    def inside() -> Iterator[int]:
        with session("chat-1"):
            yield 1

    stream = inside()
    contextvars.copy_context().run(next, stream)
    stream.close()  # type: ignore[attr-defined]
    assert labels() == {}


def test_tasks_may_share_one_session_object() -> None:
    chat = session("chat-1")

    async def visit(pause: float) -> list[Mapping[str, object]]:
        with session(user_id="u1"):
            async with chat:
                await asyncio.sleep(pause)
                inside = labels()
            return [inside, labels()]

    async def main() -> object:
        return await asyncio.gather(visit(0.005), visit(0.01), visit(0))

    assert asyncio.run(main()) == [[{"session_id": "chat-1", "user_id": "u1"}, {"user_id": "u1"}]] * 3
