"""The two indexes of full-text search, whatever the engine: numbers, each with what leads to it, and of those that are
asked for always the highest ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

from storage.engine import Connection, Engine

Writing = Callable[[Connection], AbstractContextManager[None]]
"""A transaction."""
Words = Sequence[str]
Wanted = Iterable[tuple[str, bool]]
"""Words, each with whether it is but the beginning of one."""
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
Rows = Sequence[tuple[int, T]]


class Index(Protocol[T_contra]):
    """One index. What is given no *writing* happens within a transaction of the caller's."""

    @property
    def longest_step(self) -> float:
        """Seconds that a transaction of `add` may take: for as long others may have to wait."""
        ...

    def make(self, connection: Connection) -> None: ...

    def drop(self, connection: Connection, writing: Writing) -> None:
        """Remove it, if it is there, in short transactions."""
        ...

    def add(self, connection: Connection, rows: Sequence[tuple[int, T_contra]]) -> None:
        """Add numbers that are not in yet."""
        ...

    def tend(self, connection: Connection, writing: Writing, *, is_last: bool) -> None:
        """After rows were added: whatever keeps it fast, in short transactions.

        Args:
            is_last: No more are to come for now.
        """
        ...

    def remove(self, connection: Connection, rows: Iterable[tuple[int, T_contra]]) -> None:
        """Take out numbers, with what was added for them."""
        ...

    def settle(self, connection: Connection, writing: Writing) -> None:
        """Leave nothing in the files of what was removed."""
        ...

    def size(self, connection: Connection) -> int:
        """In bytes."""
        ...


class MessageIndex(Index[Words], Protocol):
    """Messages by words."""

    def with_all(self, connection: Connection, wanted: Wanted, below: int, limit: int) -> list[int]:
        """The highest numbers below *below* that have all that is wanted."""
        ...


class CarrierIndex(Index[Sequence[int]], Protocol):
    """Events by the messages that they carry."""

    def with_any(self, connection: Connection, messages: Sequence[int], below: int, limit: int) -> list[int]:
        """The highest numbers below *below* that have any of *messages*."""
        ...


class Indexes(NamedTuple):
    """Both of a store."""

    messages: MessageIndex
    carriers: CarrierIndex


TABLES = ("hub_search_messages", "hub_search_carriers")
"""They stand beside the schema's history: made and dropped by a command, never migrated."""


def indexes(engine: Engine) -> Indexes:
    """Those of a store in *engine*, whether they are there or not."""
    if engine == "sqlite":
        from storage.search_sqlite import FTS5Carriers, FTS5Messages

        return Indexes(FTS5Messages(TABLES[0]), FTS5Carriers(TABLES[1]))
    from storage.search_postgres import GINMessages, Links

    return Indexes(GINMessages(TABLES[0]), Links(TABLES[1]))
