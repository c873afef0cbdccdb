"""What many tests begin with: a log or a hub that keeps what it is told in a list, and a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.demo.server import LoopbackServer
from hub.recorder import Recorder
from tests.calls_of import ListHub
from tests.listlog import ListLog, recorder_on


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
