"""What every wrapper of a function does around it: say that a call began, and how it ended. Nothing here raises."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import FrameType
from typing import Any, Protocol

from opentelemetry import context as otel

from hub import recorder as recorders
from hub.calls import Call, current_call
from hub.contracts import FIRST, described, tier_of
from hub.extractors import Extractor, checked, response_facts
from hub.extractors.failures import failure_facts
from hub.extractors.requests import Arguments, Asked
from hub.extractors.streams import FOLD, Chunks
from hub.harmless import is_harmless, log
from hub.outcomes import ResponseFacts
from hub.recorder import Recorder
from hub.tracing_context import attach, detach

MAX_EXTRACTED_CHUNKS = 65_536
"""How many chunks of one generator an extractor is given; those after are only counted."""


class HasRecorder(Protocol):
    """A hub, as far as tracing needs one."""

    @property
    def recorder(self) -> Recorder | None: ...


class Watch:
    """Tells the recorder of the calls of one function."""

    __slots__ = ("_answers", "arguments", "extract", "hub", "model", "owner", "provider", "streams", "yields")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        provider: str | None = None,
        model: str | None = None,
        extract: Extractor | None = None,
        hub: HasRecorder | None = None,
        owner: Any = None,
        streams: bool = False,
    ) -> None:
        """*owner*: the provider whose method *function* is, `FIRST` where each call names it; None: a function.
        *streams*: its result is a stream, though no argument says so."""
        self.arguments = Arguments(function, method=owner is not None, has_self=owner is FIRST)
        self.provider, self.model, self.extract, self.hub = provider, model, extract, hub
        self.owner = owner
        self.streams = streams
        self.yields: bool | None = None
        """Whether all that it returned so far was a generator; None: it returned nothing yet."""
        self._answers = None if owner is None else _Answers()

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: bool) -> Call | None:
        """A call begins. None: nothing is recorded, or we failed."""
        recorder = None
        try:
            recorder = recorders.default() if self.hub is None else self.hub.recorder
            if recorder is None:
                return None
            asked = self._asked(recorder, args, kwargs)
            provider, model, params = self.provider, asked.model or self.model, asked.params
            from_config: tuple[str, ...] = ()
            if (owner := self.owner) is not None and (owner is not FIRST or args):
                try:
                    owner = args[0] if owner is FIRST else owner
                    provider, model, params, from_config = described(owner, provider, model, params)
                except Exception as error:
                    trouble(recorder, "reading a provider's settings", error)
            return recorder.start(
                source="traced",
                provider=provider,
                model=model,
                messages=asked.messages,
                tools=asked.tools,
                params=params,
                stream=stream or asked.stream or self.streams or self.yields is True,
                tier=tier_of(model),
                from_config=from_config,
                more={"unkept": asked.unkept} if asked.unkept else None,
            )
        except BaseException as error:
            if not is_harmless(error):
                raise
            trouble(recorder, "reading a call's arguments", error)
            return None

    def _asked(self, recorder: Recorder, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
        try:
            return self.arguments.asked(args, kwargs)
        except BaseException as error:
            if not is_harmless(error):
                raise
            trouble(recorder, "reading a call's arguments", error)
            return Asked()

    def returned(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """The call ended well with *result*."""
        self.yields = False
        facts: ResponseFacts = {}
        try:
            if call.recording:
                facts = response_facts(result)
                if self._answers is not None and self._answers.seen(result) and facts and call.is_alone:
                    facts["response_cached"] = True
                if self.extract is not None:
                    facts.update(checked(self.extract(self.arguments.by_name(args, kwargs), result)))
        except BaseException as error:
            if not is_harmless(error):
                call.end(facts, error=error)
                raise
            trouble(call.recorder, "reading a result", error)
        call.end(facts)

    def failed(self, call: Call, error: BaseException) -> None:
        """The call raised *error*."""
        _ended_by(call, _failure(call, error), error)

    def stream(self, call: Call | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StreamWatch:
        """Follows the call of a generator; None: one that is not recorded."""
        return StreamWatch(self, call, args, kwargs)


class Begun(Watch):
    """The watch of what a function handed back to be run: the call began with the function."""

    __slots__ = ("_args", "_call", "_kwargs", "_rest", "_watch")

    def __init__(self, watch: Watch, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], rest: Any) -> None:
        self._watch, self._call, self._args, self._kwargs, self._rest = watch, call, args, kwargs, rest
        self.yields = None
        if not call.facts["stream"] and not hasattr(rest, "cr_frame"):
            watch.yields = watch.yields is not False

    def handed_back(self) -> Any:
        """What is to be run; asked for when that begins."""
        rest, self._rest = self._rest, None
        return rest

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: bool) -> Call | None:
        return self._call

    def returned(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        self._watch.returned(call, self._args, self._kwargs, result)

    def stream(self, call: Call | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> StreamWatch:
        return self._watch.stream(call, self._args, self._kwargs)

    def __del__(self) -> None:
        if self._rest is None:
            return
        if hasattr(self._rest, "cr_frame"):  # Python says that ours was never awaited, and is to say so once
            self._rest.close()
        let_go(self._call, {})


class _Answers:
    """Remembers, weakly, the newest answers of one method: what hands out one of them again asked nobody for it."""

    __slots__ = ("_known", "_order")

    MOST = 256

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Any]] = {}
        self._order: deque[int] = deque()

    def seen(self, answer: Any) -> bool:
        """Whether it was returned before. What cannot be referred to weakly, a dict or a text, never was."""
        if type(answer) in _NEVER_REMEMBERED:
            return False
        known = self._known.get(id(answer))
        if known is not None and known() is answer:
            return True
        try:
            self._known[id(answer)] = weakref.ref(answer)
        except TypeError:
            return False
        self._order.append(id(answer))
        if len(self._order) > self.MOST:
            self._known.pop(self._order.popleft(), None)
        return False


_NEVER_REMEMBERED = frozenset({dict, list, tuple, str, bytes, int, float, bool, type(None)})


def _failure(call: Call, error: BaseException) -> ResponseFacts:
    try:
        return failure_facts(error) if call.recording else {}
    except Exception as trouble_:
        trouble(call.recorder, "reading an exception", trouble_)
        return {}


class StreamWatch:
    """Tells the recorder of one generator's chunks. Its driver appends them to `chunks.waiting`."""

    __slots__ = ("_args", "_call", "_kwargs", "_watch", "chunks", "left")

    def __init__(self, watch: Watch, call: Call | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        recording = call is not None and call.recording
        self._watch, self._args, self._kwargs = watch, args, kwargs
        self._call = call
        keep = MAX_EXTRACTED_CHUNKS if recording and watch.extract is not None else 0
        self.chunks = Chunks(max_body_bytes(call) if call is not None and recording else 0, keep)
        self.left = False
        """Its consumer let the stream go."""

    def fold(self) -> int:
        """Take note of the first chunk, and put together what waits. Returns how many may wait from now on."""
        if self._call is not None:
            self._call.first_chunk()
        if len(self.chunks.waiting) > 1:
            try:
                self.chunks.fold()
            except Exception as error:
                self.chunks.waiting.clear()
                trouble(None, "putting a stream together", error)
        return FOLD

    def exhausted(self) -> None:
        """The stream came to its end."""
        call, watch = self._call, self._watch
        if call is None:
            return
        if self.left:
            self.broken_off(GeneratorExit())
            return
        facts = self._facts(call)
        try:
            if watch.extract is not None and call.recording:
                arguments = watch.arguments.by_name(self._args, self._kwargs)
                facts.update(checked(watch.extract(arguments, self.chunks.kept)))
        except BaseException as error:
            if not is_harmless(error):
                call.end(facts, error=error)
                raise
            trouble(call.recorder, "reading a stream", error)
        call.end(facts)

    def broken_off(self, error: BaseException) -> None:
        """The stream ended with *error*, GeneratorExit when its consumer let it go."""
        call = self._call
        if call is None:
            return
        facts = self._facts(call)
        if isinstance(error, GeneratorExit):
            let_go(call, facts)
        else:
            _ended_by(call, {**facts, **_failure(call, error)}, error)

    def _facts(self, call: Call) -> ResponseFacts:
        call.chunk_count = self.chunks.count
        try:
            return self.chunks.facts() if call.recording else {}
        except Exception as error:
            trouble(call.recorder, "putting a stream together", error)
            return {}


Surroundings = tuple[
    Callable[[Any], Any], Callable[[Any], None], Callable[[Any], Any], Callable[[Any], None], otel.Context | None
]

_nothing: ContextVar[Any] = ContextVar("hub_nothing", default=None)


def surroundings(call: Call | None) -> Surroundings:
    """What `Call.enter` and `Call.leave` do, in pieces for a loop that does them for each chunk: how to set and reset
    the current call, how to set and reset the trace's context, and that context."""
    context = None if call is None else call.root.otel_context
    set_call, reset_call = (_nothing.set, _nothing.reset) if call is None else (current_call.set, current_call.reset)
    if context is None:
        return set_call, reset_call, _nothing.set, _nothing.reset, None
    return set_call, reset_call, attach, detach, context


def sync(recorder: Recorder) -> None:
    """Wait for the disk, in durable mode."""
    if recorder.durable:
        recorder.sync()


async def async_sync(recorder: Recorder) -> None:
    """`sync` off the running loop."""
    if recorder.durable:
        await recorder.async_sync()


async def before_it_leaves(call: Call) -> None:
    """`async_sync` for a call's request; whoever cancels it has cancelled the call."""
    try:
        await async_sync(call.recorder)
    except GeneratorExit:
        let_go(call, {})
        raise
    except BaseException as error:
        call.end(error=error)
        raise


def let_go(call: Call, facts: ResponseFacts) -> None:
    """The consumer let go of a stream; so may the garbage collector have done, in the middle of anything."""
    if _inside_the_hub(sys._getframe(1)):  # of our own work, whose locks may be held
        call.recorder.defer(lambda: call.end(facts, status="abandoned"))
    else:
        call.end(facts, status="abandoned")


def _ended_by(call: Call, facts: ResponseFacts, error: BaseException) -> None:
    """The call ends with *error*, which may be what its cleaning up raised when it was let go: see `let_go`."""
    if isinstance(error.__context__, GeneratorExit) and _inside_the_hub(sys._getframe(1)):
        call.recorder.defer(lambda: call.end(facts, error=error))
    else:
        call.end(facts, error=error)


_WRAPPERS = frozenset({"hub.traced", "hub.wrappers", "hub.watch", "hub.exchange", "hub.transport", "hub.openai_client"})


def _inside_the_hub(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("hub.", "storage.")) and name not in _WRAPPERS:
            return True
        frame = frame.f_back
    return False


def max_body_bytes(call: Call) -> int:
    """How much of an answer is worth keeping: what a frame can hold."""
    return call.recorder.log.max_frame_bytes


def trouble(recorder: Recorder | None, where: str, error: BaseException) -> None:
    """Something of ours failed; the program goes on."""
    if recorder is not None:
        recorder.trouble(where, error)
    else:
        log.warning("hub: %s failed with %s; the call went on", where, type(error).__name__)
