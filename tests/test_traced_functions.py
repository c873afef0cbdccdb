"""Traced functions and async functions behave as unwrapped, and every call of them is recorded."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
import pickle
import threading
import traceback
import types
from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from hub import NotTraceable, traced
from hub.calls import current_call
from tests.calls_of import ListHub, durable_hub

ASK = [{"role": "user", "content": "Where is my order?"}]


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The outcome of a sync or async function."""
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def both(sync: Callable[..., Any]) -> Sequence[Callable[..., Any]]:
    """*sync* and an async function that does the same."""

    @functools.wraps(sync)
    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        return sync(*args, **kwargs)

    return sync, asynchronous


def echo(messages: Any, *, model: str = "m-1", temperature: float | None = None, api_key: str = "") -> Any:
    """Says what it was told."""
    return f"echo {messages[0]['content']}"


EITHER = pytest.mark.parametrize("function", both(echo), ids=["sync", "async"])


@EITHER
def test_request_and_answer_are_recorded(hub: ListHub, function: Callable[..., Any]) -> None:
    ask = traced(function, provider="acme", hub=hub)
    assert run(ask, ASK, temperature=0.5, api_key="hidden") == "echo Where is my order?"
    seen = hub.call
    assert seen.request["provider"] == "acme"
    assert seen.request["model"] == "m-1"
    assert seen.request["source"] == "traced"
    assert seen.request["params"] == {"temperature": 0.5}
    assert seen.sent["messages"] == ASK
    assert seen.text == "echo Where is my order?"
    assert seen.status == "ok"
    assert "hidden" not in repr(hub.log.records)


@EITHER
def test_the_wrapper_looks_like_what_it_wraps(hub: ListHub, function: Callable[..., Any]) -> None:
    ask = traced(function, hub=hub)
    assert inspect.signature(ask) == inspect.signature(function)
    assert (ask.__name__, ask.__doc__, ask.__module__) == (function.__name__, function.__doc__, function.__module__)
    assert inspect.iscoroutinefunction(ask) == inspect.iscoroutinefunction(function)
    assert not inspect.isgeneratorfunction(ask)


