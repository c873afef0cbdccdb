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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Row, show
from tests.benchmarks.yardstick import Call, spanned

WORDS = ("the quick brown fox jumps over a lazy dog", "seven wizards quietly mix potions", "and so on")
Message = dict[str, Any]
Ask = Callable[[], list[Message]]


def prose(size: int, seed: int) -> str:
    """About *size* characters of words, different for each seed."""
    rand = random.Random(seed)
    text = f"{seed} "
    while len(text) < size:
        text += " ".join(rand.choices(WORDS, k=40)) + ". "
    return text[:size]


def answered(text: str) -> dict[str, Any]:
    """A chat completion as OpenAI's wire has it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 500, "total_tokens": 750},
    }


async def timed(body: Call, ask: Ask, calls: int, pause: float) -> list[float]:
    """Microseconds of each call; *pause* seconds between two, 0: back to back, in slices that let the loop turn."""
    took = []
    clock = time.perf_counter_ns
    for number in range(calls):
        messages = ask()
        started = clock()
        await body(messages)
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


def compare(name: str, calls: int, pause: float, ask: Ask, plain: Call, span: Call, ours: Call, hub: Any) -> Row:
    """Five rounds of the three, interleaved; added time is against the plain one."""
    figures: dict[str, list[list[float]]] = {"plain": [], "span": [], "ours": []}
    before = stored(hub)
    for _ in range(5):
        for key, body in (("plain", plain), ("span", span), ("ours", ours)):
            figures[key].append(asyncio.run(timed(body, ask, calls, pause)))
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
    prompt, reply = prose(990, 1), prose(1990, 2)
    taken = iter(range(10**9))

    def asked() -> list[Message]:
        return [{"role": "user", "content": f"{next(taken)} {prompt}"}]

    async def answer(messages: list[Message]) -> dict[str, Any]:
        return answered(f"{next(taken)} {reply}")

    async def plain(messages: list[Message]) -> Any:
        return await answer(messages)

    span = spanned(answer)
    with running_collector() as endpoint, started_hub(endpoint) as hub:
        traced = hub.traced(provider="openai", model="gpt-5-mini")(answer)

        asyncio.run(timed(traced, asked, 50, 0.001))  # the store opens
        assert hub.flush(20) == 0
        history = conversation(50)

        def same() -> list[Message]:
            return history

        def equal() -> list[Message]:
            return [{**message, "content": message["content"][:1] + message["content"][1:]} for message in history]

        rows = [
            compare("paced, 200 a second", calls, 0.005, asked, plain, span, traced, hub),
            compare("back to back", 1_200, 0.0, asked, plain, span, traced, hub),
            compare("132 KB, same strings", calls // 10, 0.005, same, plain, span, traced, hub),
            compare("132 KB, equal copies", calls // 10, 0.005, equal, plain, span, traced, hub),
        ]
        show("Time added on the caller's path, us", rows)
        assert hub.flush(60) == 0


if __name__ == "__main__":
    main()
