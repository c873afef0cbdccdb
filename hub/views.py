"""Another face of an instance: same state, same class to `isinstance`, some methods replaced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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
    return type(cls)(cls.__name__, bases, {**names, **members})


def _leave_open(self: Any) -> None:
    """The state is another instance's, whose own finaliser sees to it."""


def view(instance: Any, members: Mapping[str, Any]) -> Any:
    """*instance* with *members* in place of its own: what either sets, the other has.

    What stands in slots is copied: a view keeps what it holds now. A view keeps *instance* alive; pickled, it is
    pickled as *instance*.
    """
    cls = type(instance)

    def reduce(self: Any, protocol: Any) -> Any:
        return instance.__reduce_ex__(protocol)

    def copied(self: Any) -> Any:
        return view(copy.copy(instance), members)

    def copied_deeply(self: Any, memo: dict[int, Any]) -> Any:
        return view(copy.deepcopy(instance, memo), members)

    own = {
        "__class__": property(lambda self: instance.__class__),  # which equality of dataclasses and pickle look at
        "__reduce_ex__": reduce,
        "__copy__": copied,
        "__deepcopy__": copied_deeply,
    }
    face: Any = subclass(cls, {**own, **members})
    twin: Any
    try:
        twin = object.__new__(face)
    except TypeError:  # built on a class written in C, which alone can copy what it holds
        twin = copy.copy(instance)
        object.__setattr__(twin, "__class__", face)
    _copy_slots(instance, twin)
    if (state := getattr(instance, "__dict__", None)) is not None:
        object.__setattr__(twin, "__dict__", state)
    return twin


def _copy_slots(instance: Any, twin: Any) -> None:
    for base in type(instance).__mro__:
        for slot in vars(base).values():
            if isinstance(slot, MemberDescriptorType):
                try:
                    slot.__set__(twin, slot.__get__(instance))
                except (AttributeError, TypeError):  # empty, or not to be set
                    pass
