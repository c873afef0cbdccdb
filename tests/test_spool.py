from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import HubError
from hub.log import Pressure, Priority, Stream
from hub.polite import Rest
from hub.spool import Durability, Spool
from hub.spool.bounds import MEBIBYTE, Bounds
from hub.spool.control import Control, Reason, SinkState
from hub.spool.folder import STALE_SECONDS, folders, is_held, make_folder, sweep, take_lock
from hub.spool.segments import Segment
from hub.spool.status import spools
from tests.spools import KB, assert_exact, body, constants, make_spool, new_id, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spools"


@pytest.fixture
def spool(root: Path) -> Iterator[Spool]:
    spool = make_spool(root)
    yield spool
    spool.close()


def drain(spool: Spool, sink: str = "store") -> list[dict[str, Any]]:
    """Read and pass everything."""
    cursor, found = spool.reader(sink), []
    while (batch := cursor.read_batch()) is not None:
        found += batch.records
        cursor.commit(batch)
    return [dict(record) for record in found]


# Append and read.


def test_events_come_back_in_order_with_version_and_sequence_number(spool: Spool) -> None:
    one, two = Stream(new_id()), Stream(new_id())
    assert put(spool, one, 2, n=1) == (1, 1)
    assert put(spool, two, 1, n=2) == (3, 1)
    assert put(spool, one, 1, n=3) == (4, 3)
    records = drain(spool)
    assert [(r["stream_id"], r["version"], r["producer_seq"], r["data"]["n"]) for r in records] == [
        (one.id, 1, 1, 1),
        (one.id, 2, 2, 1),
        (two.id, 1, 3, 2),
        (one.id, 3, 4, 3),
    ]
    assert {record["producer"] for record in records} == {spool.constants["producer"]}
    assert_exact(spool.counters())


def test_a_batch_that_was_not_committed_comes_again(spool: Spool) -> None:
    put(spool, Stream(new_id()), 3)
    cursor = spool.reader("store")
    first, again = cursor.read_batch(), cursor.read_batch()
    assert first is not None
    assert again is not None
    assert first.records == again.records
    assert spool.counters().sinks["store"].waiting == 3


def test_batches_keep_their_bounds_and_one_bigger_frame_comes_alone(spool: Spool) -> None:
    stream = Stream(new_id())
    put(spool, stream, 1, size=40 * KB)
    for _ in range(5):
        put(spool, stream, 2)
    cursor, counts = spool.reader("store"), []
    while (batch := cursor.read_batch(max_events=4, max_bytes=20 * KB)) is not None:
        counts.append(batch.count)
        cursor.commit(batch)
    assert counts == [1, 4, 4, 2]


def test_frames_longer_than_a_segment_are_kept(root: Path) -> None:
    spool = make_spool(root, segment_bytes=16 * KB)
    stream = Stream(new_id())
    for size in (200 * KB, 10, 100 * KB, 12 * KB, 12 * KB):
        assert put(spool, stream, size=size) is not None
    assert [len(record["content"]["text"]) if record["content"] else 0 for record in drain(spool)] == [
        200 * KB,
        10,
        100 * KB,
        12 * KB,
        12 * KB,
    ]
    spool.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 3), st.sampled_from([0, 100, 5_000, 9_000])),
            st.tuples(st.just("read"), st.integers(1, 10), st.just(0)),
            st.tuples(st.just("tend"), st.just(0), st.just(0)),
        ),
        max_size=60,
    ),
    st.sampled_from(["memory", "crash_safe"]),
)
@settings(max_examples=40, deadline=None)
def test_the_spool_is_a_list_with_a_place_for_each_sink(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], mode: Any
) -> None:
    spool = make_spool(
        tmp_path_factory.mktemp("spool"), segment_bytes=16 * KB, durability=mode, sinks=("store", "other")
    )
    stream, model, read = Stream(new_id()), 0, {"store": 0, "other": 0}
    try:
        for step, number, size in steps:
            if step == "put":
                if put(spool, stream, number, size=size) is not None:
                    model += number
            elif step == "tend":
                spool.housekeeping.tend()
            else:
                name = "store" if number % 2 else "other"
                cursor = spool.reader(name)
                batch = cursor.read_batch(max_events=number)
                versions = [] if batch is None else [record["version"] for record in batch.records]
                assert versions == list(range(read[name] + 1, read[name] + 1 + len(versions)))
                assert bool(versions) == (read[name] < model)
                if batch is not None:
                    cursor.commit(batch)
                    read[name] += len(versions)
            counted = spool.counters()
            assert_exact(counted)
            assert {name: sink.stored for name, sink in counted.sinks.items()} == read
    finally:
        spool.close()


