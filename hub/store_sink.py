"""The sink that writes to the event store, which it opens itself, off the program's path."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hub.events import EventRecord
from hub.store import EventStore

Opener = Callable[[], EventStore]
"""Opens the store. Raises: StoreError"""


class StoreSink:
    """Opens the store at its first batch, again after it failed, and hands over what it refuses as conflicts."""

    name = "store"

    def __init__(self, opener: Opener, producer: str) -> None:
        self._open = opener
        self._producer = producer
        self._store: EventStore | None = None
        self.left_open = False
        """Known after `close`: calls of this producer have no response, and will get none from it any more."""

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Returns: The conflicts. Raises: StoreError"""
        if self._store is None:
            self._store = self._open()
        return self._store.append(records).conflicts

    def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            self.left_open = True  # unless the store can say that there are none
            try:
                self.left_open = bool(store.open_calls(self._producer))
            finally:
                store.close()
