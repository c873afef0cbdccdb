"""Several tries of one thing: the calls that begin in them are one call, whichever hub records them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from hub.calls import Call
from hub.groups import GroupCall

if TYPE_CHECKING:
    from hub.recorder import Recorder


class Tries:
    """A call that may come to be: the first one that begins in it makes it. It starts no hub."""

    def __init__(self) -> None:
        self.calls: dict[Recorder, Call] = {}
        self._around = current_tries.get()
        self._over = False

    def call_of(self, recorder: Recorder) -> Call | None:
        """What a call that *recorder* is told of is a layer of; None: they are over."""
        call = self.calls.get(recorder)
        if call is None and not self._over:
            around = None if self._around is None else self._around.call_of(recorder)
            call = self.calls.setdefault(recorder, GroupCall(recorder, {}, around))
        return call if call is not None and call.open else None

    def end(self, error: BaseException | None) -> None:
        """The last try ended, with *error* or well."""
        self._over = True
        for call in self.calls.values():
            call.end(error=error)


current_tries: ContextVar[Tries | None] = ContextVar("hub_tries", default=None)
"""The innermost tries that the running step belongs to."""
