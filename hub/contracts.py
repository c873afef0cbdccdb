"""What makes an object a provider, and what a provider says of its calls: its name, its settings, its tiers.

Providers are recognised by what they look like. Nothing of theirs is imported, and nothing they do when they are asked,
a property that raises for one, reaches the program.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import Enum
from types import CoroutineType
from typing import Any

from hub.extractors.requests import SOURCES, param
from hub.extractors.values import attribute, attributes, text

STREAMS = ("stream", "complete_stream")
CALLS = ("complete", *STREAMS)
"""Methods of the contracts that call a model."""
TIERS = "get_model_for_tier"

FIRST: Any = object()
"""Stands for the provider of a method: the first argument of each call."""

Description = tuple[str | None, str | None, dict[str, Any] | None, tuple[str, ...]]
"""Provider, requested model, parameters, and the names of those that came from the provider's configuration."""


def call_methods(target: Any) -> list[str]:
    """The methods of *target*, a class or an instance, that call a model as a provider's do."""
    return [name for name in CALLS if _takes_a_request(target, name)]


def _takes_a_request(target: Any, name: str) -> bool:
    """Whether the method is there and takes messages or a request: something it needs, or has a name for."""
    method = attribute(target, name)
    if not callable(method):
        return False
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (ValueError, TypeError):  # written in C
        return True
    except Exception:
        return False
    if inspect.isclass(target) and _has_self(target, name):
        parameters = parameters[1:] if parameters and parameters[0].kind is not _REST else parameters
    return any(one.name in SOURCES or one.kind is _REST or _is_needed(one) for one in parameters)


_REST = inspect.Parameter.VAR_POSITIONAL


def _is_needed(parameter: inspect.Parameter) -> bool:
    positional = (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    return parameter.kind in positional and parameter.default is parameter.empty


def _has_self(cls: type, name: str) -> bool:
    return not isinstance(inspect.getattr_static(cls, name, None), staticmethod | classmethod)


# Settings.

_PARAMS = ("temperature", "max_tokens", "top_p", "seed", "reasoning_effort")
_OF_CONFIG = (*_PARAMS, "model", "default_model")
_OF_PROVIDER = (*_PARAMS, "default_model", "model", "name", "config")
_NOTHING = (None,) * len(_OF_CONFIG)


def described(owner: Any, provider: str | None, model: str | None, params: dict[str, Any] | None) -> Description:
    """What a call of *owner* asks for, with what its caller left out filled in from the configuration."""
    own = attributes(owner, _OF_PROVIDER)
    told = _NOTHING if own[-1] is None else attributes(own[-1], _OF_CONFIG)
    if provider is None:
        provider = text(own[-2]) or _class_name(owner)
    found: list[str] = []
    if model is None:
        model = text(told[-2]) or text(told[-1]) or text(own[-4]) or text(own[-3])
        if model is not None:
            found.append("model")
    given, index = params or {}, -1
    for key in _PARAMS:
        index += 1
        value = told[index]
        if value is None and (value := own[index]) is None:
            continue
        if key not in given and (value := param(value)) is not None:
            params = {key: value} if params is None else {**params, key: value}
            found.append(key)
    return provider, model, params, tuple(found)


def _class_name(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, type) else type(owner).__name__


# Tiers.

_tiers: ContextVar[Mapping[str, str]] = ContextVar("hub_tiers", default={})  # noqa: B039  # never changed in place
_MOST_TIERS = 16


def tier_of(model: str | None) -> str | None:
    """The tier that *model* was last chosen for in this context; None: for none."""
    known = _tiers.get()
    return known.get(model) if known and model is not None else None


def remembering(
    function: Callable[..., Any], *, owner: Any = None, like: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """*function*, a `get_model_for_tier` of the kind of *like*, with its answers remembered for the calls that follow
    in the same context."""
    shown: Any = like or function
    if getattr(shown, "__hub_tiers__", None) is shown:
        return function if like is None else like

    async def awaited(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        chosen = await model
        _remember(args, kwargs, chosen)
        return chosen

    def chosen(*args: Any, **kwargs: Any) -> Any:
        model = function(*args, **kwargs)
        if type(model) is CoroutineType:
            return awaited(model, args, kwargs)
        _remember(args, kwargs, model)
        return model

    async def chosen_later(*args: Any, **kwargs: Any) -> Any:
        return await chosen(*args, **kwargs)

    wrapper: Any = chosen_later if inspect.iscoroutinefunction(shown) else chosen
    functools.update_wrapper(wrapper, shown)
    wrapper.__hub_tiers__ = wrapper
    return wrapper  # type: ignore[no-any-return]


def _remember(args: tuple[Any, ...], kwargs: Mapping[str, Any], model: Any) -> None:
    """*model* is the answer for the tier that is the last of *args*, or one of *kwargs*."""
    tier = _tier_name(next(iter(kwargs.values()), args[-1] if args else None))
    chosen = text(model) or text(attribute(model, "id"))
    if chosen is None or tier is None:
        return
    known = {name: each for name, each in _tiers.get().items() if name != chosen}
    if len(known) >= _MOST_TIERS:
        del known[next(iter(known))]
    _tiers.set({**known, chosen: tier})


def _tier_name(tier: Any) -> str | None:
    if isinstance(tier, Enum) and not isinstance(tier.value, str):
        return tier.name.lower()
    return text(tier)
