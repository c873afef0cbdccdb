"""The loopback server speaks OpenAI's wire: the vendor's own SDK parses all of it, and raises what it should."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    AzureOpenAI,
    BadRequestError,
    InternalServerError,
    OpenAI,
    RateLimitError,
)
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from hub.demo.server import LoopbackServer
from hub.demo.switches import parse

MODEL = "gpt-4o-mini"
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Where is order A-1042?"}]
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "find_order",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    },
}


@pytest.fixture
def client(server: LoopbackServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="any") as client:
        yield client


def demo(switches: str) -> dict[str, str]:
    return {"x-demo": switches}


def test_the_same_question_gets_the_same_answer_and_usage(client: OpenAI) -> None:
    first, second = (client.chat.completions.create(model=MODEL, messages=ASK) for _ in range(2))
    assert first.id != second.id
    assert first.choices == second.choices
    assert first.usage == second.usage
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert first.model == "gpt-4o-mini-2024-07-18"


def test_a_stream_says_what_the_plain_answer_says(client: OpenAI) -> None:
    plain = client.chat.completions.create(model=MODEL, messages=ASK)
    stream = client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == plain.choices[0].message.content


@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_streamed_only_when_asked_for(client: OpenAI, asked: bool) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True} if asked else {}
        )
    )
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert ("usage" in chunks[0].model_fields_set) is asked
    assert (chunks[-1].usage is not None) is asked
    assert (chunks[-1].choices == []) is asked


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_called_and_then_the_answer_given(client: OpenAI, stream: bool) -> None:
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[TOOL]) as events:
        streamed = events.get_final_completion().choices[0]
    plain = client.chat.completions.create(model=MODEL, messages=ASK, tools=[TOOL]).choices[0]
    choice = streamed if stream else plain
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"order_id": "A-1042"}
    after = client.chat.completions.create(
        model=MODEL,
        messages=[
            *ASK,
            {"role": "assistant", "content": None},
            {"role": "tool", "tool_call_id": call.id, "content": "x"},
        ],
        tools=[TOOL],
    )
    assert after.choices[0].finish_reason == "stop"


def test_json_mode_and_parse_give_documents_of_the_schema(client: OpenAI) -> None:
    class Verdict(BaseModel):
        order: str
        urgent: bool
        stars: int
        tags: list[str]

    free = client.chat.completions.create(model=MODEL, messages=ASK, response_format={"type": "json_object"})
    assert "answer" in json.loads(free.choices[0].message.content or "")
    parsed = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Verdict)
    assert isinstance(parsed.choices[0].message.parsed, Verdict)
    verdict = client.responses.parse(model=MODEL, input="Where is order A-1042?", text_format=Verdict).output_parsed
    assert verdict is not None
    assert verdict.order == "A-1042"


def test_responses_answer_alike_streamed_and_plain(client: OpenAI) -> None:
    plain = client.responses.create(model="gpt-5-mini", input="Where is order A-1042?", instructions="Be brief.")
    with client.responses.stream(
        model="gpt-5-mini", input="Where is order A-1042?", instructions="Be brief."
    ) as events:
        final = events.get_final_response()
    assert (final.status, final.output_text, final.usage) == ("completed", plain.output_text, plain.usage)
    assert [item.type for item in plain.output] == ["reasoning", "message"]
    assert plain.usage is not None
    assert 0 < plain.usage.output_tokens_details.reasoning_tokens < plain.usage.output_tokens


def test_responses_call_functions(client: OpenAI) -> None:
    find = {"type": "function", "name": "find_order", "parameters": TOOL["function"]["parameters"], "strict": False}
    with client.responses.stream(model=MODEL, input="Where is order A-1042?", tools=[find]) as events:  # type: ignore[list-item] # a dict of the right shape
        (call,) = events.get_final_response().output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"order_id": "A-1042"}


def test_a_limit_cuts_the_answer(client: OpenAI) -> None:
    chat = client.chat.completions.create(model=MODEL, messages=ASK, max_completion_tokens=2)
    assert (chat.choices[0].finish_reason, chat.usage and chat.usage.completion_tokens) == ("length", 2)
    assert client.responses.create(model=MODEL, input="Hello?", max_output_tokens=2).status == "incomplete"


def test_embeddings_come_as_floats_and_as_base64(client: OpenAI) -> None:
    packed = client.embeddings.create(model="text-embedding-3-small", input=["kettle", "teapot"]).data
    floats = client.embeddings.create(model="text-embedding-3-small", input=["kettle"], encoding_format="float").data
    assert packed[0].embedding == pytest.approx(floats[0].embedding)
    assert packed[0].embedding != packed[1].embedding


def test_models_are_listed(client: OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]


def test_azure_urls_are_served(server: LoopbackServer) -> None:
    endpoint = server.base_url.removesuffix("/v1")
    with AzureOpenAI(azure_endpoint=endpoint, api_key="any", api_version="2025-03-01-preview") as client:
        assert client.chat.completions.create(model=MODEL, messages=ASK).choices


@pytest.mark.parametrize("fault", ["fail=429", "fail=500", "reset"])
def test_a_fault_is_met_the_first_times_and_then_no_more(fault: str) -> None:
    with LoopbackServer() as server, OpenAI(base_url=server.base_url, api_key="any", max_retries=2) as client:
        client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=demo(f"{fault} times=1"))
        served = server.served()
    assert (served.requests, served.answers) == (2, 1)
    assert server.exchanges()[0].status == int(fault.partition("=")[2] or 0)


@pytest.mark.parametrize(
    ("status", "expected"), [(400, BadRequestError), (429, RateLimitError), (500, InternalServerError)]
)
def test_errors_reach_the_caller_as_the_sdk_raises_them(
    client: OpenAI, status: int, expected: type[APIStatusError]
) -> None:
    with pytest.raises(expected) as caught:
        client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=demo(f"fail={status}"))
    assert caught.value.request_id


def test_a_cut_stream_breaks_the_connection_and_an_early_end_does_not(client: OpenAI) -> None:
    def stream(switches: str) -> Iterator[str]:
        for chunk in client.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, extra_headers=demo(switches)
        ):
            yield chunk.choices[0].delta.content or ""

    with pytest.raises((APIConnectionError, httpx.RemoteProtocolError)):
        list(stream("cut=3"))
    assert len(list(stream("end_early=3"))) == 3


@pytest.mark.parametrize("switches", ["body=invalid", "body=wrong_type", "body=empty", "cut=1"])
def test_broken_bodies_are_broken(server: LoopbackServer, switches: str) -> None:
    with pytest.raises((ValueError, httpx.RemoteProtocolError)):
        httpx.post(
            f"{server.base_url}/chat/completions", json={"model": MODEL, "messages": ASK}, headers=demo(switches)
        ).json()


def test_gzip_and_large_answers_arrive_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=demo("gzip size=300000"))
    assert len(answer.choices[0].message.content or "") == 300_000


def test_a_slow_stream_comes_in_the_pieces_asked_for(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, extra_headers=demo("chunks=4 delay=0.01")
    )
    assert len(list(stream)) == 1 + 4 + 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", "not json", 400),
        ("/chat/completions", '{"messages": []}', 400),
        ("/chat/completions", '{"model": "m", "messages": 7}', 400),
        ("/chat/completions", '{"model": "m", "metadata": {"demo": "explode"}}', 400),
        ("/nowhere", '{"model": "m"}', 404),
    ],
)
def test_what_cannot_be_served_is_refused_in_openais_shape(
    server: LoopbackServer, path: str, body: str, status: int
) -> None:
    answer = httpx.post(server.base_url + path, content=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_hundred_async_calls_are_served_side_by_side_and_counted() -> None:
    async def run(base_url: str) -> int:
        async with AsyncOpenAI(base_url=base_url, api_key="any") as client:
            calls = [
                client.chat.completions.create(model=MODEL, messages=ASK, extra_headers=demo("latency=0.05"))
                for _ in range(100)
            ]
            return sum(done.usage.total_tokens for done in await asyncio.gather(*calls) if done.usage)

    with LoopbackServer() as server:
        total = asyncio.run(run(server.base_url))
        served = server.served()
    assert (served.requests, served.answers) == (100, 100)
    assert served.input_tokens + served.output_tokens == total


def test_stopping_ends_open_connections_and_threads() -> None:
    before = set(threading.enumerate())
    server = LoopbackServer().start()
    with httpx.Client() as client:
        url, body = f"{server.base_url}/chat/completions", {"model": MODEL, "messages": ASK, "stream": True}
        with client.stream("POST", url, json=body, headers=demo("delay=30")):
            began = time.monotonic()
            server.stop()
            server.stop()
    assert time.monotonic() - began < 3
    assert set(threading.enumerate()) <= before


def test_an_unknown_switch_is_named() -> None:
    with pytest.raises(ValueError, match="explode"):
        parse("latency=1 explode=2")
