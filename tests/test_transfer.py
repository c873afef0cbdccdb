"""Export and import: what comes back is what was there, whatever happens on the way."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hub
from hub.errors import FileRefused, QueryRefused
from hub.events import EventRecord
from hub.reader import Reader
from hub.store import Erasure
from hub.transfer.files import Form
from storage.sqlite import SQLiteStore
from tests.cli_kit import HUB
from tests.factories import SECOND, START, Factory
from tests.filled_store import fill
from tests.listlog import ListLog, recorder_on
from tests.transfer_kit import (
    bring_in,
    environment,
    events_in,
    export,
    many_calls,
    seen_in,
    settings_of,
    written,
)

FILES: list[tuple[str, Form]] = [
    ("out.jsonl", "jsonl"),
    ("out.jsonl.zst", "jsonl"),
    ("out.jsonl.gz", "jsonl"),
    ("out.parquet", "parquet"),
]


class Stocked(hub.Event, type="transfer:stocked"):
    """A contributed event."""

    api_key: str
    count: int


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with calls of every kind, contributed events with a view of their own, and a conflict."""
    db = tmp_path_factory.mktemp("filled") / "calls.db"
    fill(db)
    log = ListLog()
    recorder = recorder_on(log)
    recorder.emit(Stocked(api_key="of the shelf", count=2**60), {})
    factory = Factory("other", project="other")
    asked = factory.call(wire=True, tools=[{"name": "look"}], session_id="s", user_id="u", tags={"a": "b"})
    lost = factory.event("llm:response", stream=asked[0]["stream_id"], version=3, data={"status": "error"})
    told = factory.event(
        "hub:conflict", stream=factory.new_id(), version=1, call_id=None, content={"original": dict(lost)}
    )
    written(db, [*log.records, *asked, told])
    return db


@pytest.mark.parametrize(("name", "form"), FILES)
def test_an_empty_store_becomes_what_the_exported_one_is(filled: Path, tmp_path: Path, name: str, form: Form) -> None:
    file, db = tmp_path / name, tmp_path / "calls.db"
    done = export(filled, file, form)
    outcome = bring_in(file, db)
    assert events_in(db) == events_in(filled)
    assert seen_in(db) == seen_in(filled)
    assert (outcome.done.new, outcome.done.calls, outcome.complaints) == (done.events, done.calls, [])
    assert outcome.done.changed == 0, "what was emitted needs no mending"


def test_an_export_of_an_import_is_the_same_file(filled: Path, tmp_path: Path) -> None:
    export(filled, tmp_path / "one.jsonl")
    bring_in(tmp_path / "one.jsonl", tmp_path / "calls.db")
    export(tmp_path / "calls.db", tmp_path / "two.jsonl")
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_parquet_has_the_envelope_in_columns_with_types_and_row_groups(filled: Path, tmp_path: Path) -> None:
    export(filled, tmp_path / "out.parquet", "parquet")
    found = pq.ParquetFile(tmp_path / "out.parquet")
    kinds = {field.name: str(field.type) for field in found.schema_arrow}
    assert kinds["occurred_at"] == "timestamp[ns, tz=UTC]"
    assert (kinds["version"], kinds["parent_is_remote"], kinds["content"]) == ("int64", "bool", "string")
    times = found.read()["occurred_at"].cast(pa.int64()).to_pylist()
    assert times == [record["occurred_at"] for record in events_in(filled)]
    assert (tmp_path / "out.parquet").stat().st_mode & 0o777 == 0o600


def test_large_events_are_spread_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.transfer.event_table._GROUP_BYTES", 20_000)
    records = many_calls(tmp_path / "calls.db", 50)
    export(tmp_path / "calls.db", tmp_path / "out.parquet", "parquet")
    found = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert found.num_row_groups > 5
    bring_in(tmp_path / "out.parquet", tmp_path / "new.db")
    assert events_in(tmp_path / "new.db") == records


