"""Calls of a traced openai client that answer at once: what is recorded, and that nothing else changes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import httpx
import httpx2
import orjson
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI, RateLimitError
from pydantic import BaseModel

from hub import traced
from hub.demo.server import LoopbackServer
from tests.calls_of import ListHub, durable_hub
from tests.openai_kit import ASK, KINDS, MODEL, demo, play, untraced, value, within

EVERY = pytest.mark.parametrize("kind", KINDS)


@EVERY
def test_a_chat_is_recorded_with_its_messages_answer_and_usage(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        return await value(client.chat.completions.create(model=MODEL, messages=ASK, temperature=0.2, max_tokens=900))

    answer = play(kind, server.base_url, chat, hub)
    seen = hub.call
    assert seen.request["provider"] == "openai"
    assert seen.request["model"] == MODEL
    assert seen.request["operation"] == "chat"
    assert seen.request["params"] == {"temperature": 0.2, "max_tokens": 900}
    assert seen.request["server_address"] == f"127.0.0.1:{server.port}"
    assert seen.sent["messages"] == ASK
    assert seen.text == answer.choices[0].message.content
    assert seen.response["model"] == answer.model != MODEL
    assert seen.response["response_id"] == answer.id
    assert seen.response["finish_reasons"] == ["stop"]
    assert seen.response["usage"]["input_tokens"] == answer.usage.prompt_tokens
    assert seen.response["usage"]["output_tokens"] == answer.usage.completion_tokens
    assert (seen.status, seen.response["status_code"], seen.response["attempts"]) == ("ok", 200, 1)


@EVERY
def test_the_requests_bytes_are_rebuilt_from_what_is_kept(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        return await value(client.chat.completions.create(model=MODEL, messages=ASK))

    play(kind, server.base_url, chat, hub)
    wire = hub.call.sent["wire"]
    rebuilt = wire["head"].encode() + orjson.dumps(hub.call.sent["messages"]) + wire["tail"].encode()
    assert rebuilt == server.exchanges()[-1].body
    assert "Where" not in wire["head"] + wire["tail"]


@EVERY
def test_results_and_bytes_are_those_of_an_untraced_client(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def several(client: Any) -> Any:
        chat = await value(client.chat.completions.create(model=MODEL, messages=ASK))
        response = await value(client.responses.create(model=MODEL, input="Hello", instructions="Be brief."))
        vectors = await value(client.embeddings.create(model="e-1", input=["a", "b"]))
        return type(chat), chat.choices, response.output_text, response.usage, vectors.data, vectors.usage

    plain = play(kind, server.base_url, several, None)
    sent = [exchange.body for exchange in server.exchanges()[-3:]]
    assert play(kind, server.base_url, several, hub) == plain
    assert [exchange.body for exchange in server.exchanges()[-3:]] == sent
    assert [call.request["operation"] for call in hub.calls] == ["chat", "chat", "embeddings"]
    assert len(hub.calls) == 3


@EVERY
def test_responses_and_embeddings_are_recorded(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def several(client: Any) -> Any:
        given = [{"role": "user", "content": "Hello"}]
        await value(client.responses.create(model=MODEL, input=given))
        await value(client.responses.create(model=MODEL, input="Hi", instructions="Be brief."))
        await value(client.embeddings.create(model="e-1", input=["a", "b"]))

    play(kind, server.base_url, several, hub)
    listed, text, vectors = hub.calls
    assert listed.sent["messages"] == [{"role": "user", "content": "Hello"}]
    assert "head" in listed.sent["wire"]
    assert text.sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert "body" in text.sent["wire"]
    assert text.answer["messages"][0]["type"] in ("message", "reasoning")
    assert text.response["finish_reasons"] == ["completed"]
    assert text.response["usage"]["output_tokens"] > 0
    assert vectors.sent["messages"] == [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert vectors.response["usage"]["input_tokens"] > 0
    assert vectors.response["usage"]["output_tokens"] is None


class Order(BaseModel):
    number: str


@EVERY
def test_parse_and_raw_and_streaming_responses_are_calls_too(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def several(client: Any) -> Any:
        chat = client.chat.completions
        parsed = await value(chat.parse(model=MODEL, messages=ASK, response_format=Order))
        raw = await value(chat.with_raw_response.create(model=MODEL, messages=ASK))
        async with within(chat.with_streaming_response.create(model=MODEL, messages=ASK)) as streaming:
            later = await value(streaming.parse())
        again = await value(raw.parse()) if hasattr(raw, "parse") else raw
        return type(parsed.choices[0].message.parsed), again.choices, later.choices, raw.headers["content-type"]

    plain = play(kind, server.base_url, several, None)
    assert play(kind, server.base_url, several, hub) == plain
    assert [call.status for call in hub.calls] == ["ok"] * 3
    assert [call.text is not None for call in hub.calls] == [True] * 3
    assert hub.calls[0].request["params"]["response_format"] == "json_schema"
    assert [call.response["usage"]["output_tokens"] > 0 for call in hub.calls] == [True] * 3


def test_a_streaming_response_nobody_reads_is_abandoned(hub: ListHub, server: LoopbackServer) -> None:
    async def peek(client: Any) -> Any:
        async with within(client.chat.completions.with_streaming_response.create(model=MODEL, messages=ASK)) as answer:
            return answer.status_code

    assert play("sync", server.base_url, peek, hub) == 200
    assert hub.call.status == "abandoned"


@EVERY
@pytest.mark.parametrize("path", ["with_options", "copy", "copy with another http client"])
def test_copies_of_a_traced_client_are_traced(hub: ListHub, server: LoopbackServer, kind: str, path: str) -> None:
    async def chat(client: Any) -> Any:
        extra = {}
        if path == "copy with another http client":
            extra = {"http_client": httpx2.AsyncClient() if kind.startswith("async") else httpx2.Client()}
        other = client.with_options(max_retries=0) if path == "with_options" else client.copy(timeout=5, **extra)
        assert type(other) is type(client)
        answer = await value(other.chat.completions.create(model=MODEL, messages=ASK))
        if extra:
            await value(other.close())
        return answer

    answer = play(kind, server.base_url, chat, hub)
    assert hub.call.response["response_id"] == answer.id
    assert "head" in hub.call.sent["wire"]


@EVERY
def test_other_endpoints_pass_unrecorded(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def listing(client: Any) -> Any:
        return [model.id for model in (await value(client.models.list())).data]

    assert play(kind, server.base_url, listing, hub)
    assert hub.calls == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_client_is_left_as_it_was_and_untraced(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def both(client: Any) -> Any:
        resource, http, attributes = client.chat, client._client, set(client.__dict__)
        copy = traced(client, hub=hub)
        assert isinstance(copy, AsyncOpenAI if kind.startswith("async") else OpenAI)
        assert repr(type(copy)) == repr(type(client))
        assert client.chat is resource
        assert client._client is http
        assert set(client.__dict__) == attributes
        await value(client.chat.completions.create(model=MODEL, messages=ASK))
        assert hub.calls == []
        await value(copy.chat.completions.create(model=MODEL, messages=ASK))
        return len(hub.calls)

    assert play(kind, server.base_url, both, None) == 1


def test_a_traced_client_keeps_the_pool_of_a_client_that_is_gone(hub: ListHub, server: LoopbackServer) -> None:
    client = traced(OpenAI(base_url=server.base_url, api_key="any"), hub=hub)
    gc.collect()
    client.chat.completions.create(model=MODEL, messages=ASK)
    assert hub.call.status == "ok"
    client.close()


def test_a_copy_that_is_gone_leaves_the_pool_open(hub: ListHub, server: LoopbackServer) -> None:
    with OpenAI(base_url=server.base_url, api_key="any") as client:
        copy = traced(client, hub=hub)
        copy.chat.completions.create(model=MODEL, messages=ASK)
        del copy
        gc.collect()
        assert not client.is_closed()
        client.chat.completions.create(model=MODEL, messages=ASK)


def test_closing_either_closes_both(hub: ListHub, server: LoopbackServer) -> None:
    client = OpenAI(base_url=server.base_url, api_key="any")
    copy = traced(client, hub=hub)
    with copy:
        pass
    assert client.is_closed()
    assert copy.is_closed()


def test_tracing_a_traced_client_gives_the_same_one(hub: ListHub, server: LoopbackServer) -> None:
    with OpenAI(base_url=server.base_url, api_key="any") as client:
        copy = traced(client, hub=hub)
        assert traced(copy) is copy
        other = ListHub()
        again = traced(copy, provider="acme", hub=other)
        again.chat.completions.create(model=MODEL, messages=ASK)
        assert other.call.request["provider"] == "acme"
        assert hub.calls == []


def test_azure_is_recorded_under_its_name_with_the_deployment(hub: ListHub, server: LoopbackServer) -> None:
    endpoint = server.base_url.removesuffix("/v1")
    for settings in ({"azure_deployment": "depl"}, {}):
        with AzureOpenAI(azure_endpoint=endpoint, api_version="2026-10-01", api_key="any", **settings) as client:  # type: ignore[call-overload]
            copy = traced(client, hub=hub)
            assert isinstance(copy, AzureOpenAI)
            copy.chat.completions.create(model="depl", messages=ASK)
            copy.with_options(timeout=4).chat.completions.create(model="depl", messages=ASK)
    assert [call.request["provider"] for call in hub.calls] == ["azure.ai.openai"] * 4
    assert [call.request["model"] for call in hub.calls] == ["depl"] * 4
    assert all("head" in call.sent["wire"] for call in hub.calls)


@EVERY
def test_retries_of_the_sdk_are_attempts_of_one_call(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        switches = demo(f"fail=429 times=1 retry_ms=9 size={KINDS.index(kind) + 40}")
        return await value(client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=switches))

    answer = play(kind, server.base_url, chat, hub)
    seen = hub.call
    assert [record["type"] for record in seen.records] == [
        "llm:request",
        "llm:request:debug",
        "provider:retry",
        "llm:response",
        "llm:response:debug",
    ]
    (retry,) = seen.retries
    assert retry["attempt"] == 1
    assert retry["status_code"] == 429
    assert retry["error_type"] == "rate_limit_exceeded"
    assert retry["retry_after_ms"] == 9
    assert retry["max_retries"] == 2
    assert retry["delay_ms"] > 0
    assert seen.of("provider:retry")[0]["content"] == {"error": "Rate limit reached for requests."}
    assert seen.response["attempts"] == 2
    assert seen.response["response_id"] == answer.id


@EVERY
@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        ("fail=400", 1),
        ("fail=401", 1),
        ("fail=429", 2),
        ("fail=500", 2),
        ("reset", 2),
        ("cut=1", 2),
        ("body=wrong_type", 1),
        ("body=invalid", 1),
        ("body=empty", 1),
    ],
)
def test_faults_raise_what_they_raise_untraced_and_are_one_call(
    hub: ListHub, server: LoopbackServer, kind: str, fault: str, attempts: int
) -> None:
    async def chat(client: Any) -> Any:
        headers = demo(f"{fault} retry_ms=1")
        return await value(client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=headers))

    bare = play(kind, server.base_url, chat, None, max_retries=1)
    wrapped = play(kind, server.base_url, chat, hub, max_retries=1)
    assert type(wrapped) is type(bare)
    assert type(getattr(wrapped, "__cause__", None)) is type(getattr(bare, "__cause__", None))
    assert type(getattr(wrapped, "__context__", None)) is type(getattr(bare, "__context__", None))
    assert str(wrapped) == str(bare)
    seen = hub.call
    assert seen.response["attempts"] == attempts
    assert len(seen.retries) == attempts - 1
    if isinstance(bare, Exception):
        assert seen.status == "error"
        assert seen.response["error_type"]
    if fault == "fail=500":
        assert seen.response["retryable"] is True
        assert seen.error == str(bare)
    if fault == "fail=400":
        assert seen.response["retryable"] is False


def test_a_cancelled_call_is_cancelled(hub: ListHub, server: LoopbackServer) -> None:
    async def chat(client: Any) -> Any:
        headers = demo("latency=5")
        task = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=headers))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play("async", server.base_url, chat, hub)
    assert hub.call.status == "cancelled"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_interrupt_is_recorded_and_arrives_as_it_was_raised(hub: ListHub, library: Any) -> None:
    error = KeyboardInterrupt()

    def handler(request: Any) -> Any:
        raise error

    with library.Client(transport=library.MockTransport(handler)) as http:
        client: Any = traced(OpenAI(base_url="http://mocked/v1", api_key="any", http_client=http), hub=hub)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK)
    assert caught.value is error
    assert error.__context__ is None
    assert hub.call.status == "cancelled"


@EVERY
def test_gzipped_answers_reach_the_program_packed_and_the_record_unpacked(
    hub: ListHub, server: LoopbackServer, kind: str
) -> None:
    async def chat(client: Any) -> Any:
        headers = demo("gzip")
        return await value(client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=headers))

    answer = play(kind, server.base_url, chat, hub)
    assert hub.call.text == answer.choices[0].message.content
    assert hub.call.answer["wire"]["body"].startswith('{"id"')


def test_no_key_reaches_the_record(hub: ListHub, server: LoopbackServer) -> None:
    async def chat(client: Any) -> Any:
        return await value(
            client.chat.completions.create(
                model=MODEL,
                messages=ASK,
                extra_headers={"x-secret": "canary-header"},
                extra_query={"key": "canary-query"},
            )
        )

    play("sync", server.base_url, chat, hub)
    assert b"canary" not in orjson.dumps(hub.log.records, default=repr)
    assert b"a1a1a1a1" not in orjson.dumps(hub.log.records, default=repr)


def test_a_traced_function_around_a_traced_client_is_one_call(hub: ListHub, server: LoopbackServer) -> None:
    @traced(provider="mine", hub=hub)
    def ask(prompt: str, client: OpenAI) -> str | None:
        return client.chat.completions.create(model=MODEL, messages=ASK).choices[0].message.content

    with OpenAI(base_url=server.base_url, api_key="any") as client:
        text = ask("x", traced(client, hub=hub))
    assert hub.call.text == text
    assert hub.call.request["provider"] == "mine"
    assert hub.call.response["usage"]["output_tokens"] > 0


def test_interleaved_async_calls_pair(hub: ListHub, server: LoopbackServer) -> None:
    async def chats(client: Any) -> Any:
        def one(n: int) -> Any:
            return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"Question {n}"}])

        return [answer.id for answer in await asyncio.gather(*map(one, range(40)))]

    ids = play("async", server.base_url, chats, hub)
    by_question = {call.sent["messages"][0]["content"]: call.response["response_id"] for call in hub.calls}
    assert [by_question[f"Question {n}"] for n in range(40)] == ids


@pytest.mark.parametrize(
    "place",
    [
        "hub.extractors.wire.openai_facts",
        "hub.exchange.Reception.__init__",
        "hub.exchange.Reception.facts",
        "hub.exchange.WireCall._end",
        "hub.transport._content",
        "hub.openai_client.asked",
        "hub.openai_client._Traced._hub_look_through",
        "hub.recorder.Recorder._append",
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_of_ours_breaks_the_call_goes_on(
    hub: ListHub, server: LoopbackServer, kind: str, place: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret text")

    async def chat(client: Any) -> Any:
        headers = demo(f"fail=500 times=1 retry_ms=1 size={60 + len(place)}")
        plain = await value(client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=headers))
        stream = await value(client.chat.completions.create(model=MODEL, messages=ASK, stream=True))
        if kind == "sync":
            return plain.choices, len(list(stream))
        return plain.choices, len([chunk async for chunk in stream])

    bare = play(kind, server.base_url, chat, None)
    monkeypatch.setattr(place, breaks)
    assert play(kind, server.base_url, chat, hub) == bare
    assert "RuntimeError" in caplog.text
    assert "secret text" not in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_durable_calls_wait_for_the_disk_before_request_and_answer(server: LoopbackServer, kind: str) -> None:
    hub = durable_hub()

    async def chat(client: Any) -> Any:
        return await value(client.chat.completions.create(model=MODEL, messages=ASK))

    play(kind, server.base_url, chat, hub)
    assert hub.log.syncer.counts[0] == 2
    assert hub.log.syncer.counts[-1] == 4


def test_mounts_and_custom_transports_are_recorded(hub: ListHub, server: LoopbackServer) -> None:
    def handler(request: Any) -> Any:
        answer = {"choices": [{"message": {"role": "assistant", "content": "mock"}, "finish_reason": "stop"}]}
        return httpx.Response(200, json={"id": "m-1", "model": "mocked", "object": "chat.completion", **answer})

    with httpx.Client(mounts={"http://mocked": httpx.MockTransport(handler)}) as http:
        for base_url in ("http://mocked/v1", server.base_url):
            client: Any = traced(OpenAI(base_url=base_url, api_key="any", http_client=http), hub=hub)  # type: ignore[arg-type]
            client.chat.completions.create(model=MODEL, messages=ASK)
    mocked, real = hub.calls
    assert mocked.text == "mock"
    assert mocked.response["model"] == "mocked"
    assert real.status == "ok"


def test_an_exception_of_the_sdk_carries_no_trace_of_ours_but_frames(hub: ListHub, server: LoopbackServer) -> None:
    client: Any = traced(untraced("sync", server.base_url, max_retries=0), hub=hub)
    with pytest.raises(RateLimitError) as caught:
        client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=demo("fail=429"))
    assert caught.value.__cause__ is None
    client.close()
