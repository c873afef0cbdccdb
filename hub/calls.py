"""One call to a model, from its request to whatever ends it.

A call that begins while another is open in the same context is a layer of that one: a client inside a traced function,
a provider inside a router. It has no stream of its own; what it learns fills what the outer layer could not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypedDict

from opentelemetry import context as otel

from hub.events import Data
from hub.log import Log, Stream
from hub.tracing_context import attach, detach

if TYPE_CHECKING:
    from hub.recorder import Recorder

Tokens = tuple[Token["Call | None"], Token[otel.Context] | None]

current_call: ContextVar[Call | None] = ContextVar("hub_call", default=None)
"""The innermost call or layer that the running step belongs to. It may have ended: see `Call.open`."""


class ResponseFacts(TypedDict, total=False):
    """What an extractor or a transport read of an answer. What is left out is unknown."""

    model: str | None
    usage: Mapping[str, int | None] | None
    finish_reasons: Sequence[str] | None
    reported_cost_usd: str | None
    cost_reporter: str | None
    response_id: str | None
    status_code: int | None
    attempts: int | None
    continuation_count: int | None
    response_cached: bool | None
    chunk_count: int | None
    messages: Sequence[Any] | None
    """Output messages; content."""
    body: str | None
    """The wire body; content."""
    streamed: Sequence[str] | None
    """Of a body that is a stream: the texts it holds in pieces, so far as no message has them; content."""
    error_type: str | None
    error_message: str | None
    """Content."""
    retryable: bool | None
    retry_after_ms: float | None


class AttemptFacts(TypedDict, total=False):
    """An attempt within a call that was not the last."""

    max_retries: int | None
    delay_ms: float | None
    duration_ms: float | None
    error_type: str | None
    status_code: int | None
    retry_after_ms: float | None
    provider: str | None
    model: str | None
    usage: Mapping[str, int | None] | None
    reported_cost_usd: str | None


class RequestFacts(TypedDict, total=False):
    """What `start` was told, kept until the request event leaves."""

    source: str
    provider: str | None
    model: str | None
    operation: str
    messages: Sequence[Any] | None
    tools: Sequence[Any] | None
    params: Mapping[str, Any] | None
    stream: bool
    tier: str | None
    server_address: str | None
    from_config: Sequence[str]
    causation_id: str | None
    replay_of: str | None
    replay_run: str | None
    more: Mapping[str, Any] | None
    """Further keys of llm:request."""


class Outcome:
    """How a call or layer ended."""

    __slots__ = ("ended_ns", "error", "facts", "status")

    def __init__(self, facts: ResponseFacts, error: BaseException | None, status: str, ended_ns: int) -> None:
        self.facts, self.error, self.status, self.ended_ns = facts, error, status, ended_ns


class Call:
    """What a tracer holds while a call is under way. No method raises; after the first `end` the others do nothing."""

    recording = True

    def __init__(self, recorder: Recorder, facts: RequestFacts, parent: Call | None = None) -> None:
        self.recorder = recorder
        self.facts = facts
        self.parent = parent
        self._outermost = None if parent is None else parent.root
        self.started_ns = recorder.clock.monotonic()
        self.log: Log = parent.root.log if parent is not None else recorder.log
        self._left = ["sent", "ended", "finished"]
        """What is yet to happen to it; each happens once, whichever thread comes first."""

    first_chunk_ns: int | None = None
    chunk_count = 0
    """Chunks the consumer saw; whoever drives the stream adds to it."""
    outcome: Outcome | None = None
    raw_request: bytes | None = None
    _layers: tuple[Call, ...] = ()
    _newest_answer: Call | None = None
    """Of the layers that ended well the one that began last."""

    # Of a root only; a layer has none of its own.
    messages: list[Any] | None = None
    """The cleaned messages it wrote, so that inner layers need not write them again."""
    id: str = ""
    began_at = 0
    """UTC Unix ns: when the method was called, which may be well before its request is written."""
    stream: Stream
    envelope: Data
    minted: Any = None
    otel_context: otel.Context | None = None
    failed_attempts = 0
    response_event_id: str | None = None
    """What caused a call that tries the same again."""

    @property
    def root(self) -> Call:
        """The outermost layer, whose stream this is. Not kept, or every call would be a cycle."""
        return self._outermost or self

    @property
    def open(self) -> bool:
        """Not ended yet, and of this process: a forked child never writes to its parent's calls."""
        return "ended" in self._left and self.root.log is self.recorder.log

    def enter(self) -> Tokens:
        """Make this the current call, for one upstream step. Give the result to `leave` in the same context."""
        context = self.root.otel_context
        return current_call.set(self), None if context is None else attach(context)

    def leave(self, tokens: Tokens) -> None:
        """Undo `enter`."""
        ours, theirs = tokens
        try:
            current_call.reset(ours)
            if theirs is not None:
                detach(theirs)
        except ValueError:  # collected or driven on in another context, where others may be under way
            if current_call.get() is self:
                current_call.set(None)

    @contextmanager
    def active(self) -> Iterator[None]:
        """`enter` and `leave` around a block."""
        tokens = self.enter()
        try:
            yield
        finally:
            self.leave(tokens)

    @property
    def is_alone(self) -> bool:
        """No inner layer and no exchange of its own had a part in it: nothing was sent that we know of."""
        return not self._layers and self.raw_request is None and not self.failed_attempts

    def first_chunk(self) -> None:
        """The first piece of a stream is here. Later calls change nothing."""
        if self.first_chunk_ns is None:
            self.first_chunk_ns = self.recorder.clock.monotonic()

    def wire_request(self, body: bytes) -> None:
        """The request's bytes, as they leave. To be said before `sent`; later calls change nothing."""
        if self.raw_request is None:
            self.raw_request = body

    def sent(self) -> None:
        """The request leaves now: its event is written, once. At the latest `end` says so."""
        try:
            self._left.remove("sent")
        except ValueError:
            return
        if self.root.log is self.recorder.log:
            self.recorder.write_request(self)

    def retried(self, facts: AttemptFacts, *, error: str | None = None, failed_at: int | None = None) -> None:
        """An attempt failed and another begins. *error* is its text, *failed_at* its UTC Unix ns; now when None."""
        if self.open:
            self.recorder.write_attempt(self.root, facts, error, failed_at)

    def layer_began(self, layer: Call) -> None:
        """An inner call begins. One that ended before it was an attempt of this call."""
        if self._layers and (previous := self._layers[-1]).outcome is not None:
            self.recorder.write_layer_as_attempt(previous)
            previous.outcome.error = None
        self._layers = (*self._layers, layer)

    def end(
        self, response: ResponseFacts | None = None, *, error: BaseException | None = None, status: str | None = None
    ) -> None:
        """The call is over: ok, or what *error* says: error, cancelled (not an Exception), abandoned (GeneratorExit).

        A call that ends well while the stream of an inner layer is still being read ends with that stream.
        """
        try:
            self._left.remove("ended")
        except ValueError:
            return
        if self.root.log is not self.recorder.log:
            return
        self.outcome = Outcome(response or {}, error, status or status_of(error), self.recorder.clock.monotonic())
        if self.outcome.status != "ok" or not self._has_open_layer():
            self._finish()

    def _has_open_layer(self) -> bool:
        return any("finished" in layer._left for layer in self._layers)

    def _finish(self) -> None:
        try:
            self._left.remove("finished")
        except ValueError:
            return
        self.sent()
        if self.parent is None:
            self.recorder.write_response(self)
            self._release()
        else:
            self.parent._layer_finished(self)

    def _release(self) -> None:
        """Let go of what was only to be written. Frames of a traceback hold the call, which must not hold its error:
        such a circle keeps all their variables. Contexts hold it too, a pooled connection's for one, and live long."""
        self.raw_request = self.messages = None
        self.facts["messages"] = self.facts["tools"] = None
        if self.outcome is not None:
            self.outcome.error, self.outcome.facts = None, {}
        for layer in self._layers:
            layer._release()

    def _layer_finished(self, layer: Call) -> None:
        layer.raw_request = layer.facts["messages"] = layer.facts["tools"] = None
        if layer.outcome is not None and layer.outcome.status == "ok":
            known, self._newest_answer = self._newest_answer, layer
            if known is not None and known.started_ns > layer.started_ns:
                known, self._newest_answer = layer, known
            if known is not None:
                known._shed_answer()
        if self.outcome is not None and not self._has_open_layer():
            self._finish()

    def _shed_answer(self) -> None:
        """A later layer's is the one to keep. An agent may go through thousands before it ends."""
        if self.outcome is not None:
            facts = self.outcome.facts.copy()
            facts["messages"] = facts["body"] = facts["streamed"] = None
            self.outcome.facts = facts

    def result(self) -> Outcome:
        """The outcome with what the inner layers know filled in. Only after `end`."""
        own = self.outcome
        assert own is not None
        if not self._layers:
            return own
        inner = [layer.result() for layer in self._layers if layer.outcome is not None]
        if not inner:
            return own
        last = next((one for one in reversed(inner) if one.status == "ok"), inner[-1])
        facts: ResponseFacts = {**last.facts, **{k: v for k, v in own.facts.items() if v is not None}}  # type: ignore[typeddict-item]
        if own.facts.get("usage") is None:
            facts["usage"] = sum_usage([one.facts.get("usage") for one in inner])
        if self.first_chunk_ns is None:
            self.first_chunk_ns = next((x.first_chunk_ns for x in self._layers if x.first_chunk_ns is not None), None)
        if own.status == "ok" and last.ended_ns > own.ended_ns:
            return Outcome(facts, last.error, last.status, last.ended_ns)
        return Outcome(facts, own.error, own.status, own.ended_ns)


class SilentCall(Call):
    """A call that sampling left out: inner layers find it and stay silent too."""

    recording = False

    def sent(self) -> None:
        return

    def retried(self, facts: AttemptFacts, *, error: str | None = None, failed_at: int | None = None) -> None:
        return

    def layer_began(self, layer: Call) -> None:
        return

    def end(
        self, response: ResponseFacts | None = None, *, error: BaseException | None = None, status: str | None = None
    ) -> None:
        self._left.clear()


def status_of(error: BaseException | None) -> str:
    """The status of a call that raised *error*."""
    if error is None:
        return "ok"
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "error" if isinstance(error, Exception) else "cancelled"


def error_type_of(error: BaseException) -> str:
    """The qualified name of its class, builtins without module: OpenTelemetry's rule for error.type."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def sum_usage(usages: Sequence[Mapping[str, int | None] | None]) -> dict[str, int] | None:
    """Token counts added up; what none of them knows stays unknown."""
    total: dict[str, int] = {}
    for usage in usages:
        for key, value in (usage or {}).items():
            if value is not None:
                total[key] = total.get(key, 0) + value
    return total or None
