"""Whatever a server does to a call: one terminal event, the documented exception, attempts as they were, no hang."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from openai import OpenAI

from hub import traced
from providers.contract import ChatResponse
from providers.errors import (
    LLMError,
    LLMTimeoutError,
    NetworkError,
    ProviderUnavailableError,
    RateLimitError,
    StreamError,
)
from tests.calls_of import ListHub
from tests.fault_kit import (
    PATIENCE,
    REQUEST,
    Sleeps,
    asked,
    ended,
    impatient_once,
    outcome,
    own,
    provider_at,
    run,
    sdks,
    serving,
    told,
)
from tests.raw_server import CHUNKS, Play, completion, plain, streamed

TEN_MB = b'{"error": {"message": "' + b"far too long " * 800_000 + b'"}}'


def limited(wait: str) -> bytes:
    return plain(
        b'{"error": {"message": "Slow down."}}', status="429 Too Many Requests", head=f"retry-after: {wait}\r\n"
    )


def failed(status: str, body: bytes = b'{"error": {"message": "Out of order."}}') -> bytes:
    return plain(body, status=status)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a server does, and what comes of it."""

    plays: Callable[[bool], Play | None]
    """For a whole answer and for a stream; None: there is no server."""
    error: type[LLMError]
    message: str
    status: int | None = None
    retryable: bool = True
    waits: Callable[[float], bool] = field(default=lambda seconds: seconds == 0)
    """Whether the wait between the attempts is right."""
    in_stream: tuple[type[LLMError], str] | None = None
    """Where a stream breaks off after its first chunk: error and message. Nothing is tried again then."""


def always(data: bytes, then: Any = "keep") -> Callable[[bool], Play]:
    return lambda streaming: Play(data, then)


def half(data: bytes) -> bytes:
    return data[: data.index(b"Hello") + 40]


FAULTS = {
    "429 with seconds": Fault(
        plays=always(limited("2")),
        error=RateLimitError,
        message="answered 429 for m-1: Slow down.; wait 2 s",
        status=429,
        waits=lambda seconds: seconds == 2,
    ),
    "429 with a date": Fault(
        plays=lambda streaming: Play(limited(formatdate(time.time() + 3, usegmt=True)), "keep"),
        error=RateLimitError,
        message="answered 429 for m-1: Slow down.; wait [123]",
        status=429,
        waits=lambda seconds: 1 < seconds <= 3,
    ),
    "500": Fault(
        plays=always(failed("500 Internal Server Error")),
        error=ProviderUnavailableError,
        message="answered 500 for m-1: Out of order.; try again",
        status=500,
    ),
    "503": Fault(
        plays=always(failed("503 Service Unavailable")),
        error=ProviderUnavailableError,
        message="answered 503 for m-1: Out of order.; try again",
        status=503,
    ),
    "refused": Fault(
        plays=lambda streaming: None,
        error=NetworkError,
        message=r"cannot connect to http://127.0.0.1:\d+ .*base_url is right",
    ),
    "silent": Fault(
        plays=always(b"", "hang"),
        error=LLMTimeoutError,
        message=r"no answer from http://127.0.0.1:\d+ within 0.15 s; .*longer timeout",
    ),
    "reset in the middle": Fault(
        plays=lambda streaming: Play(half(streamed(*CHUNKS) if streaming else plain(completion())), "reset"),
        error=NetworkError,
        message="broke before the end of the answer",
        in_stream=(StreamError, "the stream broke off"),
    ),
    "silent in the middle": Fault(
        plays=lambda streaming: Play(half(streamed(*CHUNKS) if streaming else plain(completion())), "hang"),
        error=LLMTimeoutError,
        message="within 0.15 s",
        in_stream=(LLMTimeoutError, "the stream fell silent"),
    ),
    "invalid JSON": Fault(
        plays=lambda streaming: Play(
            streamed(CHUNKS[0], b'{"choices": [') if streaming else plain(b'{"choices": [{"index"')
        ),
        error=ProviderUnavailableError,
        message="answered 200, but with no chat completion .content type: application/json",
        status=200,
        retryable=False,
        in_stream=(StreamError, "an event that cannot be read"),
    ),
    "wrong content type": Fault(
        plays=always(plain(b"<html><h1>Log in</h1></html>", kind="text/html")),
        error=ProviderUnavailableError,
        message="answered 200, but with no (chat completion|event stream) .content type: text/html.*base_url",
        status=200,
        retryable=False,
    ),
    "10 MB of error": Fault(
        plays=always(failed("500 Internal Server Error", TEN_MB)),
        error=ProviderUnavailableError,
        message="answered 500 for m-1: .*far too long.*; try again",
        status=500,
    ),
}


