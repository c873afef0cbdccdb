"""What an export needs to go on after it was interrupted: a small database beside the file it writes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from hub.store import Cursor

_TABLES = """
CREATE TABLE IF NOT EXISTS plan (text TEXT);
CREATE TABLE IF NOT EXISTS progress (cursor TEXT, bytes INTEGER, events INTEGER, calls INTEGER);
CREATE TABLE IF NOT EXISTS chosen (call_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_MOST_VALUES = 500


@dataclass(slots=True)
class Reached:
    """How far an export has come."""

    cursor: Cursor | None = None
    bytes: int = 0
    events: int = 0
    calls: int = 0


class Journal:
    """Kept in step with the file by `commit`."""

    def __init__(self, path: Path | None) -> None:
        """*path*: None for an export that cannot be continued."""
        self.path = path
        self.reached = Reached()
        self.is_of_use = False
        """Something is in the file that need not be written again."""
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        if self.path is not None:
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self.path or "", isolation_level=None)
        try:
            database.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            database.close()
            if self.path is None or error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                raise
            self.path.unlink()  # nothing that could be gone on with
            return self._open()
        return database

    def continues(self, plan: str) -> bool:
        """Whether what was interrupted was an export by the same *plan*; `reached` then says how far it had come."""
        database = self._database
        if database.execute("SELECT text FROM plan").fetchone() != (plan,):
            return False
        found = database.execute("SELECT cursor, bytes, events, calls FROM progress").fetchone()
        if found is not None:
            self.reached, self.is_of_use = Reached(*found), True
        return found is not None

    def begin(self, plan: str, chosen: Iterable[Collection[str]]) -> None:
        """Start over: an export by *plan*, of the calls *chosen*."""
        database = self._database
        self.reached, self.is_of_use = Reached(), False
        database.execute("BEGIN")
        for table in ("plan", "progress", "chosen"):
            database.execute(f"DELETE FROM {table}")
        for page in chosen:
            database.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ((call_id,) for call_id in page))
        database.execute("INSERT INTO plan VALUES (?)", (plan,))
        database.execute("COMMIT")

    def chosen(self, call_ids: Collection[str]) -> set[str]:
        """Those of *call_ids* that were chosen."""
        wanted, found = list(call_ids), set[str]()
        for start in range(0, len(wanted), _MOST_VALUES):
            some = wanted[start : start + _MOST_VALUES]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(f"SELECT call_id FROM chosen WHERE call_id IN ({marks})", some)
            found.update(call_id for (call_id,) in rows)
        return found

    def commit(self) -> None:
        """`reached` is how far the file has safely come."""
        now = self.reached
        database = self._database
        database.execute("BEGIN")
        database.execute("DELETE FROM progress")
        database.execute("INSERT INTO progress VALUES (?, ?, ?, ?)", (now.cursor, now.bytes, now.events, now.calls))
        database.execute("COMMIT")
        self.is_of_use = True

    def close(self) -> None:
        self._database.close()

    def discard(self) -> None:
        """It is of no use any more."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
