"""What many tests begin with: a log or a hub that keeps what it is told in a list, and a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.demo.server import LoopbackServer
from hub.recorder import Recorder
from tests.calls_of import ListHub
from tests.listlog import ListLog, recorder_on
from tests.postgres_server import Server
from tests.postgres_shared import fresh_database, let_go, own_server, server_url


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


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server that the test may stop and kill."""
    with own_server() as running:
        yield running
