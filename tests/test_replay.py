"""Replay: what says it is exact sends the same bytes, and what is not names what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

import hub as api
from hub import ReplayImpossible
from hub.replays import areplay, prepare, replay
from hub.replays.fidelity import differences
from hub.store import Erasure
from storage.sqlite import SQLiteStore
from tests.hub_kit import KEY, MODEL, TOOL, ask, demo, running, store_path
from tests.replay_kit import Bench, bench

IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 100, "detail": "low"}}
HISTORY: Any = [
    *ask("Where is order A-1042? Ünïcödé, \u2028 and \\ too"),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "find_order", "arguments": '{"order": "A-1042"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '{"state": "sent"}'},
]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench(tmp_path, monkeypatch) as made:
        yield made


def chat(client: Any) -> None:
    client.chat.completions.create(model=MODEL, messages=ask("Hello"), temperature=0.2, seed=7, stop=["END"], n=1)


def tools(client: Any) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=HISTORY,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "find_order"}},
        parallel_tool_calls=False,
    )


def schema(client: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    client.chat.completions.create(
        model=MODEL,
        messages=ask("JSON"),
        response_format=wanted,
        logit_bias={"50256": -100},
        extra_body={"mine": [1.5]},
    )


def images(client: Any) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}]
    client.chat.completions.create(model=MODEL, messages=parts, max_completion_tokens=8)


def streaming(client: Any) -> None:
    usage: Any = {"include_usage": True}
    list(client.chat.completions.create(model=MODEL, messages=ask("Stream"), stream=True, stream_options=usage))


def responses(client: Any) -> None:
    client.responses.create(model="gpt-5-mini", input="Think", reasoning={"effort": "low"}, instructions="Be brief.")


def streamed_responses(client: Any) -> None:
    list(client.responses.create(model="gpt-5-mini", input=[{"role": "user", "content": "Think"}], stream=True))


def embeddings(client: Any) -> None:
    client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], dimensions=8)


RECORDED = [chat, tools, schema, images, streaming, responses, streamed_responses, embeddings]
EVERY = pytest.mark.parametrize("record", RECORDED, ids=lambda record: record.__name__)
Record = Callable[[Any], None]


# Exact.


@EVERY
def test_a_call_of_the_sdk_is_sent_again_byte_for_byte_by_our_provider(at: Bench, record: Record) -> None:
    record(at.client())
    original = at.last
    done = at.replay()
    assert (done.fidelity, done.lost, done.of) == ("exact", {}, original.id)
    first, second = at.server.exchanges()
    assert second.body == first.body
    assert second.path == first.path
    new = at.reader.call(done.id or "")
    assert (new["source"], new["replay_of"], new["status"], new["attempts"]) == ("replay", original.id, "ok", 1)
    same = ("provider", "operation", "request_model", "response_model", "input_tokens", "output_tokens", "params")
    assert [new[name] for name in same] == [original[name] for name in same]
    assert new.response_text == original.response_text == done.text
    assert new["stream"] == original["stream"]
    assert len(at.reader.calls()) == 2


@EVERY
def test_a_call_of_the_sdk_is_sent_again_byte_for_byte_by_the_sdk(at: Bench, record: Record) -> None:
    record(at.client())
    done = at.replay(at.plain_client())
    assert (done.fidelity, done.lost) == ("exact", {})
    assert at.sent[1] == at.sent[0]
    assert at.last["replay_of"] == done.of


def test_a_call_is_sent_again_on_an_event_loop(at: Bench) -> None:
    chat(at.client())

    async def main() -> None:
        async with AsyncOpenAI(base_url=at.server.base_url, api_key=KEY) as client:
            for using in (None, client, at.hub.traced(client)):
                done = await areplay("@last", using, hub=at.hub)
                assert (done.fidelity, done.lost) == ("exact", {})

    asyncio.run(main())
    assert at.sent == [at.sent[0]] * 4


def test_waiting_on_an_event_loop_is_refused_with_the_name_of_what_does_not(at: Bench) -> None:
    chat(at.client())

    async def main() -> None:
        with pytest.raises(ReplayImpossible, match=r"await hub\.areplay"):
            api.replay("@last", hub=at.hub)

    asyncio.run(main())
    assert len(at.sent) == 1


def test_a_replay_of_a_replay_names_its_direct_original(at: Bench) -> None:
    chat(at.client())
    first = at.replay()
    second = at.replay(call=first.id or "")
    assert at.reader.call(second.id or "")["replay_of"] == first.id
    assert (second.fidelity, at.sent) == ("exact", [at.sent[0]] * 3)


def test_a_retried_call_is_sent_again_once(at: Bench) -> None:
    at.client().chat.completions.create(model=MODEL, messages=ask("Again"), extra_headers=demo("fail=429 times=1"))
    assert at.last["attempts"] == 2
    done = at.replay()
    assert (done.fidelity, len(at.sent)) == ("exact", 3)
    assert at.sent[2] == at.sent[0]


def test_the_new_call_is_a_trace_of_its_own_and_belongs_to_the_same_session_and_user(at: Bench) -> None:
    with api.session("chat-1", user_id="u1", tags={"run": "1"}):
        chat(at.client())
    done = at.replay()
    old, new = at.reader.call(done.of), at.reader.call(done.id or "")
    assert (new["session_id"], new["user_id"], new["tags"]) == ("chat-1", "u1", None)
    assert new["trace_id"] != old["trace_id"]
    assert new["parent_span_id"] is None
    request = new.content[0]["data"]
    assert (request["replay_of_trace_id"], request["replay_of_span_id"]) == (old["trace_id"], old["span_id"])
    assert new["replay_run"]


def test_a_class_of_the_users_own_is_exact_when_it_makes_the_same_bytes(at: Bench) -> None:
    class Mine:
        name = "mine"

        def __init__(self, extra: dict[str, Any] | None = None) -> None:
            self.extra = extra or {}

        async def complete(self, messages: list[Any], *, model: str, temperature: float | None = None) -> str:
            body = {"model": model, "messages": messages, "temperature": temperature, **self.extra}
            async with api.async_httpx_client(hub=at.hub, base_url=at.server.base_url) as client:
                answer = await client.post("/chat/completions", content=orjson.dumps(body))
            return str(answer.json()["choices"][0]["message"]["content"])

    asyncio.run(at.hub.traced(Mine()).complete(ask("Hello"), model=MODEL, temperature=0.5))
    assert at.last["provider"] == "mine"
    done = at.replay(Mine())
    assert (done.fidelity, done.lost) == ("exact", {})
    assert at.sent[1] == at.sent[0]
    other = at.replay(Mine({"user": "u-1"}), call=done.of)
    assert (other.fidelity, other.lost) == ("lossy", {"user": "added"})
    assert at.replay(Mine, call=done.of).fidelity == "exact"


class Later:
    """Not JSON, as a response's message that is appended to a conversation."""


