"""Backends away, silent, locked, full, read-only or deleted: calls go on, and the store is whole in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.runtime import Hub
from storage.sqlite import SQLiteStore
from tests import troubles
from tests.otlp_receiver import OtlpReceiver, receiving
from tests.troubles import BoundedStore, Caller, complete

ROOT = Path(__file__).parents[1]
SLACK = 0.002
"""Seconds of p99, for a machine that does other things. Whatever waits for a disk or a backend takes longer."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "calls.db"
    path.parent.mkdir()
    return path


@contextmanager
def running(database: Path, **parts: Any) -> Iterator[Caller]:
    parts.setdefault("otel", "off")
    hub = Hub(db_url=str(database), spool_dir=database.parents[1] / "spool", project="shop", **parts)
    try:
        yield Caller(hub)
    finally:
        hub.shutdown()


def live_through(caller: Caller, trouble: Callable[[], Any]) -> None:
    """Calls before, in and after the trouble; those in it are no slower."""
    caller.burst(50)
    assert caller.hub.flush(5.0) == 0
    before = caller.p99()
    assert caller.hub.flush(5.0) == 0
    with trouble():
        during = caller.p99(12, enough=2 * before + SLACK)
        assert caller.hub.flush(0.0) > 0, "the trouble was none"
    caller.burst(50)
    assert during <= 2 * before + SLACK, f"p99 {during * 1e6:.0f} us, {before * 1e6:.0f} us without the trouble"
    assert caller.worst < 0.5
    wait_until_empty(caller.hub)


def wait_until_empty(hub: Hub) -> None:
    """Nobody helps but the passing of time."""
    deadline = time.monotonic() + 15
    while hub.spool.counters().sinks["store"].waiting:
        assert time.monotonic() < deadline, "the store never caught up"
        time.sleep(0.02)


# The database.


@pytest.mark.parametrize("trouble", [troubles.locked, troubles.lock_held], ids=lambda trouble: trouble.__name__)
def test_a_locked_database_costs_calls_no_time_and_is_whole_once_it_is_free(
    database: Path, trouble: troubles.Trouble
) -> None:
    with running(database) as caller:
        live_through(caller, lambda: trouble(database))
    assert complete(database) == caller.calls


def test_a_full_database_costs_calls_no_time_and_is_whole_once_there_is_room(database: Path) -> None:
    store = BoundedStore(database)

    @contextmanager
    def full() -> Iterator[None]:
        store.pages = 1  # as few as it has
        yield
        store.pages = BoundedStore.pages

    with running(database, store=store) as caller:
        live_through(caller, full)
    assert complete(database) == caller.calls


def test_a_folder_in_the_databases_place_costs_calls_no_time_and_none_of_them_once_it_is_gone(database: Path) -> None:
    with running(database) as caller:
        live_through(caller, lambda: troubles.a_folder_there(database))
    assert complete(database) == caller.calls


@pytest.mark.parametrize("what", ["the file", "all files", "the folder"])
def test_a_database_deleted_while_it_runs_is_made_anew_with_what_it_had_not_passed(database: Path, what: str) -> None:
    with running(database) as caller:
        caller.burst(100)
        assert caller.hub.flush(5.0) == 0
        before = caller.p99()
        assert caller.hub.flush(5.0) == 0
        had = caller.calls
        with troubles.locked(database):  # so that some are waiting when it goes
            caller.burst(100)
            for path in list(database.parent.iterdir()):
                if what != "the file" or path == database:
                    path.unlink()
            if what == "the folder":
                database.parent.rmdir()
        during = caller.p99(12, enough=2 * before + SLACK)
        assert during <= 2 * before + SLACK
        wait_until_empty(caller.hub)
    assert complete(database) == caller.calls - had


def test_a_database_deleted_again_and_again_loses_only_what_it_had(database: Path) -> None:
    with running(database) as caller:
        for _ in range(5):
            caller.burst(40)
            assert caller.hub.flush(5.0) == 0
            for path in list(database.parent.glob("calls.db*")):
                path.unlink()
        had = caller.calls
        caller.burst(40)
        assert caller.hub.flush(5.0) == 0
    assert complete(database) == caller.calls - had


@pytest.mark.parametrize("trouble", ["not_permitted", "no_room"])
def test_a_database_without_permission_or_disk_costs_calls_no_time_and_is_whole_afterwards(
    database: Path, trouble: str
) -> None:
    program = f"""
from pathlib import Path
from tests import test_backend_faults as suite, troubles
troubles.obey_modes()
database = Path({str(database)!r})
with suite.running(database) as caller:
    suite.live_through(caller, lambda: troubles.{trouble}(database))
print(caller.calls)
"""
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert complete(database) == int(done.stdout)


