"""The decorator: functions of every kind, and the methods of providers, whose every call is recorded."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar, overload

from hub.contracts import STREAMS, TIERS, call_methods, remembering
from hub.errors import NotTraceable
from hub.extractors import Extractor
from hub.extractors.values import attribute
from hub.methods import Wrap, is_function, name_of, with_methods
from hub.openai_client import traced_client
from hub.watch import HasRecorder, Watch
from hub.wrappers import Function, is_wrapped, wrapped

T = TypeVar("T")


class TraceOptions(TypedDict, total=False):
    """Arguments of `traced` that a hub's own form of it takes."""

    provider: str | None
    model: str | None
    extract: Extractor | None
    methods: Sequence[str] | None


@overload
def traced(
    target: T,
    *,
    provider: str | None = None,
    model: str | None = None,
    extract: Extractor | None = None,
    methods: Sequence[str] | None = None,
    hub: HasRecorder | None = None,
) -> T: ...
@overload
def traced(
    target: None = None,
    *,
    provider: str | None = None,
    model: str | None = None,
    extract: Extractor | None = None,
    methods: Sequence[str] | None = None,
    hub: HasRecorder | None = None,
) -> Callable[[T], T]: ...


def traced(
    target: Any = None,
    *,
    provider: str | None = None,
    model: str | None = None,
    extract: Extractor | None = None,
    methods: Sequence[str] | None = None,
    hub: HasRecorder | None = None,
) -> Any:
    """Record every call of *target*: a function of any kind, a provider's class or instance, or an SDK's client. Bare
    or with arguments, as a decorator or called.

    A function is wrapped. A class that has `complete`, `stream` or `complete_stream` is changed in place; of an
    instance another face is returned that records, and of a client a copy: both are left as they were.

    Args:
        provider: Who is called, where the object does not tell: of a provider its `name`, else its class.
        model: The model asked for, where no argument names it; else it is a provider's configured one.
        extract: Reads results whose shape is not known; see `Extractor`.
        methods: The methods that call a model, where a class or instance has unusual names for them.
        hub: Records there instead of in the default hub.
    Raises: NotTraceable: *target* is a class or an instance without a method known to call a model.
    """
    if target is None:
        return functools.partial(traced, provider=provider, model=model, extract=extract, methods=methods, hub=hub)
    if methods is None and (client := traced_client(target, provider=provider, hub=hub)) is not None:
        return client
    wrapping = _Wrapping(provider, model, extract, hub)
    return _wrap(target, wrapping) if methods is None else _with_methods(target, methods, wrapping)


class _Wrapping(NamedTuple):
    """How `traced` was asked to wrap."""

    provider: str | None
    model: str | None
    extract: Extractor | None
    hub: HasRecorder | None

    def around(
        self, function: Function, *, owner: Any = None, like: Function | None = None, streams: bool = False
    ) -> Function:
        """*function* wrapped; what is wrapped already, and not to be otherwise, as it is."""
        shown = like or function
        if is_wrapped(shown) and all(asked is None for asked in self):
            return shown
        return wrapped(function, Watch(shown, **self._asdict(), owner=owner, streams=streams), like)


def _wrap(target: Any, wrap: _Wrapping) -> Any:
    """*target* wrapped, as the kind of thing it is."""
    if isinstance(target, staticmethod | classmethod):
        return type(target)(_wrap(target.__func__, wrap))
    if isinstance(target, functools.partial):
        return functools.partial(_wrap(target.func, wrap), *target.args, **target.keywords)
    if isinstance(target, types.MethodType):
        return types.MethodType(_wrap(target.__func__, wrap), target.__self__)
    if is_function(target):
        return wrap.around(target)
    if methods := call_methods(target):
        return _with_methods(target, methods, wrap)
    if not inspect.isclass(target) and _has_python_call(type(target)):
        return _with_methods(target, ["__call__"], wrap)
    raise NotTraceable(
        name_of(target),
        "it has no complete or stream that takes messages or a request; name the methods that call a model, as in "
        "hub.traced(..., methods=['generate']), or put @hub.traced above the function itself; of an SDK's client pass "
        "an instance, as in hub.traced(OpenAI())",
    )


def _has_python_call(cls: type) -> bool:
    return isinstance(inspect.getattr_static(cls, "__call__", None), types.FunctionType)


def _with_methods(target: Any, methods: Sequence[str], wrap: _Wrapping) -> Any:
    """*target* with its *methods* wrapped, and with the one that chooses a model by its tier."""
    for name in methods:
        if not callable(getattr(target, name, None)):
            raise NotTraceable(name_of(target), f"methods= names {name!r}, which is no method there; check the name")
    wraps: dict[str, Wrap] = {name: functools.partial(wrap.around, streams=name in STREAMS) for name in methods}
    if callable(attribute(target, TIERS)):
        wraps[TIERS] = remembering
    return with_methods(target, wraps)
