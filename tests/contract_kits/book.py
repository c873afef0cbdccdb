"""A hub on a store of its own, and what the store's views say of the calls made in a test."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hub.demo.server import LoopbackServer
from hub.runtime import Hub
from tests.hub_kit import running, store_path

Row = dict[str, Any]


class Book:
    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub, self._path = hub, store_path(folder)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """What *sql* gives once the store has everything."""
        assert self.hub.flush() == 0
        with closing(sqlite3.connect(self._path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    @property
    def calls(self) -> list[Row]:
        """Of llm_calls, in the order they began."""
        return self.rows("SELECT * FROM llm_calls ORDER BY started_at, call_id")

    @property
    def call(self) -> Row:
        """The only one."""
        (row,) = self.calls
        return row

    @property
    def attempts(self) -> list[Row]:
        return self.rows("SELECT * FROM llm_attempts ORDER BY call_id, attempt")

    @property
    def answers(self) -> list[str]:
        """The texts of the answers."""
        told = self.rows("SELECT content FROM llm_messages WHERE direction = 'output' ORDER BY call_id, position")
        return [row["content"] for row in told]

    def events(self, kind: str) -> list[Row]:
        return self.rows("SELECT * FROM llm_events WHERE type = ? ORDER BY position", kind)


@contextmanager
def book(folder: Path, **settings: Any) -> Iterator[Book]:
    with running(folder, **settings) as hub:
        yield Book(hub, folder)


def spent(server: LoopbackServer) -> tuple[int, int]:
    """Input and output tokens by the server's own count."""
    served = server.served()
    return served.input_tokens, served.output_tokens