@pytest.mark.parametrize("change", ["appended", "replaced", "deeper", "no_json"])
def test_messages_that_changed_after_they_were_recorded_are_sent_as_they_were_sent(at: Bench, change: str) -> None:
    client = at.client()
    parts: Any = [{"type": "text", "text": "What?"}]

    @at.hub.traced(provider="openai", model=MODEL)
    def thinks(messages: list[Any]) -> str:
        return "Hm."

    @at.hub.traced(provider="openai", model=MODEL)
    def agent(messages: list[Any]) -> None:
        thinks(messages)
        if change == "replaced":
            messages[1] = {"role": "user", "content": "Other"}
        elif change == "deeper":
            messages[1]["content"][0]["text"] = "Other"
        else:
            messages.append({"role": "user", "content": "More"} if change == "appended" else Later())
        sent = [message for message in messages if not isinstance(message, Later)]
        client.chat.completions.create(model=MODEL, messages=sent)

    for _ in range(2):  # what is known to be clean is not copied
        agent([*ask("Before")[:1], {"role": "user", "content": [dict(part) for part in parts]}])
    done = at.replay()
    assert done.fidelity == "exact"
    assert at.sent[2] == at.sent[1]


def test_a_provider_of_ours_is_sent_again_byte_for_byte(at: Bench) -> None:
    from providers import get_provider
    from providers.contract import ChatRequest

    async def record() -> None:
        provider = at.hub.traced(get_provider("openai"))
        for messages in (ask("Hello"), [{"role": "user", "content": [{"type": "text", "text": "Two"}, IMAGE_BLOCK]}]):
            request = ChatRequest.model_validate({"messages": messages, "model": MODEL, "max_output_tokens": 50})
            await provider.complete(request)
            async for _ in provider.stream(request):
                pass
        await provider.close()

    asyncio.run(record())
    for call in at.reader.calls():
        count = len(at.sent)
        done = at.replay(call=call.id)
        assert (done.fidelity, done.lost) == ("exact", {})
        assert at.sent[count] in at.sent[:4]
    assert sorted(at.sent[4:]) == sorted(at.sent[:4])


