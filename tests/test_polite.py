from __future__ import annotations

import threading

from hub.polite import LONG_SLICE, SLICE, Politeness, slice_beside


def test_a_busy_program_is_given_way_to_more_often_than_one_that_waits() -> None:
    assert slice_beside(computed=0.004, seconds=0.01) == SLICE
    assert slice_beside(computed=0.0001, seconds=0.01) == LONG_SLICE > SLICE


def test_a_thread_rests_when_its_slice_is_over_and_not_before() -> None:
    now, pauses = 100.0, list[float]()
    polite = Politeness(lambda: now, pauses.append)
    polite.rest()
    for _ in range(3):
        now += SLICE / 4
        polite.rest()
    assert len(pauses) == 1
    now += LONG_SLICE
    polite.rest()
    assert len(pauses) == 2


def test_each_thread_has_a_slice_of_its_own() -> None:
    pauses = list[float]()
    polite = Politeness(lambda: 100.0, pauses.append)
    polite.rest()
    thread = threading.Thread(target=polite.rest)
    thread.start()
    thread.join()
    assert len(pauses) == 2
