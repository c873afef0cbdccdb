"""One call to a model, from its request to whatever ends it.

A call that begins while another is open in the same context is a layer of that one: a client inside a traced function,
a provider inside a router. It has no stream of its own; what it learns fills what the outer layer could not see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel

from hub.events import Data
from hub.log import Log, Stream
from hub.outcomes import (
    AttemptFacts,
    Failure,
    Outcome,
    RequestFacts,
    ResponseFacts,
    answering,
    from_cache,
    status_of,
    together,
    without_failure,
)
from hub.tracing_context import attach, detach

if TYPE_CHECKING:
    from hub.recorder import Recorder

Tokens = tuple[Token["Call | None"], Token[otel.Context] | None]

current_call: ContextVar[Call | None] = ContextVar("hub_call", default=None)
"""The innermost call or layer that the running step belongs to. It may have ended: see `Call.open`."""


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
        self.layers: list[Call] = []
        """The calls that began within it, in that order."""
        self.untold: list[Call] = []
        """The layers that no event tells of yet as attempts: of those that end, all but the last will be."""
        self.sent_with: dict[int, Any] = {}
        """Of a root, by their id: headers of the requests whose answers are not known to be good ones. An exception may
        quote the credentials among them as long as the call lasts; see hub.credentials."""

    waits_for_outer = False
    """Nobody ends it for certain: at the latest the call around it does."""

    first_chunk_ns: int | None = None
    chunk_count = 0
    """Chunks the consumer saw; whoever drives the stream adds to it."""
    ends_ns: int | None = None
    """Monotonic: when it ended, by those who tell its end; None: now."""
    outcome: Outcome | None = None
    noted: ResponseFacts | None = None
    """What was said of its answer before it ended; what `end` says comes first."""
    raw_request: bytes | None = None
    awaits_attempt = False
    """An attempt failed, and the one that is to follow has not begun: for those to say who try again. A layer that
    begins makes it False."""
    attempt_began_ns: int | None = None
    """Monotonic: when the attempt under way began, if it is not the first."""
    _newest_answer: Call | None = None
    """Of the layers that ended well the one that began last."""

    # Of a root only; a layer has none of its own.
    content: Data | None = None
    """What it wrote, cleaned, so that inner layers need not write it again. Its lists may be the program's own."""
    content_hash: int | None = None
    """Of its bytes when it was written; None: not known."""
    id: str = ""
    began_at = 0
    """UTC Unix ns: when the method was called, which may be well before its request is written."""
    stream: Stream
    envelope: Data
    minted: Any = None
    otel_context: otel.Context | None = None
    newest_wire: bytes | None = None
    """The request's bytes that were written last: tries of the same send the same."""
    lead: Call | None = None
    """The layer whose request is the call's own; None: it is its own."""
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
        return not self.layers and self.raw_request is None and not self.failed_attempts

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
            self._next_attempt_at(self.recorder.clock.monotonic())
            self.recorder.write_attempt(self, facts, error, failed_at)

    def retry_follows(self, facts: AttemptFacts, *, error: str | None = None, began_ns: int | None = None) -> None:
        """An attempt failed, and another follows in facts["delay_ms"]. To be said before that wait.

        Args:
            facts: What whoever tries again knows. What an inner layer recorded of the attempt comes before it.
            error: Its text; content.
            began_ns: When the attempt began, by the recorder's monotonic clock; None: with the newest layer.
        """
        if not self.open:
            return
        now = self.recorder.clock.monotonic()
        layer = self._attempted_since(began_ns)
        if layer is not None:
            if layer.waits_for_outer:
                layer.end(status="error")
            self._tell(layer, facts, error)
        elif self.began:
            if began_ns is not None:
                facts = {"duration_ms": (now - began_ns) / 1e6, **facts}
            self.recorder.write_attempt(self, facts, error, None)
        self._next_attempt_at(now + round((facts.get("delay_ms") or 0) * 1e6))

    @property
    def began(self) -> bool:
        """Whether the call it belongs to has a stream."""
        return bool(self.root.id)

    def _attempted_since(self, began_ns: int | None) -> Call | None:
        """The layer that made the attempt: of those nobody told of the newest that failed, else the newest."""
        since = [x for x in self.untold if began_ns is None or x.started_ns >= began_ns]
        failed = [x for x in since if x.outcome is not None and x.outcome.status != "ok"]
        return failed[-1] if failed else since[-1] if since else None

    def ended_between_attempts(self) -> bool:
        """Whether an ended call was called off while it waited to try again: its last attempt is one that failed."""
        call: Call | None = self
        while call is not None:
            if call.awaits_attempt and not call.untold:
                return True
            call = call.answering()
        return False

    def _next_attempt_at(self, began_ns: int) -> None:
        call: Call | None = self
        while call is not None:
            call.attempt_began_ns = began_ns
            call = call.parent

    def layer(self, facts: RequestFacts, kind: type[Call] | None = None) -> Call:
        """An inner call that begins, not sent yet."""
        layer = (kind or Call)(self.recorder, facts, self)
        self.layer_began(layer)
        return layer

    def takes_in(self, facts: RequestFacts) -> bool:
        """Whether a call with *facts* that begins while this one is current is a layer of it."""
        return True

    def layer_began(self, layer: Call) -> None:
        """An inner call begins. Those that ended before it were attempts of this call."""
        self.awaits_attempt = False
        if self.untold:
            self._tell_ended(None, followed=True)
        self.layers.append(layer)
        self.untold.append(layer)

    def _tell_ended(self, but: Call | None, *, followed: bool) -> None:
        for layer in self.untold[:]:
            if layer is not but and "finished" not in layer._left:
                self._tell(layer, {}, None, followed=followed)

    def _tell(self, layer: Call, facts: AttemptFacts, error: str | None, *, followed: bool = False) -> None:
        try:
            self.untold.remove(layer)
        except ValueError:  # another thread was here
            return
        if self.began:  # or sampling left it out
            self.recorder.write_layer_as_attempt(layer, facts, error, followed=followed)
        if layer.outcome is not None:
            layer.outcome.error = None

    def last_attempt(self) -> Call:
        """Of an ended call the layer that was its last attempt; itself when nothing else was."""
        inner = self.answering()
        if inner is None:
            return self
        last = inner.last_attempt()
        return last if last is not inner or len(self.untold) < len(self.layers) else self

    def answering(self) -> Call | None:
        """Of an ended call the layer whose end was its own; None without layers that ended."""
        ended = self._ended_layers()
        if len(ended) < 2 or self.outcome is None:
            return ended[0] if ended else None
        return ended[answering(self.outcome, [layer.result() for layer in ended])]

    def _ended_layers(self) -> list[Call]:
        return [layer for layer in self.layers if layer.outcome is not None]

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
        facts: ResponseFacts = response or {}
        if self.noted is not None:
            noted = self.noted if error is not None or status not in (None, "ok") else without_failure(self.noted)
            facts = {**noted, **{k: v for k, v in facts.items() if v is not None}}  # type: ignore[typeddict-item]
        if facts.get("response_cached") and self.is_alone:
            facts = from_cache(facts)
        ended_ns = self.recorder.clock.monotonic() if self.ends_ns is None else self.ends_ns
        failure = None if error is None else Failure.of(error)
        self.outcome = Outcome(facts, failure, status or status_of(error), ended_ns)
        if self.layers:
            for layer in self.layers[:]:
                if layer.waits_for_outer:
                    layer.end(error=error, status=status)
            if self.outcome.status == "ok" and self._has_open_layer():
                return
        self._finish()

    def _has_open_layer(self) -> bool:
        return any("finished" in layer._left for layer in self.layers)

    def _finish(self) -> None:
        try:
            self._left.remove("finished")
        except ValueError:
            return
        self.sent()
        if len(self.untold) > 1:
            try:
                self._tell_ended(self.answering(), followed=False)
            except Exception as error:
                self.recorder.trouble("adding up attempts", error)
        if self.parent is None:
            self.recorder.write_response(self)
            self._release()
        else:
            self.parent._layer_finished(self)

    def _release(self) -> None:
        """Let go of what was only to be written. Frames of a traceback hold the call; contexts do too, a pooled
        connection's for one, and live long."""
        self.raw_request = self.content = self.newest_wire = None
        self.facts["messages"] = self.facts["tools"] = None
        self.facts.pop("raw", None)
        self.sent_with.clear()
        if self.outcome is not None:
            self.outcome.error, self.outcome.facts = None, {}
        for layer in self.layers:
            layer._release()

    def _layer_finished(self, layer: Call) -> None:
        layer.raw_request = layer.facts["messages"] = layer.facts["tools"] = None
        if layer.outcome is not None and layer.outcome.status == "ok":
            known, self._newest_answer = self._newest_answer, layer
            if known is not None and known.started_ns > layer.started_ns:
                known, self._newest_answer = layer, known
            if known is not None:
                known._shed_answer()
        if "finished" not in self.root._left:  # a stream that outlived the call
            layer._release()
        if self.outcome is not None and not self._has_open_layer():
            self._finish()

    def _shed_answer(self) -> None:
        """A later layer's is the one to keep. An agent may go through thousands before it ends."""
        if self.outcome is not None:
            facts = self.outcome.facts.copy()
            facts["messages"] = facts["body"] = facts["streamed"] = facts["raw"] = None
            self.outcome.facts = facts

    def result(self) -> Outcome:
        """The outcome with what the inner layers know filled in. Only after `end`."""
        own = self.outcome
        assert own is not None
        if not self.layers:
            return own
        ended = self._ended_layers()
        if not ended:
            return own
        outcomes = [layer.result() for layer in ended]
        last = ended[answering(own, outcomes)]
        if self.first_chunk_ns is None:
            firsts = (layer.first_chunk_ns for layer in (last, *ended))
            self.first_chunk_ns = next((first for first in firsts if first is not None), None)
        self.chunk_count = self.chunk_count or last.chunk_count
        return together(own, outcomes)


class SilentCall(Call):
    """A call that sampling left out: inner layers find it and stay silent too."""

    recording = False

    def sent(self) -> None:
        return

    def retried(self, facts: AttemptFacts, *, error: str | None = None, failed_at: int | None = None) -> None:
        return

    def retry_follows(self, facts: AttemptFacts, *, error: str | None = None, began_ns: int | None = None) -> None:
        return

    def layer(self, facts: RequestFacts, kind: type[Call] | None = None) -> Call:
        return SilentCall(self.recorder, facts, self)

    def end(
        self, response: ResponseFacts | None = None, *, error: BaseException | None = None, status: str | None = None
    ) -> None:
        self._left.clear()
