"""The recording transport by itself, with httpx and httpx2."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import orjson
import pytest
import zstandard
from openai import OpenAI

from hub import traced
from hub.demo.server import LoopbackServer
from hub.extractors.failures import retry_after_ms
from hub.transport import RecordingTransport, async_httpx_client, httpx_client
from tests.calls_of import ListHub, durable_hub
from tests.openai_kit import ASK, MODEL, demo

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def body(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": ASK, **more}


def mocked(library: Any, hub: ListHub, handler: Callable[[Any], Any]) -> Any:
    return library.Client(transport=RecordingTransport(library.MockTransport(handler), hub=hub))


def lazily(library: Any, pieces: list[bytes], **more: Any) -> Any:
    """An answer whose bytes come piece by piece."""

    class Stream(library.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from pieces

    return library.Response(200, stream=Stream(), **more)


SSE = {"content-type": "text/event-stream"}


@LIBRARIES
def test_an_exchange_with_a_known_path_is_a_call(hub: ListHub, server: LoopbackServer, library: Any) -> None:
    with library.Client(transport=RecordingTransport(library.HTTPTransport(), hub=hub)) as client:
        answer = client.post(f"{server.base_url}/chat/completions?key=canary", json=body(temperature=0.5))
    seen = hub.call
    assert seen.request["source"] == "transport"
    assert seen.request["params"] == {"temperature": 0.5}
    assert seen.sent["messages"] == ASK
    assert seen.text == answer.json()["choices"][0]["message"]["content"]
    assert seen.answer["wire"]["body"] == answer.text
    assert seen.status == "ok"
    assert "canary" not in repr(hub.log.records)


@LIBRARIES
def test_an_async_exchange_and_its_stream_are_calls(hub: ListHub, server: LoopbackServer, library: Any) -> None:
    async def main() -> list[str]:
        transport = RecordingTransport(library.AsyncHTTPTransport(), hub=hub)
        async with library.AsyncClient(transport=transport) as client:
            url = f"{server.base_url}/chat/completions"
            await client.post(url, json=body())
            async with client.stream("POST", url, json=body(stream=True)) as answer:
                return [line async for line in answer.aiter_lines() if line.startswith("data: {")]

    lines = asyncio.run(main())
    plain, stream = hub.calls
    assert plain.text == stream.text
    assert stream.response["chunk_count"] == len(lines)
    assert stream.response["ttft_ms"] > 0


@LIBRARIES
@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/models", b""),
        ("GET", "/chat/completions", b""),
        ("POST", "/files", b'{"messages": ["x"]}'),
        ("POST", "/responses/r-1/cancel", b'{"input": "x"}'),
        ("POST", "/chat/completions", b"[1]"),
        ("POST", "/responses", b'{"answer": 42}'),
    ],
)
def test_what_calls_no_model_passes_unrecorded(
    hub: ListHub, library: Any, method: str, path: str, content: bytes
) -> None:
    with mocked(library, hub, lambda request: library.Response(200, json={"fine": True})) as client:
        assert client.request(method, f"http://x/v1{path}", content=content).json() == {"fine": True}
    assert hub.calls == []


ASKED = b'{"model": "m-1", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5'


@pytest.mark.parametrize(
    ("sent", "model"),
    [
        (ASKED + b', "seed": NaN}', "m-1"),
        (ASKED + b', "user": "\\ud800"}', "m-1"),
        (b"\xef\xbb\xbf" + ASKED + b"}", "m-1"),
        (ASKED + b', "seed": ' + b"9" * 5_000 + b"}", None),
        (ASKED + b', "user": "\xe9"}', None),
        (gzip.compress(ASKED + b"}", mtime=0), None),
        (ASKED, None),
        (b"", None),
    ],
)
def test_a_body_that_is_hard_to_read_is_a_call_all_the_same(hub: ListHub, sent: bytes, model: str | None) -> None:
    with mocked(httpx, hub, lambda request: httpx.Response(200, json={"received": len(request.content)})) as client:
        answer = client.post("http://localhost/v1/chat/completions", content=sent)
    assert answer.json() == {"received": len(sent)}
    assert (hub.call.status, hub.call.request["model"]) == ("ok", model)


def test_ready_made_clients_record(hub: ListHub, server: LoopbackServer) -> None:
    async def main() -> int:
        async with async_httpx_client(hub=hub, timeout=5) as client:
            return (await client.post(f"{server.base_url}/chat/completions", json=body())).status_code

    with httpx_client(hub=hub, base_url=server.base_url) as client:
        assert isinstance(client, httpx.Client)
        assert client.post("/chat/completions", json=body()).status_code == 200
    assert asyncio.run(main()) == 200
    assert [call.status for call in hub.calls] == ["ok", "ok"]


def test_each_exchange_of_a_retrying_sdk_is_a_call_that_names_its_cause(hub: ListHub, server: LoopbackServer) -> None:
    with httpx_client(hub=hub) as http, OpenAI(base_url=server.base_url, api_key="any", http_client=http) as client:  # type: ignore[arg-type]
        client.chat.completions.create(
            model=MODEL, messages=ASK, extra_headers=demo("fail=429 times=2 retry_ms=1 size=77")
        )
        client.chat.completions.create(model=MODEL, messages=ASK)
    first, second, third, other = hub.calls
    assert [call.status for call in (first, second, third, other)] == ["error", "error", "ok", "ok"]
    assert first.response["error_type"] == "rate_limit_exceeded"
    assert first.response["retryable"] is True
    assert first.error == "Rate limit reached for requests."
    causes = [call.of("llm:request")[0]["causation_id"] for call in (first, second, third, other)]
    assert causes == [None, first.of("llm:response")[0]["id"], second.of("llm:response")[0]["id"], None]


def test_a_retrying_sdk_on_a_transport_within_a_traced_function_is_one_call(
    hub: ListHub, server: LoopbackServer
) -> None:
    with httpx_client(hub=hub) as http, OpenAI(base_url=server.base_url, api_key="any", http_client=http) as client:  # type: ignore[arg-type]

        @traced(provider="mine", model="asked-for", hub=hub)
        def ask(messages: Any) -> Any:
            headers = demo("fail=429 times=1 retry_ms=1 size=78")
            return client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)

        @traced(provider="mine", hub=hub)
        def stream(messages: Any) -> Any:
            return client.chat.completions.create(model=MODEL, messages=messages, stream=True)

        answer = ask(ASK)
        chunks = list(stream(ASK))
    retried, streamed = hub.calls
    assert retried.request["model"] == "asked-for"
    assert retried.response["attempts"] == 2
    assert [retry["status_code"] for retry in retried.retries] == [429]
    assert retried.response["response_id"] == answer.id
    assert retried.response["usage"]["input_tokens"] == answer.usage.prompt_tokens
    assert (streamed.status, streamed.response["chunk_count"]) == ("ok", len(chunks))


@LIBRARIES
def test_a_transport_that_raises_ends_the_call_and_raises_the_same(hub: ListHub, library: Any) -> None:
    error = library.ConnectError("refused")

    def handler(request: Any) -> Any:
        raise error

    with mocked(library, hub, handler) as client, pytest.raises(library.ConnectError) as caught:
        client.post("http://x/v1/chat/completions", json=body())
    assert caught.value is error
    assert hub.call.status == "error"
    assert hub.call.response["error_type"].endswith("ConnectError")
    assert hub.call.response["retryable"] is True


def test_a_transport_in_a_transport_records_once(hub: ListHub, server: LoopbackServer) -> None:
    transport = RecordingTransport(RecordingTransport(httpx.HTTPTransport(), hub=hub), hub=hub)
    with httpx.Client(transport=transport) as client:
        client.post(f"{server.base_url}/chat/completions", json=body())
    assert len(hub.call.of("llm:request")) == 1


@LIBRARIES
@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("api.groq.com", "groq"),
        ("me.openai.azure.com", "azure.ai.openai"),
        ("api.deepseek.com", "deepseek"),
        ("eu-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("notgroq.com", "openai"),
        ("localhost", "openai"),
    ],
)
def test_the_host_tells_the_provider(hub: ListHub, library: Any, host: str, provider: str) -> None:
    with mocked(library, hub, lambda request: library.Response(200, json={})) as client:
        client.post(f"https://{host}/v1/chat/completions", json=body())
    assert hub.call.request["provider"] == provider
    assert hub.call.request["server_address"] == host


@pytest.mark.parametrize(("place", "address"), [("h:8443", "h:8443"), ("h:443", "h"), ("[::1]:8443", "[::1]:8443")])
def test_a_port_that_is_not_the_schemes_own_belongs_to_the_address(hub: ListHub, place: str, address: str) -> None:
    with mocked(httpx, hub, lambda request: httpx.Response(200, json={})) as client:
        client.post(f"https://{place}/v1/chat/completions", json=body())
    assert hub.call.request["server_address"] == address


@LIBRARIES
def test_the_programs_bytes_are_those_of_the_wire_in_the_same_pieces(hub: ListHub, library: Any) -> None:
    pieces = [b'data: {"choices"', b": []}\n", b"\n", b"data: [DONE]\n\n", b": trailing"]
    with (
        mocked(library, hub, lambda request: lazily(library, pieces, headers=SSE)) as client,
        client.stream("POST", "http://x/v1/chat/completions", json=body(stream=True)) as answer,
    ):
        assert list(answer.iter_raw()) == pieces
    assert hub.call.status == "ok"
    assert hub.call.answer["wire"]["body"] == b"".join(pieces).decode()


@LIBRARIES
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate raw", "zstd", "br"])
def test_packed_streams_are_read_as_far_as_we_can_unpack_them(hub: ListHub, library: Any, encoding: str) -> None:
    plain = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(plain, mtime=0),
        "deflate": zlib.compress(plain),
        "deflate raw": raw.compress(plain) + raw.flush(),
        "zstd": zstandard.compress(plain),
        "br": b"whatever",
    }[encoding]
    headers = {**SSE, "content-encoding": encoding.split()[0]}
    pieces = [packed[n : n + 7] for n in range(0, len(packed), 7)]
    with (
        mocked(library, hub, lambda request: lazily(library, pieces, headers=headers)) as client,
        client.stream("POST", "http://x/v1/chat/completions", json=body(stream=True)) as answer,
    ):
        assert b"".join(answer.iter_raw()) == packed
    if encoding == "br":
        assert "wire" not in hub.call.answer
        assert hub.call.status == "ok", "what we cannot read is not known to be incomplete"
    else:
        assert (hub.call.status, hub.call.text) == ("ok", "hi")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_decompression_bomb_takes_bounded_memory(hub: ListHub, encoding: str) -> None:
    hub.log.max_frame_bytes = 1 << 20
    compress: Any = {"gzip": gzip.compress, "zstd": zstandard.compress}[encoding]
    bomb = compress(b" " * (300 << 20))
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    pieces = [bomb[n : n + 65536] for n in range(0, len(bomb), 65536)]
    tracemalloc.start()
    try:
        with (
            mocked(httpx, hub, lambda request: lazily(httpx, pieces, headers=headers)) as client,
            client.stream("POST", "http://x/v1/chat/completions", json=body()) as answer,
        ):
            for _ in answer.iter_raw():
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20
    assert hub.call.status == "ok"


@LIBRARIES
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_watched_passes_and_ends_its_call(
    hub: ListHub, server: LoopbackServer, library: Any, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise TypeError("a stream of a kind that nobody foresaw")

    monkeypatch.setattr("hub.transport._tee_class", breaks)
    with library.Client() as http:
        alone = library.Client(transport=RecordingTransport(library.HTTPTransport(), hub=hub))
        assert alone.post(f"{server.base_url}/chat/completions", json=body(stream=stream)).status_code == 200
        alone.close()
        client: Any = traced(OpenAI(base_url=server.base_url, api_key="any", http_client=http), hub=hub)
        answer = client.chat.completions.create(model=MODEL, messages=ASK, stream=stream)
        assert list(answer)
    assert [call.status for call in hub.calls] == ["ok", "ok"]


def test_a_stream_beyond_the_bound_keeps_its_counts_usage_and_end(hub: ListHub) -> None:
    hub.log.max_frame_bytes = 20_000
    chunk = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"x" * 1000)
    end = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    with (
        mocked(httpx, hub, lambda request: lazily(httpx, [chunk] * 100 + [end], headers=SSE)) as client,
        client.stream("POST", "http://x/v1/chat/completions", json=body(stream=True)) as answer,
    ):
        answer.read()
    assert hub.call.response["chunk_count"] == 101
    assert hub.call.response["usage"]["output_tokens"] == 2
    assert hub.call.status == "ok"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_durable_exchange_waits_for_the_disk_before_request_and_answer(
    server: LoopbackServer, asynchronous: bool
) -> None:
    hub = durable_hub()
    url = f"{server.base_url}/chat/completions"

    async def main() -> None:
        async with async_httpx_client(hub=hub) as client:
            await client.post(url, json=body())

    if asynchronous:
        asyncio.run(main())
    else:
        with httpx_client(hub=hub) as client:
            client.post(url, json=body())
    assert hub.log.syncer.counts == [2, 4]


def test_a_request_whose_body_is_a_stream_is_left_alone(hub: ListHub, server: LoopbackServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield orjson.dumps(body())

    with httpx_client(hub=hub) as client:
        assert client.post(f"{server.base_url}/chat/completions", content=pieces()).status_code == 200
    assert hub.calls == []


def test_with_recording_off_a_transport_only_passes_on(hub: ListHub, server: LoopbackServer) -> None:
    hub.recorder = None
    with httpx_client(hub=hub) as client:
        assert client.post(f"{server.base_url}/chat/completions", json=body()).status_code == 200


class Closing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_closing_the_client_closes_the_inner_transport(hub: ListHub) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=RecordingTransport(inner, hub=hub)):
            pass

    inner = Closing()
    with httpx.Client(transport=RecordingTransport(inner, hub=hub)):
        pass
    asyncio.run(main())
    assert inner.closed == 2


def test_interleaved_exchanges_pair(hub: ListHub, server: LoopbackServer) -> None:
    async def main() -> list[str]:
        async with async_httpx_client(hub=hub) as client:

            async def one(n: int) -> str:
                question = [{"role": "user", "content": f"Question {n}"}]
                answer = await client.post(f"{server.base_url}/chat/completions", json=body(messages=question))
                return str(answer.json()["id"])

            return await asyncio.gather(*map(one, range(30)))

    ids = asyncio.run(main())
    by_question = {call.sent["messages"][0]["content"]: call.response["response_id"] for call in hub.calls}
    assert [by_question[f"Question {n}"] for n in range(30)] == ids


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "250"}, 250.0),
        ({"retry-after": "2"}, 2000.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_what_the_server_asks_to_wait_is_read_in_every_form(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_ms(headers) == wait


@LIBRARIES
def test_a_transport_that_records_not_alone_is_silent_outside_of_a_call(
    hub: ListHub, server: LoopbackServer, library: Any
) -> None:
    transport = RecordingTransport(library.HTTPTransport(), hub=hub, alone=False)
    with library.Client(transport=transport, base_url=server.base_url) as client:
        assert client.post("/chat/completions", json=body()).status_code == 200
    assert hub.calls == []


@LIBRARIES
def test_a_transport_that_records_not_alone_adds_attempts_to_the_call_around_it_whoever_records_that(
    hub: ListHub, server: LoopbackServer, library: Any
) -> None:
    transport = RecordingTransport(library.HTTPTransport(), alone=False, provider="kettle")

    with library.Client(transport=transport, base_url=server.base_url) as client:

        @traced(hub=hub)
        def ask(messages: Any) -> str:
            for _ in range(2):
                answer = client.post("/chat/completions", json=body(seed=7), headers=demo("fail=503 times=1 size=79"))
            return str(answer.json()["choices"][0]["message"]["content"])

        ask(ASK)
    seen = hub.call
    assert (seen.status, seen.response["attempts"]) == ("ok", 2)
    assert [retry["status_code"] for retry in seen.retries] == [503]
    assert seen.retries[0]["provider"] == "kettle"
    assert seen.response["usage"]["output_tokens"] > 0
