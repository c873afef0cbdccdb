"""The store in a SQLite file keeps the contract."""

from __future__ import annotations

from pathlib import Path

from storage.sqlite import SQLiteStore
from tests.store_contract import Store, StoreContract


class TestSQLiteStore(StoreContract):
    def open_store(self, folder: Path) -> Store:
        return SQLiteStore(folder / "calls.db")