def test_threads_get_contiguous_versions_and_exact_counts(root: Path) -> None:
    spool = make_spool(root, segment_bytes=256 * KB, max_bytes=64 * MEBIBYTE)
    shared = Stream(new_id())
    own = [Stream(new_id()) for _ in range(8)]

    def emit(stream: Stream) -> None:
        for _ in range(250):
            put(spool, shared)
            put(spool, stream, 2)

    threads = [threading.Thread(target=emit, args=(stream,)) for stream in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.housekeeping.tend()
    records = drain(spool)
    versions: dict[str, list[int]] = {}
    for record in records:
        versions.setdefault(record["stream_id"], []).append(record["version"])
    assert versions.pop(shared.id) == list(range(1, 2001))
    assert versions == {stream.id: list(range(1, 501)) for stream in own}
    assert sorted(record["producer_seq"] for record in records) == list(range(1, 6001))
    assert spool.counters().emitted == 6000
    assert spool.close()


# Files.


def test_passed_segments_are_deleted_and_the_folder_goes_when_all_is_done(root: Path) -> None:
    spool = make_spool(root)
    stream = Stream(new_id())
    for _ in range(30):
        put(spool, stream, size=10 * KB)
        spool.housekeeping.tend()
    assert spool.folder is not None
    assert len(list(spool.folder.glob("*.seg"))) > 4
    drain(spool)
    spool.housekeeping.tend()
    assert len(list(spool.folder.glob("*.seg"))) == 3  # the current one, two ready
    assert spool.counters().made_in_append <= 1  # before the first tend
    assert spool.close()
    assert list(root.iterdir()) == []


def test_at_most_two_segments_are_mapped(root: Path) -> None:
    spool = make_spool(root)
    stream = Stream(new_id())
    for _ in range(30):
        put(spool, stream, size=10 * KB)
        spool.housekeeping.tend()
    maps = Path("/proc/self/maps").read_text()
    assert sum(str(spool.folder) in line and line.rstrip().endswith(".seg") for line in maps.splitlines()) == 2
    spool.close()


def test_what_waits_stays_on_the_disk_when_the_spool_is_closed(root: Path) -> None:
    spool = make_spool(root)
    put(spool, Stream(new_id()), 3)
    assert not spool.close()
    [status] = spools(root)
    assert not status.alive
    assert status.accounting is not None
    assert status.accounting.sinks["store"].waiting == 3
    assert put(spool, Stream(new_id())) is None
    assert spool.counters().emitted == 3


def test_files_belong_to_the_user_alone(root: Path) -> None:
    spool = make_spool(root)
    assert spool.folder is not None
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in spool.folder.iterdir()} == {0o600}
    spool.close()


def test_memory_mode_keeps_events_out_of_the_files(root: Path) -> None:
    spool = make_spool(root, durability="memory")
    put(spool, Stream(new_id()), size=100)
    spool.housekeeping.tend()
    assert spool.folder is not None
    assert sorted(path.name for path in spool.folder.iterdir()) == ["control", "lock"]
    assert len(drain(spool)) == 1
    spool.close()


