"""Answers and streams cut at every byte: each is one call with one end, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
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
FINISHED = b'"finish_reason":"stop"}]}'
CUT = {
    "whole": plain(b'{"choices":[{"index":0,"message":{"content":"Hello"}}]}'),
    "chunked stream": streamed(*SMALL),
    "stream until the connection ends": streamed(*SMALL, chunked=False),
    "chunked stream without end mark": streamed(*SMALL[:-1]),
    "stream without end mark until the connection ends": streamed(*SMALL[:-1], chunked=False),
}
EVERY_CUT = pytest.mark.parametrize("data", CUT.values(), ids=list(CUT))


def is_stream(data: bytes) -> bool:
    return b"event-stream" in data


def ends_with_connection(data: bytes) -> bool:
    return b"connection: close" in data


def has_end_mark(data: bytes, size: int) -> bool:
    """Whether the end mark comes before the cut."""
    end = b"[DONE]" if ends_with_connection(data) else b"[DONE]\n\n"
    return is_stream(data) and end in data[:size]


def is_whole(data: bytes, size: int) -> bool:
    """Whether what comes before the cut says all. Where a body ends with its connection no cut shows, but for half an
    event."""
    _, finished, rest = data[:size].partition(FINISHED)
    properly = ends_with_connection(data) and finished and b"data:" not in rest
    return has_end_mark(data, size) or (is_stream(data) and bool(properly))


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


def two(*reasons: str | None) -> tuple[bytes, ...]:
    """Chunks of two choices, of which each may have its finish reason."""
    said: Any = ({"index": index, "delta": {"content": "Hello"}} for index in range(2))
    ends: Any = ({"index": index, "delta": {}, "finish_reason": reason} for index, reason in enumerate(reasons))
    return tuple(orjson.dumps({"choices": [choice]}) for choice in (*said, *ends))


USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("events", "whole"),
    [
        (SMALL[:2], True),
        ((*SMALL[:2], USAGE), True),
        (two("stop", "length"), True),
        (two("stop", None), False),
        (two("stop"), False),
        (SMALL[:1], False),
        ((USAGE,), False),
        ((), False),
    ],
)
def test_a_stream_without_end_mark_is_whole_when_each_choice_it_began_is(
    events: tuple[bytes, ...], whole: bool, chunked: bool
) -> None:
    hub, others = ListHub(), ListHub()
    with serving(Play(streamed(*events, chunked=chunked), "keep" if chunked else "close")) as (address, _):

        async def main() -> Any:
            async with provider_at(address, max_retries=0, timeout=PATIENCE) as provider:
                response = await asked(traced(provider, hub=hub), True)
                again = await provider.resend(b"{}", stream=True)
                return response.text, again.count(b"data:")

        got = run(main())
        outcome(sdks, address, True, others)
    if whole:
        assert got == ("Hello", len(events))
        assert (hub.call.status, others.call.status) == ("ok", "ok")
        assert others.call.response["finish_reasons"]
        return
    assert type(got) is StreamError
    told(hub.call, got)
    assert (others.call.status, others.call.response["error_type"]) == ("error", "incomplete_stream")


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
                    assert task.cancelled() or has_end_mark(data, size)

        assert run(main()) is None
    seen = [seen.status for size, seen in zip(sizes, hub.calls, strict=True) if not has_end_mark(data, size)]
    assert set(seen) == {"cancelled"}


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
