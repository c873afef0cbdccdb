"""The store in PostgreSQL keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.postgres import PostgresStore
from tests.postgres_kit import migrate
from tests.store_contract import Store, StoreContract


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def migrated(self, postgres_url: str) -> None:
        migrate(postgres_url)
        self.url = postgres_url

    def open_store(self, folder: Path) -> Store:
        return PostgresStore(self.url)
