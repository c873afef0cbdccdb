from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.errors import StoreUnavailable
from hub.events import EventRecord, encode_frame
from hub.log import Priority, Stream
from hub.pipeline import MAX_EVENTS
from hub.recovery import Recovered, RecoveryReport, derived_id, recover
from hub.spool import Spool
from hub.spool.control import EMITTED, Control
from hub.spool.segments import DATA
from hub.spool.status import spools
from hub.store import AppendResult
from tests.spools import KB, ListStore, assert_exact, constants, make_spool, new_id, put

WRITER = """
import os, sys, threading, time
from pathlib import Path
from hub.log import Stream
from hub.pipeline import Pipeline
from tests.spools import Emitter, ListSink, make_spool, new_id, put

root, mode, drain = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
spool = make_spool(root, durability=mode, sinks=("store", "spans"), segment_bytes=64 << 10, max_bytes=256 << 20)
store, spans, saying = ListSink("store"), ListSink("spans"), threading.Lock()
def say(text):
    with saying:
        os.write(1, text)
spans.free.clear()
write = store.write
def printing(records):
    conflicts = write(records)
    say(b"".join(b"S %s %d\\n" % (r["stream_id"].encode(), r["version"]) for r in records))
    return conflicts
store.write = printing
if drain == "drain":
    Pipeline(spool, [store, spans], Emitter(spool)).start()
else:
    spool.housekeeping.tend()
def emit():
    while True:
        stream = Stream(new_id())
        for n in range(5):
            put(spool, stream, 2, size=500, priority=1)
            say(b"E %s %d\\n" % (stream.id.encode(), stream.version))
threads = [threading.Thread(target=emit, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
time.sleep(60)
"""


