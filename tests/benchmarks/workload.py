"""What the benchmarks of the sinks trace: chat completions with 1 kB prompts and 2 kB answers, no two texts alike."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PROMPT_BYTES, ANSWER_BYTES = 1000, 2000
_TEXT = (
    "the quick brown fox jumps over a lazy dog while seven wizards quietly mix potions in their old tower and nobody "
    "asks what becomes of them when evening falls upon hills far beyond any river that this small boat has crossed"
)
_WORDS = _TEXT.split()


def prose(size: int, rand: random.Random) -> str:
    """*size* characters of words."""
    return " ".join(rand.choices(_WORDS, k=size // 3))[:size]


def answered(text: str) -> dict[str, Any]:
    """A chat completion as OpenAI's wire has it."""
    return {
        "object": "chat.completion",
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 500, "total_tokens": 750},
    }


class Conversations:
    """Prompts and answers made before the clock runs."""

    def __init__(self, calls: int, seed: int = 1) -> None:
        rand = random.Random(seed)
        self.prompts = [prose(PROMPT_BYTES, rand) for _ in range(calls)]
        self._answers = iter([answered(prose(ANSWER_BYTES, rand)) for _ in range(calls)])

    def questions(self) -> Iterator[list[dict[str, Any]]]:
        """The messages of each call."""
        for prompt in self.prompts:
            yield [{"role": "user", "content": prompt}]

    def complete(self, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The provider: the next answer, at once."""
        return next(self._answers)

    async def acomplete(self, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The provider of an asyncio program."""
        return next(self._answers)


def measured_alone(script: str, *arguments: str) -> Any:
    """What the benchmark *script*, run with *arguments* in a process of its own, prints as JSON in its last line."""
    done = subprocess.run(
        [sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout.splitlines()[-1])


def interleaved(rounds: int, cases: Sequence[str], measure: Callable[[str], Any]) -> dict[str, list[Any]]:
    """*rounds* of all *cases*, one after the other, so that a noisy minute falls on all of them."""
    found: dict[str, list[Any]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            found[case].append(measure(case))
    return found
