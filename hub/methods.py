"""Classes and instances with some of their methods wrapped: a class in place, of an instance another face."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hub.contracts import FIRST
from hub.errors import NotTraceable
from hub.views import view


class Wrap(Protocol):
    """Wraps one method."""

    def __call__(
        self, function: Callable[..., Any], *, owner: Any, like: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """*function*, of the kind of *like* where that is given; what is wrapped already, as it is.

        *owner* is whose method it is, `FIRST` where the first argument says so.
        """
        ...


def with_methods(target: Any, wraps: Mapping[str, Wrap]) -> Any:
    """*target*, a class or an instance, with the methods that *wraps* names wrapped. Where they are all as they should
    be already it is *target* itself.

    Raises: NotTraceable
    """
    try:
        return _changed(target, wraps) if inspect.isclass(target) else _shown(target, wraps)
    except NotTraceable:
        raise
    except (TypeError, AttributeError) as error:
        remedy = "it can be neither changed nor derived from, as what is written in C; trace a function that calls it"
        raise NotTraceable(name_of(target), remedy) from error


def is_function(target: Any) -> bool:
    return inspect.isroutine(target) or isinstance(target, functools._lru_cache_wrapper)


def name_of(target: Any) -> str:
    return f"class {target.__qualname__}" if inspect.isclass(target) else f"{type(target).__qualname__} instance"


def _changed(cls: type, wraps: Mapping[str, Wrap]) -> type:
    for name, wrap in wraps.items():
        method = inspect.getattr_static(cls, name, None)
        if not _is_method(method):
            remedy = f"{name!r} is only there once there is an instance; pass one, as in hub.traced({cls.__name__}())"
            raise NotTraceable(name_of(cls), remedy)
        if (new := _method(method, wrap, cls)) is not method:
            setattr(cls, name, new)
    return cls


def _is_method(found: Any) -> bool:
    """Whether *found* in a class can be wrapped there. A `partialmethod`, for one, only makes functions when asked."""
    return isinstance(found, staticmethod | classmethod) or (is_function(found) and callable(found))


def _method(method: Any, wrap: Wrap, owner: Any) -> Any:
    """What stands in a class, wrapped as the kind of method it is. *owner* is whose a static one is."""
    if not isinstance(method, staticmethod | classmethod):
        return wrap(method, owner=FIRST)
    function = method.__func__
    new = wrap(function, owner=owner if isinstance(method, staticmethod) else FIRST)
    return method if new is function else type(method)(new)


def _shown(instance: Any, wraps: Mapping[str, Wrap]) -> Any:
    changed = False

    def members(shown: Any) -> dict[str, Any]:
        nonlocal changed
        made: dict[str, Any] = {}
        own = getattr(shown, "__dict__", {})
        for name, wrap in wraps.items():
            method = None if name in own else inspect.getattr_static(type(shown), name, None)
            if _is_method(method):
                made[name] = _method(method, wrap, shown)
                changed |= made[name] is not method
            elif (new := _looked_up(shown, name, wrap)) is not None:
                made[name], changed = new, True
        return made

    members(instance)
    return view(instance, members) if changed else instance


def _looked_up(instance: Any, name: str, wrap: Wrap) -> property | None:
    """A method that *instance* has of its own, or makes when it is asked for it, wrapped: it is asked at each call.
    None: it is as it should be."""
    like = getattr(instance, name)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return getattr(instance, name)(*args, **kwargs)

    wrapper = wrap(forward, owner=instance, like=like)
    if wrapper is like:
        return None
    return property(
        lambda face: wrapper, lambda face, new: setattr(instance, name, new), lambda face: delattr(instance, name)
    )
