"""A traced instance is another face of the same one, of whatever class it is; the one it shows stays as it was."""

from __future__ import annotations

import abc
import asyncio
import copy
import dataclasses
import functools
import gc
import pickle
import threading
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from hub import NotTraceable, traced
from tests.calls_of import ListHub


def face(instance: Any, hub: ListHub) -> Any:
    return traced(instance, methods=["generate"], hub=hub)


class Plain:
    def __init__(self) -> None:
        self.kept: Any = "state"

    def generate(self, prompt: str) -> Any:
        return self.kept


class Singleton(Plain):
    one: Any = None

    def __new__(cls) -> Singleton:
        if cls.one is None:
            cls.one = object.__new__(cls)
        return cls.one  # type: ignore[no-any-return]


class MadeOf(Plain):
    def __new__(cls, needed: str) -> MadeOf:
        return object.__new__(cls)

    def __init__(self, needed: str) -> None:
        self.kept = needed


class Unpicklable(Plain):
    def __getstate__(self) -> Any:
        raise TypeError("holds a connection")


class Locked(Plain):
    """What is not in its pickled state it has all the same."""

    def __init__(self) -> None:
        self.kept = threading.Lock()

    def __getstate__(self) -> Any:
        return {}

    def __setstate__(self, state: Any) -> None:
        self.kept = None


class NamedSubclasses(Plain):
    def __init_subclass__(cls, *, name: str) -> None: ...


class Slotted:
    __slots__ = ("empty", "kept")

    def __init__(self) -> None:
        self.kept = "state"

    def generate(self, prompt: str) -> Any:
        return self.kept


class SlottedWithMore(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self.more = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    kept: str

    def generate(self, prompt: str) -> Any:
        return self.kept


class Model(BaseModel):
    kept: str

    def generate(self, prompt: str) -> Any:
        return self.kept


class Dictionary(dict[str, str]):
    kept = "state"

    def generate(self, prompt: str) -> Any:
        return self.kept


class Abstract(abc.ABC):
    @abc.abstractmethod
    def generate(self, prompt: str) -> Any: ...


class Concrete(Abstract):
    def generate(self, prompt: str) -> Any:
        return "state"


ALL = [
    Plain(),
    Singleton(),
    MadeOf("state"),
    Unpicklable(),
    Locked(),
    NamedSubclasses(),
    Slotted(),
    SlottedWithMore(),
    Frozen("state"),
    Model(kept="state"),
    Dictionary(a="b"),
    Concrete(),
]


@pytest.mark.parametrize("instance", ALL, ids=lambda one: type(one).__name__)
def test_an_instance_of_any_class_can_be_traced_and_stays_as_it_was(hub: ListHub, instance: Any) -> None:
    kind = type(instance)
    seen = face(instance, hub)
    assert seen is not instance
    assert isinstance(seen, kind)
    assert type(instance) is kind
    assert seen.generate("x") is instance.generate("x")
    assert len(hub.calls) == 1


@pytest.mark.parametrize("instance", [Frozen("state"), Model(kept="state"), Dictionary(a="b")])
def test_what_compares_by_value_is_equal_to_its_face(hub: ListHub, instance: Any) -> None:
    assert face(instance, hub) == instance
    assert instance == face(instance, hub)


def test_the_class_does_not_hear_of_a_subclass_and_of_the_programs_own_it_does(hub: ListHub) -> None:
    heard: list[str] = []

    class Registered(Plain):
        def __init_subclass__(cls) -> None:
            heard.append(cls.__name__)

    seen = face(Registered(), hub)
    assert heard == []

    class Own(type(seen)):  # type: ignore[misc]
        def generate(self, prompt: str) -> Any:
            return super().generate(prompt)

    assert heard == ["Own"]


class Registering(type):
    made: list[str] = []  # noqa: RUF012

    def __new__(cls, name: str, bases: Any, namespace: Any, *, tag: str) -> Any:
        cls.made.append(name)
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name: str, bases: Any, namespace: Any, *, tag: str) -> None:
        super().__init__(name, bases, namespace)
        cls.made.append(name)


class AbstractRegistering(Registering, abc.ABCMeta): ...


@pytest.mark.parametrize("meta", [Registering, AbstractRegistering])
def test_nor_does_a_metaclass_which_may_want_arguments_or_keep_a_register(hub: ListHub, meta: Any) -> None:
    made = meta("Made", (Plain,), {}, tag="x")
    Registering.made.clear()
    seen = face(made(), hub)
    assert Registering.made == []
    assert isinstance(seen, made)
    assert seen.generate("x") == hub.call.text == "state"


