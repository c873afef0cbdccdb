"""Several tries of one thing: a call that failed and the one that tries it again are one call, whichever hub records
them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from hub.calls import Call, current_call
from hub.groups import GroupCall
from hub.harmless import log
from hub.outcomes import AttemptFacts, RequestFacts, error_type_of, text_of

if TYPE_CHECKING:
    from hub.recorder import Recorder


class Tries:
    """Calls that may come to be. The first one that begins makes one; when it failed, the next of the same provider and
    model is one more attempt at it. Beside it, or after it went well, others are calls of their own: what is tried may
    be an agent of many. It starts no hub."""

    def __init__(self) -> None:
        self._calls: dict[tuple[Recorder, str | None, str | None], GroupCall] = {}
        self._around = current_tries.get()
        self._over = False

    def call_for(self, recorder: Recorder, facts: RequestFacts) -> Call | None:
        """What a call with *facts* that begins is a layer of; None: the tries are over."""
        if self._over:
            return None
        key = recorder, facts.get("provider"), facts.get("model")
        call = self._calls.get(key)
        if call is not None and call.is_answered:
            del self._calls[key]
            call.end()
            call = None
        if call is None:
            around = None if self._around is None else self._around.call_for(recorder, facts)
            call = self._calls.setdefault(key, GroupCall(recorder, {}, around))
        return call if call.open else None

    def newest(self, recorder: Recorder) -> Call | None:
        """The call that began last, if it is not over."""
        mine = [call for (of, _, _), call in self._calls.items() if of is recorder and call.open]
        if mine:
            return max(mine, key=lambda call: call.started_ns)
        return None if self._around is None else self._around.newest(recorder)

    def failed(self) -> list[GroupCall]:
        """The calls that made a try fail: those that failed themselves, else the last, whose answer was of no use."""
        calls = list(self._calls.values())
        failed = [call for call in calls if not call.is_answered]
        return failed or calls[-1:]

    def end(self, error: BaseException | None) -> None:
        """The last try ended, with *error* or well. An error that came after the answer is not the call's."""
        self._over = True
        for call in self._calls.values():
            call.end(error=None if call.is_answered else error)


current_tries: ContextVar[Tries | None] = ContextVar("hub_tries", default=None)
"""The innermost tries that the running step belongs to."""


class Attempts:
    """What one who tries again tells of it. In an open call of the context the attempts are that call's. Elsewhere a
    call that is tried again is one with the one before it, and where none begins there is nothing to tell. Nothing here
    raises."""

    def __init__(self, max_retries: int, clock: Callable[[], float]) -> None:
        self._max_retries, self._clock = max_retries, clock
        self._began, self._began_ns = 0.0, 0

    def __enter__(self) -> None:
        call = current_call.get()
        self._call = call if call is not None and call.open else None
        self._tries = Tries()
        self._token: Token[Tries | None] = current_tries.set(self._tries)

    def begin(self) -> None:
        """The next attempt begins."""
        self._began = self._clock()
        if self._call is not None:
            self._began_ns = self._call.recorder.clock.monotonic()
            self._call.awaits_attempt = False

    def failed(self, error: BaseException, status: int | None, asked: float | None, delay: float) -> None:
        """It failed, and another begins in *delay* seconds. *asked* is what the answer said of that."""
        try:
            facts: AttemptFacts = {
                "max_retries": self._max_retries,
                "delay_ms": delay * 1000.0,
                "duration_ms": (self._clock() - self._began) * 1000.0,
                "error_type": error_type_of(error),
                "status_code": status,
            }
            if asked is not None:
                facts["retry_after_ms"] = asked * 1000.0
            if self._call is not None:
                self._call.retry_follows(facts, error=text_of(error), began_ns=self._began_ns)
                self._call.awaits_attempt = True
            for call in self._tries.failed():
                call.retry_follows(facts, error=text_of(error), began_ns=0)
                call.awaits_attempt = True
        except Exception as trouble:
            _warn(trouble)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            current_tries.reset(self._token)
        except ValueError:  # closed in another context
            pass
        try:
            self._tries.end(error)
        except Exception as trouble:
            _warn(trouble)


def _warn(trouble: Exception) -> None:
    log.warning("hub: recording a retry failed with %s; it goes on", type(trouble).__name__)
