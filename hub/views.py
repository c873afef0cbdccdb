"""Another face of an instance: same state, same class to `isinstance`, some methods replaced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def subclass(cls: type, members: Mapping[str, Any], *mixins: type) -> type:
    """A class that says it is *cls*, with *members* and what *mixins* have in place of its own."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (*mixins, cls), {**names, **members})


def view(instance: Any, cls: type) -> Any:
    """*instance* as one of *cls*, a subclass of its class: what either sets, the other has.

    An instance without `__dict__` is copied instead: its view keeps the state it has now.
    """
    state = getattr(instance, "__dict__", None)
    if state is None:
        twin = copy.copy(instance)
        twin.__class__ = cls
        return twin
    twin = copy.copy(instance)
    twin.__class__ = cls
    twin.__dict__ = state
    return twin
