"""A hub, a server, and providers that ask it: what the views say can be compared with what the server counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx

import hub as api
from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches
from tests.contract_kits.book import Book, Row, spent
from tests.contract_kits.debate import Message
from tests.contract_kits.nested import SyncWire, Wire

NANOS = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000)}
"""What a token costs, in nano-dollars, of input and of output."""
ASK = [Message("user", "Where is order A-1042?")]


class Scene:
    """A hub, a server, and providers that ask it."""

    def __init__(self, seen: Book, server: LoopbackServer, form: str) -> None:
        self.seen, self.server, self.form = seen, server, form
        self.traced: Callable[..., Any] = seen.hub.traced
        self._clients: list[Any] = []

    def wire(
        self, name: str = "openai", model: str = "gpt-4o-mini", *, recorded: bool = False, retry: Any = None
    ) -> Any:
        """A provider of the form's kind. *recorded*: its client is one of the hub's."""
        sync = self.form.startswith("sync")
        made: dict[tuple[bool, bool], Callable[..., Any]] = {
            (True, True): partial(api.httpx_client, hub=self.seen.hub),
            (True, False): partial(api.async_httpx_client, hub=self.seen.hub),
            (False, True): httpx.Client,
            (False, False): httpx.AsyncClient,
        }
        client = made[recorded, sync](base_url=self.server.base_url)
        self._clients.append(client)
        return SyncWire(name, model, client) if sync else Wire(name, model, client, retry)

    async def ask(self, provider: Any, messages: Any = ASK) -> None:
        match self.form:
            case "sync":
                provider.complete(messages)
            case "sync stream":
                assert list(provider.stream(messages))
            case "async":
                await provider.complete(messages)
            case _:
                assert [chunk async for chunk in provider.stream(messages)]

    def fails(self, model: str, status: int, times: int = 99) -> None:
        """The server's first *times* answers for *model* are errors."""
        left = [times]

        def usual(number: int, asked: str) -> Switches:
            left[0] -= asked == model
            return Switches(fail=status, retry_ms=1) if asked == model and left[0] >= 0 else Switches()

        self.server.usual = usual

    def run(self, play: Callable[[Scene], Awaitable[Any]]) -> None:
        async def main() -> None:
            try:
                await play(self)
            finally:
                for client in self._clients:
                    closed = client.aclose() if isinstance(client, httpx.AsyncClient) else client.close()
                    if closed is not None:
                        await closed

        asyncio.run(main())

    def agrees(self, *attempts: int) -> list[Row]:
        """A call for each of *attempts*, and in all views the tokens and the cost that the server counted."""
        calls, rows = self.seen.calls, self.seen.attempts
        tokens, cost = spent(self.server), self.cost()
        assert [call["attempts"] for call in calls] == list(attempts)
        assert len(rows) == sum(attempts)
        assert {call["counted"] for call in calls} == {1}
        (hourly,) = self.seen.rows(
            "SELECT sum(calls) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,"
            " sum(cost_nanos) AS cost_nanos FROM llm_costs_hourly"
        )
        for told in (calls, rows, [hourly]):
            assert (total(told, "input_tokens"), total(told, "output_tokens")) == tokens
            assert total(told, "cost_nanos") == cost
        assert hourly["calls"] == len(calls)
        return calls

    def cost(self) -> int:
        """In nano-dollars, of all usage that went over the wire."""
        return sum(
            (done.input_tokens or 0) * NANOS[done.model][0] + (done.output_tokens or 0) * NANOS[done.model][1]
            for done in self.server.exchanges()
        )


def total(rows: list[Row], column: str) -> int:
    return sum(row[column] or 0 for row in rows)
