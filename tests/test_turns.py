"""Who waits longest is next, among threads and among processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.errors import StoreUnavailable
from storage import sqlite_file as files
from storage.sqlite_file import LOCK_SUFFIX, write_lock
from storage.turns import Place, Turns

ROOT = Path(__file__).parents[1]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# Threads.


def test_threads_have_their_turns_in_the_order_they_came() -> None:
    turns, served = Turns(), list[int]()

    def work(number: int) -> None:
        with turns:
            served.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda n=number: len(turns._waiting) == n + 1)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert served == list(range(6))


def test_who_had_a_turn_waits_for_those_who_came_meanwhile() -> None:
    turns, served = Turns(), list[str]()

    def other() -> None:
        with turns:
            served.append("other")

    thread = threading.Thread(target=other)
    with turns:
        thread.start()
        wait_until(lambda: len(turns._waiting) == 1)
    with turns:
        served.append("again")
    thread.join()
    assert served == ["other", "again"]


def test_one_thread_may_take_its_turn_several_times_over() -> None:
    turns, entered = Turns(), threading.Event()

    def other() -> None:
        with turns:
            entered.set()

    thread = threading.Thread(target=other)
    with turns:
        with turns:
            thread.start()
        assert not entered.wait(0.05), "the outer block has not ended"
    assert entered.wait(20)
    thread.join()


def test_an_interrupted_wait_keeps_nobody_waiting() -> None:
    turns, held, may_end = Turns(), threading.Event(), threading.Event()

    def hold() -> None:
        with turns:
            held.set()
            may_end.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), turns:
        pass
    may_end.set()
    holder.join()
    with turns:
        pass


# Processes. Two descriptors of one process stand for two processes as well.


@contextmanager
def waiting(path: Path) -> Iterator[Place]:
    """Somebody who stands in the line and does nothing about it."""
    descriptor = os.open(f"{path}{LOCK_SUFFIX}", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield Place(descriptor)
    finally:
        os.close(descriptor)


def test_writers_have_their_turns_in_the_order_they_came(tmp_path: Path) -> None:
    path, served = tmp_path / "x.db", list[int]()

    def work(number: int) -> None:
        with write_lock(path):
            served.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with write_lock(path):
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert served == list(range(6))


def test_a_place_in_the_line_is_first_when_those_before_it_have_left(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with waiting(path) as one, waiting(path) as two:
        assert (one.is_first, two.is_first) == (True, False)
        one.leave()
        one.leave()
        assert two.is_first
        with waiting(path) as three:
            assert not three.is_first
    with waiting(path) as four:
        assert four.is_first


def test_a_killed_process_leaves_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    program = f"""
import time
from pathlib import Path
from tests.test_turns import waiting
with waiting(Path({str(path)!r})):
    print("waits", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        with waiting(path) as place:
            assert not place.is_first
            process.kill()
            process.wait()
            assert place.is_first


def test_nobody_waits_for_ever_for_one_who_does_not_take_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.05)
    path = tmp_path / "x.db"
    with waiting(path), write_lock(path):
        pass


def test_without_locks_of_descriptors_there_is_no_line_and_still_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.turns._HAS_LINES", False)
    path = tmp_path / "x.db"
    with waiting(path), write_lock(path), pytest.raises(StoreUnavailable), write_lock(path, 0.01):
        pass
