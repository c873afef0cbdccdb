"""What many tests begin with: a log or a hub that keeps what it is told in a list, and a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "logfire-plugin")  # it costs every process two seconds

from hub.demo.server import LoopbackServer
from hub.recorder import Recorder
from storage.postgres import PostgresStore
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.calls_of import ListHub
from tests.filled_store import fill
from tests.listlog import ListLog, recorder_on
from tests.postgres_kit import empty
from tests.postgres_server import Server
from tests.postgres_shared import fresh_database, let_go, migrated_database, own_server, server_url

pytest.register_assert_rewrite("tests.contracts")


def pytest_unconfigure(config: pytest.Config) -> None:
    let_go(and_wait=not hasattr(config, "workerinput"))  # a worker of xdist must not wait for the others


@pytest.fixture
def hub() -> ListHub:
    return ListHub()


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def recorder(log: ListLog) -> Recorder:
    return recorder_on(log)


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """Of a database of the test's own, empty, on a server that other tests use as well."""
    with fresh_database(server_url()) as url:
        yield url


@pytest.fixture(scope="session")
def database_of_many() -> Iterator[str]:
    with migrated_database(server_url()) as url:
        yield url


@pytest.fixture
def migrated_postgres_url(database_of_many: str) -> str:
    """Of a database that `hub migrate` has set up and in which nothing is but the tables. Other tests had it before:
    emptied it is ready in a tenth of the time that another takes to be made."""
    empty(database_of_many)
    return database_of_many


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store of each engine."""
    if request.param == "sqlite":
        store: SqlStore = SQLiteStore(tmp_path / "calls.db")
    else:
        store = PostgresStore(request.getfixturevalue("migrated_postgres_url"))
    yield store
    store.close()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def filled_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[str]]]:
    """A store of each engine that holds what `tests.filled_store` writes: its URL, or the file's path, and the ids of
    its calls. To be read only."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("filled") / "calls.db"
        yield str(path), fill(path)
    else:
        with migrated_database(server_url()) as url:
            yield url, fill(url)


@pytest.fixture
def own_migrated_url() -> Iterator[str]:
    """Of such a database that no other test will have."""
    with migrated_database(server_url()) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def own_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """As `sql_store`, for tests that make tables of their own; that of SQLite is made already."""
    if request.param == "sqlite":
        store: SqlStore = SQLiteStore(tmp_path / "calls.db")
        store.checkpoint("made")
    else:
        store = PostgresStore(request.getfixturevalue("own_migrated_url"))
    yield store
    store.close()


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server that the test may stop and kill."""
    with own_server() as running:
        yield running
