"""The store in PostgreSQL keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import postgres_migrate
from storage.postgres import PostgresStore
from storage.postgres_server import connect
from tests.store_contract import Store, StoreContract


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def migrated(self, postgres_url: str) -> Iterator[None]:
        connection = connect(postgres_url)
        postgres_migrate.upgrade(connection, postgres_url)
        connection.raw.close()
        self.url = postgres_url
        yield

    def open_store(self, folder: Path) -> Store:
        return PostgresStore(self.url)
