"""A hub, a server that keeps the bytes it was sent, and clients of both, for the tests of replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from hub.demo.server import LoopbackServer
from hub.reader import Reader, StoredCall
from hub.replays import Replay, replay
from hub.runtime import Hub
from tests.hub_kit import KEY, running


class Bench:
    """Records calls against a server, and replays them against it."""

    def __init__(self, hub: Hub, server: LoopbackServer) -> None:
        self.hub, self.server = hub, server

    def client(self, **settings: Any) -> Any:
        """A traced client of the openai SDK."""
        return self.hub.traced(self.plain_client(**settings))

    def plain_client(self, **settings: Any) -> Any:
        return openai.OpenAI(base_url=self.server.base_url, api_key=KEY, **settings)

    @property
    def sent(self) -> list[bytes]:
        """The bodies the server received, oldest first."""
        return [exchange.body for exchange in self.server.exchanges()]

    @property
    def reader(self) -> Reader:
        assert self.hub.flush() == 0
        return Reader(self.hub.settings)

    @property
    def last(self) -> StoredCall:
        return self.reader.call("@last")

    def replay(self, using: Any = None, *, call: str | StoredCall = "@last", **options: Any) -> Replay:
        return replay(call, using, hub=self.hub, **options)


@contextmanager
def bench(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Bench]:
    """The environment names the server as openai's, so that the registry's provider goes there."""
    with LoopbackServer() as server, running(folder, **settings) as hub:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield Bench(hub, server)
