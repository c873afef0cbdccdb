"""Time that tracing adds to a provider of each contract, beside what it adds to a function in the same run.

    python tests/benchmarks/bench_providers.py [--quick]

As bench_caller.py has it: 1 kB prompt, 2 kB answer, usage, every text new; capture full, crash_safe, redaction on, the
store and the otlp sink draining beside it. Providers take and give their contract's own objects, and have a
configuration that says the model, as it is with real ones. Exits with 1 where one is over its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.bench_caller import answered, prose, started_hub, stored, timed
from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Figure, show_figures
from tests.contract_kits.debate import LLMResponse
from tests.provider_shapes import (
    Amplifier,
    AmplifierMessage,
    AmplifierUsage,
    ChatRequest,
    ChatResponse,
    Debate,
    Role,
    Spine,
    SpineMessage,
    SpineResponse,
    SpineUsage,
    TextBlock,
)

BOUND = 1.2
PROMPT, REPLY = prose(990, 1), prose(1990, 2)
taken = iter(range(10**9))


def prompt() -> str:
    return f"{next(taken)} {PROMPT}"


def reply() -> str:
    return f"{next(taken)} {REPLY}"


def said() -> list[Any]:
    return [{"role": "user", "content": prompt()}]


def amplifier_said() -> Any:
    return ChatRequest(messages=[AmplifierMessage(role="user", content=prompt())])


def spine_said() -> list[Any]:
    return [SpineMessage(role=Role.USER, content=prompt())]


async def function(messages: list[Any]) -> Any:
    return answered(reply())


class OfAmplifier(Amplifier):
    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        usage = AmplifierUsage(input_tokens=250, output_tokens=500, total_tokens=750)
        return ChatResponse(content=[TextBlock(text=reply())], usage=usage)


class OfDebate(Debate):
    async def complete(self, messages: Any, *, model: str | None = None, **more: Any) -> LLMResponse:
        return LLMResponse(reply(), "debate-1", {"input_tokens": 250, "output_tokens": 500}, "stop")


class OfSpine(Spine):
    async def complete(self, messages: Any, tools: Any = None, **kwargs: Any) -> SpineResponse:
        message = SpineMessage(role=Role.ASSISTANT, content=reply())
        return SpineResponse(message=message, usage=SpineUsage(input_tokens=250, output_tokens=500))


@dataclass(frozen=True)
class Case:
    """Something that calls a model, bare and traced."""

    name: str
    bare: Callable[[Any], Any]
    traced: Callable[[Any], Any]
    ask: Callable[[], Any]

    def added(self, calls: int, pause: float) -> float:
        """Microseconds at the median."""
        bare, traced = (asyncio.run(timed(body, self.ask, calls, pause)) for body in (self.bare, self.traced))
        return statistics.median(traced) - statistics.median(bare)


def cases(hub: Any) -> list[Case]:
    """The function first."""
    providers: list[tuple[str, Any, Callable[[], Any]]] = [
        ("amplifier", OfAmplifier(), amplifier_said),
        ("adversarial-debate", OfDebate(), said),
        ("spine", OfSpine(), spine_said),
    ]
    return [
        Case("function", function, hub.traced(provider="openai", model="gpt-5-mini")(function), said),
        *(Case(name, bare.complete, hub.traced(bare).complete, ask) for name, bare, ask in providers),
    ]


def compare(name: str, of: list[Case], rounds: int, calls: int, pause: float) -> list[Figure]:
    """Ratios of what tracing adds, in interleaved rounds."""
    added = [[case.added(calls, pause) for case in of] for _ in range(rounds)]
    figures = []
    for index, case in enumerate(of[1:], 1):
        mine, functions = (statistics.median(one[at] for one in added) for at in (index, 0))
        ratios = [one[index] / one[0] for one in added]
        figures.append(Figure(f"{case.name}, {name}", ratios, str(BOUND), f"{mine:.0f} us, a function {functions:.0f}"))
    return figures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    quick = options.parse_args().quick
    with running_collector() as endpoint, started_hub(endpoint) as hub:
        of = cases(hub)
        asyncio.run(timed(of[0].traced, said, 50, 0.001))  # the store opens
        assert hub.flush(20) == 0
        before = stored(hub)
        figures = [
            *compare("paced, 200 a second", of, 1 if quick else 5, 40 if quick else 300, 0.005),
            *compare("back to back", of, 2 if quick else 7, 200 if quick else 1_200, 0.0),
        ]
        assert stored(hub) > before, "no rows were stored while the calls were timed"
        show_figures("Time added to a provider's call, as a multiple of a function's", figures)
        assert hub.flush(60) == 0
    return int(any(statistics.median(figure.values) > BOUND for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