IMAGE_BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}


# Lossy, with names.


def fields_that_differ(one: bytes, other: bytes) -> set[str]:
    before, after = orjson.loads(one), orjson.loads(other)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        ({"model": "gpt-4o"}, {"model": "changed by you"}),
        ({"using": "openai:gpt-4o"}, {"model": "changed by you"}),
        ({"params": {"temperature": 0}}, {"temperature": "changed by you"}),
        ({"params": {"top_p": 0.5, "seed": 7}}, {"top_p": "changed by you"}),
    ],
)
def test_what_the_user_changes_is_named_and_nothing_else_changes(
    at: Bench, options: dict[str, Any], lost: dict[str, str]
) -> None:
    chat(at.client())
    done = at.replay(**options)
    assert (done.fidelity, done.lost) == ("lossy", lost)
    assert fields_that_differ(*at.sent) == set(lost)


def raw(at: Bench, fields: str) -> None:
    """A call whose body has these fields, written as they are."""
    with api.httpx_client(hub=at.hub, base_url=at.server.base_url) as client:
        client.post("/chat/completions", content=f'{{ "model":"{MODEL}", "messages":[{{"role":"user"}}],{fields}}}\n')


@pytest.mark.parametrize(
    "fields",
    [
        f'"seed":{"7" * 40}',
        '"temperature" : 1.0 , "top_p": 1e-07 ',
        '"user":"\\u00e9\\/"',
        '"user":"a","user":"b"',
        '"stop":["}","\\"",","]',
        f'"metadata":{"[" * 500}{"]" * 500}',
    ],
)
def test_what_the_user_does_not_change_stays_as_it_was_written(at: Bench, fields: str) -> None:
    raw(at, fields + ', "n": 1')
    assert at.replay().fidelity == "exact"
    done = at.replay(call=at.reader.calls()[-1].id, params={"n": 2, "logprobs": True})
    assert (done.fidelity, done.lost) == ("lossy", dict.fromkeys(("n", "logprobs"), "changed by you"))
    assert at.sent[2] == at.sent[0].replace(b'"n": 1', b'"n": 2,"logprobs":true')


def test_a_flag_is_no_number_and_names_are_those_of_the_body(at: Bench) -> None:
    raw(at, '"logprobs":true, "max_completion_tokens":5, "response_format":{"type":"text"}')
    changes = {"logprobs": 1, "max_tokens": 6, "response_format": {"type": "json_object"}}
    done = at.replay(params=changes)
    wanted = ("logprobs", "max_completion_tokens", "response_format.type")
    assert done.lost == dict.fromkeys(wanted, "changed by you")
    body = orjson.loads(at.sent[1])
    assert (body["logprobs"], body["max_completion_tokens"], "max_tokens" in body) == (1, 6, False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "\ud800", object(), {1, 2}])
def test_what_is_no_json_cannot_be_sent(at: Bench, value: object) -> None:
    chat(at.client())
    with pytest.raises(ReplayImpossible, match="no JSON"):
        at.replay(params={"user": value})
    assert len(at.sent) == 1


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (f'"seed":{"7" * 40}', f'"seed":{"7" * 39}8'),
        ('"seed":true', '"seed":1'),
        ('"seed":1,"seed":2', '"seed":2'),
        ('"seed":1e999999999999999999999', '"seed":1e999999999999999999998'),
        ('"seed":"1"', '"seed":1'),
    ],
)
def test_values_that_only_look_alike_differ(before: str, now: str) -> None:
    assert differences(f"{{{before}}}".encode(), f"{{{now}}}".encode()) == {"seed": "sent differently"}


def test_numbers_may_be_written_in_other_ways() -> None:
    assert set(differences(b'{"seed":1.0,"top_p":1e-07}', b'{"seed":1,"top_p":1e-7}')) == {"body"}


def test_to_change_a_parameter_to_what_it_was_changes_nothing(at: Bench) -> None:
    chat(at.client())
    assert at.replay(model=MODEL, params={"temperature": 0.2}).fidelity == "exact"


