"""A hub for the tests of tracing: a recorder whose log is a list, and its records by call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hub.events import EventRecord
from hub.recorder import Recorder
from tests.listlog import ListLog, recorder_on


@dataclass
class Seen:
    """The records of one call."""

    records: list[EventRecord] = field(default_factory=list)

    def of(self, event_type: str) -> list[EventRecord]:
        return [record for record in self.records if record["type"] == event_type]

    @property
    def request(self) -> dict[str, Any]:
        return self.of("llm:request")[0]["data"]

    @property
    def response(self) -> dict[str, Any]:
        (record,) = self.of("llm:response")
        return record["data"]

    @property
    def sent(self) -> dict[str, Any]:
        """Content of the request."""
        return self.of("llm:request:debug")[0]["content"] or {}

    @property
    def answer(self) -> dict[str, Any]:
        """Content of the response."""
        return self.of("llm:response:debug")[0]["content"] or {}

    @property
    def error(self) -> str | None:
        content = self.of("llm:response")[0]["content"]
        return None if content is None else content["error"]

    @property
    def text(self) -> str | None:
        """Text of the first output message."""
        messages = self.answer.get("messages") or [{}]
        return messages[0].get("content")  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        return str(self.response["status"])

    @property
    def retries(self) -> list[dict[str, Any]]:
        return [record["data"] for record in self.of("provider:retry")]


class ListHub:
    """What `hub.traced(..., hub=)` needs of a hub."""

    def __init__(self, log: ListLog | None = None, recorder: Recorder | None = None) -> None:
        self.log = log or ListLog()
        self.recorder: Recorder | None = recorder or recorder_on(self.log)

    def settle(self) -> None:
        """Do what finalisers left to others."""
        while self.log.notes:
            self.log.notes.popleft()()

    @property
    def calls(self) -> list[Seen]:
        """Oldest first."""
        self.settle()
        streams: dict[str, Seen] = {}
        for record in self.log.records:
            streams.setdefault(record["stream_id"], Seen()).records.append(record)
        return list(streams.values())

    @property
    def call(self) -> Seen:
        (call,) = self.calls
        return call


class CountingSyncer:
    """Notes how many records there were each time somebody waited for the disk."""

    def __init__(self, log: ListLog) -> None:
        self._log = log
        self.counts: list[int] = []

    def wait(self) -> bool:
        self.counts.append(len(self._log.records))
        return True

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        done = loop.create_future()
        done.set_result(self.wait())
        return done


def durable_hub() -> ListHub:
    """A hub whose callers wait for `log.syncer`."""
    hub = ListHub()
    hub.log.syncer = CountingSyncer(hub.log)
    assert hub.recorder is not None
    hub.recorder.durable = True
    return hub
