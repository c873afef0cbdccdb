"""What the new call's own events say of what left, seen as they are written: no store need have them yet."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hub.events import Data, Event, EventRecord
from hub.recorder import Recorder
from hub.replays.original import asked, bodies


class Witness:
    """Keeps the request events of one replay, known by its run; of other calls nothing."""

    def __init__(self, recorder: Recorder, run: str) -> None:
        self._run = run
        self._call_id: UUID | None = None
        self._events: list[EventRecord] = []
        self.stop = recorder.bus.subscribe("llm:request*", self._see)

    def _see(self, event: Event) -> None:
        data, envelope = event.model_dump(), event.envelope
        if self._call_id is None and data.get("replay_run") == self._run:
            self._call_id = envelope.call_id
        if self._call_id is not None and envelope.call_id == self._call_id:
            record: Any = {"type": envelope.type, "data": data, "content": event.content}
            self._events.append(record)

    def testimony(self) -> Testimony:
        """What was seen so far."""
        return Testimony(self._events)


class Testimony:
    """The request events of the new call."""

    def __init__(self, events: list[EventRecord]) -> None:
        self._events = events

    @property
    def recorded(self) -> bool:
        return bool(self._events)

    @property
    def asked(self) -> Data:
        """What the call asked for, as recorded."""
        return asked(self._events)

    def body(self) -> bytes | None:
        """What left, if one body did and it was kept as it was."""
        found = bodies(self._events)
        return found[0][0] if len(found) == 1 and found[0][1] else None