# OTLP.

OTLP_TROUBLES = [("http/protobuf", kind) for kind in ("refused", "silent", "503")] + [("grpc", "silent")]


def give_trouble(receiver: OtlpReceiver, kind: str) -> None:
    if kind == "refused":
        receiver.listen(False)
    else:
        receiver.answer = None if kind == "silent" else 503


@pytest.mark.parametrize(("protocol", "kind"), OTLP_TROUBLES)
def test_an_otlp_backend_in_trouble_costs_calls_no_time_and_gets_every_span_afterwards(
    database: Path, kind: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(protocol) as receiver:
        for name, value in {**receiver.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}.items():
            monkeypatch.setenv(name, value)
        with running(database, otel="export") as caller:
            caller.burst(50)
            receiver.wait_for(50)
            before = caller.p99()
            receiver.wait_for(caller.calls)
            give_trouble(receiver, kind)
            during = caller.p99(12, enough=2 * before + SLACK)
            assert caller.hub.flush(5.0) == 0, "the store waits for nobody"
            assert caller.hub.spool.counters().sinks["otlp"].waiting
            receiver.recover()
            caller.burst(50)
            assert during <= 2 * before + SLACK, f"p99 {during * 1e6:.0f} us, {before * 1e6:.0f} us before"
            spans = receiver.wait_for(caller.calls, timeout=15, different=True)
    assert len({span.span_id for span in spans}) == caller.calls
    assert complete(database) == caller.calls


# Exit.


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


LEAVING = """
import json, time
import hub
from hub.runtime import default_hub
from tests.troubles import Caller
hub.init(db_url={database!r}, spool_dir={spool!r}, project="shop", otel={otel!r})
caller = Caller(default_hub())
caller.burst(100)
print(json.dumps(time.monotonic()))
"""
EXIT_SECONDS = 2.0


def leave(database: Path, otel: str = "off", **environ: str) -> float:
    """Seconds from the last line of a program with 100 calls to the end of its process."""
    program = LEAVING.format(database=str(database), spool=str(database.parents[1] / "spool"), otel=otel)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        complaints = process.communicate(timeout=30)[1]
        ended = time.monotonic()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complaints
    assert "Traceback" not in complaints
    return ended - float(json.loads(line))


def left_in_time(database: Path, otel: str = "off", **environ: str) -> int:
    """How many programs ran until one ended in time: on a machine busy with other things it need not be the first."""
    for programs in range(1, 4):
        if leave(database, otel, **environ) <= EXIT_SECONDS:
            return programs
    raise AssertionError(f"three programs took more than {EXIT_SECONDS} s to end")


def recovered(database: Path) -> int:
    """What the store has after the next start."""
    with running(database) as caller:
        caller.hub.emit("acme:hello")
        wait_until_recovered(caller.hub)
    return complete(database)


def wait_until_recovered(hub: Hub) -> None:
    """Until no spool is left but the hub's own."""
    deadline = time.monotonic() + 15
    root = hub.settings.spool_root
    while len([path for path in root.iterdir() if path.is_dir()]) > 1:
        assert time.monotonic() < deadline, list(root.iterdir())
        time.sleep(0.02)


@pytest.mark.parametrize(
    "trouble", [troubles.locked, troubles.lock_held, troubles.a_folder_there], ids=lambda trouble: trouble.__name__
)
def test_a_program_ends_in_time_beside_a_database_in_trouble_and_the_next_one_brings_its_calls_in(
    database: Path, trouble: troubles.Trouble
) -> None:
    with closing(SQLiteStore(database)) as store:
        store.read_all(limit=1)
    with trouble(database):
        programs = left_in_time(database)
    assert recovered(database) == 100 * programs


def test_what_ended_programs_left_comes_in_though_the_database_is_locked_at_the_next_start(database: Path) -> None:
    with closing(SQLiteStore(database)) as store:
        store.read_all(limit=1)
    stack = ExitStack()
    with troubles.locked(database):
        leave(database)
        caller = stack.enter_context(running(database))
        caller.burst(10)
        time.sleep(1.5)  # SQLite waits for a second before it says that the database is locked
    with stack:
        wait_until_recovered(caller.hub)
    assert complete(database) == 110


@pytest.mark.parametrize(("protocol", "kind"), OTLP_TROUBLES)
def test_a_program_ends_in_time_beside_an_otlp_backend_in_trouble_with_its_store_whole(
    database: Path, kind: str, protocol: str
) -> None:
    with receiving(protocol) as receiver:
        give_trouble(receiver, kind)
        programs = left_in_time(database, "export", **receiver.environ)
    assert complete(database) == 100 * programs
