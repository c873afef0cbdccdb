"""What sinks have passed is overwritten in spools, also in those of processes that go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.log import Priority, Stream
from hub.recovery import recover
from hub.spool.scrubbing import overwrite_passed, wait_for_stores
from storage.sqlite import SQLiteStore
from tests.hub_kit import running, select
from tests.spools import KB, ListSink, ListStore, body, make_spool, new_id

SECRET = b"ZQ9XJ7KV"


def bytes_under(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_what_was_passed_is_gone_and_what_waits_is_delivered(tmp_path: Path) -> None:
    spool, stream = make_spool(tmp_path), Stream(new_id())
    cursor, store = spool.reader("store"), ListStore()
    for number in range(40):
        spool.append(body(stream, text=f"ZQ9XJ7KV {number}"), 1, stream, Priority.EVENT)
    first = cursor.read_batch(max_events=25)
    assert first is not None
    cursor.commit(first)
    (left,) = overwrite_passed(tmp_path)
    assert left.waiting == {"store": 15}
    assert bytes_under(tmp_path).count(SECRET) == 15
    while (batch := cursor.read_batch(max_events=4)) is not None:
        store.append(batch.records)
        cursor.commit(batch)
    assert [record["data"]["text"] for record in store.log] == [f"ZQ9XJ7KV {number}" for number in range(25, 40)]
    assert overwrite_passed(tmp_path) == []
    assert SECRET not in bytes_under(tmp_path)
    spool.close()


def test_a_sink_that_is_behind_keeps_what_it_has_not_had(tmp_path: Path) -> None:
    spool, stream = make_spool(tmp_path, sinks=("store", "otlp")), Stream(new_id())
    spool.append(body(stream, text="ZQ9XJ7KV"), 1, stream, Priority.EVENT)
    batch = spool.reader("store").read_batch()
    assert batch is not None
    spool.reader("store").commit(batch)
    (left,) = overwrite_passed(tmp_path)
    assert left.waiting == {"otlp": 1}
    late = spool.reader("otlp").read_batch()
    assert late is not None
    assert late.records[0]["data"]["text"] == "ZQ9XJ7KV"
    spool.close()


def test_segments_passed_as_a_whole_are_overwritten_up_to_their_end(tmp_path: Path) -> None:
    spool, stream = make_spool(tmp_path), Stream(new_id())
    for _ in range(60):
        spool.append(body(stream, size=4 * KB, text="ZQ9XJ7KV"), 1, stream, Priority.EVENT)
    cursor = spool.reader("store")
    while (batch := cursor.read_batch()) is not None:
        cursor.commit(batch)
    assert bytes_under(tmp_path).count(SECRET) == 60, "the keeper has not come to delete them"
    sizes = {path: path.stat().st_blocks for path in tmp_path.rglob("*.seg")}
    assert overwrite_passed(tmp_path) == []
    assert SECRET not in bytes_under(tmp_path)
    assert {path: path.stat().st_blocks for path in sizes} == sizes
    spool.close()


def test_a_running_hub_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    with running(tmp_path, otel="off") as hub:
        root = hub.settings.spool_root
        for number in range(30):
            hub.emit("kit:note", text=f"ZQ9XJ7KV {number}")
            if number % 5 == 0:
                wait_for_stores(root, 10.0)
                assert overwrite_passed(root) == []
                assert SECRET not in bytes_under(root)
        assert hub.flush() == 0
    found = select(tmp_path, "SELECT data FROM hub_events WHERE type = 'kit:note' ORDER BY position")
    assert [f"KV {number}" in data for number, (data,) in enumerate(found)] == [True] * 30


_LIVES = """
import sys, hub
hub.init(db_url={db!r}, spool_dir={spool!r}, otel="off")
for line in sys.stdin:
    hub.emit("kit:note", text=line.strip())
    print(hub.flush(0.0 if line.startswith("wait") else 5.0), flush=True)
"""


@contextmanager
def another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    code = _LIVES.format(db=str(folder / "calls.db"), spool=str(folder / "spool"))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    print(line, file=process.stdin, flush=True)
    return process.stdout.readline()


def test_what_another_process_had_passed_is_overwritten_and_what_it_leaves_is_recovered(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        assert say(process, "ZQ9XJ7KV") == "0\n"
        (root,) = (tmp_path / "spool").iterdir()
        assert SECRET in bytes_under(root)
        assert overwrite_passed(root) == []
        assert SECRET not in bytes_under(root)
        assert say(process, "after") == "0\n"
        say(process, "wait")
    store = SQLiteStore(tmp_path / "calls.db")
    recover(root, store)
    texts = [record["data"]["text"] for record in store.read_all(types=["kit:note"]).events]
    assert texts == ["ZQ9XJ7KV", "after", "wait"]
    store.close()


def test_a_spool_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    assert spool.folder is not None
    (spool.folder / "control").write_bytes(b"x" * 600)
    (left,) = overwrite_passed(tmp_path)
    assert left.problem is not None
    assert left.folder == spool.folder


def test_waiting_for_stores_ends_when_they_are_up_to_date_and_at_the_latest_in_time(tmp_path: Path) -> None:
    wait_for_stores(tmp_path / "nothing", 1.0)
    spool, stream = make_spool(tmp_path), Stream(new_id())
    spool.append(body(stream), 1, stream, Priority.EVENT)
    wait_for_stores(tmp_path, 0.05)
    sink, cursor = ListSink(), spool.reader("store")
    batch = cursor.read_batch()
    assert batch is not None
    sink.write(batch.records)
    cursor.commit(batch)
    wait_for_stores(tmp_path, 60.0)
    spool.close()
