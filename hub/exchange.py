"""A call as HTTP has it: attempts, the bytes of the request, and those of the answer as they pass by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from hub.calls import Call, Tokens
from hub.extractors import response_facts
from hub.extractors.failures import is_transient, retry_after_ms
from hub.extractors.wire import StreamReader, body_facts, inflater
from hub.outcomes import AttemptFacts, ResponseFacts, error_type_of, text_of
from hub.watch import let_go, max_body_bytes, trouble

F = TypeVar("F", bound=Callable[..., Any])


def guarded(method: F) -> F:
    """What a WireCall does beside the program's own work never raises into it."""

    @functools.wraps(method)
    def guard(self: WireCall, *args: Any) -> Any:
        try:
            return method(self, *args)
        except Exception as error:
            trouble(self.call.recorder, f"recording an exchange ({method.__name__})", error)

    return cast(F, guard)


class Reception:
    """The bytes of one answer, kept and read as they pass.

    What passes is first handed on and then read: `received` before, `digest` after the consumer had it.
    """

    def __init__(self, call: Call, status_code: int, content_type: str, encoding: str) -> None:
        self._call = call
        self.status_code = status_code
        self.streaming = content_type.startswith("text/event-stream")
        self._limit = max_body_bytes(call)
        self._kept: list[bytes] = []
        self._waiting: list[bytes] = []
        self._size = 0
        self._encoding = encoding
        self._inflate = inflater(encoding, self._limit)
        self.readable = self._inflate is not None
        """Its encoding is one that we can undo."""
        self._reader = StreamReader(self._limit) if self.streaming and self.readable else None
        self.over = False
        self.sent_with: Any = None
        """The request's headers, until it is over."""
        self.unreadable = False
        """The last event that came whole is no JSON."""
        self.may_end_here = False
        """It is a stream that is whole if its body ended properly."""

    def received(self, piece: bytes) -> None:
        """The next bytes are here."""
        if self._size <= self._limit:
            self._kept.append(piece)
        self._size += len(piece)
        if self._reader is not None:
            self._waiting.append(piece)
            if self._call.first_chunk_ns is None and (self._encoding or b"data:" in piece):
                self._call.first_chunk()

    def whole(self, body: bytes) -> None:
        """The answer was there at once, decoded."""
        self._encoding = ""
        self._inflate, self.readable = bytes, True
        if self.streaming and self._reader is None:
            self._reader = StreamReader(self._limit)
        self.received(body)

    def digest(self) -> None:
        """Read what was received. Never raises."""
        reader, inflate = self._reader, self._inflate
        if reader is None or inflate is None:
            return
        try:
            for piece in self._waiting:
                reader.feed(inflate(piece))
        except Exception as error:
            trouble(self._call.recorder, "reading a stream", error)
        self._waiting.clear()

    def facts(self) -> tuple[ResponseFacts, str | None]:
        """What the answer says, and its status as far as its bytes tell: None is for the way it ended to decide."""
        self.digest()
        facts: ResponseFacts = {}
        status = None
        try:
            body = self._body()
            if self._reader is not None:
                self.unreadable = self._reader.unreadable  # before what was cut off counts as an event
                facts = self._reader.facts()
                self.may_end_here = self._reader.whole
                if self._reader.error is not None:
                    facts.update(self._reader.error)
                    status = "error"
                elif self._reader.ended:
                    status = "ok"
            elif body is not None:
                facts = body_facts(body)
            if body is not None:
                facts["body"] = body.decode("utf-8", "replace")
        except Exception as error:
            trouble(self._call.recorder, "reading an answer", error)
        self._reader = None  # the program may hold the answer for long
        facts["status_code"] = self.status_code
        if self.status_code >= 400:
            status = "error"
            facts.setdefault("error_type", str(self.status_code))
        return facts, status

    def _body(self) -> bytes | None:
        raw = b"".join(self._kept)
        self._kept.clear()
        if not self._encoding:
            return raw
        inflate = inflater(self._encoding, self._limit + 1)
        return None if inflate is None else inflate(raw)


