"""What the contracts of event stores have in common: a store to be tested, and how to look at it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest

from hub.events import EventRecord
from hub.store import ContentRef, Cursor, EventStore
from tests.factories import SECOND, START, Factory

LATER = START + 10**6 * SECOND
"""After all that factories write."""


class Store(EventStore, Protocol):
    """What our own stores have beside the contract."""

    def references(self, stream_id: UUID, version: int) -> tuple[ContentRef, ...]: ...


class StoreCase:
    """A backend's tests inherit from a contract and supply `open_store`."""

    def open_store(self, folder: Path) -> Store:
        """A store object. Those of one folder share a log, which is empty at first."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open_store(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def factory(self) -> Factory:
        return Factory()


def same(found: object, expected: object) -> bool:
    """Equal, and of the same types: True is not 1, and 1 not 1.0."""
    return found == expected and repr(found) == repr(expected)


class Follower:
    """Reads on from where it was."""

    def __init__(self, store: EventStore, *, types: Collection[str] | None = None, limit: int = 1000) -> None:
        self.seen: list[EventRecord] = []
        self.cursor: Cursor | None = None
        self._store, self._options = store, {"types": types, "limit": limit}

    def read(self) -> int:
        """Read to the end of the log. Returns: How many events that was."""
        options: Any = self._options
        before = len(self.seen)
        while True:
            page = self._store.read_all(self.cursor, **options)
            self.seen += page.events
            if not page.events and page.next == self.cursor:
                return len(self.seen) - before
            self.cursor = page.next


def whole_log(store: EventStore) -> list[EventRecord]:
    """Every event, in order."""
    follower = Follower(store)
    follower.read()
    return follower.seen
