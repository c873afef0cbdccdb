from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.delivery import FIRST_WAIT, LONGEST_WAIT, Splitter, backoff
from hub.errors import StoreUnavailable
from hub.events import EventRecord
from hub.log import Stream
from hub.pipeline import MAX_EVENTS, Pipeline
from hub.spool import Durability, Spool
from hub.spool.bounds import MEBIBYTE
from tests.spools import KB, Emitter, ListSink, assert_exact, make_spool, new_id, put


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("sqlite:///calls.db", "locked", "try again")


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for *condition*, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)


class Running:
    """A spool and a running pipeline with a store and another sink."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.store, self.other = ListSink("store"), ListSink("other")
        self.spool: Spool = make_spool(root, sinks=("store", "other"), **{"max_bytes": 16 * MEBIBYTE, **options})
        self.emitter = Emitter(self.spool)
        self.pipeline = Pipeline(self.spool, [self.store, self.other], self.emitter)
        self.pipeline.start()
        self.stream = Stream(new_id())

    def emit(self, count: int = 1, **data: Any) -> None:
        put(self.spool, self.stream, count, **data)

    def stop(self) -> None:
        self.store.free.set()
        self.other.free.set()
        self.pipeline.stop(2.0)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "spools")
    yield running
    running.stop()


def test_events_reach_every_sink_in_order_and_flush_says_none_is_left(running: Running) -> None:
    for _ in range(100):
        running.emit(2)
    assert running.pipeline.flush(5.0) == 0
    for sink in (running.store, running.other):
        assert [record["version"] for record in sink.log] == list(range(1, 201))
    assert_exact(running.spool.counters())


def test_events_arrive_without_a_flush(running: Running) -> None:
    started = time.monotonic()
    running.emit()
    until(lambda: running.store.log)
    assert time.monotonic() - started < 1.0


def test_flush_tells_how_many_are_not_in_the_store_when_the_time_is_up(running: Running) -> None:
    running.store.free.clear()
    running.emit(7)
    started = time.monotonic()
    assert running.pipeline.flush(0.1) == 7
    assert time.monotonic() - started < 0.5
    running.store.free.set()
    assert running.pipeline.flush(5.0) == 0


def test_flush_waits_for_no_sink_that_fails_but_the_store(running: Running) -> None:
    running.other.errors = [OSError()] * 50
    running.emit()
    until(lambda: len(running.other.errors) < 49)
    started = time.monotonic()
    assert running.pipeline.flush(5.0) == 0
    assert time.monotonic() - started < 2.0


def test_a_sink_that_is_held_delays_nobody(running: Running) -> None:
    running.other.free.clear()
    running.emit(500)
    until(lambda: len(running.store.log) == 500)
    assert running.other.log == []
    counted = running.spool.counters()
    assert_exact(counted)
    assert counted.sinks["other"].waiting == 500


def test_batches_are_bounded_in_events_and_bytes(running: Running) -> None:
    running.store.free.clear()
    running.emit()
    time.sleep(0.1)
    for _ in range(1500):
        running.emit(2)
    running.store.free.set()
    assert running.pipeline.flush(10.0) == 0
    assert max(running.store.batches) == MAX_EVENTS


def test_the_same_batch_comes_again_after_an_outage_which_is_logged_once_without_its_message(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hub"):
        running.store.errors = [unavailable(), unavailable(), OSError("a secret")]
        running.emit(3)
        until(lambda: len(running.store.log) == 3)
        until(lambda: running.spool.counters().sinks["store"].waiting == 0)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "StoreUnavailable" in caplog.text
    assert "secret" not in caplog.text
    counted = running.spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].stored == 3


def test_backoff_grows_from_50_ms_to_5_s_with_jitter() -> None:
    assert backoff(1, lambda: 1.0) == FIRST_WAIT
    assert backoff(1, lambda: 0.0) == FIRST_WAIT / 2
    waits = [backoff(failures, lambda: 1.0) for failures in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT


def test_one_bad_event_never_fails_its_batch(running: Running) -> None:
    running.store.poison = {3, -1}
    for n in [*range(6), -1, *range(6, 9)]:
        running.emit(n=n, size=100)
    until(lambda: running.spool.counters().sinks["store"].waiting == 0, 10)
    by_n = {record["data"]["n"]: record for record in running.store.log if "n" in record["data"]}
    assert sorted(by_n) == list(range(9))
    assert by_n[3]["content"] is None
    assert by_n[3]["data"]["shed"]["reason"] == "rejected_by_sink"
    assert by_n[4]["content"] == {"text": "x" * 100}
    counted = running.spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].dropped == {"rejected": 1}
    assert counted.sinks["other"].dropped == {}
    until(lambda: running.store.store.of_type("hub:dropped"))
    [dropped] = running.store.store.of_type("hub:dropped")
    assert (dropped["data"]["reason"], dropped["data"]["count"], dropped["data"]["sink"]) == ("rejected", 1, "store")


def test_a_sink_that_takes_nothing_is_ill_and_nothing_is_given_up() -> None:
    records = [_record(n) for n in range(100)]
    writes = 0

    def broken(_records: object) -> list[EventRecord]:
        nonlocal writes
        writes += 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Splitter(broken).deliver(records)
    assert writes <= 32
    with pytest.raises(RuntimeError):
        Splitter(broken).deliver(records[:1])


def _record(n: int) -> EventRecord:
    record: Any = {"id": str(n), "type": "t:e", "stream_id": "s", "version": n, "data": {}, "content": None}
    typed: EventRecord = record
    return typed


def test_a_conflict_is_carried_by_an_event_of_its_own_and_counted(running: Running) -> None:
    running.emit(2, n=1)
    assert running.pipeline.flush(5) == 0
    double = Stream(running.stream.id)
    put(running.spool, double, n=2, size=20)
    assert running.pipeline.flush(5) == 0
    until(lambda: running.store.store.of_type("hub:conflict"))
    [conflict] = running.store.store.of_type("hub:conflict")
    assert conflict["data"]["stream_id"] == running.stream.id
    assert conflict["data"]["version"] == 1
    assert conflict["content"] is not None
    assert conflict["content"]["original"]["data"]["n"] == 2
    counted = running.spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].dropped == {"conflict": 1}


def test_what_was_dropped_is_named_in_the_store(tmp_path: Path) -> None:
    running = Running(tmp_path / "spools", max_bytes=800 * KB, segment_bytes=16 * KB)
    running.store.free.clear()
    for _ in range(1000):
        running.emit(size=1000)
    lost = running.spool.counters().sinks["store"].dropped["spool_full"]
    assert lost > 0
    running.store.free.set()
    until(lambda: running.store.store.of_type("hub:dropped"))
    running.stop()
    named = running.store.store.of_type("hub:dropped")
    assert sum(event["data"]["count"] for event in named if event["data"]["sink"] is None) == lost
    missing = {seq for event in named for a, b in event["data"]["producer_seqs"] for seq in range(a, b + 1)}
    assert missing | {record["producer_seq"] for record in running.store.log} == set(
        range(1, running.spool.counters().emitted + 1)
    )


def test_notes_of_finalisers_are_run_by_the_keeper_and_may_fail(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    def bad() -> None:
        raise ValueError("a secret")

    running.spool.notes.append(bad)
    running.spool.notes.append(lambda: ran.append(threading.current_thread().name))
    until(lambda: ran)
    assert ran == ["hub-keeper"]
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_stop_delivers_what_waits_closes_the_sinks_and_leaves_nothing(tmp_path: Path) -> None:
    running = Running(tmp_path / "spools")
    running.emit(300)
    running.pipeline.stop(2.0)
    assert len(running.store.log) == 300
    assert running.store.closed
    assert running.other.closed
    assert list((tmp_path / "spools").iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name in ("hub-store", "hub-other", "hub-keeper")]
    running.pipeline.stop(2.0)


@pytest.mark.parametrize("held", ["store", "other"])
def test_stop_keeps_its_deadline_whatever_a_sink_does(tmp_path: Path, held: str) -> None:
    running = Running(tmp_path / "spools")
    sink = running.store if held == "store" else running.other
    sink.free.clear()
    running.emit(10)
    time.sleep(0.1)
    started = time.monotonic()
    running.pipeline.stop(0.5)
    assert time.monotonic() - started < 0.6
    assert len(running.store.log) == (0 if held == "store" else 10)
    assert_exact(running.spool.counters())
    sink.free.set()
    until(lambda: sink.closed)


def test_stop_does_not_wait_for_a_sink_that_keeps_failing(tmp_path: Path) -> None:
    running = Running(tmp_path / "spools")
    running.other.errors = [OSError()] * 1000
    running.emit(10)
    started = time.monotonic()
    running.pipeline.stop(2.0)
    assert time.monotonic() - started < 1.0
    assert len(running.store.log) == 10
    assert (
        len(list((tmp_path / "spools").iterdir())) == 1
    )  # what the other sink did not get is counted at the next start


@pytest.mark.parametrize("durability", ["crash_safe", "durable"])
def test_what_nobody_waits_for_is_brought_to_the_disk_twice_a_second(tmp_path: Path, durability: Durability) -> None:
    running = Running(tmp_path / "spools", durability=durability)
    running.store.free.clear()
    running.other.free.clear()
    running.emit()
    segment = running.spool.shelf.in_use[1]
    assert segment.dirty
    until(lambda: not segment.dirty, 2.0)
    running.stop()


def test_what_a_signal_handler_left_for_later_is_not_forgotten_at_the_end(tmp_path: Path) -> None:
    running = Running(tmp_path / "spools")
    running.emit()
    assert running.pipeline.flush(5) == 0
    running.pipeline._stopping = True  # the keeper is at its end, as it may be when the last handler runs
    running.pipeline.wake()
    running.pipeline._keeper.join()
    with running.spool.exclusive():
        running.emit()
    running.pipeline._stopping = False
    running.pipeline.stop(2.0)
    assert [record["version"] for record in running.store.log] == [1, 2]


def test_a_subscribers_exit_ends_no_thread_of_ours(running: Running) -> None:
    running.spool.notes.append(sys.exit)
    until(lambda: not running.spool.notes)
    running.emitter.refusal = SystemExit()
    running.emit()
    assert running.pipeline.flush(5) == 0
    put(running.spool, Stream(running.stream.id))  # conflicts
    running.emit()
    assert running.pipeline.flush(5) == 0
    assert running.spool.counters().sinks["store"].dropped == {"conflict": 1}
    assert len(running.store.log) == 2
    running.emitter.refusal = None


def test_a_sink_that_failed_on_what_was_skipped_meanwhile_waits_without_spinning(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    read = running.spool.reader("other").read_batch

    def look(*bounds: int) -> Any:
        looks.append(time.monotonic())
        return read(*bounds)

    monkeypatch.setattr(running.spool.reader("other"), "read_batch", look)
    running.pipeline._workers["other"].failures = 1
    time.sleep(0.3)
    assert 1 <= len(looks) < 20


def test_a_held_store_sheds_nothing_but_what_is_counted_while_the_other_sink_goes_on(tmp_path: Path) -> None:
    running = Running(tmp_path / "spools", max_bytes=4 * MEBIBYTE, segment_bytes=64 * KB)
    running.store.free.clear()
    for _ in range(3000):
        running.emit(size=3000)
    until(lambda: running.spool.counters().sinks["other"].waiting == 0, 10)
    counted = running.spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].dropped["spool_full"] > 0
    running.store.free.set()
    assert running.pipeline.flush(10) == 0
    assert_exact(running.spool.counters())
    running.stop()


def test_sinks_and_cursors_must_be_the_same(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    with pytest.raises(ValueError, match="store"):
        Pipeline(spool, [ListSink("other")], Emitter(spool))
    spool.close()
