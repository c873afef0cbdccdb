"""A function that fails as often as it is told to."""

from __future__ import annotations


class Trial:
    """Fails with *errors* first, each after *lasting* seconds on a clock of its own."""

    def __init__(self, *errors: BaseException, lasting: float = 0.0) -> None:
        self.errors, self.lasting = list(errors), lasting
        self.now = 100.0
        self.tries = 0
        self.waited: list[float] = []

    def __call__(self) -> str:
        self.tries += 1
        self.now += self.lasting
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now