def test_a_call_that_sent_several_requests_is_asked_once_and_says_so(at: Bench) -> None:
    client = at.client()

    @at.hub.traced(provider="openai", model=MODEL)
    def agent(messages: list[Any]) -> Any:
        client.chat.completions.create(model=MODEL, messages=messages)
        return client.chat.completions.create(model=MODEL, messages=[*messages, *messages])

    agent(ask("Twice"))
    done = at.replay()
    assert done.lost == {
        "requests": "the call sent 2 different ones; what was asked for is sent once",
        "body": "nobody can compare its bytes: they were not recorded, or several were sent",
    }
    assert len(at.sent) == 3


def test_what_was_redacted_is_named_by_its_place(at: Bench) -> None:
    at.client().chat.completions.create(
        model=MODEL, messages=ask(f"My key is {KEY}, keep it"), metadata={"api_key": "hunter2-and-more"}
    )
    done = at.replay()
    assert done.fidelity == "lossy"
    assert set(done.lost) == {"messages[1].content", "metadata.api_key"}
    assert set(done.lost.values()) == {"redacted before it was kept"}
    assert KEY.encode() in at.sent[0]
    assert KEY.encode() not in at.sent[1]
    assert fields_that_differ(*at.sent) == {"messages", "metadata"}


def test_what_was_redacted_beside_the_messages_is_noticed_too(at: Bench) -> None:
    at.client().chat.completions.create(model=MODEL, messages=ask("Hello"), metadata={"api_key": "hunter2-and-more"})
    done = at.replay()
    assert (done.fidelity, set(done.lost)) == ("lossy", {"metadata.api_key"})


def test_what_a_function_of_the_users_redacted_is_lost_though_it_leaves_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path, monkeypatch, redact=lambda text: text.replace("Hello", "Howdy")) as at:
        chat(at.client())
        done = at.replay()
        assert (done.fidelity, done.lost) == ("lossy", {"messages": "redacted before it was kept"})
        assert fields_that_differ(*at.sent) == {"messages"}


def test_a_request_that_was_cut_is_lossy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, monkeypatch, max_body_bytes=1024) as at:
        at.client().chat.completions.create(model=MODEL, messages=ask("long " * 1_000), temperature=0.1)
        done = at.replay()
        assert done.fidelity == "lossy"
        assert set(done.lost) == {"messages", "body"}
        assert fields_that_differ(*at.sent) == {"messages"}


def test_a_plain_functions_call_is_lossy_with_its_parameters_sent(at: Bench) -> None:
    seen: list[Any] = []

    @at.hub.traced(provider="acme", model="acme-1")
    def answer(messages: list[Any], temperature: float = 0.5, logit_bias: Any = None) -> str:
        seen.append((messages, temperature))
        return "Yes."

    answer(ask("Hello"), temperature=0.1, logit_bias={"1": 2})
    done = at.replay(answer)
    assert (done.fidelity, done.text) == ("lossy", "Yes.")
    assert set(done.lost) == {"body", "logit_bias"}
    assert seen == [(ask("Hello"), 0.1)] * 2
    assert at.last["replay_of"] == done.of


def test_functions_are_called_as_their_signature_asks(at: Bench) -> None:
    at.client().chat.completions.create(model=MODEL, messages=ask("Hello"), temperature=0.2, max_tokens=9)
    call = at.last.id
    seen: list[Any] = []

    def prompted(prompt: str) -> str:
        seen.append(prompt)
        return "a"

    def instructed(prompt: str, *, system: str, model: str) -> str:
        seen.append((prompt, system, model))
        return "b"

    async def wide(messages: list[Any], **more: Any) -> str:
        seen.append((len(messages), more))
        return "c"

    def streamed(messages: list[Any], max_output_tokens: int) -> Iterator[str]:
        seen.append(max_output_tokens)
        yield "d"
        yield "e"

    dones = [at.replay(one, call=call) for one in (prompted, instructed, wide, streamed)]
    assert [done.text for done in dones] == ["a", "b", "c", "de"]
    assert seen == [
        "Hello",
        ("Hello", "Be brief.", MODEL),
        (2, {"model": MODEL, "temperature": 0.2, "max_tokens": 9}),
        9,
    ]
    assert [set(done.lost) for done in dones] == [
        {"messages[0]", "model", "temperature", "max_tokens", "body"},
        {"temperature", "max_tokens", "body"},
        {"body"},
        {"model", "temperature", "body"},
    ]
    assert dones[3].answer == ["d", "e"]
    assert [call["source"] for call in at.reader.calls(limit=4)] == ["replay"] * 4


