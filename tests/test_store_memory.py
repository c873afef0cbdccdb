"""The store in memory keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.memory import MemoryStore
from tests.store_contract import Store, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def log(self) -> None:
        self.store_of_all = MemoryStore()

    def open_store(self, folder: Path) -> Store:
        return self.store_of_all
