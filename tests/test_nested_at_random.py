"""Layers put together at random, before a server that fails at random: tokens, cost and attempts stay the server's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hub as api
from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches
from providers import with_retry
from tests.contract_kits.book import book, spent
from tests.contract_kits.nested import Cache, Emitting, Retrying, Router
from tests.contract_kits.scene import Scene, total

SERVED = [("openai", "gpt-4o-mini"), ("azure", "gpt-4o")]


class Builder:
    """Makes a provider of layers, at most *depth* of them, every request of which goes through a traced one."""

    def __init__(self, scene: Scene, choices: random.Random) -> None:
        self.scene, self.choices = scene, choices
        self.said: list[str] = []
        """What was put together, outermost first."""

    def build(self, depth: int) -> Any:
        kinds: list[Callable[[int], Any]] = [self.wire, self.emitting]
        if depth > 0:
            kinds += [self.router, self.router, self.traced]
            if self.scene.form == "async":
                kinds += [self.retrying, self.retrying, self.cache]
        kind = self.choices.choice(kinds)
        self.said.append(kind.__name__)
        return kind(depth - 1)

    def perhaps_traced(self, provider: Any) -> Any:
        return self.scene.traced(provider) if self.choices.random() < 0.6 else provider

    def wire(self, depth: int) -> Any:
        name, model = self.choices.choice(SERVED)
        retry = partial(self.quick, max_retries=1) if self.choices.random() < 0.3 else None
        return self.scene.traced(self.scene.wire(name, model, recorded=self.choices.random() < 0.5, retry=retry))

    def emitting(self, depth: int) -> Any:
        wire = self.scene.wire(model="gpt-4o", recorded=self.choices.random() < 0.5)
        return self.perhaps_traced(Emitting(wire, self.scene.seen.hub.emit))

    def traced(self, depth: int) -> Any:
        return self.scene.traced(self.build(depth), provider=self.choices.choice([None, "outer"]))

    def router(self, depth: int) -> Any:
        inner = [self.build(depth) for _ in range(self.choices.choice([2, 3]))]
        disliked = self.choices.choice(["mini", "none of them"])
        router: Any = Router(inner, lambda model: disliked not in model)
        router.model = "of a router"
        return self.perhaps_traced(router)

    def retrying(self, depth: int) -> Any:
        retry = partial(self.quick, max_retries=self.choices.choice([1, 2]))
        return self.perhaps_traced(Retrying(self.build(depth), retry))

    def cache(self, depth: int) -> Any:
        return self.perhaps_traced(Cache(self.build(depth), marks=self.choices.random() < 0.5))

    quick = staticmethod(partial(with_retry, base_delay=0.0005))


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        yield running


@pytest.mark.parametrize("form", ["async", "stream"])
@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_put_together_counts_what_the_server_counted(
    seed: int, form: str, tmp_path: Path, server: LoopbackServer
) -> None:
    choices, faults = random.Random(f"{seed} {form}"), random.Random(seed)
    share = choices.random() * 0.7

    def usual(number: int, model: str) -> Switches:
        fails = faults.random() < share
        return Switches(fail=faults.choice([429, 500, 503]), retry_ms=1) if fails else Switches()

    server.usual = usual
    with book(tmp_path) as seen:
        scene = Scene(seen, server, form)
        builder = Builder(scene, choices)

        async def play(scene: Scene) -> None:
            root = scene.traced(builder.build(choices.choice([1, 2, 3, 4])), provider="root")
            for _ in range(2):
                try:
                    await scene.ask(root)
                except api.HubError:
                    pass

        scene.run(play)
        calls, attempts = seen.calls, seen.attempts
        from_caches = sum(row["input_tokens"] == 0 for row in attempts)
        assert len(calls) == 2, builder.said
        assert sum(call["attempts"] for call in calls) == len(attempts), builder.said
        assert len(attempts) - from_caches == server.served().requests, builder.said
        for told in (calls, attempts):
            assert (total(told, "input_tokens"), total(told, "output_tokens")) == spent(server), builder.said
            assert total(told, "cost_nanos") == scene.cost(), builder.said
