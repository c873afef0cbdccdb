"""Another face of an instance: same state, same class to `isinstance`, some methods replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MemberDescriptorType
from typing import Any


class _Face:
    """First among the bases of the classes made here."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        if "__hub_face__" not in cls.__dict__:  # the program's own subclass: what its base wants to know of, it is told
            super().__init_subclass__(**options)


def subclass(cls: type, members: Mapping[str, Any], *mixins: type) -> type:
    """A class that says it is *cls*, with *members* and what *mixins* have in place of its own.

    *cls* is not told that it has a subclass, and one with a finaliser is not finalised twice: the instance whose face
    one of this class is must be held by it.
    """
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    names["__hub_face__"] = True
    if hasattr(cls, "__del__"):
        names["__del__"] = _leave_open
    bases = (*mixins, cls) if issubclass(cls, _Face) else (_Face, *mixins, cls)
    made: type = _maker(type(cls)).__new__(type(cls), cls.__name__, bases, {**names, **members})
    return made


_KNOWN_MAKERS = frozenset({"abc", "builtins", "enum", "pydantic", "typing", "typing_extensions"})


def _maker(meta: type) -> Any:
    """The first of *meta*'s classes that is no program's own: those keep registers of classes, want arguments that
    nobody here knows, or refuse. What they gave the class its subclass has."""
    for each in meta.__mro__:
        new = each.__dict__.get("__new__")
        if new is not None and (type(new) is not staticmethod or each.__module__.partition(".")[0] in _KNOWN_MAKERS):
            return each
    return type


def _leave_open(self: Any) -> None:
    """The state is another instance's, whose own finaliser sees to it."""


def view(instance: Any, members: Callable[[Any], Mapping[str, Any]]) -> Any:
    """*instance* with what *members* says of it in place of its own: what either sets, the other has.

    *members* is asked again for each copy of the view. A view keeps *instance* alive; pickled, it is pickled as
    *instance*.
    """
    cls = type(instance)

    def reduce(self: Any, protocol: Any) -> Any:
        return instance.__reduce_ex__(protocol)

    def copied(self: Any) -> Any:
        return view(copy.copy(instance), members)

    def copied_deeply(self: Any, memo: dict[int, Any]) -> Any:
        return view(copy.deepcopy(instance, memo), members)

    own: dict[str, Any] = {
        "__class__": property(lambda self: instance.__class__),  # which equality of dataclasses and pickle look at
        "__reduce_ex__": reduce,
        "__copy__": copied,
        "__deepcopy__": copied_deeply,
    }
    if not hasattr(instance, "__dict__"):
        own["__slots__"] = ()
    slots = _slots(cls)
    shared = {name: _shared(slot, instance) for name, slot in slots.items() if not name.startswith("__")}
    face: Any = subclass(cls, {**shared, **own, **members(instance)})
    twin: Any
    try:
        twin = object.__new__(face)
    except TypeError:  # built on a class written in C, which alone can copy what it holds
        twin = copy.copy(instance)
        object.__setattr__(twin, "__class__", face)
    for name in slots.keys() - shared.keys():
        _copy_slot(slots[name], instance, twin)
    if (state := getattr(instance, "__dict__", None)) is not None:
        object.__setattr__(twin, "__dict__", state)
    return twin


def _slots(cls: type) -> dict[str, Any]:
    return {
        name: slot
        for base in reversed(cls.__mro__)
        for name, slot in vars(base).items()
        if isinstance(slot, MemberDescriptorType)
    }


def _shared(slot: Any, instance: Any) -> property:
    """What stands in a slot of *instance*, seen and set through its view."""
    return property(
        lambda face: slot.__get__(instance),
        lambda face, value: slot.__set__(instance, value),
        lambda face: slot.__delete__(instance),
    )


def _copy_slot(slot: Any, instance: Any, twin: Any) -> None:
    """Of one that a library reads without asking for it by name."""
    try:
        slot.__set__(twin, slot.__get__(instance))
    except (AttributeError, TypeError):  # empty, or not to be set
        pass
