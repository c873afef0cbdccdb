"""Time that tracing adds on the caller's path, beside one plain OpenTelemetry SDK span with 15 attributes.

    python tests/benchmarks/bench_caller.py [--quick]

The yardstick: a span with 15 attributes, ended into a BatchSpanProcessor with an exporter that does nothing. Ours: an
async function with @hub.traced, 1 kB prompt, 2 kB answer, usage; capture full, crash_safe, redaction on, the store and
the otlp sink draining beside it; asserted to have stored rows while the calls were timed. Every text is new.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Row, show

WORDS = ("the quick brown fox jumps over a lazy dog", "seven wizards quietly mix potions", "and so on")
Body = Callable[[int], Awaitable[Any]]
Message = dict[str, Any]


class Nowhere(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def prose(size: int, seed: int) -> str:
    """About *size* characters of words, different for each seed."""
    rand = random.Random(seed)
    text = f"{seed} "
    while len(text) < size:
        text += " ".join(rand.choices(WORDS, k=40)) + ". "
    return text[:size]


class Answer:
    """The shape that OpenAI's SDK answers with."""

    def __init__(self, text: str) -> None:
        self.text = text

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-5-mini",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 250, "completion_tokens": 500, "total_tokens": 750},
        }


async def timed(body: Body, calls: int, pause: float) -> list[float]:
    """Microseconds of each call; *pause* seconds between two, 0: back to back, in slices that let the loop turn."""
    took = []
    clock = time.perf_counter_ns
    for number in range(calls):
        started = clock()
        await body(number)
        took.append((clock() - started) / 1e3)
        if pause:
            await asyncio.sleep(pause)
        elif number % 50 == 49:
            await asyncio.sleep(0.002)
    return took


@contextmanager
def started_hub(endpoint: str) -> Iterator[Any]:
    import hub

    with tempfile.TemporaryDirectory() as folder:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        hub.init(
            db_url=f"sqlite:///{folder}/bench.db",
            spool_dir=f"{folder}/spool",
            otel="export",
            capture="full",
            durability="crash_safe",
            project="bench",
        )
        yield hub
        hub.shutdown()


def stored(hub: Any) -> int:
    """Events that the store's thread has passed."""
    from hub.runtime import default_hub

    return int(default_hub().spool.counters().sinks["store"].stored)


def compare(name: str, calls: int, pause: float, plain: Body, span: Body, ours: Body, hub: Any) -> Row:
    """Five rounds of the three, interleaved; added time is against the plain one."""
    figures: dict[str, list[list[float]]] = {"plain": [], "span": [], "ours": []}
    before = stored(hub)
    for _ in range(5):
        for key, body in (("plain", plain), ("span", span), ("ours", ours)):
            figures[key].append(asyncio.run(timed(body, calls, pause)))
    during = stored(hub) - before
    assert during > 0, "no rows were stored while the calls were timed"
    base = statistics.median(list(chain.from_iterable(figures["plain"])))
    return Row.of(name, base, figures["span"], figures["ours"], f"{during} events stored meanwhile")


def conversation(turns: int) -> list[Message]:
    """A conversation of 1.32 kB messages, two a turn."""
    return [{"role": ("user", "assistant")[n % 2], "content": prose(1320, n)} for n in range(turns * 2)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    quick = options.parse_args().quick
    calls = 60 if quick else 600
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("yardstick")
    total = 5 * calls * 8
    prompts = [prose(1000, n) for n in range(total)]
    answers = [Answer(prose(2000, n)).as_dict() for n in range(total)]
    taken = iter(range(10**9))

    async def answer(messages: list[Message]) -> dict[str, Any]:
        return answers[next(taken) % total]

    async def plain(number: int) -> Any:
        return await answer([{"role": "user", "content": prompts[next(taken) % total]}])

    async def span(number: int) -> Any:
        messages = [{"role": "user", "content": prompts[next(taken) % total]}]
        with tracer.start_as_current_span("chat gpt-5-mini") as current:
            for key in range(12):
                current.set_attribute(f"gen_ai.request.attribute.{key}", key)
            result = await answer(messages)
            current.set_attribute("gen_ai.usage.input_tokens", 250)
            current.set_attribute("gen_ai.usage.output_tokens", 500)
            current.set_attribute("gen_ai.response.model", "gpt-5-mini")
        return result

    with running_collector() as endpoint, started_hub(endpoint) as hub:
        traced = hub.traced(provider="openai", model="gpt-5-mini")(answer)

        async def ours(number: int) -> Any:
            return await traced([{"role": "user", "content": prompts[next(taken) % total]}])

        asyncio.run(timed(ours, 50, 0.001))  # the store opens
        assert hub.flush(20) == 0
        history = conversation(50)
        copies = iter(
            [
                [{**m, "content": m["content"][:1] + m["content"][1:]} for m in history]
                for _ in range(5 * calls // 10 + 5)
            ]
        )

        async def same(number: int) -> Any:
            return await traced(history)

        async def equal(number: int) -> Any:
            return await traced(next(copies))

        rows = [
            compare("paced, 200 a second", calls, 0.005, plain, span, ours, hub),
            compare("back to back", calls * 2, 0.0, plain, span, ours, hub),
            compare("132 KB, same strings", calls // 10, 0.005, plain, span, same, hub),
            compare("132 KB, equal copies", calls // 10, 0.005, plain, span, equal, hub),
        ]
        assert hub.flush(30) == 0
    show("Time added on the caller's path, us", rows)


if __name__ == "__main__":
    main()
