"""Replay through providers of the three contracts and of our own: requests made again in each one's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from amplifier_core.message_models import ChatRequest as AmplifierRequest
from amplifier_core.message_models import ChatResponse, TextBlock
from pydantic import BaseModel

from providers.contract import ChatRequest
from tests.hub_kit import MODEL, TOOL, ask
from tests.replay_kit import Bench, bench
from tests.test_replay import HISTORY, IMAGE


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class SpineCall(BaseModel):
    id: str
    name: str
    arguments: dict[str, Any] = {}


class SpineMessage(BaseModel):
    role: Role
    content: str | None = None
    parts: list[dict[str, Any]] | None = None
    tool_calls: list[SpineCall] = []
    tool_call_id: str | None = None
    name: str | None = None


class SpineUsage(BaseModel):
    input_tokens: int = 3
    output_tokens: int = 2
    cost_usd: float = 0.0


class SpineResponse(BaseModel):
    message: SpineMessage
    usage: SpineUsage = SpineUsage()
    finish_reason: str | None = None


class SpineChunk(BaseModel):
    delta: str = ""
    response: SpineResponse | None = None


class Spine:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def complete(
        self, messages: list[SpineMessage], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> SpineResponse:
        self.seen.append((messages, tools, kwargs))
        return SpineResponse(message=SpineMessage(role=Role.ASSISTANT, content="Spine says."))

    async def stream(
        self, messages: list[SpineMessage], tools: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> AsyncIterator[SpineChunk]:
        self.seen.append((messages, tools, kwargs))
        yield SpineChunk(delta="Spine ")
        yield SpineChunk(delta="streams.")
        said = SpineMessage(role=Role.ASSISTANT, content="Spine streams.")
        yield SpineChunk(response=SpineResponse(message=said))


@dataclass
class DebateMessage:
    role: Role
    content: str


@dataclass
class DebateResponse:
    content: str
    model: str
    usage: dict[str, int]


class Debate:
    name = "debater"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def complete(
        self,
        messages: list[DebateMessage],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        json_mode: bool = False,
    ) -> DebateResponse:
        self.seen.append((messages, model, temperature, max_tokens, json_mode))
        return DebateResponse("Debate says.", model or "d-1", {"input_tokens": 1, "output_tokens": 2})


class Amplifier:
    name = "amplified"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def complete(self, request: AmplifierRequest, **kwargs: Any) -> ChatResponse:
        self.seen.append((request, kwargs))
        return ChatResponse(content=[TextBlock(text="Amplifier says.")])


class Ours(Amplifier):
    async def complete(self, request: ChatRequest, **kwargs: Any) -> Any:
        self.seen.append((request, kwargs))
        return ChatResponse(content=[TextBlock(text="Ours says.")])


class Unannotated:
    """As documents show providers: nothing says what a message is."""

    async def complete(self, messages, tools=None, **kwargs):  # type: ignore[no-untyped-def]
        return f"{messages[-1].content} {messages[-1]['role']} {messages[-1].tool_calls}"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench(tmp_path, monkeypatch) as made:
        yield made


def record(at: Bench, messages: list[Any], **options: Any) -> str:
    """A call of the SDK. Returns its id."""
    at.client().chat.completions.create(model=MODEL, messages=messages, **options)
    return at.last.id


# Of their own calls.


def test_a_spine_call_is_made_again_of_the_same_messages(at: Bench) -> None:
    spine = Spine()
    messages = [
        SpineMessage(role=Role.USER, parts=[{"type": "text", "text": "What?"}, {"type": "image", "url": "x://y"}]),
        SpineMessage(role=Role.ASSISTANT, tool_calls=[SpineCall(id="c1", name="look", arguments={"at": 1})]),
        SpineMessage(role=Role.TOOL, content="seen", tool_call_id="c1", name="look"),
    ]
    tools = [{"name": "look", "description": "Look", "parameters": {"type": "object"}}]
    asyncio.run(at.hub.traced(spine).complete(messages, tools, temperature=0.3))
    done = at.replay(spine)
    assert spine.seen[1] == (messages, tools, {"temperature": 0.3})
    assert (done.fidelity, set(done.lost), done.text) == ("lossy", {"body"}, "Spine says.")


def test_a_debate_call_is_made_again_of_the_same_arguments(at: Bench) -> None:
    debate = Debate()
    messages = [DebateMessage(Role.SYSTEM, "Be brief."), DebateMessage(Role.USER, "Why?")]
    asyncio.run(at.hub.traced(debate).complete(messages, model="d-9", temperature=0.0, max_tokens=0, json_mode=True))
    done = at.replay(debate)
    assert debate.seen[1] == debate.seen[0] == (messages, "d-9", 0.0, 0, True)
    assert (set(done.lost), done.text) == ({"body"}, "Debate says.")
    assert (at.last["provider"], at.last["request_model"]) == ("debater", "d-9")


@pytest.mark.parametrize("kind", [Amplifier, Ours])
def test_a_request_is_made_again_field_by_field(at: Bench, kind: type[Amplifier]) -> None:
    provider = kind()
    cls: Any = AmplifierRequest if kind is Amplifier else ChatRequest
    request = cls.model_validate(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": {"url": "u"}}],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm", "signature": "s"},
                        {"type": "tool_call", "id": "c1", "name": "look", "input": {"at": 1}},
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": "c1",
                    "content": [{"type": "tool_result", "tool_call_id": "c1", "output": 7}],
                },
            ],
            "tools": [{"name": "look", "parameters": {"type": "object"}, "description": "Look"}],
            "model": "m-1",
            "temperature": 0.0,
            "top_p": 0.5,
            "max_output_tokens": 99,
            "stop": ["END"],
            "reasoning_effort": "low",
        }
    )
    asyncio.run(at.hub.traced(provider).complete(request))
    done = at.replay(provider)
    again = provider.seen[1][0]
    assert type(again) is cls
    assert again.model_dump(exclude_none=True) == request.model_dump(exclude_none=True)
    assert (done.fidelity, set(done.lost)) == ("lossy", {"body"})


def test_a_streamed_call_streams_again(at: Bench) -> None:
    spine = Spine()

    async def stream() -> None:
        async for _ in at.hub.traced(spine).stream([SpineMessage(role=Role.USER, content="Go")]):
            pass

    asyncio.run(stream())
    done = at.replay(spine)
    assert (done.text, len(done.answer), at.last["stream"]) == ("Spine streams.", 3, 1)


# From one to another.


def test_a_conversation_with_tools_becomes_spines(at: Bench) -> None:
    spine = Spine()
    call = record(at, HISTORY, tools=[TOOL], temperature=0.2)
    done = at.replay(spine, call=call)
    messages, tools, kwargs = spine.seen[0]
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2].tool_calls == [SpineCall(id="call_1", name="find_order", arguments={"order": "A-1042"})]
    assert (messages[3].tool_call_id, messages[3].content) == ("call_1", '{"state": "sent"}')
    assert tools == [TOOL["function"]]
    assert kwargs == {"model": MODEL, "temperature": 0.2}
    assert set(done.lost) == {"body"}


def test_images_become_spines(at: Bench) -> None:
    spine = Spine()
    at.replay(spine, call=record(at, [{"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}]))
    assert spine.seen[0][0][0].parts == [
        {"type": "text", "text": "What?"},
        {"type": "image", "data": "QUJD" * 100, "media_type": "image/png"},
    ]


def test_what_a_contract_has_no_place_for_is_named(at: Bench) -> None:
    debate = Debate()
    content = [{"type": "text", "text": "What?"}, IMAGE]
    call = record(at, [*HISTORY, {"role": "user", "content": content}], tools=[TOOL], seed=7, top_p=0.5)
    done = at.replay(debate, call=call)
    assert [message.content for message in debate.seen[0][0]][-1] == "What?"
    lost = {"messages[2].tool_calls", "messages[4].images", "messages.tool_call_id", "tools", "seed", "top_p", "body"}
    assert set(done.lost) == lost


def test_json_mode_follows_the_response_format(at: Bench) -> None:
    debate = Debate()
    at.replay(debate, call=record(at, ask("JSON"), response_format={"type": "json_object"}))
    assert debate.seen[0][4] is True


@pytest.mark.parametrize("kind", [Amplifier, Ours])
def test_a_conversation_with_tools_and_images_becomes_a_request(at: Bench, kind: type[Amplifier]) -> None:
    provider = kind()
    picture = {"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    call = record(at, [*HISTORY, picture], tools=[TOOL], max_tokens=9, stop="END", response_format=form, seed=7)
    done = at.replay(provider, call=call)
    request = provider.seen[0][0].model_dump(exclude_none=True)
    assert request["messages"][2] == {
        "role": "assistant",
        "content": [{"type": "tool_call", "id": "call_1", "name": "find_order", "input": {"order": "A-1042"}}],
    }
    assert request["messages"][3]["tool_call_id"] == "call_1"
    assert request["messages"][4]["content"][1]["source"]["media_type"] == "image/png"
    assert request["tools"][0]["name"] == "find_order"
    assert (request["max_output_tokens"], request["stop"], request["model"]) == (9, ["END"], MODEL)
    assert request["response_format"]["type"] == "json_schema"
    assert set(done.lost) == {"seed", "body"}


def test_a_provider_that_says_nothing_of_its_messages_gets_what_reads_either_way(at: Bench) -> None:
    assert at.replay(Unannotated(), call=record(at, ask("Hello"))).text == "Hello user None"


def test_a_spine_call_becomes_a_request_and_a_debate_call(at: Bench) -> None:
    messages = [
        SpineMessage(role=Role.USER, parts=[{"type": "text", "text": "What?"}, {"type": "image", "url": "x://y"}]),
        SpineMessage(role=Role.ASSISTANT, tool_calls=[SpineCall(id="c1", name="look", arguments={"at": 1})]),
        SpineMessage(role=Role.TOOL, content="seen", tool_call_id="c1"),
    ]
    asyncio.run(at.hub.traced(Spine()).complete(messages))
    call = at.last.id
    amplifier = Amplifier()
    at.replay(amplifier, call=call)
    blocks = amplifier.seen[0][0].model_dump(exclude_none=True)["messages"]
    assert blocks[0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image", "source": {"type": "url", "url": "x://y"}},
    ]
    assert blocks[1]["content"] == [{"type": "tool_call", "id": "c1", "name": "look", "input": {"at": 1}}]
    assert blocks[2]["tool_call_id"] == "c1"
    debate = Debate()
    done = at.replay(debate, call=call)
    assert [message.content for message in debate.seen[0][0]] == ["What?", "", "seen"]
    assert "messages[1].tool_calls" in done.lost


def test_a_traced_provider_is_not_traced_twice(at: Bench) -> None:
    debate = at.hub.traced(Debate())
    call = record(at, ask("Hello"))
    at.replay(debate, call=call)
    assert at.last["attempts"] == 1
    assert len(at.reader.calls()) == 2


RICH: Any = [
    {"role": "system", "content": "Be brief.", "cache_control": {"type": "ephemeral"}},
    {"role": "user", "content": [{"type": "text", "text": "What?", "cache_control": {"type": "ephemeral"}}, IMAGE]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "no JSON"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "?", "is_error": True}]},
]
DROPPED = {
    "messages[1].content[0].cache_control",
    "messages[2].reasoning_content",
    "messages[3].content[0].is_error",
}


def lost_to(at: Bench, using: Any) -> set[str]:
    call = record(at, RICH)
    return {place for place in at.replay(using, call=call).lost if place.startswith("messages")}


def test_what_messages_written_anew_leave_behind_is_named(at: Bench) -> None:
    class Ours:
        async def complete(self, request: ChatRequest) -> str:
            return "x"

    cached = "messages[0].cache_control"
    assert lost_to(at, Ours()) == DROPPED
    spine = Spine()
    assert lost_to(at, spine) == {*DROPPED, cached, "messages[1].detail", "messages[2].tool_calls"}
    assert [part["type"] for part in spine.seen[0][0][1].parts] == ["text", "image"]

    def prompted(prompt: str) -> str:
        return prompt

    def embedded(input: list[Any]) -> str:
        return "x"

    assert "messages[3].content" in lost_to(at, prompted)
    assert {"messages[0].role", cached, "messages[2].tool_calls"} <= lost_to(at, embedded)


class Said(BaseModel):
    role: str
    content: Any


class Asked(BaseModel):
    messages: list[Said]


def test_what_a_model_leaves_out_without_a_word_is_named(at: Bench) -> None:
    class Terse:
        def complete(self, request: Asked) -> str:
            return "x"

    assert lost_to(at, Terse()) == {*DROPPED, "messages[0].cache_control"}
