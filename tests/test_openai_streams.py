"""Streams of a traced openai client: what is recorded however they end, and that nothing else changes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionToolParam

from hub import traced
from hub.calls import current_call
from hub.demo.server import LoopbackServer
from tests.calls_of import ListHub
from tests.openai_kit import ASK, KINDS, MODEL, demo, each, play, value, within

EVERY = pytest.mark.parametrize("kind", KINDS)
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "find_order", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}},
}


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@EVERY
@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_is_recorded_whole_with_usage_only_if_it_was_on_the_wire(
    hub: ListHub, server: LoopbackServer, kind: str, asked: bool
) -> None:
    async def chat(client: Any) -> Any:
        options = {"stream_options": {"include_usage": True}} if asked else {}
        stream = await value(client.chat.completions.create(model=MODEL, messages=ASK, stream=True, **options))
        return type(stream), [chunk.to_dict() async for chunk in each(stream)]

    plain_type, plain = play(kind, server.base_url, chat, None)
    traced_type, chunks = play(kind, server.base_url, chat, hub)
    assert traced_type is plain_type
    assert [chunk["choices"] for chunk in chunks] == [chunk["choices"] for chunk in plain]
    seen = hub.call
    assert seen.request["stream"] is True
    assert seen.status == "ok"
    assert seen.text == "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert seen.response["chunk_count"] == len(chunks)
    assert seen.response["finish_reasons"] == ["stop"]
    assert 0 < seen.response["ttft_ms"] <= seen.response["duration_ms"]
    if asked:
        assert seen.response["usage"]["output_tokens"] == chunks[-1]["usage"]["completion_tokens"]
    else:
        assert "usage" not in seen.response


@EVERY
def test_the_streaming_helper_is_a_call_too(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        async with within(client.chat.completions.stream(model=MODEL, messages=ASK)) as stream:
            kinds = {event.type async for event in each(stream)}
            final = await value(stream.get_final_completion())
            return kinds, final.choices[0].message.content

    kinds, text = play(kind, server.base_url, chat, hub)
    assert "content.delta" in kinds
    assert (hub.call.status, hub.call.text) == ("ok", text)


@EVERY
def test_tool_calls_of_a_stream_are_put_together(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        create = client.chat.completions.create
        stream = await value(create(model=MODEL, messages=ASK, tools=[TOOL], stream=True))
        [chunk async for chunk in each(stream)]
        return (await value(create(model=MODEL, messages=ASK, tools=[TOOL]))).choices[0].message.tool_calls

    tool_calls = play(kind, server.base_url, chat, hub)
    streamed, plain = hub.calls
    assert tool_calls, "the server answers this question with a tool"
    (wanted,), (got,) = tool_calls, streamed.answer["messages"][0]["tool_calls"]
    assert got["function"] == {"name": wanted.function.name, "arguments": wanted.function.arguments}
    assert streamed.response["finish_reasons"] == plain.response["finish_reasons"] == ["tool_calls"]
    assert streamed.request["tool_count"] == 1


@EVERY
def test_a_stream_of_responses_is_recorded(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def respond(client: Any) -> Any:
        stream = await value(client.responses.create(model=MODEL, input="Hello", stream=True))
        events = [event async for event in each(stream)]
        async with within(client.responses.stream(model=MODEL, input="Hello")) as again:
            async for _ in each(again):
                pass
            final = await value(again.get_final_response())
        return len(events), final.output_text, final.usage.output_tokens

    count, text, tokens = play(kind, server.base_url, respond, hub)
    first, second = hub.calls
    assert first.response["chunk_count"] == count
    for seen in (first, second):
        assert seen.status == "ok"
        spoken = [item for item in seen.answer["messages"] if item["type"] == "message"]
        assert spoken[-1]["content"][0]["text"] == text
        assert seen.response["usage"]["output_tokens"] == tokens
        assert seen.response["finish_reasons"] == ["completed"]


@EVERY
@pytest.mark.parametrize("wire", ["chat", "responses"])
@pytest.mark.parametrize("fault", ["cut=3", "end_early=3"])
def test_a_stream_cut_in_the_middle_is_an_error_whatever_the_caller_saw(
    hub: ListHub, server: LoopbackServer, kind: str, wire: str, fault: str
) -> None:
    seen_chunks: list[Any] = []

    async def chat(client: Any) -> Any:
        seen_chunks.clear()
        if wire == "chat":
            make = client.chat.completions.create(model=MODEL, messages=ASK, stream=True, extra_headers=demo(fault))
        else:
            make = client.responses.create(model=MODEL, input="Hello", stream=True, extra_headers=demo(fault))
        async for chunk in each(await value(make)):
            seen_chunks.append(chunk)  # noqa: PERF401  # what came before an exception counts

    bare = play(kind, server.base_url, chat, None)
    count = len(seen_chunks)
    wrapped = play(kind, server.base_url, chat, hub)
    assert type(wrapped) is type(bare)
    assert str(wrapped) == str(bare)
    assert len(seen_chunks) == count == 3
    assert hub.call.status == "error"
    if fault.startswith("end_early"):
        assert bare is None
        assert hub.call.response["error_type"] == "incomplete_stream"
    assert hub.call.response["chunk_count"] == 3
    if wire == "chat":
        assert hub.call.text == text_of(seen_chunks)


@EVERY
@pytest.mark.parametrize("how", ["break", "close"])
def test_a_stream_let_go_of_is_abandoned_with_what_was_read(
    hub: ListHub, server: LoopbackServer, kind: str, how: str
) -> None:
    async def chat(client: Any) -> Any:
        headers = demo("delay=0.02")
        stream = await value(
            client.chat.completions.create(model=MODEL, messages=ASK, stream=True, extra_headers=headers)
        )
        items = each(stream)
        chunks = [await anext(items), await anext(items)]
        if how == "close":
            await value(stream.close())
        del stream
        await items.aclose()  # type: ignore[attr-defined]
        del items
        gc.collect()
        await asyncio.sleep(0.05)
        return text_of(chunks)

    text = play(kind, server.base_url, chat, hub)
    assert hub.call.status == "abandoned"
    assert (hub.call.text or "").startswith(text)
    assert "error_type" not in hub.call.response


def test_a_stream_never_read_is_abandoned_when_it_is_collected(hub: ListHub, server: LoopbackServer) -> None:
    client = traced(OpenAI(base_url=server.base_url, api_key="any"), hub=hub)
    stream = client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
    assert [record["type"] for record in hub.log.records] == ["llm:request", "llm:request:debug"]
    del stream
    gc.collect()
    assert hub.log.records[-1]["type"] == "llm:request:debug", "a finaliser writes nothing itself"
    assert len(hub.log.notes) == 1
    keeper: dict[str, Any] = {"__name__": "hub.pipeline", "notes": hub.log.notes}
    exec("def run(): notes.popleft()()", keeper)
    keeper["run"]()
    assert not hub.log.notes, "what it left is done in one go"
    assert hub.call.status == "abandoned"
    client.close()


def test_a_stream_whose_reader_is_cancelled_is_cancelled(hub: ListHub, server: LoopbackServer) -> None:
    async def chat(client: Any) -> Any:
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, extra_headers=demo("delay=5")
        )

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play("async", server.base_url, chat, hub)
    assert hub.call.status == "cancelled"
    assert hub.call.response["chunk_count"] == 1


@EVERY
def test_the_call_is_not_current_while_the_stream_is_read(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        stream = await value(client.chat.completions.create(model=MODEL, messages=ASK, stream=True))
        return [current_call.get() async for _ in each(stream)]

    assert set(play(kind, server.base_url, chat, hub)) == {None}


@EVERY
def test_retries_before_a_stream_are_attempts(hub: ListHub, server: LoopbackServer, kind: str) -> None:
    async def chat(client: Any) -> Any:
        headers = demo(f"fail=500 times=1 retry_ms=1 chunks={KINDS.index(kind) + 3}")
        stream = await value(
            client.chat.completions.create(model=MODEL, messages=ASK, stream=True, extra_headers=headers)
        )
        return [chunk async for chunk in each(stream)]

    play(kind, server.base_url, chat, hub)
    assert hub.call.status == "ok"
    assert hub.call.response["attempts"] == 2
    assert [retry["status_code"] for retry in hub.call.retries] == [500]


def test_a_traced_function_that_returns_a_stream_ends_with_it(hub: ListHub, server: LoopbackServer) -> None:
    client = traced(OpenAI(base_url=server.base_url, api_key="any"), hub=hub)

    @traced(provider="mine", hub=hub)
    def ask(prompt: str) -> Any:
        return client.chat.completions.create(model=MODEL, messages=ASK, stream=True)

    stream = ask("x")
    assert "llm:response" not in hub.log.types()
    text = text_of(list(stream))
    assert (hub.call.status, hub.call.text) == ("ok", text)
    client.close()


def test_interleaved_streams_pair(hub: ListHub, server: LoopbackServer) -> None:
    async def chats(client: Any) -> Any:
        async def one(n: int) -> str:
            question = [{"role": "user", "content": f"Question {n}"}]
            stream = await client.chat.completions.create(model=MODEL, messages=question, stream=True)
            ids = [chunk.id async for chunk in stream]
            return str(ids[0])

        return await asyncio.gather(*map(one, range(30)))

    ids = play("async", server.base_url, chats, hub)
    by_question = {call.sent["messages"][0]["content"]: call.response["response_id"] for call in hub.calls}
    assert [by_question[f"Question {n}"] for n in range(30)] == ids


@EVERY
def test_a_stream_with_a_raw_response_is_recorded_when_it_is_read(
    hub: ListHub, server: LoopbackServer, kind: str
) -> None:
    async def chat(client: Any) -> Any:
        chat = client.chat.completions
        raw = await value(chat.with_raw_response.create(model=MODEL, messages=ASK, stream=True))
        first = [chunk async for chunk in each(await value(raw.parse()))]
        async with within(chat.with_streaming_response.create(model=MODEL, messages=ASK, stream=True)) as answer:
            lines = [line async for line in each(answer.iter_lines())]
        return len(first), sum(line.startswith("data: {") for line in lines)

    counts = play(kind, server.base_url, chat, hub)
    assert [call.status for call in hub.calls] == ["ok", "ok"]
    assert tuple(call.response["chunk_count"] for call in hub.calls) == counts