def each(wanted: Callable[[Fault], bool] = lambda fault: True) -> pytest.MarkDecorator:
    """For the faults that *wanted* says."""
    chosen = {name: fault for name, fault in FAULTS.items() if wanted(fault)}
    return pytest.mark.parametrize("fault", chosen.values(), ids=list(chosen))


WHOLE_AND_STREAMED = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])


def documented(error: Any, kind: type[LLMError], message: str, fault: Fault) -> None:
    assert type(error) is kind
    assert re.search(message, str(error)), str(error)
    assert str(error).startswith("openai")
    assert len(str(error)) < 800
    assert (error.provider, error.model) == ("openai", "m-1")
    if message == fault.message:
        assert error.status_code == fault.status
        assert error.retryable is fault.retryable
    assert error.__cause__ is not None or error.status_code is not None


@each()
@WHOLE_AND_STREAMED
def test_a_call_that_meets_a_fault_raises_what_is_documented(fault: Fault, streaming: bool) -> None:
    hub, sleeps = ListHub(), Sleeps()
    broken_off = fault.in_stream if streaming else None
    with serving(fault.plays(streaming)) as (address, server):

        async def main() -> None:
            async with provider_at(address, sleep=sleeps) as provider:
                await asked(traced(provider, hub=hub), streaming)

        error = run(main())
    documented(error, *(broken_off or (fault.error, fault.message)), fault)
    attempts = 2 if fault.retryable and broken_off is None else 1
    assert hub.call.response["attempts"] == attempts
    assert server is None or len(server.requests) == attempts
    assert len(hub.call.retries) == attempts - 1
    assert all(fault.waits(seconds) for seconds in sleeps.seconds)
    told(hub.call, error)


def early(fault: Fault, streaming: bool) -> Play | None:
    """The fault, or one like it, before a stream's first chunk: then it is tried again."""
    if streaming and fault.in_stream:
        return Play(streamed(CHUNKS[0])[:40], "reset")
    return fault.plays(streaming)


@each(lambda fault: fault.retryable and fault.plays(False) is not None)
@WHOLE_AND_STREAMED
def test_a_call_that_recovers_is_one_call_with_two_attempts(fault: Fault, streaming: bool) -> None:
    hub = ListHub()
    with serving(early(fault, streaming), Play(streamed(*CHUNKS) if streaming else plain(completion()))) as (
        address,
        _,
    ):

        async def main() -> ChatResponse:
            async with (
                impatient_once() as client,
                provider_at(address, timeout=PATIENCE, http_client=client) as provider,
            ):
                return await asked(traced(provider, hub=hub), streaming)

        response = run(main())
    assert response.text == "Hello you"
    assert (hub.call.status, hub.call.response["attempts"], len(hub.call.retries)) == ("ok", 2, 1)


@each()
@WHOLE_AND_STREAMED
@pytest.mark.parametrize("call", [own, sdks])
def test_a_sync_call_that_meets_a_fault_raises_what_it_would_untraced(
    fault: Fault, streaming: bool, call: Callable[..., Any]
) -> None:
    hub = ListHub()
    with serving(fault.plays(streaming)) as (address, server):
        expected, _ = outcome(call, address, streaming, None)
        before = 0 if server is None else len(server.requests)
        got, error = outcome(call, address, streaming, hub)
    assert got == expected
    ended(hub.call, error, streaming)
    assert server is None or hub.call.response["attempts"] == len(server.requests) - before == before
    assert hub.call.response["attempts"] == len(hub.call.retries) + 1


