"""The sink that writes to the event store, which it opens itself, off the program's path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from hub.config import Settings
from hub.events import EventRecord
from hub.store import EventStore

Opener = Callable[[], EventStore]
"""Opens the store. Raises: StoreError"""


class StoreSink:
    """Opens the store at its first batch, again after it failed, and hands over what it refuses as conflicts."""

    name = "store"

    def __init__(self, opener: Opener) -> None:
        self._open = opener
        self._store: EventStore | None = None

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Returns: The conflicts. Raises: StoreError"""
        if self._store is None:
            self._store = self._open()
        return self._store.append(records).conflicts

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
