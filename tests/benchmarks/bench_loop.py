"""How late an asyncio program's loop turns while it makes 200 calls a second: untraced, with spans, with the hub.

    python tests/benchmarks/bench_loop.py [--quick]

A task sleeps for 1 ms again and again; how much later it wakes is the loop's delay. Beside it a call starts every 5 ms
and waits 20 ms for its answer (1 kB prompt, 2 kB answer, usage, all texts new). The yardstick traces each call by an
OpenTelemetry SDK span with 15 attributes, ended into a BatchSpanProcessor whose exporter does nothing. Ours: capture
full, crash_safe, redaction on, the store and the otlp sink draining, asserted to have kept up. Each run is a process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.collector import running_collector
from tests.benchmarks.report import Figure, p99, show_figures
from tests.benchmarks.workload import Conversations, interleaved, measured_alone

RATE = 200
SECOND = 4 * RATE
"""Events of one second; the otlp sink keeps half as many back, waiting for company."""
ANSWER_SECONDS = 0.02
WARM_SECONDS = 0.5
MODES = ("untraced", "span", "hub")
Call = Callable[[list[dict[str, Any]]], Awaitable[Any]]


def plain(made: Conversations) -> Call:
    async def call(messages: list[dict[str, Any]]) -> Any:
        await asyncio.sleep(ANSWER_SECONDS)
        return made.complete(messages)

    return call


@contextmanager
def tracing(mode: str, call: Call) -> Iterator[tuple[Call, Callable[[], int]]]:
    """The call as *mode* traces it, and how many events wait for the slower sink."""
    if mode == "untraced":
        yield call, lambda: 0
        return
    if mode == "span":
        from tests.benchmarks.yardstick import spanned

        yield spanned(call), lambda: 0
        return
    from hub.runtime import Hub
    from tests.benchmarks.bench_store import warm

    with running_collector() as endpoint, tempfile.TemporaryDirectory() as folder:
        import os

        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        with Hub(
            db_url=f"sqlite:///{folder}/bench.db", spool_dir=f"{folder}/spool", otel="export", project="bench"
        ) as hub:
            warm(hub)
            traced = hub.traced(call, provider="openai", model="gpt-5-mini")
            yield traced, lambda: max(sink.waiting for sink in hub.spool.counters().sinks.values())


async def probe(until: float) -> list[float]:
    """Milliseconds by which each sleep of 1 ms was late."""
    late = []
    clock = time.perf_counter
    while (started := clock()) < until:
        await asyncio.sleep(0.001)
        late.append((clock() - started) * 1e3 - 1)
    return late


async def program(call: Call, made: Conversations, seconds: float) -> list[float]:
    started = time.perf_counter()
    watching: asyncio.Task[list[float]] | None = None
    running = set()
    for number, messages in enumerate(made.questions()):
        due = started + number / RATE
        if watching is None and due >= started + WARM_SECONDS:
            watching = asyncio.ensure_future(probe(started + WARM_SECONDS + seconds))
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.ensure_future(call(messages))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    assert watching is not None
    return await watching


def measure(mode: str, seconds: float) -> dict[str, float]:
    """One run, in this process."""
    made = Conversations(int(RATE * (WARM_SECONDS + seconds)) + 1)
    with tracing(mode, plain(made)) as (call, waiting):
        late = asyncio.run(program(call, made, seconds))
        behind = waiting()
    assert behind < SECOND, f"{behind} events waited at the end: the sinks did not keep up"
    return {"p50": statistics.median(late), "p99": p99(late)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--mode", choices=MODES, help="one run, in this process; prints JSON")
    options.add_argument("--seconds", type=float)
    options.add_argument("--runs", type=int)
    given = options.parse_args()
    seconds = given.seconds or (0.5 if given.quick else 8.0)
    if given.mode:
        print(json.dumps(measure(given.mode, seconds)))
        return
    runs = given.runs or (1 if given.quick else 5)
    found = interleaved(runs, MODES, lambda mode: measured_alone(__file__, "--mode", mode, "--seconds", str(seconds)))
    at_99 = {mode: [run["p99"] for run in found[mode]] for mode in MODES}
    yardstick = statistics.median(at_99["span"])
    figures = [
        Figure(
            mode,
            at_99[mode],
            "<= 2 x span" if mode == "hub" else "",
            f"{statistics.median(at_99[mode]) / yardstick:.2f} x span; "
            f"median delay {statistics.median(run['p50'] for run in found[mode]):.2f} ms",
        )
        for mode in MODES
    ]
    show_figures(f"Delay of the event loop at {RATE} calls a second, p99 in ms of {runs} runs", figures)


if __name__ == "__main__":
    main()
