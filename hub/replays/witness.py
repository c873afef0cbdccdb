"""What the new call's own events say of what left, seen as they are written: no store need have them yet."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hub.events import Data, Event, EventRecord
from hub.recorder import Recorder
from hub.replays.original import asked, bodies


class Witness:
    """Keeps the request events of one call of a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._events: dict[UUID | None, list[EventRecord]] = {}
        self._stop = recorder.bus.subscribe("llm:request*", self._see)

    def _see(self, event: Event) -> None:
        envelope = event.envelope
        record: Any = {"type": envelope.type, "data": event.model_dump(), "content": event.content}
        self._events.setdefault(envelope.call_id, []).append(record)

    def of(self, call_id: str) -> Testimony:
        """What was seen of that call; then no longer looks."""
        self._stop()
        return Testimony(self._events.pop(UUID(call_id), []) if call_id else [])

    def stop(self) -> None:
        self._stop()


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
