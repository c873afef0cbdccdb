"""The bus: events to the typed subscribers in this process."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hub.events import Event, EventRecord, decode
from hub.harmless import is_harmless, log

E = TypeVar("E", bound=Event)
Handler = Callable[[Any], None]

MAX_NESTING = 4
"""A handler may emit, and its event reach handlers in turn, this deep; further ones are kept but not announced."""


class EventBus:
    """Subscribers by class or by pattern. Handlers run inline, in the thread that emitted, in the order they came."""

    def __init__(self) -> None:
        self.handlers: tuple[tuple[type[Event] | str, Handler], ...] = ()
        """Replaced as a whole, so that publishing needs no lock."""
        self._lock = threading.Lock()
        self._nesting = threading.local()

    def subscribe(self, what: type[E] | str, handler: Callable[[E], None]) -> Callable[[], None]:
        """Call *handler* with each event of class *what*, or whose type matches the pattern *what* (`acme:*`).

        Returns: A function that ends the subscription; calling it again does nothing.
        """
        entry = (what, handler)
        with self._lock:
            self.handlers = (*self.handlers, entry)

        def stop() -> None:
            with self._lock:
                self.handlers = tuple(known for known in self.handlers if known is not entry)

        return stop

    def after_fork_in_child(self) -> None:
        """Take no lock that a thread of the parent's may have held."""
        self._lock = threading.Lock()

    def publish(self, records: Sequence[EventRecord]) -> None:
        """Hand *records* to their handlers as typed events. One that raises is logged by type and place, without its
        message, which may quote a prompt."""
        depth = getattr(self._nesting, "depth", 0)
        if depth >= MAX_NESTING:
            return
        self._nesting.depth = depth + 1
        try:
            for record in records:
                self._publish_one(record)
        finally:
            self._nesting.depth = depth

    def _publish_one(self, record: EventRecord) -> None:
        event: Event | None = None
        for what, handler in self.handlers:
            if isinstance(what, str):
                if not fnmatch.fnmatchcase(record["type"], what):
                    continue
            elif what is not Event and what.event_type != record["type"]:
                continue
            try:
                event = event or decode(record)
                if isinstance(what, str) or isinstance(event, what):
                    handler(event)
            except BaseException as error:
                if not is_harmless(error):
                    raise
                log.warning("subscriber %s failed with %s on %s", _name(handler), type(error).__name__, record["type"])


def _name(handler: Handler) -> str:
    return f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