@pytest.mark.parametrize("durability", ["memory", "crash_safe"])
def test_a_segment_made_ahead_is_prepared_once(
    root: Path, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[Segment] = []
    touch = Segment.touch

    def note(segment: Segment, rest: Rest) -> None:
        touched.append(segment)
        touch(segment, rest)

    monkeypatch.setattr(Segment, "touch", note)
    spool = make_spool(root, durability=durability)
    for _ in range(3):
        spool.housekeeping.tend()
    assert len(touched) == 1
    assert spool.close()


def test_without_a_folder_everything_is_in_memory_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = make_spool(tmp_path / "file")
    put(spool, Stream(new_id()))
    assert spool.folder is None
    assert spool.trouble[0]["reason"] == "memory_mode"
    assert len(drain(spool)) == 1
    assert spool.close()


# Bounds.


def test_bounds_leave_room_for_the_files_beside_what_waits() -> None:
    disk = Bounds.of(1024 * MEBIBYTE, 16 * MEBIBYTE)
    assert disk.capacity + 3 * 16 * MEBIBYTE + disk.lag == 1024 * MEBIBYTE
    assert disk.shed == 256 * MEBIBYTE
    for bounds in (disk, Bounds.of(32 * MEBIBYTE, 2 * MEBIBYTE), Bounds.of(100 * KB, 64 * KB)):
        assert 0 < bounds.shed < bounds.essential < bounds.reserve < bounds.capacity


def test_pressure_rises_with_what_waits_and_falls_when_it_is_stored(root: Path) -> None:
    spool = make_spool(root, segment_bytes=16 * KB, max_bytes=400 * KB)
    stream, seen = Stream(new_id()), []
    for _ in range(400):
        put(spool, stream, size=1000, priority=Priority.EVENT)
        seen.append(spool.pressure)
    assert sorted(seen) == seen
    assert set(seen) == set(Pressure)
    drain(spool)
    assert spool.pressure == Pressure.NONE
    spool.close()


def test_who_gets_in_depends_on_priority_and_every_drop_is_counted_and_named(root: Path) -> None:
    spool = make_spool(root, segment_bytes=16 * KB, max_bytes=400 * KB)
    stream = Stream(new_id())
    got_in = [
        sum(put(spool, stream, size=200, priority=priority) is not None for _ in range(1500))
        for priority in (Priority.EVENT, Priority.ESSENTIAL, Priority.RESERVED)
    ]
    assert all(0 < count < 1500 for count in got_in)
    counted = spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].dropped == {"spool_full": 4500 - sum(got_in)}
    assert stream.version == sum(got_in)
    [drop] = spool.take_drops()
    assert sum(last - first + 1 for first, last in drop["producer_seqs"]) == drop["count"] == 4500 - sum(got_in)
    stored = {record["producer_seq"] for record in drain(spool)}
    assert not any(first <= seq <= last for seq in stored for first, last in drop["producer_seqs"])
    spool.reported(drop)
    assert spool.take_drops() == []
    assert spool.close()


def test_the_files_of_a_full_spool_stay_within_the_bound(root: Path) -> None:
    spool = make_spool(root, segment_bytes=64 * KB, max_bytes=1024 * KB, sinks=("store", "other"))
    for _ in range(2000):
        put(spool, Stream(new_id()), size=3000, priority=Priority.RESERVED)
        if spool.counters().emitted % 50 == 0:
            spool.housekeeping.tend()
    [status] = spools(root)
    assert 512 * KB < status.bytes <= 1024 * KB + 16 * KB
    spool.close()