def test_what_a_model_asks_to_be_done_is_shown_and_not_done(at: Bench) -> None:
    at.client().chat.completions.create(model=MODEL, messages=ask("Where is order A-1042?"), tools=[TOOL])
    done = at.replay()
    assert [call["name"] for call in done.tool_calls] == ["find_order"]
    assert done.text == ""
    assert len(at.sent) == 2


# Impossible.


@pytest.mark.parametrize("capture", ["none", "summary"])
def test_a_call_whose_text_was_not_kept_cannot_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: str
) -> None:
    with bench(tmp_path, monkeypatch, capture=capture) as at:
        chat(at.client())
        with pytest.raises(ReplayImpossible, match="HUB_CAPTURE=full and make the call again"):
            at.replay()
        assert len(at.sent) == 1


def test_an_erased_call_cannot_be_replayed(at: Bench, tmp_path: Path) -> None:
    with api.session("chat-1"):
        chat(at.client())
    assert at.hub.flush() == 0
    store = SQLiteStore(store_path(tmp_path))
    store.erase(Erasure(project="shop", before_ns=2**62, session_id="chat-1"))
    store.close()
    with pytest.raises(ReplayImpossible, match="erased"):
        at.replay()
    assert len(at.sent) == 1


def test_a_call_that_told_nothing_of_its_request_cannot_be_replayed(at: Bench) -> None:
    with at.hub.call(provider="openai", model=MODEL):
        pass
    with pytest.raises(ReplayImpossible, match=r"hub\.call takes messages="):
        at.replay()


def test_a_provider_that_nobody_knows_is_named_with_what_helps(at: Bench) -> None:
    with at.hub.call(provider="acme-unheard-of", model="m", messages=ask("Hello")):
        pass
    with pytest.raises(ReplayImpossible, match="--using"):
        at.replay()


def test_embeddings_do_not_go_through_a_chat_provider(at: Bench) -> None:
    class Chatty:
        async def complete(self, messages: list[Any]) -> str:
            raise AssertionError

    embeddings(at.client())
    with pytest.raises(ReplayImpossible, match="embeddings"):
        at.replay(Chatty())


