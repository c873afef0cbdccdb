"""Calls that are made of the calls within them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hub.calls import Call, SilentCall
from hub.outcomes import RequestFacts, ResponseFacts

if TYPE_CHECKING:
    from hub.recorder import Recorder


class GroupCall(Call):
    """A call that knows nothing of its own: what the first layer in it says is what it says. Without layers it is no
    call, and nothing is written of it."""

    def __init__(self, recorder: Recorder, replay: RequestFacts, parent: Call | None) -> None:
        super().__init__(recorder, {}, parent)
        self._left.remove("sent")
        self._replay = replay
        self._joining = threading.RLock()
        self.began_at = recorder.clock.wall()

    def layer(self, facts: RequestFacts, kind: type[Call] | None = None) -> Call:
        layer = super().layer(facts, kind)
        return layer if self.root.recording else SilentCall(self.recorder, facts, self)

    @property
    def is_answered(self) -> bool:
        """Whether the newest call in it went well, or still goes on, and nobody said that it is tried again."""
        newest = self.untold[-1] if self.untold else None
        if newest is None or newest.outcome is None:
            return newest is not None and not newest.waits_for_outer
        return newest.outcome.status == "ok"

    def layer_began(self, layer: Call) -> None:
        with self._joining:
            if not self.layers:
                self._join(layer)
            super().layer_began(layer)

    def _join(self, first: Call) -> None:
        self.lead, self.facts = first.lead or first, first.facts
        self.facts.update(self._replay)
        if self.parent is not None:
            self.parent.layer_began(self)
        else:
            self.recorder.place(self)

    def end(
        self, response: ResponseFacts | None = None, *, error: BaseException | None = None, status: str | None = None
    ) -> None:
        if self.layers and self.root.recording:
            super().end(response, error=error, status=status)
        else:
            self._left.clear()

    def _finish(self) -> None:
        if self.lead is not None:
            self.lead.sent()
        super()._finish()