class Forwarding(Plain):
    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"unknown {name}"


class Streaming(Plain):
    def stream(self, prompt: str) -> Any:
        yield self.generate(prompt)


def test_unknown_attributes_are_forwarded_and_stream_is_there_exactly_when_it_was(hub: ListHub) -> None:
    assert face(Forwarding(), hub).anything == "unknown anything"
    for instance in (Plain(), Streaming()):
        assert hasattr(face(instance, hub), "stream") == hasattr(instance, "stream")
    with pytest.raises(AttributeError, match="'Plain' object has no attribute 'missing'"):
        _ = face(Plain(), hub).missing
    seen = traced(Streaming(), methods=["generate", "stream"], hub=hub)
    assert list(seen.stream("x")) == ["state"]
    assert len(hub.call.of("llm:response")) == 1


class Whole:
    async def _complete(self, style: str, messages: Any) -> str:
        return f"{style}: {messages}"

    complete = functools.partialmethod(_complete, "short")

    @functools.singledispatchmethod
    def stream(self, messages: Any) -> Any:
        yield "one"


def test_a_method_that_is_made_when_it_is_asked_for_is_wrapped_where_there_is_an_instance(hub: ListHub) -> None:
    seen = traced(Whole(), hub=hub)
    assert asyncio.run(seen.complete("x")) == "short: x"
    assert list(seen.stream("x")) == ["one"]
    assert [call.status for call in hub.calls] == ["ok", "ok"]
    with pytest.raises(NotTraceable, match="only there once there is an instance"):
        traced(Whole, hub=hub)


class Closing(Plain):
    closed = 0

    def __del__(self) -> None:
        type(self).closed += 1


def test_a_finaliser_runs_once_and_not_before_the_face_is_gone(hub: ListHub) -> None:
    seen = face(Closing(), hub)
    gc.collect()
    assert Closing.closed == 0
    kept = Closing()
    del seen
    face(kept, hub)
    gc.collect()
    assert Closing.closed == 1
    assert kept.kept == "state"


def test_a_finaliser_of_a_clients_own_class_leaves_the_traced_copy_open(hub: ListHub) -> None:
    class Tidy(OpenAI):
        def __del__(self) -> None:
            self.close()

    client = traced(Tidy(api_key="any"), hub=hub)
    gc.collect()
    assert not client.is_closed()


def test_a_face_is_pickled_as_what_it_shows_and_copied_with_its_methods(hub: ListHub) -> None:
    for instance in (Plain(), Frozen("state"), Model(kept="state"), SlottedWithMore()):
        seen = face(instance, hub)
        again = pickle.loads(pickle.dumps(seen))
        assert type(again) is type(instance)
        assert again.generate("x") == "state"
        assert pickle.loads(pickle.dumps(seen.generate))("x") == "state"
    assert hub.calls == []
    plain = Plain()
    for twin in (copy.copy(face(plain, hub)), copy.deepcopy(face(plain, hub))):
        twin.kept = "other"
        assert twin.generate("x") == "other"
        assert isinstance(twin, Plain)
    assert plain.kept == "state"
    assert len(hub.calls) == 2


def test_a_face_of_a_face_records_once(hub: ListHub) -> None:
    plain = Plain()
    twice = face(face(plain, hub), hub)
    assert twice.generate("x") == "state"
    assert len(hub.call.of("llm:response")) == 1
    assert type(pickle.loads(pickle.dumps(twice))) is Plain


def test_a_decorated_class_can_be_subclassed_and_pickled(hub: ListHub) -> None:
    class Base(abc.ABC):  # noqa: B024
        def generate(self, prompt: str) -> str:
            return "base " + prompt

    decorated = traced(Base, methods=["generate"], hub=hub)

    class Derived(decorated):  # type: ignore[misc, valid-type]
        def generate(self, prompt: str) -> str:
            return "derived " + str(super().generate(prompt))

    assert decorated is Base
    assert isinstance(Derived(), Base)
    assert Derived().generate("x") == "derived base x"
    assert hub.call.text == "base x"
    assert type(pickle.loads(pickle.dumps(InModule()))) is InModule


class InModule(Plain):
    pass


traced(InModule, methods=["generate"])
