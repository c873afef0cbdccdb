"""Tells the hub that several calls are attempts at one thing."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

from hub.calls import current_call
from hub.facts import text_of
from hub.harmless import log
from hub.outcomes import AttemptFacts, error_type_of
from hub.tries import Tries, current_tries


class Attempts:
    """In an open call of the context the attempts are that call's. Elsewhere a call that is tried again is one with the
    one before it, and where none begins there is nothing to tell. Nothing here raises."""

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
            for call in self._tries.failed():
                call.retry_follows(facts, error=text_of(error), began_ns=0)
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
