"""What every wrapper of a function does around it: say that a call began, and how it ended. Nothing here raises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol

from hub import recorder as recorders
from hub.calls import Call, ResponseFacts
from hub.extractors import Extractor, response_facts
from hub.extractors.requests import Arguments
from hub.extractors.streams import Chunks
from hub.recorder import Recorder

MAX_EXTRACTED_CHUNKS = 65_536
"""How many chunks of one generator an extractor is given; those after are only counted."""


class HasRecorder(Protocol):
    """A hub, as far as tracing needs one."""

    @property
    def recorder(self) -> Recorder | None: ...


class Watch:
    """Tells the recorder of the calls of one function."""

    __slots__ = ("arguments", "extract", "hub", "model", "provider")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        provider: str | None,
        model: str | None,
        extract: Extractor | None,
        hub: HasRecorder | None,
    ) -> None:
        self.arguments = Arguments(function)
        self.provider, self.model, self.extract, self.hub = provider, model, extract, hub

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: bool) -> Call | None:
        """A call begins. None: nothing is recorded, or we failed."""
        recorder = None
        try:
            recorder = recorders.default() if self.hub is None else self.hub.recorder
            if recorder is None:
                return None
            asked = self.arguments.asked(args, kwargs)
            return recorder.start(
                source="traced",
                provider=self.provider,
                model=asked.model or self.model,
                messages=asked.messages,
                tools=asked.tools,
                params=asked.params,
                stream=stream or asked.stream,
            )
        except Exception as error:
            trouble(recorder, "reading a call's arguments", error)
            return None

    def returned(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """The call ended well with *result*."""
        facts: ResponseFacts = {}
        try:
            if call.recording:
                facts = response_facts(result)
                if self.extract is not None:
                    facts.update(self.extract(self.arguments.by_name(args, kwargs), result))
        except Exception as error:
            trouble(call.recorder, "reading a result", error)
        call.end(facts)

    def exhausted(
        self,
        call: Call | Unrecorded,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        chunks: Chunks,
        yielded: Sequence[Any],
    ) -> None:
        """A generator's call ended well."""
        facts = stream_facts(call, chunks)
        try:
            if self.extract is not None and call.recording:
                facts.update(self.extract(self.arguments.by_name(args, kwargs), yielded))
        except Exception as error:
            trouble(None, "reading a stream", error)
        call.end(facts)


class Unrecorded:
    """Stands for the call of a stream that is not recorded."""

    recording = False
    chunk_count = 0

    def enter(self) -> Any: ...

    def leave(self, tokens: Any) -> None: ...

    def first_chunk(self) -> None: ...

    def end(self, response: ResponseFacts | None = None, *, error: BaseException | None = None) -> None: ...


async def synced(call: Call) -> None:
    """Wait for the disk before the request leaves; whoever cancels that has cancelled the call."""
    try:
        await call.recorder.async_sync()
    except BaseException as error:
        call.end(error=error)
        raise


def fold(chunks: Chunks) -> None:
    """Put together what a stream said so far, so that its chunks can go."""
    try:
        chunks.fold()
    except Exception as error:
        chunks.waiting.clear()
        trouble(None, "putting a stream together", error)


def stream_facts(call: Call | Unrecorded, chunks: Chunks) -> ResponseFacts:
    """What a stream said as far as it came."""
    try:
        return chunks.facts() if call.recording else {}
    except Exception as error:
        trouble(None, "putting a stream together", error)
        return {}


def broken_off(call: Call | Unrecorded, chunks: Chunks, error: BaseException) -> None:
    """A stream ended with *error*, GeneratorExit when its consumer let it go."""
    facts = stream_facts(call, chunks)
    if isinstance(call, Call) and isinstance(error, GeneratorExit):
        let_go(call, facts)
    else:
        call.end(facts, error=error)


def let_go(call: Call, facts: ResponseFacts) -> None:
    """The consumer let go of a stream; so may the garbage collector have done, in the middle of anything."""
    if _inside_the_hub(sys._getframe(1)):  # of our own work, whose locks may be held
        call.recorder.defer(lambda: call.end(facts, status="abandoned"))
    else:
        call.end(facts, status="abandoned")


_WRAPPERS = frozenset({"hub.traced", "hub.watch", "hub.exchange", "hub.transport", "hub.openai_client"})


def _inside_the_hub(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("hub.", "storage.")) and name not in _WRAPPERS:
            return True
        frame = frame.f_back
    return False


def max_body_bytes(call: Call | Unrecorded) -> int:
    """How much of an answer is worth keeping: what a frame can hold."""
    return call.recorder.log.max_frame_bytes if isinstance(call, Call) else 0


def trouble(recorder: Recorder | None, where: str, error: BaseException) -> None:
    """Something of ours failed; the program goes on."""
    if recorder is not None:
        recorder.trouble(where, error)
    else:
        recorders.log.warning("hub: %s failed with %s; the call went on", where, type(error).__name__)
