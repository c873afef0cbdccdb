"""The wrappers of functions, one for each kind: what steps are taken when is all that they differ in.

A wrapper does what the wrapped one does: the same result object, the same exception, nothing held back. The context of
a call surrounds each upstream step and never a `yield`: between two chunks the consumer is on its own. What a function
hands back to be run later, a generator or a coroutine, is driven by the same wrapper as a function of that kind.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from hub.calls import Call
from hub.watch import Begun, Watch, async_sync, before_it_leaves, let_go, surroundings, sync

Function = Callable[..., Any]


def wrapped(function: Function, watch: Watch, like: Function | None = None) -> Function:
    """*function* with its calls told to *watch*; of the kind of *like*, and looking like it, by default as it is."""
    like = like or function
    wrapper = _wrapper_for(like)(function, watch)
    functools.update_wrapper(wrapper, like, updated=("__dict__",) if inspect.isroutine(like) else ())
    if isinstance(like, functools._lru_cache_wrapper):
        for name in ("cache_info", "cache_clear", "cache_parameters"):
            setattr(wrapper, name, getattr(like, name))
    wrapper.__hub_traced__ = wrapper  # type: ignore[attr-defined]
    return wrapper


def is_wrapped(function: Any) -> bool:
    """Whether *function* is a wrapper of ours; a decorator around one copies the mark, but is not what it names."""
    mark = getattr(function, "__hub_traced__", None)
    return mark is not None and mark is function


def _wrapper_for(function: Function) -> Callable[[Function, Watch], Function]:
    if inspect.isasyncgenfunction(function):
        return _async_generator
    if inspect.iscoroutinefunction(function):
        return _coroutine
    if inspect.isgeneratorfunction(function) and not _is_awaited(getattr(function, "__code__", None)):
        return _generator
    return _plain


def _is_awaited(code: Any) -> bool:
    """Whether a generator is a coroutine in the manner of `types.coroutine`, whose chunks are its loop's."""
    return bool(getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)


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
            watch.failed(call, error)
            raise
        call.leave(tokens)
        if type(result) in _TO_BE_RUN:
            return _followed(result, watch, call, args, kwargs)
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
            watch.failed(call, error)
            raise
        call.leave(tokens)
        if type(result) in _TO_BE_RUN:
            return _followed(result, watch, call, args, kwargs)
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


_TO_BE_RUN: Mapping[type, Callable[[Function, Any], Function]] = {
    GeneratorType: _generator,
    AsyncGeneratorType: _async_generator,
    CoroutineType: _coroutine,
}


def _followed(result: Any, watch: Watch, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """*result*, in which *call* goes on, as what it is: followed to its end."""
    if type(result) is GeneratorType and _is_awaited(result.gi_code):
        watch.returned(call, args, kwargs, result)
        return result
    begun = Begun(watch, call, args, kwargs, result)
    follower = _TO_BE_RUN[type(result)](begun.handed_back, begun)()
    follower.__name__, follower.__qualname__ = result.__name__, result.__qualname__
    return follower