@dataclass(slots=True)
class Failure:
    """An attempt that failed, while nobody knows yet whether another follows."""

    facts: AttemptFacts
    error: str | None
    at: int
    """UTC Unix ns."""
    at_monotonic: int
    retryable: bool


@dataclass(slots=True)
class Conclusion:
    """How an answer ended."""

    facts: ResponseFacts
    status: str | None
    error: BaseException | None = None


class WireCall:
    """Between the method that bounds a call and the transport that sees its bytes.

    The method says `returned` or `failed`. An answer still being read then ends the call itself, when it ends.
    """

    alone = False

    def __init__(self, call: Call, *, max_retries: int | None = None) -> None:
        self.call = call
        self._max_retries = max_retries
        self._failure: Failure | None = None
        self._began = 0
        self._reading = False
        self._on_its_own = self.alone
        self._put_off = False
        self._conclusion: Conclusion | None = None

    # The transport's side.

    @guarded
    def leaves(self, raw: bytes | None, headers: Any) -> None:
        """An exchange begins; one before it has failed then."""
        self.call.root.sent_with[id(headers)] = headers
        clock = self.call.recorder.clock
        now = clock.monotonic()
        if (failure := self._failure) is not None:
            self._failure = None
            failure.facts["delay_ms"] = (now - failure.at_monotonic) / 1e6
            self.call.retried(failure.facts, error=failure.error, failed_at=failure.at)
        self._began, self._reading, self._conclusion = now, False, None
        if raw is not None:
            self.call.wire_request(raw)
        self.call.sent()

    @guarded
    def broke(self, error: BaseException) -> None:
        """No answer came."""
        self._failed_attempt({"error_type": error_type_of(error)}, text_of(error), isinstance(error, Exception))

    def answers(self, response: Any, sent_with: Any) -> Reception:
        """Headers of an answer are here, to a request with the headers *sent_with*."""
        headers = response.headers
        reception = Reception(
            self.call,
            response.status_code,
            headers.get("content-type", ""),
            headers.get("content-encoding", ""),
        )
        reception.sent_with = sent_with
        self._reading = True
        if reception.status_code >= 400:
            facts: AttemptFacts = {"status_code": reception.status_code, "error_type": str(reception.status_code)}
            if (wait := retry_after_ms(headers)) is not None:
                facts["retry_after_ms"] = wait
            self._failed_attempt(facts, None, is_transient(reception.status_code))
        return reception

    @guarded
    def unreadable(self) -> None:
        """The answer's bytes will not be seen."""
        self._reading = False
        if self._on_its_own:
            self._end(Conclusion({}, None))

    def _failed_attempt(self, facts: AttemptFacts, error: str | None, retryable: bool) -> None:
        clock = self.call.recorder.clock
        now = clock.monotonic()
        facts["duration_ms"] = (now - self._began) / 1e6
        if self._max_retries is not None:
            facts["max_retries"] = self._max_retries
        self._failure = Failure(facts, error, clock.wall(), now, retryable)

    @guarded
    def exhausted(self, reception: Reception) -> None:
        """All bytes of the answer passed."""
        facts, status = reception.facts()
        if status is None and reception.streaming and reception.readable:
            if reception.may_end_here:
                status = "ok"
            else:
                status, facts["error_type"] = "error", "incomplete_stream"
        self._over(reception, Conclusion(facts, status))

    @guarded
    def broken(self, reception: Reception, error: BaseException) -> None:
        """Reading the answer failed, or was cancelled."""
        facts, status = reception.facts()
        if status is None:
            told: AttemptFacts = {"error_type": error_type_of(error), "status_code": reception.status_code}
            self._failed_attempt(told, text_of(error), isinstance(error, Exception))
        self._over(reception, Conclusion(facts, status, None if status == "ok" else error))

    @guarded
    def closed(self, reception: Reception) -> None:
        """Nobody reads on. Changes nothing when the answer was over before."""
        if not reception.over:
            facts, status = reception.facts()
            if status is None and reception.unreadable:  # an SDK that cannot read on raises, and we see it close
                facts["error_type"], status = "unreadable_stream", "error"
            self._over(reception, Conclusion(facts, status or "abandoned"))

    @guarded
    def forgotten(self, reception: Reception) -> None:
        """`closed`, for a finaliser: it may run in the middle of anything, so the work is left to others."""
        if not reception.over:
            self._put_off = True
            self.call.recorder.defer(lambda: self.closed(reception))

    def _over(self, reception: Reception, conclusion: Conclusion) -> None:
        if reception.over:
            return
        reception.over = True
        self._reading = False
        if reception.status_code < 400 and _OF_AN_ERROR.isdisjoint(conclusion.facts):
            self.call.root.sent_with.pop(id(reception.sent_with), None)
        reception.sent_with = None
        if self._failure is not None and reception.status_code >= 400:
            self._failure.error = conclusion.facts.get("error_message")
            if (kind := conclusion.facts.get("error_type")) is not None:
                self._failure.facts["error_type"] = kind
        self._conclusion = conclusion
        if self._on_its_own:
            self._end(conclusion)

    # The method's side.

    @guarded
    def returned(self, result: Any) -> None:
        """The method returned *result*."""
        if self._conclusion is not None:
            self._end(self._conclusion, result)
        elif self._reading:
            self._on_its_own = True
        else:
            self._end(Conclusion({}, None), result)

    @guarded
    def failed(self, error: BaseException) -> None:
        """The method raised."""
        facts: ResponseFacts = {}
        if self._conclusion is not None:
            facts = self._conclusion.facts
            facts.pop("error_message", None)
            if facts.get("error_type") == str(facts.get("status_code")):
                del facts["error_type"]  # the exception's class says more
        self._add_failure(facts)
        self._conclusion = None  # frames of a traceback hold this; see Call._release
        if isinstance(error, GeneratorExit):
            let_go(self.call, facts)
        else:
            self.call.end(facts, error=error)

    def _end(self, conclusion: Conclusion, result: Any = None) -> None:
        facts, self._conclusion = conclusion.facts, None
        if conclusion.status == "error":
            self._add_failure(facts)
        if result is not None and not facts.get("messages") and not facts.get("usage"):
            try:
                facts = {**response_facts(result), **facts}
            except Exception as error:
                trouble(self.call.recorder, "reading a result", error)
        if conclusion.status == "abandoned" and not self._put_off:
            let_go(self.call, facts)
        else:
            self.call.end(facts, error=conclusion.error, status=conclusion.status)

    def _add_failure(self, facts: ResponseFacts) -> None:
        if (failure := self._failure) is None:
            return
        facts["retryable"] = failure.retryable
        if (code := failure.facts.get("status_code")) is not None:
            facts["status_code"] = code
        if (wait := failure.facts.get("retry_after_ms")) is not None:
            facts["retry_after_ms"] = wait


_OF_AN_ERROR = frozenset({"error_type", "error_message"})

SEEN = object()
"""An outer transport records this exchange already."""

wire_call: ContextVar[Any] = ContextVar("hub_wire", default=None)
"""The WireCall whose method runs; SEEN inside of a recording transport; else None."""


WireTokens = tuple[Tokens, "Token[Any]"]


def enter(call: Call, mark: Any) -> WireTokens:
    """Make *call* the current one and *mark* what transports find. Give the result to `leave`."""
    return call.enter(), wire_call.set(mark)


def leave(call: Call, tokens: WireTokens) -> None:
    """Undo `enter`."""
    try:
        wire_call.reset(tokens[1])
    except ValueError:  # collected or driven on in another context, where others may be under way
        pass
    call.leave(tokens[0])
