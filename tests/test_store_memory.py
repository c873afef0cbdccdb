"""The store in memory keeps the contract."""

from __future__ import annotations

from pathlib import Path

from storage.memory import MemoryStore
from tests.store_contract import Store, StoreContract


class TestMemoryStore(StoreContract):
    def open_store(self, folder: Path) -> Store:
        return MemoryStore()
