"""Erasing and pruning in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.postgres import PostgresStore
from storage.postgres_migrate import upgrade
from storage.postgres_server import connect
from storage.sql_store import SqlStore
from tests.retention_contract import RetentionContract


@pytest.fixture
def migrated(postgres_url: str) -> str:
    """The URL of a database of the newest schema."""
    connection = connect(postgres_url)
    upgrade(connection, postgres_url)
    connection.raw.close()
    return postgres_url


class TestPostgresRetention(RetentionContract):
    @pytest.fixture
    def open_store(self, migrated: str) -> Callable[[], SqlStore]:
        return lambda: PostgresStore(migrated)