def test_what_was_left_out_as_too_much_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner layer kept what stood around messages that the outer one could not keep."""
    with bench(tmp_path, monkeypatch, max_body_bytes=1_900_000) as at:
        client = at.client()
        tool = {"type": "function", "function": {"name": "find", "description": "d" * 900_000, "parameters": {}}}

        @at.hub.traced(provider="openai", model=MODEL)
        def agent(messages: list[Any], tools: list[Any]) -> Any:
            return client.chat.completions.create(model=MODEL, messages=messages, tools=tools)

        agent(ask("a" * 1_800_000), [tool, tool])
        with pytest.raises(ReplayImpossible, match="too much to keep"):
            at.replay()
        assert len(at.sent) == 1


def test_what_is_no_way_to_ask_a_model_is_refused(at: Bench) -> None:
    chat(at.client())
    for using in (object(), 7, {"a": 1}, lambda: "x", lambda unheard_of: "x"):
        with pytest.raises(ReplayImpossible):
            at.replay(using)
    assert len(at.reader.calls()) == 1


def test_a_shape_that_nobody_knows_reaches_functions_only(at: Bench) -> None:
    odd = [{"kind": "gadget", "payload": {"x": 1}}]

    class Contract:
        async def complete(self, request: Any) -> str:
            raise AssertionError

    with at.hub.call(provider="acme", model="m", messages=odd):
        pass
    with pytest.raises(ReplayImpossible, match="shape"):
        at.replay(Contract())
    seen: list[Any] = []

    def takes(messages: list[Any]) -> str:
        seen.append(messages)
        return "fine"

    assert at.replay(takes).text == "fine"
    assert seen == [odd]


# Trouble.


def test_a_function_that_raises_what_no_future_takes_does_not_hang(at: Bench) -> None:
    chat(at.client())

    def stops(messages: list[Any]) -> str:
        return str(next(iter(())))

    with pytest.raises(RuntimeError, match="StopIteration"):
        at.replay(stops)
    assert at.last["status"] == "error"


def test_an_answer_with_lone_surrogates_is_shown_without_them(at: Bench) -> None:
    chat(at.client())

    def answers(messages: list[Any]) -> str:
        return "so \ud800 so"

    assert at.replay(answers).text == "so \ufffd so"


def test_a_failure_of_the_providers_is_raised_and_recorded(at: Bench) -> None:
    def fails(messages: list[Any]) -> str:
        raise ConnectionError("no way out")

    chat(at.client())
    original = at.last.id
    with pytest.raises(ConnectionError, match="no way out") as caught:
        at.replay(fails)
    new = at.last
    assert (new["status"], new["error_type"], new["replay_of"]) == ("error", "ConnectionError", original)
    assert new.id in caught.value.__notes__[0]


def test_a_server_that_is_away_is_a_recorded_failure(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    chat(at.client())
    original = at.last.id
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(Exception, match="127"):
        at.replay("openai")
    assert (at.last["status"], at.last["replay_of"]) == ("error", original)


def test_without_recording_it_is_sent_all_the_same(at: Bench, tmp_path: Path) -> None:
    from hub.runtime import Hub

    chat(at.client())
    call = at.last
    off = Hub(db_url=str(store_path(tmp_path)), disabled=True, project="shop")
    done = replay(call, hub=off)
    assert (done.id, done.fidelity, at.sent[1]) == (None, "exact", at.sent[0])
    assert len(at.reader.calls()) == 1


def test_what_is_asked_within_an_open_call_is_a_call_of_its_own(at: Bench) -> None:
    chat(at.client())
    call = at.last.id

    @at.hub.traced(provider="outer", model="o")
    def outer(messages: list[Any]) -> str:
        return at.replay(call=call).text

    outer(ask("Outer"))
    rows = {row["source"]: row for row in at.reader.calls()}
    assert rows["replay"]["replay_of"] == call
    assert rows["traced"]["attempts"] == 1
    assert len(at.reader.calls()) == 3


def test_only_the_host_is_told_of_an_address_with_a_password(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    chat(at.client())
    for url, host in (
        ("http://user:secret@127.0.0.1:1/v1?key=secret", "127.0.0.1:1"),
        ("https://example.org/v1", "example.org"),
    ):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert prepare(at.last, hub=at.hub).target.host == host
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert prepare(at.last, hub=at.hub).target.host == "api.openai.com"
    assert len(at.sent) == 1


def test_a_call_that_is_not_sampled_is_sent_and_not_recorded(at: Bench, tmp_path: Path) -> None:
    chat(at.client())
    call = at.last
    with running(tmp_path, sample_rate=0.0, spool_dir=tmp_path / "other") as deaf:
        done = replay(call, hub=deaf)
    assert (done.id, done.fidelity, len(at.sent)) == (None, "exact", 2)


def test_a_replay_under_another_capture_is_exact_all_the_same(at: Bench, tmp_path: Path) -> None:
    chat(at.client())
    call = at.last
    with running(tmp_path, capture="none", spool_dir=tmp_path / "other") as terse:
        done = replay(call, hub=terse)
        assert done.fidelity == "exact"
        assert replay(call, at.plain_client(), hub=terse).lost == {
            "body": "nobody can compare its bytes: they were not recorded, or several were sent"
        }
    assert at.sent == [at.sent[0]] * 3


def test_a_durable_hub_records_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, monkeypatch, durability="durable") as at:
        chat(at.client())
        assert at.replay().fidelity == "exact"
        assert at.last["source"] == "replay"


def test_replays_side_by_side_keep_to_themselves(at: Bench) -> None:
    for number in range(8):
        at.client().chat.completions.create(model=MODEL, messages=ask(f"Number {number}"))
    calls = at.reader.calls()

    async def main() -> list[Any]:
        return await asyncio.gather(*(areplay(call, hub=at.hub) for call in calls))

    dones = asyncio.run(main())
    assert [(done.of, done.fidelity) for done in dones] == [(call.id, "exact") for call in calls]
    rows = {call.id: call for call in at.reader.calls()}
    for done in dones:
        assert rows[done.id or ""].request_text == rows[done.of].request_text
    assert len(rows) == 16


def test_what_is_not_recorded_apart_is_named_where_the_bytes_cannot_be_sent(at: Bench) -> None:
    schema(at.client())

    def takes(messages: list[Any], model: str, response_format: Any) -> str:
        return str(response_format["json_schema"]["name"])

    done = at.replay(takes)
    assert done.text == "a"
    assert set(done.lost) == {"logit_bias", "mine", "body"}


def test_tools_that_the_provider_runs_itself_are_told_before_anything_leaves(at: Bench) -> None:
    at.client().responses.create(model="gpt-5-mini", input="Search", tools=[{"type": "web_search"}])
    assert prepare(at.last, hub=at.hub).hosted_tools == ["web_search"]
    assert len(at.sent) == 1
