"""The decorator: functions, async functions, generators and async generators whose every call is recorded.

A wrapper does what the wrapped one does: the same result object, the same exception, nothing held back. The context of
a call surrounds each upstream step and never a `yield`: between two chunks the consumer is on its own.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, TypedDict, TypeVar, overload

from hub.errors import NotTraceable
from hub.extractors import Extractor
from hub.openai_client import traced_client
from hub.views import view
from hub.watch import HasRecorder, Watch, async_sync, before_it_leaves, let_go, surroundings, sync

T = TypeVar("T")
Function = Callable[..., Any]


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
    """Record every call of *target*: a function of any kind, or an SDK's client. Bare or with arguments, as a decorator
    or called.

    A function is wrapped; of a client a copy is returned that records, and the client itself is left as it was.

    Args:
        provider: What the function cannot tell: whom it calls.
        model: The model asked for, where no argument names it.
        extract: Reads results whose shape is not known; see `Extractor`.
        methods: The methods that call a model, where a class or instance has unusual names for them.
        hub: Records there instead of in the default hub.
    Raises: NotTraceable: *target* is a class or an instance without a method known to call a model.
    """
    if target is None:
        return functools.partial(traced, provider=provider, model=model, extract=extract, methods=methods, hub=hub)
    if methods is None and (client := traced_client(target, provider=provider, hub=hub)) is not None:
        return client

    nothing_new = provider is None and model is None and extract is None and hub is None

    def watch(function: Function) -> Watch | None:
        if nothing_new and _is_done(function):
            return None
        return Watch(function, provider=provider, model=model, extract=extract, hub=hub)

    return _wrap(target, watch) if methods is None else _with_methods(target, methods, watch)


def _is_done(function: Any) -> bool:
    """Whether *function* is a wrapper of ours; a decorator around one copies the mark, but is not what it names."""
    mark = getattr(function, "__hub_traced__", None)
    return mark is not None and mark is function


def _wrap(target: Any, watch: Callable[[Function], Watch | None]) -> Any:
    """*target* wrapped, as the kind of thing it is."""
    if isinstance(target, staticmethod | classmethod):
        return type(target)(_wrap(target.__func__, watch))
    if isinstance(target, functools.partial):
        return functools.partial(_wrap(target.func, watch), *target.args, **target.keywords)
    if isinstance(target, types.MethodType):
        return types.MethodType(_wrap(target.__func__, watch), target.__self__)
    if inspect.isroutine(target) or isinstance(target, functools._lru_cache_wrapper):
        return _wrap_function(target, watch(target))
    if not inspect.isclass(target) and _has_python_call(type(target)):
        return _with_methods(target, ["__call__"], watch)
    raise _not_traceable(target)


def _has_python_call(cls: type) -> bool:
    return isinstance(inspect.getattr_static(cls, "__call__", None), types.FunctionType)


def _with_methods(target: Any, methods: Sequence[str], watch: Callable[[Function], Watch | None]) -> Any:
    """A class, changed in place, or a view of an instance, whose *methods* are wrapped."""
    cls = target if inspect.isclass(target) else type(target)
    found = {name: inspect.getattr_static(cls, name, None) for name in methods}
    for name, method in found.items():
        if method is None:
            raise NotTraceable(_name(target), f"methods= names {name!r}, which is not there; check the name")
    wrapped = {name: _wrap(method, watch) for name, method in found.items()}
    if cls is not target:
        return view(target, wrapped)
    for name, method in wrapped.items():
        setattr(cls, name, method)
    return cls


def _name(target: Any) -> str:
    return f"class {target.__qualname__}" if inspect.isclass(target) else f"{type(target).__qualname__} instance"


def _not_traceable(target: Any) -> NotTraceable:
    return NotTraceable(
        _name(target),
        "name the methods that do, as in hub.traced(..., methods=['generate']), or put @hub.traced above the function "
        "itself; of an SDK's client pass an instance, as in hub.traced(OpenAI())",
    )


def _wrap_function(function: Function, watch: Watch | None) -> Function:
    if watch is None:
        return function
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, watch)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, watch)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, watch)
    else:
        wrapper = _plain(function, watch)
    functools.update_wrapper(wrapper, function)
    if isinstance(function, functools._lru_cache_wrapper):
        for name in ("cache_info", "cache_clear", "cache_parameters"):
            setattr(wrapper, name, getattr(function, name))
    wrapper.__hub_traced__ = wrapper  # type: ignore[attr-defined]
    return wrapper


def _plain(function: Function, watch: Watch) -> Function:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = watch.begin(args, kwargs, False)
        if call is None:
            return function(*args, **kwargs)
        durable = call.recorder.durable
        if durable:
            sync(call.recorder)
        tokens = call.enter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.leave(tokens)
            call.end(error=error)
            raise
        call.leave(tokens)
        watch.returned(call, args, kwargs, result)
        if durable:
            sync(call.recorder)
        return result

    return wrapper


def _coroutine(function: Function, watch: Watch) -> Function:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = watch.begin(args, kwargs, False)
        if call is None:
            return await function(*args, **kwargs)
        durable = call.recorder.durable
        if durable:
            await before_it_leaves(call)
        tokens = call.enter()
        try:
            result = await function(*args, **kwargs)
        except GeneratorExit:  # closed, perhaps by the garbage collector
            call.leave(tokens)
            let_go(call, {})
            raise
        except BaseException as error:
            call.leave(tokens)
            call.end(error=error)
            raise
        call.leave(tokens)
        watch.returned(call, args, kwargs, result)
        if durable:
            await async_sync(call.recorder)
        return result

    return wrapper


def _generator(function: Function, watch: Watch) -> Function:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        call = watch.begin(args, kwargs, True)
        if call is None:
            return (yield from inner)
        sync(call.recorder)
        stream = watch.stream(call, args, kwargs)
        waiting, limit, send = stream.chunks.waiting, 1, inner.send
        set_call, reset_call, set_trace, reset_trace, trace = surroundings(call)
        thrown: list[BaseException] = []
        sent: Any = None
        while True:
            ours, theirs = set_call(call), set_trace(trace)
            try:
                chunk = inner.throw(thrown.pop()) if thrown else send(sent)
            except BaseException as error:
                reset_trace(theirs)
                reset_call(ours)
                if not isinstance(error, StopIteration):
                    stream.broken_off(error)
                    raise
                sent = error.value
                break
            reset_trace(theirs)
            reset_call(ours)
            waiting.append(chunk)
            if len(waiting) >= limit:
                limit = stream.fold()
            try:
                sent = yield chunk
            except BaseException as error:  # handed on outside this block, so that it becomes nobody's context
                thrown.append(error)
                stream.left = isinstance(error, GeneratorExit)
        stream.exhausted()
        return sent

    return wrapper


def _async_generator(function: Function, watch: Watch) -> Function:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        call = watch.begin(args, kwargs, True)
        if call is not None:
            await before_it_leaves(call)
        stream = watch.stream(call, args, kwargs)
        waiting, limit, send = stream.chunks.waiting, 1, inner.asend
        set_call, reset_call, set_trace, reset_trace, trace = surroundings(call)
        thrown: list[BaseException] = []
        step = _own(inner)
        while True:
            ours, theirs = set_call(call), set_trace(trace)
            try:
                chunk = await step
            except BaseException as error:
                try:
                    reset_trace(theirs)
                    reset_call(ours)
                except ValueError:  # collected in the middle of a step, in another context
                    pass
                if not isinstance(error, StopAsyncIteration):
                    stream.broken_off(error)
                    raise
                break
            try:
                reset_trace(theirs)
                reset_call(ours)
            except ValueError:  # driven on in another context
                pass
            waiting.append(chunk)
            if len(waiting) >= limit:
                limit = stream.fold()
            sent = None
            try:
                sent = yield chunk
            except BaseException as error:  # handed on outside this block, so that it becomes nobody's context
                thrown.append(error)
                stream.left = isinstance(error, GeneratorExit)
            step = inner.athrow(thrown.pop()) if thrown else send(sent)
        stream.exhausted()

    return wrapper


def _own(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """The first step of *inner*, which the event loop is not to know of: it would close it, at its end or when it is
    collected, beside the wrapper that does so."""
    hooks = sys.get_asyncgen_hooks()
    if hooks.finalizer is None:
        return inner.asend(None)
    sys.set_asyncgen_hooks(None, _leave_to_the_wrapper)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave_to_the_wrapper(agen: AsyncGenerator[Any, Any]) -> None: ...
