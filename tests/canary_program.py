"""A program that has secrets in every place it can have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
import openai
import orjson
import pytest

import hub as api
from hub.runtime import Hub
from tests.canaries import SECRET_NAMES, VENDOR_KEYS, Canaries

OWN = "a user's own pattern"


def plant_in_environment(canaries: Canaries, patch: pytest.MonkeyPatch) -> None:
    secret = canaries.core(OWN)
    resource = (
        f"team=search,api_key={canaries.core('resource attribute api_key')},note={canaries.key('resource attribute')}"
    )
    for name, value in {
        "OPENAI_API_KEY": canaries.key("environment", "openai"),
        "AZURE_OPENAI_API_KEY": canaries.core("environment, azure"),
        "MY_SECRET": canaries.core("environment, own"),
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{canaries.core('OTLP headers')}",
        "OTEL_RESOURCE_ATTRIBUTES": resource,
        "HUB_REDACT_PATTERNS": secret,
    }.items():
        patch.setenv(name, value)


def plant_everywhere(hub: Hub, canaries: Canaries) -> None:
    plant_in_functions(hub, canaries)
    plant_in_results(hub, canaries)
    plant_in_exceptions(hub, canaries)
    plant_in_labels_and_events(hub, canaries)
    plant_in_calls_by_hand(hub, canaries)
    plant_in_an_sdk(hub, canaries)
    plant_in_answers(hub, canaries)
    asyncio.run(plant_in_async(hub, canaries))


@dataclass
class Settings:
    """What a program may pass along."""

    api_key: str
    nested: dict[str, Any]


def plant_in_functions(hub: Hub, canaries: Canaries) -> None:
    text, core = canaries.text, canaries.core

    @hub.traced(provider=canaries.key("provider="), model=canaries.key("model= of traced"))
    def ask(messages: Any, *, tools: Any = None, default: str = canaries.key("default"), **options: Any) -> str:
        return "Fine."

    for vendor in VENDOR_KEYS:
        ask([{"role": "user", "content": text("message", vendor)}])
    ask(f"What a pattern of the user's own stands for: {canaries.again(OWN)}")
    ask([{"role": "user", "content": {name: core(f"{name} in a message") for name in SECRET_NAMES}}])
    ask(text("prompt"), api_key=core("api_key="), config={"openai": {"api_key": core("config=")}}, password=core("pw="))
    ask("Hi", stop=[text("stop")], user=canaries.key("user="), metadata={"password": core("metadata=")})
    ask(
        "Hi",
        temperature=canaries.key("temperature="),
        reasoning={"effort": canaries.key("effort")},
        seed=canaries.key("seed"),
    )
    ask("Hi", model=canaries.key("model="), tool_choice={"type": canaries.key("tool_choice")}, stream=core("stream="))
    ask([Settings(api_key=core("object"), nested={"headers": [("Authorization", core("pair"))], "x": text("nested")})])
    arguments = orjson.dumps({"api_key": core("tool arguments, name"), "q": text("tool arguments")}).decode()
    url = f"https://pictures.example/cat.png?key={core('image url')}&sig={core('image url sig')}"
    asked = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    ask(
        [
            {"role": "system", "content": text("system")},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
            {"role": "assistant", "content": None, "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": canaries.key("tool_call_id"), "content": text("tool result")},
            {"role": canaries.key("role"), "type": canaries.key("type"), "content": [{"type": canaries.key("kind")}]},
            {canaries.key("a key of a dict"): text("under it"), "x": f"provoke the redactor with {core('redactor')}"},
        ]
    )
    named = canaries.key("tool name")
    ask("Hi", tools=[{"type": "function", "function": {"name": named, "description": text("tool description")}}])
    ask("Hi", tools=[{"name": canaries.key("flat tool name"), "input_schema": {"default": text("tool schema")}}])


def plant_in_results(hub: Hub, canaries: Canaries) -> None:
    text, key = canaries.text, canaries.key
    answers = (
        text("plain answer"),
        {"role": "assistant", "content": text("message answer"), "api_key": canaries.core("answer, by name")},
        {
            "id": key("response id"),
            "model": key("served model"),
            "choices": [{"message": {"content": text("choice")}, "finish_reason": key("finish reason")}],
            "usage": {"prompt_tokens": 3, key("usage"): 4},
        },
        {"content": [{"type": "text", "text": text("block")}, {"type": "thinking", "thinking": text("thinking")}]},
    )
    for answer in answers:
        hub.traced(lambda prompt, answer=answer: answer, provider="acme", model="a-1")("Hi")

    def words(prompt: str) -> Iterator[str]:
        yield from text("generator, letter by letter")

    list(hub.traced(words, provider="acme", model="a-1")("Hi"))

    def extract(_arguments: Any, _result: Any) -> Any:
        return {
            "error_type": key("extracted error_type"),
            "cost_reporter": key("reporter"),
            "reported_cost_usd": "1",
            "status_code": key("extracted code"),
            "usage": {"input_tokens": 1, "note": key("extracted usage")},
        }

    hub.traced(lambda prompt: "x", provider="acme", extract=extract)("Hi")


def plant_in_exceptions(hub: Hub, canaries: Canaries) -> None:
    def broken(prompt: str, error: BaseException) -> None:
        raise error

    def broken_stream(prompt: str) -> Iterator[str]:
        yield "so far"
        raise ConnectionError(canaries.text("exception of a generator"))

    for vendor in VENDOR_KEYS:
        with suppress(ValueError):
            hub.traced(broken, provider="acme")("Hi", ValueError(canaries.text("exception", vendor)))
    with suppress(KeyError):
        hub.traced(broken, provider="acme")("Hi", KeyError({"password": canaries.core("dict in an exception")}))
    with suppress(ConnectionError):
        list(hub.traced(broken_stream, provider="acme")("Hi"))

    def extract(_arguments: Any, _result: Any) -> Any:
        raise ValueError(canaries.text_unkept("exception of an extractor"))

    hub.traced(lambda prompt: "x", provider="acme", extract=extract)("Hi")

    def subscriber(event: Any) -> None:
        raise ValueError(canaries.text_unkept("exception of a subscriber"))

    stop = hub.subscribe("llm:*", subscriber)
    hub.traced(lambda prompt: "x", provider="acme")("Hi")
    stop()


class Typed(api.Event, type="canary:typed"):
    """An event with a field nobody should fill."""

    api_key: str
    note: str
    more: dict[str, Any]


def plant_in_labels_and_events(hub: Hub, canaries: Canaries) -> None:
    text, core, key = canaries.text, canaries.core, canaries.key
    tags = {"api_key": core("tag api_key"), "note": text("tag"), key("name of a tag"): 1}
    with api.session(text("session id"), user_id=text("user id"), tags=tags):
        hub.traced(lambda prompt: "x", provider="acme")("Hi")
        hub.emit("canary:in_session", note="x")
        with hub.call(provider="acme") as call:
            hub.emit(Typed(api_key=core("typed event"), note=text("typed note"), more={"secret": core("typed nested")}))
            hub.emit(
                "canary:bare", password=core("bare event"), note=text("bare note"), deep=[{"auth_token": core("deep")}]
            )
            call.response("x")
    hub.emit(Typed(api_key=core("typed alone"), note=text("typed alone note"), more={key("typed key"): 1}))
    hub.emit("canary:alone", **{"note": text("bare alone"), key("bare field"): "x"})


def plant_in_calls_by_hand(hub: Hub, canaries: Canaries) -> None:
    text, key = canaries.text, canaries.key
    params = {
        "api_key": canaries.core("params"),
        "system": "neighbour of prompts among params",
        "stop": text("stop by hand"),
    }
    messages = [{"role": "user", "content": text("message by hand")}]
    with hub.call(provider=key("provider by hand"), model=key("by hand"), messages=messages, params=params) as call:
        hints: Any = {
            "finish_reason": key("finish by hand"),
            "response_id": key("id by hand"),
            "model": key("served by hand"),
        }
        call.response(text("answer by hand"), cost_usd=key("cost by hand"), **hints)
    with suppress(RuntimeError), hub.call(operation=key("operation by hand")):
        raise RuntimeError(text("exception by hand"))


def plant_in_an_sdk(hub: Hub, canaries: Canaries) -> None:
    text, core, key = canaries.text, canaries.core, canaries.key
    client = hub.traced(
        openai.OpenAI(
            base_url=f"https://user:{core('base_url')}@api.openai.com/v1",
            api_key=key("api_key of a client", "openai project"),
            organization=key("organization"),
            default_headers={
                "x-api-key": core("default header"),
                "x-note": key("odd header"),
                "Cookie": f"session={core('cookie')}",
            },
            default_query={"key": core("default query")},
            http_client=mocked(lambda request: httpx2.Response(200, headers=cookie(canaries), json=chat("Fine."))),
        )
    )
    create = client.chat.completions.create
    body = {"api_key": core("extra body"), "pwd": core("extra body pwd"), "note": text("extra body note")}
    headers = {"Authorization": f"Bearer {core('extra header')}"}
    query = {"access_token": core("extra query")}
    said: Any = [{"role": "user", "content": text("to an SDK")}]
    metadata = {"api key": core("SDK metadata"), "note": text("SDK metadata note")}
    create(model=key("model of an SDK"), messages=said, extra_body=body, extra_headers=headers, extra_query=query)
    create(model="m", messages=said, user=key("SDK user"), stop=[text("SDK stop")], metadata=metadata)
    client.responses.create(model="m", input=text("input"), instructions=text("instructions"), metadata=metadata)
    client.embeddings.create(model="m", input=[text("embedded")], encoding_format="float")
    recording: Any = api.httpx_client(hub=hub, transport=api_transport(lambda body: chat(text("bare answer"))))
    url = f"http://localhost/v1/chat/completions?api_key={core('bare url')}"
    recording.post(url, headers=headers, json={"model": "m", "messages": [{"role": "user", "content": text("bare")}]})


def plant_in_answers(hub: Hub, canaries: Canaries) -> None:
    """Answers from the wire: whole, as errors, and in streams that cut a key into letters."""
    for place in ("429", "401", "500"):
        error = {"error": {"message": canaries.text(f"error body {place}"), "code": canaries.key(f"code {place}")}}
        with suppress(openai.APIError):
            wired(hub, httpx2.Response(int(place), json=error)).chat.completions.create(model="m", messages=[HI])
    with suppress(openai.APIError):
        wired(hub, httpx2.Response(502, text=f"<p>{canaries.text('error page')}")).responses.create(
            model="m", input="Hi"
        )
    wired(hub, httpx2.Response(200, json=chat(canaries.text("answer") + " So it goes." * 200))).chat.completions.create(
        model="m", messages=[HI]
    )
    for name in ("content", "refusal", "reasoning_content"):
        deltas = [{name: letter} for letter in canaries.text(f"streamed {name}")]
        list(wired(hub, sse(map(chunk, deltas))).chat.completions.create(model="m", messages=[HI], stream=True))
    arguments = orjson.dumps({"q": canaries.text("streamed arguments"), "password": canaries.core("by name")}).decode()
    calls: list[dict[str, Any]] = [{"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}]
    calls += [{"tool_calls": [{"index": 0, "function": {"arguments": letter}}]} for letter in arguments]
    list(wired(hub, sse(map(chunk, calls))).chat.completions.create(model="m", messages=[HI], stream=True))
    for ended in (True, False):
        events = response_events(canaries, ended)
        list(wired(hub, sse(events)).responses.create(model="m", input="Hi", stream=True))
    with suppress(openai.APIError):
        broken = {"error": {"message": canaries.text("error in a stream"), "type": "server_error"}}
        list(
            wired(hub, sse([chunk({"content": "so"}), broken])).chat.completions.create(
                model="m", messages=[HI], stream=True
            )
        )


async def plant_in_async(hub: Hub, canaries: Canaries) -> None:
    async def words(prompt: str) -> AsyncIterator[dict[str, str]]:
        for letter in canaries.text("async generator"):
            yield {"content": letter}

    async for _ in hub.traced(words, provider="acme")("Hi"):
        pass

    async def broken(prompt: str) -> None:
        raise PermissionError(canaries.text("exception of a coroutine"))

    with suppress(PermissionError):
        await hub.traced(broken, provider="acme")(canaries.text("prompt of a coroutine"))
    deltas = [{"content": letter} for letter in canaries.text("async stream")]
    answer = httpx2.Response(200, headers=EVENT_STREAM, content=asynchronous(sse_lines(map(chunk, deltas))))
    transport = httpx2.MockTransport(lambda request: answer)
    async with openai.AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport)) as client:
        async for _ in await hub.traced(client).chat.completions.create(model="m", messages=[HI], stream=True):
            pass


# Wires.

HI: Any = {"role": "user", "content": "Hi"}
EVENT_STREAM = {"content-type": "text/event-stream"}


def mocked(handler: Callable[[httpx2.Request], httpx2.Response]) -> Any:
    return httpx2.Client(transport=httpx2.MockTransport(handler))


def api_transport(answer: Callable[[bytes], Any]) -> Any:
    return httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request.content)))


def wired(hub: Hub, answer: httpx2.Response) -> Any:
    """A traced client that gets *answer*, and gives up at once."""
    plain = openai.OpenAI(api_key="x", max_retries=0, http_client=mocked(lambda request: answer))
    return hub.traced(plain)


def cookie(canaries: Canaries) -> dict[str, str]:
    return {"set-cookie": f"session={canaries.core('cookie of an answer')}", "x-note": canaries.key("answer's header")}


def chat(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c-1", "object": "chat.completion", "model": "m", "choices": [choice]}


def chunk(delta: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def sse_lines(events: Any) -> Iterator[bytes]:
    for event in events:
        yield b"data: " + orjson.dumps(event) + b"\n\n"
    yield b"data: [DONE]\n\n"


def sse(events: Any) -> httpx2.Response:
    return httpx2.Response(200, headers=EVENT_STREAM, content=sse_lines(events))


async def asynchronous(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


def response_events(canaries: Canaries, ended: bool) -> Iterator[dict[str, Any]]:
    """Of the responses endpoint: a text, a summary of thoughts, a tool's arguments, each cut into letters."""
    how = "that ends" if ended else "that breaks off"
    head = {"id": "r-1", "object": "response", "model": "m", "output": [], "status": "in_progress"}
    yield {"type": "response.created", "response": head}
    text = canaries.text(f"response {how}")
    kinds = {
        "response.output_text.delta": text,
        "response.reasoning_summary_text.delta": canaries.key(f"thought {how}"),
        "response.function_call_arguments.delta": canaries.key(f"arguments {how}"),
        "response.mcp_call_arguments.delta": canaries.key(f"MCP arguments {how}"),
    }
    for place, (kind, whole) in enumerate(kinds.items()):
        for letter in whole:
            yield {"type": kind, "output_index": place, "content_index": 0, "item_id": f"i-{place}", "delta": letter}
    if ended:
        said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        yield {"type": "response.completed", "response": {**head, "status": "completed", "output": [said]}}
