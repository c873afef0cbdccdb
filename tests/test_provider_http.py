"""What HTTP providers share: time limits that nothing gets round, bounds, connections that can be used again."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zstandard

from providers import connections, http
from providers.errors import ConfigurationError, LLMTimeoutError, ProviderUnavailableError, StreamError
from tests.fault_kit import asked, provider_at, run, serving
from tests.raw_server import CHUNKS, Play, completion, headers_of, plain, streamed

BRIEF = 0.1


@contextmanager
def trickling(data: bytes, *, at_once: int) -> Iterator[str]:
    """The address of a server that sends *data* byte by byte, each in time, after the first ones."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data[:at_once])
                try:
                    for byte in data[at_once:]:
                        time.sleep(BRIEF / 2)
                        connection.sendall(bytes([byte]))
                except OSError:
                    pass  # the client has had enough

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join(10)


@pytest.mark.parametrize("at_once", [0, 10, len(plain(b"")) + 2], ids=["status", "headers", "body"])
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
def test_an_answer_that_comes_byte_by_byte_is_given_up_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, at_once: int, status: str
) -> None:
    monkeypatch.setattr(http, "GRACE", 0.1)
    with trickling(plain(completion(), status=status), at_once=at_once) as address:
        began = time.monotonic()
        error = run(asked(provider_at(address, max_retries=0, timeout=BRIEF), False))
    assert isinstance(error, LLMTimeoutError)
    assert time.monotonic() - began < 2


def test_a_stream_may_take_as_long_as_it_likes_while_something_comes() -> None:
    data = streamed(*CHUNKS)
    with trickling(data, at_once=len(data) - 8) as address:
        response = run(asked(provider_at(address, timeout=BRIEF), True))
    assert response.text == "Hello you"


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_that_does_not_end_is_not_read_on(monkeypatch: pytest.MonkeyPatch, streaming: bool) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1 << 20)
    data = streamed(*CHUNKS[:1] * 20_000) if streaming else plain(b" " * (2 << 20))
    with serving(Play(data)) as (address, _):
        error = run(asked(provider_at(address, timeout=5), streaming))
    assert isinstance(error, ProviderUnavailableError)
    assert "larger than 1 MiB" in str(error)
    assert error.retryable is False


def test_an_event_of_any_size_within_the_bound_is_read() -> None:
    text = "x" * 3_000_000
    event = b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text.encode()
    with serving(Play(streamed(event, b"[DONE]"))) as (address, _):
        assert run(asked(provider_at(address, timeout=5), True)).text == text


def test_a_server_that_says_nothing_after_the_end_mark_holds_nobody_up() -> None:
    data = streamed(*CHUNKS)
    with serving(Play(data[: data.index(b"0\r\n\r\n", len(data) - 8)], "hang")) as (address, _):
        began = time.monotonic()
        assert run(asked(provider_at(address, timeout=30), True)).text == "Hello you"
    assert time.monotonic() - began < 2


def test_packed_answers_are_unpacked_and_broken_ones_are_errors() -> None:
    packed = gzip.compress(completion())
    head = "content-encoding: gzip\r\n"
    with serving(Play(plain(packed, head=head), "keep"), Play(plain(b"no gzip", head=head))) as (address, _):

        async def main() -> None:
            async with provider_at(address) as provider:
                assert (await asked(provider, False)).text == "Hello you"
                with pytest.raises(ProviderUnavailableError, match="cannot be unpacked") as caught:
                    await asked(provider, False)
                assert caught.value.__cause__ is not None

        assert run(main()) is None


BOMBS = {
    "zstd": zstandard.compress(bytes(1 << 20)),
    "gzip, gzip": gzip.compress(gzip.compress(bytes(1 << 20))),
    "br": b"?",
}


@pytest.mark.parametrize("encoding", BOMBS)
@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_what_is_packed_so_that_it_may_grow_without_bound_is_not_unpacked(encoding: str, status: str) -> None:
    answer = plain(BOMBS[encoding], status=status, head=f"content-encoding: {encoding}\r\n")
    with serving(Play(answer, "keep")) as (address, server):
        assert server is not None
        error = run(asked(provider_at(address, max_retries=0), False))
        assert headers_of(server.requests[0])["accept-encoding"] == "gzip, deflate"
    assert isinstance(error, ProviderUnavailableError)
    assert str(error).count("is not read") == status.startswith("200")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTP_PROXY", "foo://ann:canary@proxy"), ("SSL_CERT_FILE", "/no/such")],
)
def test_an_environment_that_no_client_can_be_made_in_is_told(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    if variable == "ALL_PROXY" and importlib.util.find_spec("socksio") is not None:
        pytest.skip("this httpx speaks SOCKS")
    monkeypatch.setenv(variable, value)
    connections._trusted.cache_clear()
    error = run(asked(provider_at("http://127.0.0.1:9/v1"), False))
    assert isinstance(error, ConfigurationError)
    assert variable in str(error)
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "event", [b"[]", b"3", b'{"choices": [3]}', b'{"choices": [{"delta": {"tool_calls": [3]}}]}', b"{}"]
)
def test_an_event_that_makes_no_sense_is_an_error(event: bytes) -> None:
    with serving(Play(streamed(event, b"[DONE]"))) as (address, _):
        error: Any = run(asked(provider_at(address, max_retries=0), True))
    assert isinstance(error, StreamError)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b"\xff\xfe", b"[" * 5000]
)
def test_a_body_that_makes_no_sense_is_an_error(body: bytes) -> None:
    with serving(Play(plain(body))) as (address, server):
        error: Any = run(asked(provider_at(address), False))
        assert server is not None
        assert len(server.requests) == 1
    assert isinstance(error, ProviderUnavailableError)
    assert "with no chat completion" in str(error)


def test_a_cancelled_call_of_many_leaves_the_others_alone() -> None:
    with serving(Play(b"", "hang"), Play(plain(completion()), "keep")) as (address, server):
        assert server is not None

        async def main() -> None:
            async with provider_at(address, timeout=30) as provider:
                hung = asyncio.create_task(asked(provider, False))
                assert await asyncio.to_thread(server.hanging.acquire, True, 5)
                others = [asyncio.create_task(asked(provider, False)) for _ in range(5)]
                hung.cancel()
                assert [one.text for one in await asyncio.gather(*others)] == ["Hello you"] * 5

        assert run(main()) is None
