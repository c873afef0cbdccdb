"""What tracing adds to each chunk of a stream, beside one OpenTelemetry context attached and detached.

Run: python tests/benchmarks/bench_stream.py [repeats, 15 unless given]
The bound is 0.5 us a chunk; the benchmark says so where it is passed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from opentelemetry import context as otel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub import traced
from tests.calls_of import ListHub

CHUNKS = 5_000
BOUND_US = 0.5


def stream(prompt: str) -> Iterator[str]:
    for _ in range(CHUNKS):
        yield "a word "


async def astream(prompt: str) -> AsyncIterator[str]:
    for _ in range(CHUNKS):
        yield "a word "


def read(make: Callable[[str], Iterator[str]]) -> float:
    """Microseconds a chunk."""
    start = perf_counter()
    for _ in make("x"):
        pass
    return (perf_counter() - start) / CHUNKS * 1e6


async def _aread(make: Callable[[str], AsyncIterator[str]]) -> float:
    start = perf_counter()
    async for _ in make("x"):
        pass
    return (perf_counter() - start) / CHUNKS * 1e6


def aread(make: Callable[[str], AsyncIterator[str]]) -> float:
    return asyncio.run(_aread(make))


def yardstick() -> float:
    """Attaching and detaching a context, as every step of a stream must."""
    context = otel.get_current()
    start = perf_counter()
    for _ in range(CHUNKS):
        otel.detach(otel.attach(context))
    return (perf_counter() - start) / CHUNKS * 1e6


def added(bare: Callable[[], float], wrapped: Callable[[], float], repeats: int) -> list[float]:
    """What *wrapped* adds, each time measured beside *bare*."""
    return sorted(-bare() + wrapped() for _ in range(repeats))


def main(repeats: int = 15) -> int:
    hub = ListHub()  # a chunk reaches no further than the wrapper: where events go changes nothing
    ours: Any = traced(stream, hub=hub)
    ours_async: Any = traced(astream, hub=hub)
    rows = [
        ("generator", added(lambda: read(stream), lambda: read(ours), repeats)),
        ("async generator", added(lambda: aread(astream), lambda: aread(ours_async), repeats)),
    ]
    unit = median(yardstick() for _ in range(repeats))
    print(f"{'added to a chunk':18} {'median us':>10} {'least':>8} {'most':>8} {'x attach':>9}")
    for name, spread in rows:
        middle = median(spread)
        note = "" if middle <= BOUND_US else f"  over the bound of {BOUND_US}"
        print(f"{name:18} {middle:10.3f} {spread[0]:8.3f} {spread[-1]:8.3f} {middle / unit:9.2f}{note}")
    return int(any(median(spread) > BOUND_US for _, spread in rows))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