def test_events_are_exported_as_they_are_stored_not_upcast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hub.events._upcasters, ("acme:old", 1), lambda data: {"new": data})
    factory = Factory()
    written(tmp_path / "calls.db", [factory.event("acme:old", stream=factory.new_id(), version=1, data={"a": 1})])
    with closing(Reader(settings_of(tmp_path / "calls.db"))) as reader:
        assert [record["schema_version"] for record in reader.records()] == [2]
    export(tmp_path / "calls.db", tmp_path / "out.jsonl")
    bring_in(tmp_path / "out.jsonl", tmp_path / "new.db")
    (kept,) = events_in(tmp_path / "new.db")
    assert (kept["schema_version"], kept["data"]) == (1, {"a": 1})


def test_importing_again_changes_nothing(filled: Path, tmp_path: Path) -> None:
    file, db = tmp_path / "out.jsonl.zst", tmp_path / "calls.db"
    count = export(filled, file).events
    bring_in(file, db)
    before = _dump(db)
    again = bring_in(file, db).done
    assert (again.new, again.duplicates, again.conflicts, again.price_cards) == (0, count, 0, 0)
    assert _dump(db) == before


def _dump(db: Path) -> list[str]:
    with closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())


def test_importing_into_the_store_it_came_from_changes_nothing(filled: Path, tmp_path: Path) -> None:
    db = tmp_path / "calls.db"
    shutil.copy(filled, db)
    export(db, tmp_path / "out.parquet", "parquet")
    before = _dump(db)
    assert bring_in(tmp_path / "out.parquet", db).done.new == 0
    assert _dump(db) == before


def test_calls_of_two_stores_come_together(tmp_path: Path) -> None:
    one, two = Factory("one").calls(3), Factory("two").calls(4)
    for name, records in (("one", one), ("two", two)):
        export(written(tmp_path / f"{name}.db", records), tmp_path / f"{name}.jsonl")
        bring_in(tmp_path / f"{name}.jsonl", tmp_path / "both.db")
    assert events_in(tmp_path / "both.db") == [*one, *two]


def test_files_written_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    one, two = Factory("one").calls(3), Factory("two").calls(4)
    both = tmp_path / "both.jsonl.zst"
    for name, records in (("one", one), ("two", two)):
        export(written(tmp_path / f"{name}.db", records), tmp_path / f"{name}.jsonl.zst")
        with both.open("ab") as file:
            file.write((tmp_path / f"{name}.jsonl.zst").read_bytes())
    outcome = bring_in(both, tmp_path / "both.db")
    assert (outcome.done.new, outcome.complaints) == (28, [])


# Conflicts.


def test_an_event_whose_place_is_taken_is_told_of_and_left_out(tmp_path: Path) -> None:
    records = Factory().calls(3)
    export(written(tmp_path / "calls.db", records), tmp_path / "out.jsonl")
    holder: EventRecord = {**records[5], "id": Factory("holder").new_id()}
    outcome = bring_in(tmp_path / "out.jsonl", written(tmp_path / "new.db", [holder]))
    assert (outcome.done.new, outcome.done.conflicts, outcome.done.is_whole) == (11, 1, False)
    ((place, why),) = outcome.complaints
    line = int(place.removeprefix("line "))
    assert orjson.loads((tmp_path / "out.jsonl").read_bytes().splitlines()[line - 1]) == records[5]
    assert why == f"version 2 of stream {records[5]['stream_id']} is another event in this store"
    assert holder in events_in(tmp_path / "new.db")


# Erasure and keys.


