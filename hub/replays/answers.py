"""What came back: read to its end, whatever it comes as, and its text and tool calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import orjson

from hub.content import Cleaner
from hub.extractors import ResponseFacts, response_facts
from hub.extractors.streams import FOLD, Chunks
from hub.extractors.wire import StreamReader, body_facts
from hub.messages import said, tool_calls

_MOST = 16 << 20
_CLEANER = Cleaner(enabled=False, memory_bytes=0, max_body_bytes=_MOST)


class Answer:
    """An answer as it was given, and what it says."""

    def __init__(self, given: Any, facts: ResponseFacts) -> None:
        self.given, self.facts = given, facts
        messages = [_data(message) for message in facts.get("messages") or ()]
        self.text = "\n\n".join(filter(None, ("".join(said(message)) for message in messages)))
        calls = [call for message in messages for call in tool_calls(message)]
        self.tool_calls = list({call["id"] or number: call for number, call in enumerate(calls)}.values())


async def asked_of(method: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Answer:
    """Call *method*, sync ones in a thread, and read what it gives to its end."""
    kind = inspect.unwrap(method)
    if inspect.iscoroutinefunction(kind) or inspect.isasyncgenfunction(kind):
        given = method(*args, **kwargs)
    else:
        given = await asyncio.to_thread(_in_a_thread, method, args, kwargs)
    if isinstance(given, Answer):
        return given
    if inspect.isawaitable(given):
        given = await given
    if not hasattr(given, "__aiter__"):
        return _read_all(given) if _is_stream(given) else Answer(given, response_facts(given))
    pieces, chunks = [], Chunks(_MOST)
    async for piece in given:
        pieces.append(piece)
        _add(chunks, piece)
    return Answer(pieces, chunks.facts())


def _in_a_thread(method: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        given = method(*args, **kwargs)
        return _read_all(given) if _is_stream(given) else given
    except StopIteration as error:  # no future takes one: whoever waits for it would wait for ever
        raise RuntimeError("what was asked raised StopIteration") from error


def _is_stream(given: Any) -> bool:
    """Whether *given* is used up by reading it, and not the object of a response that can be."""
    return hasattr(given, "__next__") and hasattr(given, "__iter__") and not hasattr(given, "__aiter__")


def _read_all(stream: Any) -> Answer:
    pieces, chunks = [], Chunks(_MOST)
    for piece in stream:
        pieces.append(piece)
        _add(chunks, piece)
    return Answer(pieces, chunks.facts())


def _add(chunks: Chunks, piece: Any) -> None:
    chunks.waiting.append(piece)
    if len(chunks.waiting) >= FOLD:
        chunks.fold()


def of_body(body: bytes, *, stream: bool) -> Answer:
    """The answer whose bytes these are: given as JSON, a stream as its text."""
    if stream:
        reader = StreamReader(_MOST)
        reader.feed(body)
        return Answer(body.decode("utf-8", "replace"), reader.facts())
    try:
        given: Any = orjson.loads(body)
    except ValueError:
        given = body.decode("utf-8", "replace")
    return Answer(given, body_facts(body))


def _data(message: Any) -> Any:
    """*message* as JSON data, objects within it too, fit to be shown."""
    return _CLEANER.clean(message)[0]
