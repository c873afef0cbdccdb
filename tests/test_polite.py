from __future__ import annotations

import threading
import time

import pytest

from hub import polite
from hub.polite import LONG_SLICE, SLICE, rest, slice_beside


def test_a_busy_program_is_given_way_to_more_often_than_one_that_waits() -> None:
    assert slice_beside(computed=0.004, seconds=0.01) == SLICE
    assert slice_beside(computed=0.0001, seconds=0.01) == LONG_SLICE > SLICE


def test_a_thread_rests_only_when_its_slice_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = 100.0, []
    monkeypatch.setattr(polite, "_now", lambda: now)
    monkeypatch.setattr(polite, "_sleep", pauses.append)

    def work() -> None:
        nonlocal now
        rest()
        for _ in range(3):
            now += SLICE / 4
            rest()
        now += LONG_SLICE
        rest()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert pauses == [0, 0]


def test_each_thread_has_a_slice_of_its_own() -> None:
    rest()
    held = polite._slice.until
    thread = threading.Thread(target=rest)
    thread.start()
    thread.join()
    assert polite._slice.until == held
    assert time.perf_counter() - held < 60
