"""Stores of every kind, each on a log of its own, for tests and benchmarks that try them all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from storage.memory import MemoryStore
from storage.postgres import PostgresStore
from storage.sqlite import SQLiteStore
from tests.contracts.case import Store
from tests.postgres_kit import empty

Opening = Callable[[], AbstractContextManager[Callable[[], Store]]]
"""Makes an empty log, and what opens stores on it."""


@contextmanager
def in_memory() -> Iterator[Callable[[], MemoryStore]]:
    store = MemoryStore()
    yield lambda: store


@contextmanager
def in_sqlite() -> Iterator[Callable[[], SQLiteStore]]:
    with tempfile.TemporaryDirectory(prefix="hub-store-") as folder:
        yield lambda: SQLiteStore(Path(folder) / "calls.db")


def in_postgres(url: str) -> Opening:
    """In a migrated database that nobody else needs: all of the hub's that is in it goes."""

    @contextmanager
    def opening() -> Iterator[Callable[[], PostgresStore]]:
        empty(url)
        yield lambda: PostgresStore(url)

    return opening
