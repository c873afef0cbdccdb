"""Answers and streams cut at every byte: each is one call with one end, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hub import traced
from providers.errors import NetworkError, StreamError
from tests.calls_of import ListHub
from tests.fault_kit import PATIENCE, REQUEST, asked, ended, outcome, own, provider_at, run, sdks, serving, told
from tests.raw_server import Play, plain, streamed

SMALL = (
    b'{"choices":[{"index":0,"delta":{"content":"Hello"}}]}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    b"[DONE]",
)
CUT = {
    "whole": plain(b'{"choices":[{"index":0,"message":{"content":"Hello"}}]}'),
    "chunked stream": streamed(*SMALL),
    "stream until the connection ends": streamed(*SMALL, chunked=False),
}
EVERY_CUT = pytest.mark.parametrize("data", CUT.values(), ids=list(CUT))


def is_stream(data: bytes) -> bool:
    return b"event-stream" in data


def is_whole(data: bytes, size: int) -> bool:
    """Whether what comes before the cut says all."""
    end = b"[DONE]" if b"connection: close" in data else b"[DONE]\n\n"
    return is_stream(data) and end in data[:size]


@EVERY_CUT
def test_an_answer_cut_at_any_byte_is_an_error_unless_all_was_said(data: bytes) -> None:
    hub = ListHub()
    sizes = range(len(data))
    with serving(*(Play(data[:size]) for size in sizes)) as (address, _):

        async def main() -> list[Any]:
            async with provider_at(address, max_retries=0, timeout=PATIENCE) as provider:
                watched = traced(provider, hub=hub)
                return [
                    (await asyncio.gather(asked(watched, is_stream(data)), return_exceptions=True))[0] for _ in sizes
                ]

        outcomes = run(main())
    head = data.index(b"\r\n\r\n") + 4
    for size, got, seen in zip(sizes, outcomes, hub.calls, strict=True):
        assert seen.response["attempts"] == 1
        if is_whole(data, size):
            assert (got.text, seen.status) == ("Hello", "ok")
        else:
            assert type(got) is (StreamError if is_stream(data) and size >= head else NetworkError), size
            told(seen, got)


@EVERY_CUT
@pytest.mark.parametrize("call", [own, sdks])
def test_a_sync_answer_cut_at_any_byte_is_one_call(data: bytes, call: Callable[..., Any]) -> None:
    with serving(Play()) as (address, server):
        assert server is not None
        for size in range(0, len(data), 3 if call is sdks else 1):
            server.plays = [Play(data[:size])]
            hub = ListHub()
            _, error = outcome(call, address, is_stream(data), hub)
            ended(hub.call, error, is_stream(data))


@EVERY_CUT
def test_a_call_cancelled_at_any_byte_is_cancelled(data: bytes) -> None:
    sizes = range(len(data) - 1)
    hub = ListHub()
    with serving(*(Play(data[:size], "hang") for size in sizes)) as (address, server):
        assert server is not None

        async def main() -> None:
            async with provider_at(address, timeout=30) as provider:
                watched = traced(provider, hub=hub)
                for size in sizes:
                    task = asyncio.create_task(asked(watched, is_stream(data)))
                    assert await asyncio.to_thread(server.hanging.acquire, True, PATIENCE)
                    task.cancel()
                    await asyncio.wait([task])
                    assert task.cancelled() or is_whole(data, size)

        assert run(main()) is None
    assert {seen.status for size, seen in zip(sizes, hub.calls, strict=True) if not is_whole(data, size)} == {
        "cancelled"
    }


def test_a_stream_abandoned_at_any_byte_is_abandoned() -> None:
    data = CUT["chunked stream"]
    sizes = range(data.index(b"Hello") + 15, data.index(b"[DONE]"))
    hub = ListHub()
    with serving(*(Play(data[:size], "hang") for size in sizes)) as (address, _):

        async def main() -> None:
            async with provider_at(address, timeout=30) as provider:
                for _ in sizes:
                    stream = traced(provider, hub=hub).stream(REQUEST)
                    await anext(stream)
                    await stream.aclose()

        assert run(main()) is None
    assert [seen.status for seen in hub.calls] == ["abandoned"] * len(sizes)