def test_what_was_erased_does_not_come_back_by_an_old_export(tmp_path: Path) -> None:
    canary, db = "the cat ate my homework", tmp_path / "calls.db"
    factory = Factory()
    erased = factory.call([{"role": "user", "content": canary}], canary, user_id="u1", session_id=canary)
    note = factory.event(
        "acme:note", stream=factory.new_id(), version=1, call_id=None, user_id="u1", data={"t": canary}
    )
    written(db, [*erased, note, *factory.calls(2)])
    for name, form in FILES:
        export(db, tmp_path / name, form)
    with closing(SQLiteStore(db)) as store:
        store.erase(Erasure(project="shop", before_ns=START + 10**6 * SECOND, user_id="u1"))
    before = seen_in(db)
    for name, _form in FILES:
        assert bring_in(tmp_path / name, db).done.new == 0
    assert seen_in(db) == before

    fresh = tmp_path / "fresh.db"
    written(fresh, factory.calls(1))
    with closing(SQLiteStore(fresh)) as store:
        store.erase(Erasure(project="shop", before_ns=START + 10**6 * SECOND, user_id="u1"))
    for name, _form in FILES:
        bring_in(tmp_path / name, fresh)
    kept = b"".join(each.read_bytes() for each in tmp_path.glob("fresh.db*"))
    assert canary.encode() not in kept
    assert len(events_in(fresh)) == 17
    costs = {row[0] for row in seen_in(fresh)["llm_costs_hourly"]}
    assert costs == {row[0] for row in before["llm_costs_hourly"]}


def test_what_is_erased_while_an_export_is_under_way_is_not_in_it(tmp_path: Path) -> None:
    canary, db = "the cat ate my homework", tmp_path / "calls.db"
    factory = Factory()
    written(db, [*factory.call([{"role": "user", "content": canary}], user_id="u1"), *factory.calls(300)])
    left = [True]

    def erase(done: int, total: int) -> None:
        if left and left.pop():
            with closing(SQLiteStore(db)) as store:
                store.erase(Erasure(project="shop", before_ns=2**62, user_id="u1"))

    done = export(db, tmp_path / "out.jsonl", advance=erase)
    assert canary.encode() not in (tmp_path / "out.jsonl").read_bytes()
    assert (done.events, done.resumed) == (1205, 0)  # hub:redacted is one of them


def test_keys_do_not_travel(filled: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM hub_keys")]
    for name, form in FILES:
        export(filled, tmp_path / name, form)
        raw = (tmp_path / name).read_bytes()
        assert not any(key in raw or key.hex().encode() in raw for key in keys)


# What is chosen.


def _chosen(db: Path, tmp_path: Path, **selection: Any) -> list[EventRecord]:
    export(db, tmp_path / "chosen.jsonl", replace=True, **selection)
    lines = map(orjson.loads, (tmp_path / "chosen.jsonl").read_bytes().splitlines())
    return [line for line in lines if "stream_id" in line]


def test_a_call_is_chosen_by_its_start_with_all_its_events_wherever_they_stand(tmp_path: Path) -> None:
    factory = Factory()
    early, late = factory.call(took_ms=60_000), factory.call()
    about_early = factory.event("hub:replay", stream=factory.new_id(), version=1, call_id=early[0]["call_id"])
    loose = factory.event("acme:tick", stream=factory.new_id(), version=1, call_id=None)
    db = written(tmp_path / "calls.db", [*early, *late, about_early, loose])
    begun = late[0]["occurred_at"]
    assert begun < loose["occurred_at"]
    assert _chosen(db, tmp_path, until_ns=begun) == [*early, about_early]
    assert _chosen(db, tmp_path, since_ns=begun) == [*late, loose]
    assert _chosen(db, tmp_path, since_ns=begun, until_ns=begun) == []


def test_a_project_is_chosen_with_what_belongs_to_no_call(tmp_path: Path) -> None:
    ours, theirs = Factory("a", project="ours"), Factory("b", project="theirs")
    tick = ours.event("acme:tick", stream=ours.new_id(), version=1, call_id=None)
    mine = [*ours.call(), tick]
    db = written(tmp_path / "calls.db", [*mine, *theirs.calls(2)])
    assert _chosen(db, tmp_path, project="ours") == mine


def test_a_condition_chooses_calls_and_brings_the_schemas_of_contributed_events(tmp_path: Path) -> None:
    factory = Factory()
    schema = factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data={"type": "a:b"})
    tick = factory.event("acme:tick", stream=factory.new_id(), version=1, call_id=None)
    good, bad = factory.call(), factory.call(response={"status": "error"}, error="no")
    db = written(tmp_path / "calls.db", [schema, tick, *good, *bad])
    assert _chosen(db, tmp_path, where="status = 'error' -- whatever") == [schema, *bad]
    with pytest.raises(QueryRefused, match="no such column"):
        export(db, tmp_path / "never.jsonl", where="colour = 'red'")
    assert not (tmp_path / "never.jsonl").exists()


