"""Arguments and results that nobody foresaw: the call works as it would untraced, and what is lost of it is counted."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import math
import random
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

import hub as hub_package
from hub import session, traced
from hub.demo.server import LoopbackServer
from hub.reader import Reader, StoredCall
from hub.runtime import Hub
from tests import openai_kit

MIB = 1 << 20


class Trap:
    """Whatever is asked of it raises."""

    def _spring(self, *_args: Any) -> Any:
        raise ZeroDivisionError("the trap's own secret")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __getitem__ = __contains__ = _spring
    __getattr__ = __dir__ = __format__ = __reduce_ex__ = __copy__ = __deepcopy__ = keys = items = _spring

    @property
    def content(self) -> Any:
        return self._spring()

    messages = choices = usage = role = text = model_dump = content


class Endless(Sequence[Any]):
    """A sequence that never ends and says that it is short."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return "more"

    def __iter__(self) -> Iterator[Any]:
        return (str(number) for number in count())


class Growing(Mapping[str, Any]):
    """Every look at it makes another one."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["more"])

    def __getitem__(self, key: str) -> Any:
        return Growing()


class Word(str):
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


class Recursive:
    def __getattr__(self, name: str) -> Any:
        return getattr(self, name + "_")


def cyclic() -> Any:
    ring: list[Any] = ["around"]
    ring.append({"again": ring})
    return ring


def cyclic_object() -> Any:
    ring = SimpleNamespace(role="user")
    ring.content = [ring]
    return ring


def deep() -> Any:
    thing: Any = "bottom"
    for _ in range(50_000):
        thing = [thing]
    return thing


def image() -> str:
    return "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(2 * MIB)).decode()


def generator() -> Iterator[str]:
    yield "never read"


@dataclass(frozen=True)
class Thing:
    name: str
    make: Callable[[], Any]
    mark: str = ""
    """The reason under which its loss is counted; none: it is kept whole."""


THINGS = [
    Thing("5_MB_prompt", lambda: "word " * MIB),
    Thing("prompt_over_the_bound", lambda: "word " * (2 * MIB), "size"),
    Thing("base64_image", image),
    Thing("image_bytes", lambda: random.Random(1).randbytes(MIB), "bytes"),
    Thing("nul", lambda: "a\0b", "nul"),
    Thing("lone_surrogate", lambda: "half \ud83d of a smile", "surrogate"),
    Thing("nan", lambda: math.nan, "nan"),
    Thing("infinity", lambda: -math.inf, "nan"),
    Thing("2_to_the_70", lambda: 2**70, "bigint"),
    Thing("5000_digits", lambda: 10**5000, "bigint"),
    Thing("cycle", cyclic, "cycle"),
    Thing("cyclic_object", cyclic_object, "cycle"),
    Thing("generator", generator, "unserialisable"),
    Thing("lock", threading.Lock, "unserialisable"),
    Thing("module", lambda: json, "unserialisable"),
    Thing("deep", deep, "depth"),
    Thing("wide", lambda: list(range(300_000)), "nodes"),
    Thing("trap", Trap, "unserialisable"),
    Thing("trap_class", lambda: Trap, "unserialisable"),
    Thing("endless", Endless, "nodes"),
    Thing("growing", Growing, "depth"),
    Thing("recursive", Recursive, "unserialisable"),
    Thing("word", lambda: Word("odd")),
    Thing("file", lambda: sys.stderr, ""),
    Thing("thread", threading.current_thread, ""),
    Thing("logger", lambda: logging.getLogger("hub"), ""),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Reader]]:
    folder = tmp_path_factory.mktemp("hostile")
    hub = Hub(db_url=str(folder / "calls.db"), spool_dir=folder / "spool", otel="off", max_body_bytes=6 * MIB)
    hub.emit("acme:hello")
    assert hub.flush(5.0) == 0
    with hub_package.open(str(folder / "calls.db")) as reader:
        yield hub, reader
    hub.shutdown()


def stored(rig: tuple[Hub, Reader], name: str) -> StoredCall:
    """The one call of a session, read back through every view."""
    hub, reader = rig
    assert hub.flush(10.0) == 0
    (call,) = reader.calls(where={"session_id": name})
    assert call["status"] == "ok", call["error_type"]
    assert [event["type"] for event in call.events] == [
        "llm:request",
        "llm:request:debug",
        "llm:response",
        "llm:response:debug",
    ]
    json.dumps(call.as_json())
    assert call.content
    return call


def lost(call: StoredCall) -> dict[str, int]:
    """What was counted as changed, in all of its events."""
    found: dict[str, int] = {}
    for event in call.events:
        data = json.loads(event["data"])
        for reason, number in data.get("sanitised", {}).items():
            found[reason] = found.get(reason, 0) + number
        if "shed" in data:
            found["shed"] = data["shed"]["bytes"]
    return found


def as_messages(thing: Any) -> dict[str, Any]:
    return {"messages": thing}


def in_a_message(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": thing}]}


def in_a_part(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": thing}, thing]}]}


def as_prompt(thing: Any) -> dict[str, Any]:
    return {"prompt": thing}


def as_parameter(thing: Any) -> dict[str, Any]:
    return {"prompt": "hello", "temperature": thing}


def as_tools(thing: Any) -> dict[str, Any]:
    return {"prompt": "hello", "tools": thing}


def in_tools(thing: Any) -> dict[str, Any]:
    return {"prompt": "hello", "tools": [thing, {"type": "function", "function": {"name": thing}}]}


def as_model(thing: Any) -> dict[str, Any]:
    return {"prompt": "hello", "model": thing}


ARGUMENTS = (as_messages, in_a_message, in_a_part, as_prompt, as_parameter, as_tools, in_tools, as_model)
ANYTHING = pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)


def patient(taken: float) -> bool:
    """Whether a call took no longer than looking at the largest of these things may take."""
    return taken < 2.0


@ANYTHING
def test_any_argument_arrives_untouched_and_leaves_a_record(rig: tuple[Hub, Reader], thing: Thing) -> None:
    given: list[Any] = []

    @traced(provider="acme", hub=rig[0])
    def ask(**arguments: Any) -> str:
        given.append(arguments)
        return "fine"

    for placed in ARGUMENTS:
        item = thing.make()
        arguments = placed(item)
        started = time.perf_counter()
        with session(f"{thing.name} {placed.__name__}"):
            assert ask(**arguments) == "fine"
        assert patient(time.perf_counter() - started)
        assert all(given[-1][key] is arguments[key] for key in arguments)
        if thing.make is generator:
            assert next(item) == "never read"
    for placed in ARGUMENTS:
        call = stored(rig, f"{thing.name} {placed.__name__}")
        if thing.mark and placed not in (as_parameter, as_model):
            assert thing.mark in lost(call), (placed, lost(call))
        if thing.name in ("5_MB_prompt", "base64_image") and placed in (in_a_message, as_prompt):
            assert call.request_text == thing.make()


def returning(value: Any) -> Callable[..., Any]:
    def ask(prompt: str) -> Any:
        return value

    return ask


@ANYTHING
def test_any_result_comes_back_untouched_and_leaves_a_record(rig: tuple[Hub, Reader], thing: Thing) -> None:
    value = thing.make()
    name = f"{thing.name} result"
    started = time.perf_counter()
    with session(name):
        result = traced(returning(value), hub=rig[0])("hello")
        assert list(result) == ["never read"] if thing.name == "generator" else result is value
    assert patient(time.perf_counter() - started)
    call = stored(rig, name)
    if thing.name == "5_MB_prompt":
        assert call.response_text == value


@ANYTHING
def test_any_result_within_a_message_comes_back_untouched_and_its_loss_is_counted(
    rig: tuple[Hub, Reader], thing: Thing
) -> None:
    value = {"role": "assistant", "content": thing.make()}
    name = f"{thing.name} in result"
    with session(name):
        assert traced(returning(value), hub=rig[0])("hello") is value
    call = stored(rig, name)
    if thing.mark:
        assert thing.mark in lost(call), lost(call)


@ANYTHING
def test_any_answer_of_an_extractor_leaves_a_record(rig: tuple[Hub, Reader], thing: Thing) -> None:
    value = thing.make()
    facts: Any = {"usage": value, "messages": [value], "model": value, "finish_reasons": value, "response_id": value}
    name = f"{thing.name} extracted"
    with session(name):
        ask = traced(returning("fine"), hub=rig[0], extract=lambda arguments, result: facts)
        assert ask("hello") == "fine"
    stored(rig, name)


@ANYTHING
def test_any_chunk_passes_untouched_and_leaves_a_record(rig: tuple[Hub, Reader], thing: Thing) -> None:
    chunks = ["one", thing.make(), "two"]

    @traced(hub=rig[0])
    def stream(prompt: str) -> Iterator[Any]:
        yield from chunks

    @traced(hub=rig[0])
    async def astream(prompt: str) -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    async def read() -> list[Any]:
        return [chunk async for chunk in astream("hello")]

    with session(f"{thing.name} chunk"):
        got = list(stream("hello"))
    with session(f"{thing.name} async chunk"):
        agot = asyncio.run(read())
    for seen in (got, agot):
        assert len(seen) == 3
        assert all(one is other for one, other in zip(seen, chunks, strict=True))
    assert stored(rig, f"{thing.name} chunk")["chunk_count"] == 3
    assert stored(rig, f"{thing.name} async chunk")["chunk_count"] == 3


@ANYTHING
def test_any_label_or_field_of_an_event_leaves_a_record(rig: tuple[Hub, Reader], thing: Thing) -> None:
    hub, reader = rig
    value = thing.make()
    hub.emit("acme:odd", case=thing.name, value=value)
    assert hub.flush(10.0) == 0
    rows = reader.sql(
        "SELECT data FROM llm_events WHERE type = 'acme:odd' AND json_extract(data, '$.case') = ?", (thing.name,)
    ).dicts()
    (data,) = [json.loads(row["data"]) for row in rows]
    if thing.mark:
        assert thing.mark in data["sanitised"]


# The openai SDK.


def placed_as_content(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": thing}]}


def placed_as_image(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": thing}}]}]}


def placed_as_parameter(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}], "temperature": thing, "stop": thing}


def placed_in_extra_body(thing: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}], "extra_body": {"odd": thing}}


OF_AN_SDK = (placed_as_content, placed_as_image, placed_as_parameter, placed_in_extra_body)
TOO_LONG = ("prompt_over_the_bound", "image_bytes", "wide", "endless", "growing", "file", "logger")
"""What the SDK itself takes minutes for, looking at each item of what can be iterated, or never ends with."""
SENT = [thing for thing in THINGS if thing.name not in TOO_LONG]


@pytest.mark.parametrize("placed", OF_AN_SDK, ids=lambda placed: placed.__name__)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_sdk_does_with_any_argument_what_it_does_untraced(
    rig: tuple[Hub, Reader], server: LoopbackServer, kind: str, placed: Callable[[Any], dict[str, Any]]
) -> None:
    async def one(client: Any, thing: Thing) -> Any:
        try:
            with session(f"{thing.name} {placed.__name__} {kind}"):
                answer = await openai_kit.value(client.chat.completions.create(model="m-1", **placed(thing.make())))
        except Exception as error:
            return type(error), str(error)
        return type(answer), answer.choices[0].message.content, answer.usage.prompt_tokens

    async def scenario(client: Any) -> Any:
        return {thing.name: await one(client, thing) for thing in SENT}

    hub: Any
    hub, reader = rig
    bare = openai_kit.play(kind, server.base_url, scenario, None, max_retries=0)
    ours = openai_kit.play(kind, server.base_url, scenario, hub, max_retries=0)
    assert ours == bare
    assert hub.flush(20.0) == 0
    for name, outcome in bare.items():
        calls = reader.calls(where={"session_id": f"{name} {placed.__name__} {kind}"})
        for call in calls:
            json.dumps(call.as_json())
        if len(outcome) == 3:
            assert [call["status"] for call in calls] == ["ok"], name
        else:
            assert all(call["status"] == "error" for call in calls), name


# What is not an argument.


def test_a_label_or_a_field_too_large_for_the_log_is_cut_and_the_loss_counted(rig: tuple[Hub, Reader]) -> None:
    hub, reader = rig
    huge = "\x01" * (4 * MIB)  # as JSON six times that
    hub.emit("acme:huge", text=huge, small=1)
    with session("huge label", tags={"huge": huge}):
        assert traced(returning("fine"), hub=hub)("hello") == "fine"
    assert hub.flush(10.0) == 0
    (row,) = reader.sql("SELECT data FROM llm_events WHERE type = 'acme:huge'").dicts()
    data = json.loads(row["data"])
    assert data["small"] == 1
    assert data["sanitised"]["size"] == 1
    assert len(data["text"]) < MIB
    (call,) = reader.calls(where={"session_id": "huge label"})
    assert call["status"] == "ok"


def test_everything_stored_can_be_read_by_sql(rig: tuple[Hub, Reader]) -> None:
    hub, reader = rig
    hostile: Any = [{"role": "user", "content": thing.make()} for thing in THINGS if thing.name != "growing"]
    with session("all at once", tags={"nul": "\0", "half": "\udcff"}):
        traced(returning({"content": "\0\ud800"}), hub=hub)(hostile)
    assert hub.flush(10.0) == 0
    for view in reader.schema():
        reader.sql(f"SELECT * FROM {view} LIMIT 50")
    (call,) = reader.calls(where={"session_id": "all at once"})
    assert json.loads(call["tags"]) == {"nul": "\ufffd", "half": "\ufffd"}


def test_nothing_of_ours_keeps_hostile_things_alive(rig: tuple[Hub, Reader]) -> None:
    class Heavy:
        content = "text"

    heavy = Heavy()
    watched = weakref.ref(heavy)
    traced(returning("fine"), hub=rig[0])(prompt=heavy)
    del heavy
    gc.collect()
    assert watched() is None