def test_no_frame_is_written_where_no_room_was_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a file that the disk has no room for kills the process that writes to it."""
    spool = make_spool(root)
    put(spool, Stream(new_id()), size=100 * KB)

    def full(segment: Segment, end: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Segment, "reserve", full)
    assert put(spool, Stream(new_id()), size=100 * KB) is None
    for _ in range(40):
        put(spool, Stream(new_id()), size=4 * KB)
    assert all(segment.end <= segment.allocated for segment in spool.shelf.in_use.values())
    assert spool.counters().sinks["store"].dropped == {"no_space": 1}
    assert len(drain(spool)) == 41
    assert spool.close() is False


def test_a_frame_that_is_too_long_is_dropped_by_that_reason(spool: Spool) -> None:
    assert put(spool, Stream(new_id()), 2, size=300 * KB) is None
    assert spool.append(b"", 1, Stream(new_id()), 0) is None
    assert spool.counters().sinks["store"].dropped == {"too_large": 2, "fault": 1}
    assert_exact(spool.counters())
    spool.append(body(Stream("s")), 1, Stream("s"), 0)
    assert len(drain(spool)) == 1
    for drop in spool.take_drops():
        spool.reported(drop)


def test_a_sink_far_behind_the_store_is_moved_forward_at_its_own_cost(root: Path) -> None:
    spool = make_spool(root, segment_bytes=16 * KB, max_bytes=800 * KB, sinks=("store", "slow"))
    held = spool.reader("slow")
    stream = Stream(new_id())
    put(spool, stream, n=0)
    early = held.read_batch()
    for n in range(1, 300):
        put(spool, stream, size=1000, n=n)
        drain(spool)
        spool.housekeeping.tend()
    counted = spool.counters()
    assert_exact(counted)
    assert counted.sinks["store"].stored == 300
    assert 0 < counted.sinks["slow"].dropped["behind"] < 300
    assert early is not None
    held.commit(early)  # it got there after all
    assert spool.counters().sinks["slow"].stored == 1
    assert_exact(spool.counters())
    rest = drain(spool, "slow")
    counted = spool.counters()
    assert_exact(counted)
    assert counted.sinks["slow"].stored == 1 + len(rest)
    assert counted.sinks["slow"].waiting == 0
    assert {drop["sink"] for drop in spool.take_drops()} == {"slow"}
    spool.close()


# Full disks.


def test_a_full_disk_means_memory_mode_and_later_the_disk_again(root: Path) -> None:
    spool = make_spool(root, segment_bytes=64 * KB, max_bytes=64 * MEBIBYTE)
    spool.housekeeping.tend()
    stream = Stream(new_id())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * KB, hard))
    try:
        for _ in range(400):
            assert put(spool, stream, size=3000) is not None
            spool.housekeeping.tend()
        assert spool.counters().memory_fallbacks == 1
        assert spool.trouble[0]["reason"] == "memory_mode"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spool.housekeeping.try_disk()
    assert spool.trouble[-1] == {"reason": "disk_again"}
    for _ in range(100):
        assert put(spool, stream, size=3000) is not None
        spool.housekeeping.tend()
    assert [record["version"] for record in drain(spool)] == list(range(1, 501))
    assert_exact(spool.counters())
    assert spool.close()


# Signals, finalisers, interrupts.


def test_an_emit_from_a_signal_handler_in_the_middle_of_an_append_is_kept(root: Path) -> None:
    spool = make_spool(root, max_bytes=64 * MEBIBYTE)
    main, handler = Stream(new_id()), Stream(new_id())
    fired = 0

    def on_alarm(*_: object) -> None:
        nonlocal fired
        fired += 1
        put(spool, handler)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        until, appended = time.monotonic() + 0.4, 0
        while time.monotonic() < until:
            put(spool, main)
            appended += 1
            if appended % 500 == 0:
                drain(spool)
                spool.housekeeping.tend()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    spool.write_deferred()
    assert fired > 100
    assert (main.version, handler.version) == (appended, fired)
    counted = spool.counters()
    assert_exact(counted)
    assert counted.emitted == appended + fired
    drain(spool)
    assert spool.close()


def test_an_emit_from_a_finaliser_inside_the_lock_is_written_by_the_next_append(spool: Spool) -> None:
    inner = Stream(new_id())

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            put(spool, inner)

    Cycle()
    with spool.exclusive():
        gc.collect()
    assert inner.version == 0
    put(spool, Stream(new_id()))
    assert inner.version == 1
    assert spool.counters().deferred == 1
    assert len(drain(spool)) == 2


def test_an_append_waits_a_tenth_of_a_second_for_the_lock_at_most(spool: Spool) -> None:
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with spool.exclusive():
            held.set()
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    started = time.monotonic()
    assert put(spool, Stream(new_id())) is None
    assert 0.05 < time.monotonic() - started < 1.0
    let_go.set()
    thread.join()
    spool.housekeeping.tend()
    assert len(drain(spool)) == 1


def test_what_was_left_for_later_comes_before_what_follows_it_in_its_stream(spool: Spool) -> None:
    stream, inside, leave = Stream(new_id()), threading.Event(), threading.Event()

    def hold() -> None:
        with spool.exclusive():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    assert put(spool, stream, n="request") is None
    leave.set()
    thread.join()
    put(spool, stream, n="response")
    assert [(record["version"], record["data"]["n"]) for record in drain(spool)] == [(1, "request"), (2, "response")]


def test_interrupts_at_any_moment_leave_the_spool_whole(root: Path) -> None:
    spool = make_spool(root, max_bytes=64 * MEBIBYTE)
    stream = Stream(new_id())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupts = 0
    try:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                while True:
                    put(spool, stream)
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    free = threading.Event()

    def count() -> None:
        spool.counters()
        free.set()

    thread = threading.Thread(target=count)
    thread.start()
    thread.join(5)
    assert free.is_set()
    assert interrupts > 50
    assert [record["version"] for record in drain(spool)] == list(range(1, stream.version + 1))
    assert_exact(spool.counters())
    spool.close()


# Fork.


def test_a_forked_child_lets_go_without_touching_the_parents_spool(root: Path) -> None:
    spool = make_spool(root)
    stream = Stream(new_id())
    put(spool, stream)
    spool.housekeeping.tend()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            before = put(spool, stream)  # as after a fork that Python knows nothing of
            spool.after_fork_in_child()
            mapped = str(spool.folder) in Path("/proc/self/maps").read_text()
            opened = any(str(spool.folder) in os.readlink(f"/proc/self/fd/{fd}") for fd in _open_fds())
            code = 0 if (before, put(spool, stream), mapped, opened) == (None, None, False, False) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert spool.folder is not None
    assert is_held(spool.folder)
    put(spool, stream)
    assert [record["version"] for record in drain(spool)] == [1, 2]
    assert spool.close()


def _open_fds() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{name}")
            found.append(int(name))
        except OSError:
            continue
    return found


# Durable.


def test_waiters_return_when_their_events_are_on_the_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    spool = make_spool(root, durability="durable")
    real = os.fdatasync

    def sync(fd: int) -> None:
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    put(spool, Stream(new_id()))
    assert spool.syncer.wait()
    assert synced
    done = len(synced)
    assert spool.syncer.wait()  # nothing new
    assert len(synced) == done
    spool.close()


def test_many_waiters_share_a_sync(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    spool = make_spool(root, durability="durable", max_bytes=64 * MEBIBYTE)

    def slow(fd: int) -> None:
        syncs.append(fd)
        time.sleep(0.005)

    monkeypatch.setattr(os, "fdatasync", slow)

    def emit() -> None:
        for _ in range(10):
            put(spool, Stream(new_id()))
            assert spool.syncer.wait()

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(syncs) < 80
    assert spool.counters().durable_timeouts == 0
    spool.close()


def test_a_disk_that_hangs_costs_one_timeout_and_is_counted_until_it_is_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()
    spool = make_spool(root, durability="durable", durable_timeout=0.05)
    monkeypatch.setattr(os, "fdatasync", lambda fd: back.wait())
    stream = Stream(new_id())
    put(spool, stream)
    assert not spool.syncer.wait()
    started = time.monotonic()
    for _ in range(5):
        put(spool, stream)
        assert not spool.syncer.wait()
    assert time.monotonic() - started < 0.05
    assert spool.counters().durable_timeouts == 6
    back.set()
    until = time.monotonic() + 5
    while not spool.syncer.wait() and time.monotonic() < until:
        time.sleep(0.01)
    assert spool.syncer.wait()
    spool.close()


def test_coroutines_wait_for_the_disk_without_holding_up_their_loop(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool(root, durability="durable", durable_timeout=5.0)
    monkeypatch.setattr(os, "fdatasync", lambda fd: time.sleep(0.1))

    async def run() -> tuple[bool, int]:
        put(spool, Stream(new_id()))
        waiting = spool.syncer.future(asyncio.get_running_loop())
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert await spool.syncer.future(asyncio.get_running_loop())
        return waiting.result(), turns

    on_disk, turns = asyncio.run(run())
    assert on_disk
    assert turns > 1
    spool.close()


def test_a_coroutine_gives_up_on_a_disk_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    spool = make_spool(root, durability="durable", durable_timeout=0.05)
    monkeypatch.setattr(os, "fdatasync", lambda fd: back.wait())
    put(spool, Stream(new_id()))

    async def run() -> bool:
        return await spool.syncer.future(asyncio.get_running_loop())

    assert asyncio.run(run()) is False
    assert spool.counters().durable_timeouts == 1
    back.set()
    spool.close()


# Folders and control files.


def test_a_folder_that_is_being_made_is_never_seen_unlocked(root: Path) -> None:
    seen: list[list[Path]] = []

    def fill(young: Path) -> None:
        seen.append(folders(root))
        assert is_held(young)

    folder, fd = make_folder(root, "p", fill)
    assert seen == [[]]
    assert folders(root) == [folder]
    assert take_lock(folder) is None
    os.close(fd)
    lock = take_lock(folder)
    assert lock is not None
    assert take_lock(folder) is None
    os.close(lock)


def test_what_dead_makers_and_deleters_left_is_swept(root: Path) -> None:
    for name in ("a.new", "b.new", "c.gone", "d"):
        (root / name).mkdir(parents=True)
    old = time.time() - STALE_SECONDS - 1
    os.utime(root / "a.new", (old, old))
    sweep(root)
    assert sorted(path.name for path in root.iterdir()) == ["b.new", "d"]


def test_a_cursor_is_the_old_one_or_the_new_one_whatever_was_written_in_between(tmp_path: Path) -> None:
    control = Control.create(tmp_path, {"constants": constants()}, ["store", "other"])
    old, new = SinkState(1, 64, 5), SinkState(2, 128, 9, (1,) * 16)
    control.move("store", old)
    steps: list[tuple[int, int]] = []

    class Words:
        def __init__(self, words: Any) -> None:
            self.words = words

        def __getitem__(self, place: Any) -> Any:
            return self.words[place]

        def __setitem__(self, place: int, value: int) -> None:
            steps.append((place, value))

    real = control.words
    control.words = Words(real)  # type: ignore[assignment]
    control.move("store", new)
    control.words = real
    for place, value in steps[:-1]:
        real[place] = value
        assert control.sink("store") == old
    real[steps[-1][0]] = steps[-1][1]
    assert control.sink("store") == new
    assert control.sink("other") == SinkState(0, 0, 0)
    control.close()


@pytest.mark.parametrize("damage", [b"", b"x" * 4096, b"\0" * 4096])
def test_a_damaged_control_file_is_an_error_that_names_it(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "control").write_bytes(damage)
    for write in (False, True):
        with pytest.raises(HubError, match="control"):
            Control.open(tmp_path, write=write)


def test_another_process_reads_the_counters_of_a_live_spool(root: Path, spool: Spool) -> None:
    put(spool, Stream(new_id()), 3)
    put(spool, Stream(new_id()), 2, size=300 * KB)
    script = (
        "import sys, json, pathlib; from hub.spool.status import spools; s = spools(pathlib.Path(sys.argv[1]));"
        "a = s[0].accounting; print(json.dumps([len(s), s[0].alive, a.emitted, a.sinks['store'].waiting,"
        "a.sinks['store'].dropped, a.meta['constants']['producer']]))"
    )
    out = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [1, True, 5, 3, {"too_large": 2}, spool.constants["producer"]]


def test_reasons_keep_their_numbers() -> None:
    assert [reason.name for reason in Reason] == [
        "SPOOL_FULL",
        "NO_SPACE",
        "TOO_LARGE",
        "FAULT",
        "NOTES_FULL",
        "BEHIND",
        "REJECTED",
        "CONFLICT",
        "UNREADABLE",
        "PROCESS_DIED",
    ]