def test_a_call_that_changes_while_it_is_exported_is_whole_or_not_there(tmp_path: Path) -> None:
    factory = Factory()
    running, *others = [factory.call() for _ in range(400)]
    db = written(tmp_path / "calls.db", [*running[:2], *(record for call in others for record in call)])
    ended = [True]

    def end(done: int, total: int) -> None:
        if ended and ended.pop():
            written(db, running[2:])

    export(db, tmp_path / "out.jsonl", where="status = 'ok'", advance=end)
    bring_in(tmp_path / "out.jsonl", tmp_path / "new.db")
    assert not [record for record in events_in(tmp_path / "new.db") if record["call_id"] == running[0]["call_id"]]


# Interrupted.


class _Interrupted(BaseException):
    """As a kill is to the code that runs."""


def _interrupt_at(share: float) -> Any:
    def advance(done: int, total: int) -> None:
        if done >= total * share:
            raise _Interrupted

    return advance


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.transfer.exporting._PIECE", 200_000)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("name", "form"), FILES)
def test_an_export_goes_on_where_it_was_interrupted(tmp_path: Path, name: str, form: Form) -> None:
    db, file = tmp_path / "calls.db", tmp_path / name
    records = many_calls(db, 400)
    for share in (0.5, 0.8):
        with pytest.raises(_Interrupted):
            export(db, file, form, advance=_interrupt_at(share))
        assert not file.exists()
    done = export(db, file, form)
    assert 0 < done.resumed < done.events == len(records)
    assert sorted(each.name for each in tmp_path.glob("out*")) == [name], "nothing is left over"
    assert bring_in(file, tmp_path / "new.db").complaints == []
    assert events_in(tmp_path / "new.db") == records
    assert seen_in(tmp_path / "new.db") == seen_in(db)


@pytest.mark.usefixtures("small_pieces")
def test_what_was_written_behind_the_last_safe_place_is_written_anew(tmp_path: Path) -> None:
    db, file = tmp_path / "calls.db", tmp_path / "out.jsonl.zst"
    records = many_calls(db, 400)
    with pytest.raises(_Interrupted):
        export(db, file, advance=_interrupt_at(0.6))
    with (tmp_path / "out.jsonl.zst.part").open("ab") as part:
        part.write(b"torn" * 1000)
    assert export(db, file).resumed > 0
    bring_in(file, tmp_path / "new.db")
    assert events_in(tmp_path / "new.db") == records


@pytest.mark.usefixtures("small_pieces")
def test_an_export_begins_anew_when_it_is_another_or_cannot_go_on(tmp_path: Path) -> None:
    db, file = tmp_path / "calls.db", tmp_path / "out.jsonl"
    many_calls(db, 400)
    written(db, Factory("erased").call(user_id="u1"))

    def interrupt() -> None:
        with pytest.raises(_Interrupted):
            export(db, file, advance=_interrupt_at(0.9))

    interrupt()
    assert export(db, file, project="shop").resumed == 0
    file.unlink()
    interrupt()
    (tmp_path / "out.jsonl.part").write_bytes(b"shorter than it was")
    assert export(db, file).resumed == 0
    file.unlink()
    interrupt()
    (tmp_path / "out.jsonl.part-journal").write_bytes(b"no database " * 1000)
    assert export(db, file).resumed == 0
    file.unlink()
    interrupt()
    with closing(SQLiteStore(db)) as store:
        store.erase(Erasure(project="shop", before_ns=2**62, user_id="u1"))
    assert export(db, file).resumed == 0