def killed(root: Path, mode: str, drain: str, seconds: float) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """What a process that was killed after so long had emitted, and had stored."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), mode, drain], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline()]
    reader = threading.Thread(target=lambda: lines.extend(writer.stdout or ()))
    reader.start()
    time.sleep(seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    reader.join()
    writer.stdout.close()
    assert lines[0], "the writer did not start"
    emitted, stored = set(), set()
    for line in lines:
        if line.endswith(b"\n"):
            kind, stream, version = line.split()
            if kind == b"E":
                emitted |= {(stream.decode(), int(version) - 1), (stream.decode(), int(version))}
            else:
                stored.add((stream.decode(), int(version)))
    return emitted, stored


def left_behind(root: Path, **options: Any) -> Spool:
    """A spool to emit into, and to `close` as if its process had ended."""
    return make_spool(root, **options)


def call_events(spool: Spool, *, answered: bool) -> Stream:
    stream = Stream(new_id())
    for event_type in ("llm:request", "llm:response") if answered else ("llm:request",):
        frame = encode_frame(
            stream.id,
            1,
            {"call_id": stream.id, "session_id": "chat", "trace_id": "a" * 32},
            [
                {"id": new_id(), "type": event_type, "data": {"provider": "acme"}},
                {"id": new_id(), "type": event_type + ":debug", "data": {}, "content": {"text": "hi"}},
            ],
        )
        spool.append(frame, 2, stream, Priority.ESSENTIAL)
    return stream


@pytest.mark.parametrize("drain", ["drain", "hold"])
def test_nothing_that_was_emitted_is_missing_after_kill_9(tmp_path: Path, drain: str) -> None:
    for _ in range(3):
        emitted, stored = killed(tmp_path, "crash_safe", drain, random.uniform(0.0, 0.3))
        store = ListStore()
        [status] = spools(tmp_path)
        assert not status.alive
        report = recover(tmp_path, store)
        assert report.waiting == ()
        there = set(store.records) | stored
        assert emitted - there == set()
        ours = {
            key: version
            for key, version in store.streams().items()
            if store.records[key, version[-1]]["type"] == "test:event"
        }
        assert all(versions == list(range(versions[0], versions[-1] + 1)) for versions in ours.values())
        assert len({record["id"] for record in store.log}) == len(store.log)
        assert [record["data"] for record in store.of_type("hub:dropped") if record["data"]["sink"] != "spans"] == []
        assert list(tmp_path.iterdir()) == []


def test_what_memory_mode_lost_is_counted_after_kill_9(tmp_path: Path) -> None:
    emitted, stored = killed(tmp_path, "memory", "drain", 0.2)
    store = ListStore()
    report = recover(tmp_path, store)
    assert report.events == 0
    [recovered] = report.recovered
    [dropped] = [event["data"] for event in store.of_type("hub:dropped") if event["data"]["sink"] == "store"]
    assert dropped["reason"] == "process_died"
    assert recovered.dropped == dropped["count"] >= len(emitted - stored)
    [facts] = store.of_type("hub:recovered")
    assert facts["data"]["producer"] == dropped["producer"]


def test_events_of_an_ended_process_are_stored_once_and_reported(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    stream = Stream(new_id())
    for n in range(20):
        put(spool, stream, 2, size=10 * KB, n=n)
    spool.close()
    store = ListStore()
    report = recover(tmp_path, store)
    assert (report.events, report.lost_calls, report.alive, report.waiting) == (40, 0, 0, ())
    assert [record["version"] for record in store.log if record["type"] == "test:event"] == list(range(1, 41))
    [facts] = store.of_type("hub:recovered")
    assert (facts["data"]["producer"], facts["data"]["events"]) == (spool.constants["producer"], 40)
    assert facts["producer"] != spool.constants["producer"]
    assert list(tmp_path.iterdir()) == []
    assert recover(tmp_path, store) == RecoveryReport()


def test_only_what_the_store_had_not_passed_is_brought_in(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    stream = Stream(new_id())
    put(spool, stream, 3)
    cursor = spool.reader("store")
    batch = cursor.read_batch()
    assert batch is not None
    cursor.commit(batch)
    put(spool, stream, 2)
    spool.close()
    assert recover(tmp_path, ListStore()).events == 2


def test_open_calls_are_closed_as_lost_and_answered_ones_are_not(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    answered, opened = call_events(spool, answered=True), call_events(spool, answered=False)
    cursor = spool.reader("store")
    store = ListStore()
    batch = cursor.read_batch()
    assert batch is not None
    store.append(batch.records)
    cursor.commit(batch)
    put(spool, opened)  # the store has the request already, this comes from the spool
    spool.close()
    report = recover(tmp_path, store, clock=lambda: 42)
    assert report.lost_calls == 1
    lost = store.records[opened.id, 4]
    assert (lost["type"], lost["data"]["status"], lost["occurred_at"]) == ("llm:response", "lost", 42)
    assert (lost["call_id"], lost["session_id"], lost["trace_id"]) == (opened.id, "chat", "a" * 32)
    assert lost["id"] == derived_id(opened.id, "lost")
    assert lost["producer"] == spool.constants["producer"]
    assert lost["producer_seq"] == 8
    assert store.streams()[answered.id] == [1, 2, 3, 4]


def test_a_derived_id_is_a_uuid7_with_the_time_of_the_call() -> None:
    call = "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
    derived = derived_id(call, "lost")
    assert derived[:15] == "0190aaaa-bbbb-7"
    assert derived[19] in "89ab"
    assert derived == derived_id(call, "lost") != derived_id(call, "other")


def test_a_torn_tail_costs_only_its_frame_and_the_gap_is_counted(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    stream = Stream(new_id())
    ends = []
    for n in range(12):
        put(spool, stream, 2, size=10 * KB, n=n)
        ends.append((spool._segment.ordinal, spool._segment.end, spool._segment.path))
    spool.close()
    ordinal, end, path = ends[-1]
    assert ordinal > 1
    assert path is not None
    with path.open("r+b") as file:  # the last frame, and the last two of the first segment
        file.seek(end - 20)
        file.write(b"?" * 8)
    first = [entry for entry in ends if entry[0] == 1]
    assert first[-3][2] is not None
    with first[-3][2].open("r+b") as file:
        file.seek(first[-3][1] + 30)
        file.write(b"?" * 8)
    store = ListStore()
    report = recover(tmp_path, store)
    assert report.events == 2 * (12 - 3)
    assert report.recovered[0].dropped == 6
    [dropped] = store.of_type("hub:dropped")
    assert (dropped["data"]["reason"], dropped["data"]["count"], dropped["data"]["sink"]) == (
        "process_died",
        6,
        "store",
    )


def test_spans_that_were_not_exported_count_as_dropped(tmp_path: Path) -> None:
    spool = left_behind(tmp_path, sinks=("store", "spans"))
    put(spool, Stream(new_id()), 5)
    cursor = spool.reader("store")
    batch = cursor.read_batch()
    assert batch is not None
    cursor.commit(batch)
    spool.close()
    store = ListStore()
    assert recover(tmp_path, store).events == 0
    [dropped] = store.of_type("hub:dropped")
    assert (dropped["data"]["reason"], dropped["data"]["count"], dropped["data"]["sink"]) == (
        "process_died",
        5,
        "spans",
    )


def test_drops_that_the_process_could_not_report_any_more_are_reported(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    put(spool, Stream(new_id()), 2, size=300 * KB)
    put(spool, Stream(new_id()))
    spool.close()
    store = ListStore()
    assert recover(tmp_path, store).events == 1
    [dropped] = store.of_type("hub:dropped")
    assert (dropped["data"]["reason"], dropped["data"]["count"], dropped["data"]["sink"]) == ("too_large", 2, None)


def test_a_kill_between_the_frame_and_its_counter_loses_nothing(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    put(spool, Stream(new_id()), 3)
    spool.close()
    assert spool.folder is not None
    control = Control.open(spool.folder, write=True)
    control.words[EMITTED] = 0
    control.close()
    store = ListStore()
    report = recover(tmp_path, store)
    assert (report.events, report.recovered[0].dropped) == (3, 0)
    assert store.of_type("hub:dropped") == []


def test_living_spools_are_left_alone_also_while_others_are_made(tmp_path: Path) -> None:
    done = threading.Event()
    taken: list[Recovered] = []

    def keep_recovering() -> None:
        while not done.is_set():
            taken.extend(recover(tmp_path, ListStore()).recovered)

    thread = threading.Thread(target=keep_recovering)
    thread.start()
    living = [make_spool(tmp_path) for _ in range(60)]
    for spool in living:
        put(spool, Stream(new_id()))
    assert recover(tmp_path, ListStore()).alive == 60
    done.set()
    thread.join()
    assert taken == []
    for spool in living:
        assert spool.folder is not None
        assert spool.folder.exists()
        spool.close()


def test_of_two_recoverers_one_wins_and_the_other_goes_on(tmp_path: Path) -> None:
    for _ in range(5):
        spool = left_behind(tmp_path)
        put(spool, Stream(new_id()), 10)
        spool.close()
    store, reports = ListStore(), []
    lock, start = threading.Lock(), threading.Barrier(2)
    append = store.append

    def one_at_a_time(events: Sequence[EventRecord]) -> AppendResult:
        with lock:
            time.sleep(0.002)
            return append(events)

    store.append = one_at_a_time  # type: ignore[method-assign]

    def work() -> None:
        start.wait()
        reports.append(recover(tmp_path, store))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.waiting for report in reports] == [(), ()]
    assert sum(report.events for report in reports) == 50
    assert len([record for record in store.log if record["type"] == "test:event"]) == 50
    assert len(store.of_type("hub:recovered")) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_recovery_that_breaks_off_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Fragile(ListStore):
        left = 0
        after = False

        def append(self, events: Sequence[EventRecord]) -> AppendResult:
            if not self.after and self.left <= 0:
                raise Killed
            result = super().append(events)
            self.left -= 1
            if self.left < 0:
                raise Killed
            return result

    for after in (False, True):
        for steps in range(6):
            root = tmp_path / f"{steps}{after}"
            spool = left_behind(root, sinks=("store", "spans"))
            for _ in range(1200):
                put(spool, Stream(new_id()))
            opened = call_events(spool, answered=False)
            spool.close()
            store = Fragile()
            store.left, store.after = steps, after
            try:
                recover(root, store)
            except Killed:
                store.left = 1000
                recover(root, store)
            assert len([record for record in store.log if record["type"] == "test:event"]) == 1200
            assert store.streams()[opened.id] == [1, 2, 3]
            assert [event["data"]["sink"] for event in store.of_type("hub:dropped")] == ["spans"]
            [told] = store.of_type("hub:recovered")
            assert (told["data"]["events"], told["data"]["lost_calls"]) == (1202, 1)
            assert told["data"]["emitted"] == 1203
            assert list(root.iterdir()) == []


def test_what_memory_mode_lost_is_counted_once_though_its_recovery_broke_off(tmp_path: Path) -> None:
    class Broken(ListStore):
        def append(self, events: Sequence[EventRecord]) -> AppendResult:
            raise KeyboardInterrupt

    spool = left_behind(tmp_path, durability="memory")
    put(spool, Stream(new_id()), 5)
    spool.close()
    with pytest.raises(KeyboardInterrupt):
        recover(tmp_path, Broken())
    store = ListStore()
    recover(tmp_path, store)
    assert [event["data"]["count"] for event in store.of_type("hub:dropped")] == [5]


def test_a_store_that_is_away_leaves_the_spool_for_later(tmp_path: Path) -> None:
    class Away(ListStore):
        def append(self, events: Sequence[EventRecord]) -> AppendResult:
            raise StoreUnavailable("sqlite:///x.db", "locked", "try again")

    spool = left_behind(tmp_path)
    put(spool, Stream(new_id()))
    spool.close()
    report = recover(tmp_path, Away())
    assert "locked" in report.waiting[0].reason
    assert recover(tmp_path, ListStore()).events == 1


def test_one_event_that_the_store_never_takes_does_not_keep_the_others(tmp_path: Path) -> None:
    class Picky(ListStore):
        def append(self, events: Sequence[EventRecord]) -> AppendResult:
            if any(event["data"].get("n") == 3 for event in events):
                raise ValueError
            return super().append(events)

    spool = left_behind(tmp_path)
    for n in range(8):
        put(spool, Stream(new_id()), n=n)
    spool.close()
    store = Picky()
    report = recover(tmp_path, store)
    assert report.waiting == ()
    assert sorted(record["data"]["n"] for record in store.log if record["type"] == "test:event") == [
        0,
        1,
        2,
        4,
        5,
        6,
        7,
    ]
    assert [event["data"]["reason"] for event in store.of_type("hub:dropped")] == ["rejected"]


def test_an_interrupted_recovery_goes_on_where_it_was(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    for _ in range(3000):
        put(spool, Stream(new_id()))
    spool.close()
    store, asked = ListStore(), iter([False, True])
    report = recover(tmp_path, store, stop=lambda: next(asked))
    assert "interrupted" in report.waiting[0].reason
    [status] = spools(tmp_path)
    assert status.accounting is not None
    assert status.accounting.sinks["store"].stored == MAX_EVENTS
    assert_exact(status.accounting)
    assert recover(tmp_path, store).events == 3000 - MAX_EVENTS


def test_conflicts_are_carried_into_the_store(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    stream = Stream(new_id())
    put(spool, stream, 1, n=1, size=10)
    spool.close()
    other = make_spool(tmp_path / "other")
    put(other, Stream(stream.id), 1, n=2)
    batch = other.reader("store").read_batch()
    assert batch is not None
    store = ListStore()
    store.append(batch.records)
    recover(tmp_path, store)
    [conflict] = store.of_type("hub:conflict")
    assert conflict["content"] is not None
    assert conflict["content"]["original"]["data"]["n"] == 1
    other.close()


@pytest.mark.parametrize("what", ["control", "folder"])
def test_a_spool_that_cannot_be_used_waits_and_the_others_are_recovered(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = left_behind(tmp_path), left_behind(tmp_path)
    for spool in (bad, good):
        put(spool, Stream(new_id()))
        spool.close()
    assert bad.folder is not None
    if what == "control":
        (bad.folder / "control").write_bytes(b"rubbish")
    else:  # tests may run as root, whom no mode keeps out
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != bad.folder and access(path, mode))
    store = ListStore()
    report = recover(tmp_path, store)
    assert [waiting.folder for waiting in report.waiting] == [bad.folder]
    assert report.events == 1
    assert bad.folder.exists()
    assert recover(tmp_path / "nowhere", store) == RecoveryReport()


def test_the_account_of_a_dead_spool_is_exact_after_every_step(tmp_path: Path) -> None:
    spool = left_behind(tmp_path, sinks=("store", "spans"))
    for _ in range(10):
        put(spool, Stream(new_id()), 2)
    put(spool, Stream(new_id()), 2, size=300 * KB)
    spool.close()
    assert spool.folder is not None
    folder = spool.folder
    assert_exact(Control.open(folder).accounting())

    class Looking(ListStore):
        def append(self, events: Sequence[EventRecord]) -> AppendResult:
            assert_exact(Control.open(folder).accounting())
            return super().append(events)

    store = Looking()
    assert recover(tmp_path, store).waiting == ()
    told = [record for record in store.log if record["type"].startswith("hub:")]
    assert [(record["type"], record["data"].get("sink"), record["data"].get("reason")) for record in told] == [
        ("hub:dropped", None, "too_large"),
        ("hub:dropped", "spans", "process_died"),
        ("hub:recovered", None, None),
    ]


def test_segments_without_events_are_no_trouble(tmp_path: Path) -> None:
    spool = left_behind(tmp_path)
    spool.housekeeping.tend()
    assert spool._segment.end == DATA
    spool.close()
    assert list(tmp_path.iterdir()) == []
    assert constants()["producer"]
