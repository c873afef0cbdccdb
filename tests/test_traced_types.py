"""Type checkers see what was there before: these run, but it is mypy that finds them wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import assert_type

import pytest
from openai import AsyncOpenAI, OpenAI

import hub
from hub.runtime import Hub


def ask(prompt: str, *, depth: int = 1) -> bytes:
    return prompt.encode()


async def stream(prompt: str) -> AsyncIterator[int]:
    yield 1


class Provider:
    def generate(self, prompt: str) -> str:
        return prompt


@hub.traced(provider="acme")
def words(prompt: str) -> Iterator[str]:
    yield prompt


@hub.traced
async def answer(prompt: str) -> int:
    return 1


def test_traced_gives_its_arguments_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.recorder._hub", lambda: None)
    assert_type(hub.traced(OpenAI(api_key="any")), OpenAI)
    assert_type(hub.traced(AsyncOpenAI(api_key="any"), provider="acme"), AsyncOpenAI)
    assert_type(hub.traced(Provider(), methods=["generate"]), Provider)
    assert_type(hub.traced(Provider, methods=["generate"]), type[Provider])
    assert_type(hub.traced(ask)("x", depth=2), bytes)
    assert_type(hub.traced(provider="acme")(ask)("x", depth=2), bytes)
    assert_type(hub.traced(stream)("x"), AsyncIterator[int])
    assert_type(words("x"), Iterator[str])
    plain: Callable[[str], bytes] = hub.traced(model="m")(ask)
    assert plain("x") == b"x"


async def typed(one: Hub) -> None:
    """Never run."""
    assert_type(await answer("x"), int)
    assert_type(one.traced(ask)("x", depth=2), bytes)
    assert_type(one.traced(OpenAI(api_key="any")), OpenAI)

    @one.traced(provider="acme")
    def inner(prompt: str) -> int:
        return 1

    assert_type(inner("x"), int)
    hub.traced(ask)(5)  # type: ignore[arg-type]  # or the type was lost
    one.traced(ask, provide="acme")  # type: ignore[call-overload]
