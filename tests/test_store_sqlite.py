"""The store in a SQLite file keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.sqlite import SQLiteStore
from tests.store_contract import SqlStoreContract


class TestSQLiteStore(SqlStoreContract):
    def open_store(self, folder: Path, **options: Any) -> SQLiteStore:
        return SQLiteStore(folder / "calls.db", **options)
