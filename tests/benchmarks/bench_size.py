"""What a call and an event take in the store.

    python tests/benchmarks/bench_size.py [--quick] [--postgres URL]

An agent of 50 turns, whose last request is 132 KB, sends its whole history with each call: bytes stored for each call,
all tables and indexes included, beside the JSON that went over the wire, and beside that JSON in zstd. Metadata: what
the events take themselves, the table and its indexes, of calls that were recorded with their content. On PostgreSQL
(a database that `hub migrate` made, and that is empty) the sizes are those of the relations, after VACUUM.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import orjson
import zstandard

from hub.events import EventRecord
from hub.polite import no_rest
from storage import open_store
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.benchmarks.report import Figure, show_figures
from tests.factories import Factory

TURNS, MESSAGE_BYTES, AGENTS = 50, 1_320, 20


def agent(factory: Factory, number: int) -> tuple[list[EventRecord], int, int]:
    """The calls of an agent, the bytes of their requests and answers, and those bytes in zstd."""
    history: list[dict[str, str]] = []
    events, raw, packed = [], 0, 0
    compressor = zstandard.ZstdCompressor(level=3)
    for _ in range(TURNS):
        history.append({"role": "user", "content": factory.text(MESSAGE_BYTES)})
        answer = {"role": "assistant", "content": factory.text(MESSAGE_BYTES)}
        events += factory.call(list(history), dict(answer), session_id=f"agent-{number}")
        history.append(answer)
        body = orjson.dumps(history)
        raw, packed = raw + len(body), packed + len(compressor.compress(body))
    for event in events:
        event["data"] = {key: value for key, value in event["data"].items() if value is not None}  # as the recorder
    return events, raw, packed


def sizes(store: SqlStore) -> dict[str, int]:
    """Bytes of each table with its indexes."""
    if isinstance(store, SQLiteStore):
        with closing(sqlite3.connect(store.path)) as connection:
            return dict(
                connection.execute(
                    "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_schema m USING (name)"
                    " WHERE m.tbl_name LIKE 'hub%' GROUP BY 1"
                )
            )
    with store._apart() as connection:
        connection.execute("VACUUM")
        found = connection.execute(
            "SELECT CASE WHEN relname LIKE 'hub\\_events\\_%' THEN 'hub_events' ELSE relname END,"
            " pg_total_relation_size(oid)"
            " FROM pg_class WHERE relkind = 'r' AND relname LIKE 'hub\\_%' AND relname <> 'hub_event_schemas'"
        ).fetchall()
    return {table: sum(size for name, size in found if name == table) for table, _ in found}


def measure(store: SqlStore, agents: int) -> list[Figure]:
    """Both figures."""
    factory = Factory("0199f3c2-7d1a-7c3e-9b5f-1c2d3e4f5a6b")
    store.append(factory.call())
    before, raw, packed = sizes(store), 0, 0
    for number in range(agents):
        events, own_raw, own_packed = agent(factory, number)
        for start in range(0, len(events), 500):
            store.append(events[start : start + 500])
        raw, packed = raw + own_raw, packed + own_packed
    calls = agents * TURNS
    grown = {table: size - before[table] for table, size in sizes(store).items()}
    parts = ", ".join(f"{table[4:]} {size / calls:,.0f}" for table, size in sorted(grown.items()) if size > 20 * calls)
    return [
        Figure("raw JSON, bytes a call", [raw / calls], "", f"in zstd {packed / calls:,.0f}"),
        Figure("agent, bytes a call", [sum(grown.values()) / calls], "<= 5,120", parts),
        Figure("metadata, bytes an event", [grown["hub_events"] / calls / 4], "<= 600 SQLite, 700 PostgreSQL"),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--postgres", metavar="URL", help="a migrated, empty database")
    given = options.parse_args()
    agents = 2 if given.quick else AGENTS
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(given.postgres or f"sqlite:///{folder}/calls.db")
        store._rest = no_rest
        show_figures("Stored in " + ("PostgreSQL" if given.postgres else "SQLite"), measure(store, agents))
        store.close()


if __name__ == "__main__":
    main()