def cut(fault: Fault, streaming: bool) -> Play | None:
    """The fault's answer, of which the rest never comes."""
    play = fault.plays(streaming)
    return None if play is None else Play(play.data[: min(len(play.data) // 2, 1000)], "hang")


@each(lambda fault: cut(fault, False) is not None)
@WHOLE_AND_STREAMED
def test_a_call_that_is_cancelled_amid_a_fault_is_cancelled_and_its_connection_closed(
    fault: Fault, streaming: bool
) -> None:
    hub = ListHub()
    with serving(cut(fault, streaming)) as (address, server):
        assert server is not None

        async def main() -> None:
            async with provider_at(address, timeout=30) as provider:
                task = asyncio.create_task(asked(traced(provider, hub=hub), streaming))
                assert await asyncio.to_thread(server.hanging.acquire, True, PATIENCE)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await asyncio.to_thread(server.all_closed)

        assert run(main()) is None
        assert (hub.call.status, hub.call.response["attempts"], len(server.requests)) == ("cancelled", 1, 1)


@each(lambda fault: fault.retryable)
@WHOLE_AND_STREAMED
def test_a_call_that_is_cancelled_between_attempts_is_cancelled(fault: Fault, streaming: bool) -> None:
    hub, waiting = ListHub(), asyncio.Event()

    async def forever(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    with serving(early(fault, streaming)) as (address, _):

        async def main() -> None:
            async with provider_at(address, sleep=forever) as provider:
                task = asyncio.create_task(asked(traced(provider, hub=hub), streaming))
                await waiting.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        assert run(main()) is None
    assert hub.call.status == "cancelled"
    assert len(hub.call.retries) == 1


@each(lambda fault: fault.retryable and fault.plays(True) is not None)
@pytest.mark.parametrize("dropped", [False, True], ids=["closed", "dropped"])
def test_a_stream_that_is_abandoned_after_or_before_a_fault_is_abandoned_and_its_connection_closed(
    fault: Fault, dropped: bool
) -> None:
    hub = ListHub()
    first, attempts = fault.plays(True), 1 if fault.in_stream else 2
    with serving(first, Play(half(streamed(*CHUNKS)), "hang")) as (address, server):
        assert server is not None

        async def main() -> None:
            client = impatient_once() if attempts == 2 else httpx.AsyncClient(verify=False)
            provider = traced(provider_at(address, timeout=PATIENCE, http_client=client), hub=hub)
            stream = provider.stream(REQUEST)
            assert (await anext(stream)).delta == "Hello"
            if not dropped:
                await stream.aclose()
            del stream
            gc.collect()
            while "llm:response" not in hub.log.types():
                await asyncio.sleep(0.005)
                hub.settle()
            await provider.close()
            await client.aclose()

        assert run(main()) is None
        assert server.all_closed()
        assert (hub.call.status, hub.call.response["attempts"]) == ("abandoned", attempts)
        assert len(server.requests) == attempts


def test_a_stream_that_an_sdk_stops_reading_at_broken_json_is_an_error() -> None:
    hub = ListHub()
    with serving(Play(streamed(CHUNKS[0], b'{"choices": ['))) as (address, _):
        got, _ = outcome(sdks, address, True, hub)
    assert got[0] is json.JSONDecodeError
    assert (hub.call.status, hub.call.response["error_type"]) == ("error", "unreadable_stream")


def test_a_stream_that_is_let_go_in_the_middle_of_an_event_is_abandoned() -> None:
    hub = ListHub()
    with (
        serving(Play(half(streamed(*CHUNKS)), "hang")) as (address, _),
        OpenAI(base_url=address, api_key="x") as client,
    ):
        stream = traced(client, hub=hub).chat.completions.create(model="m", messages=[], stream=True)
        next(iter(stream))
        stream.close()
    assert hub.call.status == "abandoned"
