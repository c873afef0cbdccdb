"""The store in PostgreSQL keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.postgres import PostgresStore
from tests.store_contract import SqlStoreContract


class TestPostgresStore(SqlStoreContract):
    @pytest.fixture(autouse=True)
    def database(self, migrated_postgres_url: str) -> None:
        self.url = migrated_postgres_url

    def open_store(self, folder: Path, **options: Any) -> PostgresStore:
        return PostgresStore(self.url, **options)
