"""The store in PostgreSQL keeps the contract."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hub.delivery import Splitter
from storage.postgres import PostgresStore
from tests.factories import Factory
from tests.store_contract import SqlStoreContract


class TestPostgresStore(SqlStoreContract):
    @pytest.fixture(autouse=True)
    def database(self, migrated_postgres_url: str) -> None:
        self.url = migrated_postgres_url

    def open_store(self, folder: Path, **options: Any) -> PostgresStore:
        return PostgresStore(self.url, **options)


def test_an_event_that_no_index_takes_costs_none_of_its_neighbours(migrated_postgres_url: str) -> None:
    factory = Factory()
    long = "acme:" + "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6_000))
    odd = factory.event(long, stream=factory.new_id(), version=1, call_id=None)
    store = PostgresStore(migrated_postgres_url)
    call = factory.call()
    delivered = Splitter(lambda events: store.append(events).conflicts).deliver([odd, *call])
    assert delivered.rejected == [odd]
    assert list(store.read_all().events) == call
    store.close()
