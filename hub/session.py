"""Sessions: who and what the calls made here belong to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

Labels = Mapping[str, Any]
"""Of the envelope's keys session_id, user_id and tags those that are known."""

_labels: ContextVar[Labels] = ContextVar("hub_session")
_NONE: Labels = {}


def labels() -> Labels:
    """What the sessions around the caller say, the inner before the outer. Empty outside of any."""
    return _labels.get(_NONE)


class session:  # reads as the statement it is used as
    """Calls and events within it carry these labels: `with`, `async with`, or as a decorator of any kind of function.

    Args:
        session_id: Names the conversation. None keeps the one of the session around it, if any.
        user_id: None keeps the outer one.
        tags: Added to the outer ones; the inner value wins. Values become text.
    """

    def __init__(
        self, session_id: str | None = None, *, user_id: str | None = None, tags: Mapping[str, object] | None = None
    ) -> None:
        self._own = (session_id, user_id, tags)
        self._tokens: list[Token[Labels]] = []

    def __enter__(self) -> session:
        session_id, user_id, tags = self._own
        merged = dict(labels())
        if session_id is not None:
            merged["session_id"] = str(session_id)
        if user_id is not None:
            merged["user_id"] = str(user_id)
        if tags:
            merged["tags"] = {**merged.get("tags", _NONE), **{str(key): str(value) for key, value in tags.items()}}
        self._tokens.append(_labels.set(merged))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for token in reversed(self._tokens):  # the last that was entered here; tasks may share one session
            try:
                _labels.reset(token)
            except ValueError:
                continue
            self._tokens.remove(token)
            return
        self._tokens.pop()  # left in another context than it was entered in
        _labels.set(_NONE)

    async def __aenter__(self) -> session:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _again(self) -> session:
        session_id, user_id, tags = self._own
        return session(session_id, user_id=user_id, tags=tags)

    def __call__(self, function: F) -> F:
        """Decorate *function*: each call of it is a session of its own with these labels."""
        if inspect.isasyncgenfunction(function):
            return cast(F, _labelled_async_generator(function, self._again))
        if inspect.isgeneratorfunction(function):
            return cast(F, _labelled_generator(function, self._again))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast(F, coroutine)

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast(F, plain)


def _labelled_generator(function: Callable[..., Any], again: Callable[[], session]) -> Callable[..., Any]:
    """Labels hold within each step and never across a `yield`, where the consumer is on its own."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, inner)
        while True:
            with again():
                try:
                    item = step()
                except StopIteration as done:
                    result = done.value
                    break
            try:
                step = functools.partial(inner.send, (yield item))
            except BaseException as error:
                step = functools.partial(inner.throw, error)
        return result

    return wrapper


def _labelled_async_generator(function: Callable[..., Any], again: Callable[[], session]) -> Callable[..., Any]:
    """As `_labelled_generator`."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        step: Callable[[], Any] = inner.__anext__
        while True:
            with again():
                try:
                    item = await step()
                except StopAsyncIteration:
                    break
            try:
                step = functools.partial(inner.asend, (yield item))
            except BaseException as error:
                step = functools.partial(inner.athrow, error)

    return wrapper
