"""Somebody's traffic, full of canaries, among that of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import hub as api
from hub.events import EventRecord
from hub.runtime import Hub
from tests.canaries import Canaries
from tests.factories import Factory

KINDS = ("call", "session", "user")


@dataclass
class Somebody:
    """Names that stand in labels; the canary in each is another one."""

    canaries: Canaries

    def __post_init__(self) -> None:
        self.session = f"chat-{self.canaries.core('session id')}"
        self.user = f"{self.canaries.core('user id')}@example.org"
        self.tags = {"feature": self.canaries.core("tag"), self.canaries.core("name of a tag"): "x"}

    @property
    def labels(self) -> dict[str, Any]:
        return {"session_id": self.session, "user_id": self.user, "tags": self.tags}


def records_of(somebody: Somebody, factory: Factory) -> list[EventRecord]:
    """One call, as the recorder writes it, with all that may be said in one, and what was contributed to it."""
    core = somebody.canaries.core
    tool = {"id": f"call_{core('id of a tool call')}", "type": "function"}
    asked = {**tool, "function": {"name": core("name of a tool"), "arguments": f'{{"at": "{core("tool argument")}"}}'}}
    messages = [
        {"role": "system", "content": core("system prompt")},
        {"role": "user", "content": [{"type": "text", "text": core("prompt")}]},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": tool["id"], "content": core("tool result")},
    ]
    answer = {"role": "assistant", "content": core("answer"), "tool_calls": [asked]}
    call = factory.call(
        messages,
        answer,
        wire=True,
        tools=[{"name": "look", "description": core("description of a tool") + "y" * 600}],
        **somebody.labels,
    )
    call[2]["content"] = {"error": core("error message")}
    call[3]["content"] |= {"summary": {"text": core("summary")}}  # type: ignore[operator]  # it has one
    note = factory.event(
        "kit:note", stream=call[0]["stream_id"], version=9, data={core("key"): core("contributed")}, **somebody.labels
    )
    lost = factory.event(
        "hub:conflict",
        stream=factory.new_id(),
        version=1,
        call_id=call[0]["stream_id"],
        content={"original": {**call[1], "version": 40}},
    )
    return [*call, note, lost]


def late_events_of(somebody: Somebody, stream: str, factory: Factory) -> list[EventRecord]:
    """What else is said in a call's stream."""
    core = somebody.canaries.core
    content = {"messages": [{"role": "assistant", "content": core("late answer")}]}
    return [
        factory.event("llm:response:debug", stream=stream, version=60, content=content, **somebody.labels),
        factory.event("kit:note", stream=stream, version=61, data={"text": core("late note")}, **somebody.labels),
    ]


def others(factory: Factory, count: int) -> Iterator[list[EventRecord]]:
    for number in range(count):
        yield factory.call(session_id=f"s{number % 7}", user_id=f"u{number % 5}", tags={"n": str(number)})


def talk(hub: Hub, somebody: Somebody) -> str:
    """Somebody's traffic through a running hub. Returns: The id of the call that says everything."""
    core = somebody.canaries.core
    said = {
        "role": "assistant",
        "content": core("answer"),
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": f'"{core("tool argument")}"'}}
        ],
    }

    @hub.traced(provider="openai", model="gpt-4o")
    def answer(messages: list[Any], tools: list[Any]) -> dict[str, Any]:
        hub.emit("kit:note", text=core("contributed within a call"))
        usage = {"prompt_tokens": 12, "completion_tokens": 5}
        return {"id": "r1", "model": "gpt-4o", "usage": usage, "choices": [{"message": said, "finish_reason": "stop"}]}

    ids: list[str] = []
    stop = hub.subscribe("llm:request", lambda event: ids.append(str(event.envelope.call_id)))
    with api.session(somebody.session, user_id=somebody.user, tags=somebody.tags):
        answer(
            [
                {"role": "system", "content": core("system prompt")},
                {"role": "user", "content": core("prompt")},
                {"role": "tool", "tool_call_id": "c1", "content": core("tool result")},
            ],
            tools=[{"type": "function", "function": {"name": "look", "description": core("tool")}}],
        )
    stop()
    return ids[0]


def talk_more(hub: Hub, somebody: Somebody) -> None:
    """What is no part of that call, but of the same session."""
    core = somebody.canaries.core

    @hub.traced(provider="acme", model="acme-1")
    def broken(messages: list[Any]) -> str:
        raise ValueError(core("error message"))

    with api.session(somebody.session, user_id=somebody.user, tags=somebody.tags):
        hub.emit("kit:alone", text=core("contributed outside of calls"))
        with suppress(ValueError):
            broken([{"role": "user", "content": core("prompt of a failure")}])
