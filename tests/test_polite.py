from __future__ import annotations

import threading

import pytest

from hub.polite import LONG_SLICE, SLICE, SLICE_BEHIND, Politeness


class Time:
    """A clock, and what others compute by it."""

    def __init__(self, busy: float) -> None:
        self.now, self.busy = 100.0, busy
        self.pauses = 0
        self.polite = Politeness(lambda: self.now, self.pause, lambda: self.now * self.busy)

    def pause(self, _seconds: float) -> None:
        self.pauses += 1

    def work(self, seconds: float) -> int:
        """How many pauses that work comes with."""
        before = self.pauses
        for _ in range(round(seconds / 25e-6)):
            self.now += 25e-6
            self.polite.rest()
        return self.pauses - before


@pytest.mark.parametrize(
    ("busy", "behind", "length"), [(0.2, False, SLICE), (0.2, True, SLICE_BEHIND), (0.001, False, LONG_SLICE)]
)
def test_a_busy_program_is_given_way_to_more_often_than_one_that_waits(
    busy: float, behind: bool, length: float
) -> None:
    time = Time(busy)
    time.polite.behind = behind
    time.work(0.05)
    assert time.work(0.1) == pytest.approx(0.1 / length, rel=0.3)


def test_each_thread_has_a_slice_of_its_own() -> None:
    time = Time(0.2)
    time.polite.rest()
    thread = threading.Thread(target=time.polite.rest)
    thread.start()
    thread.join()
    assert time.pauses == 2