@pytest.mark.parametrize("bare", [True, False])
def test_it_is_a_decorator_with_and_without_arguments(
    hub: ListHub, bare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.recorder._hub", lambda: hub.recorder)

    if bare:

        @traced
        def ask(prompt: str) -> str:
            return prompt
    else:

        @traced(provider="acme", model="m-2")
        def ask(prompt: str) -> str:
            return prompt

    assert ask("hello") == "hello"
    assert hub.call.text == "hello"


class Refused(Exception):
    pass


@pytest.mark.parametrize("raised", [Refused, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_exception_arrives_as_it_was_raised(
    hub: ListHub, raised: type[BaseException], asynchronous: bool
) -> None:
    error = raised("no")

    def fail(prompt: str) -> None:
        raise error

    ask: Any = traced(both(fail)[asynchronous], hub=hub)
    with pytest.raises(raised) as caught:
        ask("hello").send(None) if asynchronous else ask("hello")
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "fail"
    assert len(names) == 3 + asynchronous
    status = {Refused: "error", GeneratorExit: "abandoned"}.get(raised, "cancelled")
    assert hub.call.status == status


def test_the_error_says_its_type_and_text(hub: ListHub) -> None:
    @traced(hub=hub)
    def ask(prompt: str) -> str:
        raise Refused("not today")

    with pytest.raises(Refused):
        ask("hello")
    assert hub.call.response["error_type"].endswith(".Refused")
    assert hub.call.error == "not today"


def test_a_cancelled_task_is_recorded_as_cancelled_and_stays_cancelled(hub: ListHub) -> None:
    @traced(hub=hub)
    async def ask(prompt: str) -> None:
        await asyncio.sleep(30)

    async def main() -> bool:
        task = asyncio.create_task(ask("hello"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(main())
    assert hub.call.status == "cancelled"


def test_the_result_is_the_same_object_whatever_it_is(hub: ListHub) -> None:
    things = [object(), iter([1]), map(str, [1]), SimpleNamespace(a=1), None, 5, b"x", [1], {"a": 1}, Refused]
    same: Any = traced(lambda prompt: prompt, hub=hub)
    for thing in things:
        assert same(thing) is thing
    assert len(hub.calls) == len(things)


def test_an_awaitable_that_is_no_coroutine_is_left_alone(hub: ListHub) -> None:
    async def main() -> None:
        later: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        later.set_result("later")
        assert traced(lambda prompt: later, hub=hub)("x") is later
        assert await later == "later"

    asyncio.run(main())


@types.coroutine
def stepwise(prompt: str) -> Any:
    yield from asyncio.sleep(0).__await__()
    return prompt


def test_a_coroutine_made_of_a_generator_can_still_be_awaited(hub: ListHub) -> None:
    async def main(ask: Any) -> Any:
        return await ask("hello")

    for ask in (stepwise, lambda prompt: stepwise(prompt)):
        assert asyncio.run(main(traced(ask, hub=hub))) == "hello"
    assert len(hub.calls) == 2


def test_traced_twice_is_one_call(hub: ListHub) -> None:
    once = traced(echo, hub=hub)
    assert traced(once) is once
    twice = traced(once, provider="acme", hub=hub)
    assert twice(ASK) == "echo Where is my order?"
    assert hub.call.request["provider"] == "acme"


def test_a_traced_function_within_a_traced_function_is_one_call(hub: ListHub) -> None:
    inner = traced(echo, model="inner", hub=hub)

    @traced(provider="router", hub=hub)
    async def outer(messages: Any) -> Any:
        return inner(messages)

    asyncio.run(outer(ASK))
    assert hub.call.text == "echo Where is my order?"
    assert len(hub.call.of("llm:response")) == 1


def test_methods_and_descriptors_stay_what_they_are(hub: ListHub) -> None:
    class Provider:
        prefix = "p"

        @traced(hub=hub)
        def ask(self, prompt: str) -> str:
            return self.prefix + prompt

        @traced(hub=hub)
        @staticmethod
        def static(prompt: str) -> str:
            return prompt

        @traced(hub=hub)
        @classmethod
        def made(cls, prompt: str) -> str:
            return cls.prefix + prompt

        @staticmethod
        @traced(hub=hub)
        def inside(prompt: str) -> str:
            return prompt

    provider = Provider()
    assert provider.ask("1") == "p1"
    assert Provider.static("2") == provider.static("2") == "2"
    assert Provider.made("3") == provider.made("3") == "p3"
    assert provider.inside("4") == "4"
    bound = traced(provider.ask)
    assert inspect.ismethod(bound)
    assert bound.__self__ is provider
    assert bound.__func__ is Provider.ask
    assert bound("5") == "p5"
    prompts = [call.sent["messages"][0]["content"] for call in hub.calls]
    assert prompts == ["1", "2", "2", "3", "3", "4", "5"]


def test_a_partial_stays_a_partial(hub: ListHub) -> None:
    ask = traced(functools.partial(echo, temperature=0.1), hub=hub)
    assert isinstance(ask, functools.partial)
    assert ask(ASK) == "echo Where is my order?"
    assert hub.call.request["params"] == {"temperature": 0.1}


def test_a_partial_of_an_async_function_is_still_one() -> None:
    assert inspect.iscoroutinefunction(traced(functools.partial(both(echo)[1])))


@dataclasses.dataclass
class Callable_:
    greeting: str

    def __call__(self, prompt: str) -> str:
        return f"{self.greeting} {prompt}"

    def other(self) -> str:
        return self.greeting


def test_a_callable_object_gets_another_face_with_the_same_state(hub: ListHub) -> None:
    original = Callable_("hi")
    ask = traced(original, hub=hub)
    assert isinstance(ask, Callable_)
    assert ask("you") == "hi you"
    original.greeting = "bye"
    assert ask.other() == "bye"
    ask.greeting = "yo"
    assert original("x") == "yo x"
    assert len(hub.calls) == 1


def test_methods_are_traced_by_name_on_an_instance_and_on_a_class(hub: ListHub) -> None:
    class Base:
        def generate(self, prompt: str) -> str:
            return prompt.upper()

    class Model(Base):
        pass

    model = Model()
    view = traced(model, methods=["generate"], hub=hub)
    assert isinstance(view, Model)
    assert view.generate("a") == "A"
    assert model.generate("a") == "A"
    assert len(hub.calls) == 1
    assert traced(Model, methods=["generate"], hub=hub) is Model
    assert model.generate("b") == "B"
    assert Base().generate("c") == "C"
    assert len(hub.calls) == 2


class Unknown:
    pass


@pytest.mark.parametrize("target", [Unknown, Unknown(), 5, "text", int])
def test_what_has_no_call_method_is_refused_at_decoration(target: Any) -> None:
    with pytest.raises(NotTraceable, match="methods="):
        traced(target)


def test_a_method_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(NotTraceable, match="'generate'"):
        traced(Unknown(), methods=["generate"])


@traced
def at_module_level(prompt: str) -> str:
    return prompt


def test_a_decorated_function_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_a_cached_function_keeps_its_cache(hub: ListHub) -> None:
    @functools.lru_cache
    def ask(prompt: str) -> object:
        return object()

    cached = traced(ask, hub=hub)
    assert cached("a") is cached("a")
    assert cached.cache_info().hits == 1


def test_the_call_is_current_inside_and_only_inside(hub: ListHub) -> None:
    @traced(hub=hub)
    def ask(prompt: str) -> bool:
        return current_call.get() is not None

    assert ask("x")
    assert current_call.get() is None


class Role(Enum):
    USER = "user"


@dataclasses.dataclass
class Message:
    role: Role
    content: str


class Plain:
    def __init__(self, role: str, content: str) -> None:
        self.role, self.content = role, content


SAID = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages", [SAID]),
        ("messages", (SAID,)),
        ("messages", [Message(Role.USER, "hi")]),
        ("messages", [Plain("user", "hi")]),
        ("messages", "hi"),
        ("prompt", "hi"),
        ("input", ["hi"]),
        ("request", "hi"),
        ("request", {"messages": [SAID], "model": "m-9", "temperature": 0.25}),
        ("request", SimpleNamespace(messages=[Message(Role.USER, "hi")], model="m-9", temperature=0.25)),
    ],
)
def test_messages_are_found_under_the_usual_names_and_in_any_form(hub: ListHub, name: str, value: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def ask({name}, **kwargs): return None", namespace)
    traced(namespace["ask"], hub=hub)(value)
    assert hub.call.sent["messages"] == [SAID]
    if name == "request" and value != "hi":
        assert hub.call.request["model"] == "m-9"
        assert hub.call.request["params"] == {"temperature": 0.25}


def test_parameters_come_from_keywords_positions_and_defaults_and_others_are_not_kept(hub: ListHub) -> None:
    @traced(model="fallback", hub=hub)
    def ask(prompt: str, model: str | None = None, top_p: float = 0.9, **kwargs: Any) -> None: ...

    ask("x", "m-3", max_completion_tokens=5, stop=["a", "b"], authorization="Bearer abc", metadata={"k": "v"})
    ask("x")
    first, second = hub.calls
    assert first.request["model"] == "m-3"
    assert first.request["params"] == {"top_p": 0.9, "max_tokens": 5, "stop": ["a", "b"]}
    assert second.request["model"] == "fallback"


def test_tools_and_a_system_prompt_belong_to_the_request(hub: ListHub) -> None:
    tools = [{"type": "function", "function": {"name": "find"}}]

    @traced(hub=hub)
    def ask(messages: Any, tools: Any = None, system: str = "") -> None: ...

    ask(ASK, tools=tools, system="Be brief.")
    assert hub.call.request["tool_count"] == 1
    assert hub.call.request["has_system"]
    assert hub.call.sent["tools"] == tools


def test_an_extractor_reads_what_we_cannot(hub: ListHub) -> None:
    def extract(arguments: Any, result: Any) -> Any:
        assert arguments == {"question": "why", "depth": 2}
        return {"model": "served", "usage": {"input_tokens": 1, "output_tokens": result.n}}

    @traced(extract=extract, hub=hub)
    def ask(question: str, depth: int = 2) -> Any:
        return SimpleNamespace(n=7)

    ask("why")
    assert hub.call.response["model"] == "served"
    assert hub.call.response["usage"] == {"input_tokens": 1, "output_tokens": 7}


def breaks(*_: Any) -> Any:
    raise RuntimeError("secret text")


@EITHER
def test_an_extractor_that_is_interrupted_ends_the_call(hub: ListHub, function: Callable[..., Any]) -> None:
    def extract(arguments: Any, result: Any) -> Any:
        raise SystemExit

    with pytest.raises(SystemExit):
        run(traced(function, extract=extract, hub=hub), ASK)
    assert hub.call.status == "cancelled"


@EITHER
@pytest.mark.parametrize("part", ["extractor", "log", "cleaner", "tracing", "clock", "hub"])
def test_whatever_of_ours_breaks_the_call_goes_on(
    function: Callable[..., Any], part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = ListHub()
    recorder = hub.recorder
    assert recorder is not None
    if part == "log":
        monkeypatch.setattr(hub.log, "append", breaks)
    elif part == "cleaner":
        monkeypatch.setattr(recorder.cleaner, "clean", breaks)
    elif part == "tracing":
        monkeypatch.setattr(recorder.tracing, "begin", breaks)
    elif part == "clock":
        monkeypatch.setattr(recorder, "clock", SimpleNamespace(wall=breaks, monotonic=breaks))
    elif part == "hub":

        class Broken:
            recorder = property(breaks)

        hub = Broken()  # type: ignore[assignment]
    ask = traced(function, extract=breaks if part == "extractor" else None, hub=hub)
    with caplog.at_level(logging.WARNING, "hub"):
        assert run(ask, ASK) == "echo Where is my order?"
    assert "RuntimeError" in caplog.text
    assert "secret text" not in caplog.text


def test_with_recording_off_nothing_happens(hub: ListHub) -> None:
    hub.recorder = None
    assert run(traced(echo, hub=hub), ASK) == "echo Where is my order?"
    assert hub.calls == []


def cyclic() -> Any:
    thing: dict[str, Any] = {"role": "user"}
    thing["content"] = thing
    return thing


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([cyclic()], "cycle"),
        ((n for n in range(3)), "unserialisable"),
        (threading.Lock(), "unserialisable"),
        (logging, "unserialisable"),
        ([{"role": "user", "content": "nul \0 lone \ud800"}], "surrogate"),
        ([{"role": "user", "content": [float("nan"), 2**70]}], "nan"),
    ],
    ids=["cycle", "generator", "lock", "module", "text", "numbers"],
)
def test_odd_arguments_work_and_the_loss_is_marked(hub: ListHub, value: Any, reason: str) -> None:
    ask: Any = traced(lambda messages: [messages], hub=hub)
    assert ask(value)[0] is value
    assert hub.call.status == "ok"
    assert hub.call.request["sanitised"][reason] >= 1


def test_interleaved_calls_of_one_loop_pair(hub: ListHub) -> None:
    @traced(hub=hub)
    async def ask(prompt: str) -> str:
        await asyncio.sleep(0.001 * (hash(prompt) % 7))
        return "re: " + prompt

    async def main() -> None:
        await asyncio.gather(*(ask(str(n)) for n in range(100)))

    for _ in range(3):
        asyncio.run(main())
    assert len(hub.calls) == 300
    assert all(call.text == "re: " + call.sent["messages"][0]["content"] for call in hub.calls)


def test_calls_of_several_threads_pair(hub: ListHub) -> None:
    ask: Any = traced(lambda prompt: "re: " + prompt, hub=hub)

    def several(n: int) -> None:
        for m in range(20):
            ask(f"{n}.{m}")

    threads = [threading.Thread(target=several, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.calls) == 160
    assert all(call.text == "re: " + call.sent["messages"][0]["content"] for call in hub.calls)


@EITHER
def test_durable_calls_wait_for_the_disk_before_request_and_answer(function: Callable[..., Any]) -> None:
    hub = durable_hub()
    run(traced(function, hub=hub), ASK)
    assert hub.log.syncer.counts == [2, 4]


@EITHER
def test_a_disk_that_fails_changes_nothing(function: Callable[..., Any]) -> None:
    hub = durable_hub()
    hub.log.syncer = None
    assert run(traced(function, hub=hub), ASK) == "echo Where is my order?"
