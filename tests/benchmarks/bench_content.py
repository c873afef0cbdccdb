"""What cleaning costs on the caller's path, beside encoding the same value with orjson.

Run: python tests/benchmarks/bench_content.py [repeats, 7 unless given]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import orjson

from hub.content import Cleaner
from hub.messages import count_and_system, parts, summarise

TEXT = """A recorder keeps each request with its parameters and every answer: text, tool calls and usage. When something
fails, engineers read the story again; note that passwords are never kept, and keys (if any) are taken out = gone."""
FOREIGN = "漢字かな交じり文、é ü ß и так далее: "


def prose(size: int, seed: int = 1) -> str:
    chosen, words = random.Random(seed), TEXT.split()
    return " ".join(chosen.choice(words) for _ in range(size // 4))[:size]


def conversation() -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": prose(1320, i)} for i in range(100)]


def copies(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def timed(make: Callable[[], Iterator[Any]], work: Callable[[Any], object], repeats: int) -> tuple[float, float]:
    """Least and median microseconds of one call of *work*, which gets each value of *make* once."""
    took = []
    for _ in range(repeats):
        values = list(make())
        start = perf_counter()
        for value in values:
            work(value)
        took.append((perf_counter() - start) / len(values) * 1e6)
    return min(took), median(took)


def cases() -> Iterator[tuple[str, Callable[[], Iterator[Any]], Callable[[Any], object]]]:
    counter = iter(range(10**9))
    text, big, talk = prose(3000), prose(100_000), conversation()
    foreign = (FOREIGN * 200)[:3000]
    warm = Cleaner()
    for value in (text, talk):
        warm.clean(value)
    yield "3 kB, new", lambda: (f"{next(counter)} {text}" for _ in range(300)), warm.clean
    yield "3 kB, new, not ASCII", lambda: (f"{next(counter)} {foreign}" for _ in range(300)), warm.clean
    yield "100 kB, new", lambda: (f"{next(counter)} {big}" for _ in range(20)), warm.clean
    yield "100 kB, new, one key", lambda: (f"{next(counter)} {big} api_key=abcdef12" for _ in range(20)), warm.clean
    warm = Cleaner()
    warm.clean(talk)
    warm.clean(text)
    yield "3 kB, seen", lambda: (text for _ in range(2000)), warm.clean
    yield "8 characters, new", lambda: (f"{next(counter):08d}" for _ in range(2000)), warm.clean
    yield "132 kB in 100 messages, same", lambda: (talk for _ in range(200)), warm.clean
    yield "132 kB in 100 messages, copies", lambda: (copies(talk) for _ in range(50)), warm.clean
    yield "count_and_system of them", lambda: (talk for _ in range(200)), count_and_system
    yield "parts of a message", lambda: (talk[0] for _ in range(500)), parts
    yield "summary of 100 messages", lambda: (talk for _ in range(20)), summarise


def main(repeats: int = 7) -> None:
    print(f"{'':32} {'min us':>9} {'median us':>9} {'orjson us':>9} {'ratio':>7}")
    for name, make, work in cases():
        least, middle = timed(make, work, repeats)
        yardstick = timed(make, orjson.dumps, repeats)[1]
        print(f"{name:32} {least:9.2f} {middle:9.2f} {yardstick:9.2f} {middle / yardstick:7.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