@pytest.mark.usefixtures("small_pieces")
def test_a_choice_holds_for_the_whole_export_interrupted_or_not(tmp_path: Path) -> None:
    db, file = tmp_path / "calls.db", tmp_path / "out.jsonl"
    factory = Factory()
    running = factory.call()
    records = [*running[:2], *factory.calls(400)]
    written(db, records)
    with pytest.raises(_Interrupted):
        export(db, file, where="status = 'running' OR project = 'shop'", advance=_interrupt_at(0.7))
    later = factory.call()
    written(db, [*running[2:], *later])
    done = export(db, file, where="status = 'running' OR project = 'shop'")
    bring_in(file, tmp_path / "new.db")
    assert done.resumed > 0
    assert events_in(tmp_path / "new.db") == [*records, *running[2:]], "the later call was not chosen"


def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    db, file = tmp_path / "calls.db", tmp_path / "out.jsonl"
    many_calls(db, 1)
    file.write_text("precious")
    with pytest.raises(FileRefused, match="--force"):
        export(db, file)
    assert file.read_text() == "precious"
    assert export(db, file, replace=True).events == 4
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_file_is_written_by_one_export_at_a_time(tmp_path: Path) -> None:
    db, file = tmp_path / "calls.db", tmp_path / "out.jsonl"
    many_calls(db, 1)

    def other(done: int, total: int) -> None:
        with pytest.raises(FileRefused, match="another export is writing"):
            export(db, file)

    assert export(db, file, advance=other).events == 4


# Killed.


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EventRecord]]:
    """Some 30 MB, of which an export writes several pieces."""
    db, factory = tmp_path_factory.mktemp("large") / "calls.db", Factory()
    records = [record for _ in range(600) for record in factory.call(answer=factory.text(50_000))]
    return written(db, records), records


def _killed(command: list[str], folder: Path, when: Callable[[], bool]) -> None:
    """Run *command* and kill it as soon as it has come so far, if it ever does."""
    process = subprocess.Popen(
        [HUB, *command], env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not when():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _run(command: list[str], folder: Path) -> dict[str, Any]:
    done = subprocess.run([HUB, *command], env=environment(folder), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(orjson.loads(done.stdout))


def _committed(part: Path) -> int:
    """Bytes that an export need not write again."""
    journal = part.with_name(part.name + "-journal")
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        try:
            return int((database.execute("SELECT bytes FROM progress").fetchone() or (0,))[0])
        except sqlite3.OperationalError:  # it is just being made
            return 0


def _larger_than(path: Path, size: int) -> Callable[[], bool]:
    return lambda: path.exists() and path.stat().st_size > size


@pytest.mark.parametrize(("name", "form"), [FILES[0], FILES[3]])
def test_after_kill_9_the_same_commands_end_with_the_same_store(
    large: tuple[Path, list[EventRecord]], tmp_path: Path, name: str, form: Form
) -> None:
    source, records = large
    file, db = tmp_path / name, tmp_path / "new.db"
    exporting, importing = ["export", form, str(file), "--db", str(source)], ["import", str(file), "--db", str(db)]
    part = file.with_name(file.name + ".part")
    _killed(exporting, tmp_path, _larger_than(part, 0))
    _killed(exporting, tmp_path, lambda: _committed(part) > 0)
    if form == "parquet":
        _killed(exporting, tmp_path, _larger_than(tmp_path / "out.parquet.writing", 0))
    assert not file.exists()
    told = _run(exporting, tmp_path)
    assert (told["events"], told["resumed"] > 0) == (len(records), True)
    _killed(importing, tmp_path, _larger_than(db, 400_000))
    _killed(importing, tmp_path, _larger_than(db, 4_000_000))
    told = _run(importing, tmp_path)
    assert told["new"] + told["duplicates"] == len(records)
    assert told["duplicates"] > 0
    assert events_in(db) == records
    assert sorted(each.name for each in tmp_path.glob("out*")) == [name]
