"""Several tries of one thing: a call that failed and the one that tries it again are one call, whichever hub records
them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from hub.calls import Call
from hub.groups import GroupCall
from hub.outcomes import RequestFacts

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
