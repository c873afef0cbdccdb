"""After `hub erase` nothing of what was erased is anywhere the hub writes to, and it does not come back."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
import zstandard
from typer.testing import CliRunner

from hub.cli.main import app
from hub.events import EventRecord, encode_frame
from hub.log import Priority, Stream
from hub.store import Erasure
from storage.postgres import PostgresStore
from storage.postgres_migrate import upgrade
from storage.postgres_server import connect
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.canaries import MARK, Canaries
from tests.contracts.case import LATER
from tests.contracts.retention import hourly
from tests.erasure_kit import KINDS, Somebody, late_events_of, others, records_of, talk, talk_more
from tests.factories import SECOND, Factory
from tests.hub_kit import running, select, store_path
from tests.postgres_server import Server
from tests.spools import make_spool

WORD = MARK.lower().encode()
"""As a full-text index has every canary, at least at its beginning."""
SUMS = "SELECT call_id, status, cost_nanos, input_tokens, output_tokens, duration_ms, counted FROM llm_calls ORDER BY 1"


def written_in(folder: Path) -> bytes:
    """All files, and what is packed in the database, unpacked."""
    packed = select(folder, "SELECT packed FROM hub_contents WHERE packed IS NOT NULL")
    files = [path.read_bytes().rstrip(b"\0") for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*files, *(zstandard.ZstdDecompressor().decompress(body) for (body,) in packed)])


def exported(store: SqlStore) -> list[EventRecord]:
    found: list[EventRecord] = []
    cursor = None
    while (page := store.read_all(cursor)).events:
        found += page.events
        cursor = page.next
    return found


def leave_spool(root: Path, records: list[EventRecord]) -> None:
    """A spool of a process that died, with *records* of one stream."""
    spool, stream = make_spool(root), Stream(records[0]["stream_id"])
    stream.version = records[0]["version"] - 1
    for record in records:
        labels = {name: record[name] for name in ("call_id", "session_id", "user_id", "tags")}
        event: Any = {name: record[name] for name in ("id", "type", "data", "content")}
        frame = encode_frame(record["stream_id"], record["occurred_at"], labels, [event])
        assert spool.append(frame, 1, stream, Priority.EVENT)
    spool.close(keep=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_in_files_of_a_running_hub_and_nothing_comes_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries, runner = Canaries(), CliRunner()
    monkeypatch.setenv("HUB_SPOOL_DIR", str(tmp_path / "spool"))
    somebody, db, path = Somebody(canaries), str(store_path(tmp_path)), store_path(tmp_path)
    late = Factory("late", start=time.time_ns() - 5 * SECOND)
    with running(tmp_path, otel="off") as hub:
        for number in range(40):
            with hub.call(
                provider="acme", model="m", messages=[{"role": "user", "content": f"noise {number}"}]
            ) as call:
                call.response(f"more noise {number}", usage={"input_tokens": 3, "output_tokens": 4})
        call_id = talk(hub, somebody)
        if kind != "call":
            talk_more(hub, somebody)
        assert hub.flush() == 0
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(f"{path}.backup-0002")) as backup:
            source.backup(backup)
        store = SQLiteStore(path)
        store.follow_search(enable=True)
        before, sums, hours = exported(store), select(tmp_path, SUMS), hourly(store)
        places = canaries.found_in(written_in(tmp_path))
        assert set(canaries.places) <= set(places), "or nothing is shown"

        value = {"call": call_id, "session": somebody.session, "user": somebody.user}[kind]
        erased = runner.invoke(app, ["erase", f"--{kind}", value, "--project", "shop", "--yes", "--json", "--db", db])
        assert (erased.exit_code, json.loads(erased.stdout)["complete"]) == (0, True), erased.output
        assert "backup-0002 was removed" in erased.stderr
        assert "; ".join(canaries.found_in(written_in(tmp_path))) == ""
        assert WORD not in written_in(tmp_path).lower(), "as the full-text index has it"
        assert (select(tmp_path, SUMS), hourly(store)) == (sums, hours)

        leave_spool(hub.settings.spool_root, late_events_of(somebody, call_id, late))
        assert canaries.found_in(written_in(tmp_path)), "it lies in a spool"
        shown = runner.invoke(app, ["calls", "--json", "--db", db])
        assert "brought in 2 events" in shown.stderr
        assert store.append(before).new == 0
        outputs = [shown.output, orjson.dumps(exported(store)).decode()]
        outputs += [runner.invoke(app, ["show", call_id, "--raw", "--db", db]).output]
        for view in ("llm_events", "llm_messages", "llm_tool_calls"):
            outputs.append(runner.invoke(app, ["sql", f"SELECT * FROM {view}", "--db", db]).output)
        assert "; ".join(canaries.found_in("\n".join(outputs).encode())) == ""
        with hub.call(provider="acme", model="m", messages="still there") as call:
            call.response("yes")
        assert hub.flush() == 0
        store.close()
    assert "; ".join(canaries.found_in(written_in(tmp_path))) == ""
    assert select(tmp_path, SUMS)[: len(sums)] == sums


def bytes_on(server: Server, database: str) -> bytes:
    """The files of all relations as a checkpoint leaves them; the write-ahead log is not the hub's."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        found = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert found is not None
    folder = server.folder / "base" / str(found[0])
    return b"\n".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def packed_in(store: SqlStore) -> bytes:
    with store._apart() as connection:
        rows = connection.execute("SELECT packed FROM hub_contents WHERE packed IS NOT NULL").fetchall()
    return b"\n".join(zstandard.ZstdDecompressor().decompress(bytes(body)) for (body,) in rows)


def test_nothing_is_left_in_the_files_of_postgresql_and_nothing_comes_back(own_postgres: Server) -> None:
    url = own_postgres.url("hub_erases")
    with psycopg.connect(own_postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE hub_erases")
    upgrade(connect(url), url)
    store, factory, canaries = PostgresStore(url), Factory(), Canaries()
    for kind in KINDS:
        planted = len(canaries.places)
        somebody = Somebody(canaries)
        records, noise = records_of(somebody, factory), list(others(factory, 60))
        call_id = records[0]["stream_id"]
        planted_early = canaries.places[planted:]
        late = late_events_of(somebody, call_id, factory)
        for call in noise[:30]:
            store.append(call)
        store.append(records)
        for call in noise[30:]:
            store.append(call)
        store.follow_search(enable=True)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")
        before, hours = exported(store), hourly(store)
        found = set(canaries.found_in(bytes_on(own_postgres, "hub_erases") + packed_in(store)))
        assert set(planted_early) <= found, "or nothing is shown"
        assert bytes_on(own_postgres, "hub_erases").count(WORD) > 10
        value: Any = {"call": UUID(call_id), "session": somebody.session, "user": somebody.user}[kind]
        report = store.erase(Erasure(project="shop", before_ns=LATER, **{_FIELDS[kind]: value}))
        assert (report.calls, report.events_redacted, report.complete) == (1, 6, True), report
        assert "write-ahead log" in report.notes[-1]
        assert store.append(late).new == 2
        assert store.append(before).new == 0
        files = bytes_on(own_postgres, "hub_erases")
        assert "; ".join(canaries.found_in(files + packed_in(store))) == ""
        assert WORD not in files.lower(), "as the full-text index has it"
        assert "; ".join(canaries.found_in(orjson.dumps(exported(store)))) == ""
        assert hourly(store) == hours
    store.close()


_FIELDS = {"call": "call_id", "session": "session_id", "user": "user_id"}
