"""What pruning and erasing do differently on PostgreSQL: months are dropped whole, and tables are written anew."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from psycopg import errors
from psycopg.errors import Diagnostic

from hub.ids import id_bound
from storage import search_indexes
from storage.postgres_connection import PostgresConnection
from storage.postgres_partitions import TABLE, Month, finish_detaching, make, pending, read
from storage.upkeep import Scrubbed, Writing

_TABLES = (
    "hub_contents", "hub_parts", "hub_sequences", "hub_calls", "hub_attempts", "hub_tool_calls", "hub_tool_results"
)  # fmt: skip
_PATIENCE_MS = 30_000
_SNAPSHOTS_MAY_LAST = 10.0

_OLDER = """
    WITH older(who, remedy, age) AS (
        SELECT 'a transaction of long standing (pid ' || pid || ')', 'end it',
            greatest(age(backend_xmin), age(backend_xid))
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'walsender'
        UNION ALL SELECT 'a standby (walsender, pid ' || pid || ')', 'end its long queries', age(backend_xmin)
        FROM pg_stat_activity WHERE backend_type = 'walsender'
        UNION ALL SELECT 'the prepared transaction ' || quote_literal(gid), 'commit it, or roll it back',
            age(transaction)
        FROM pg_prepared_xacts WHERE database = current_database()
        UNION ALL SELECT 'the replication slot ' || slot_name, 'let it catch up, or drop it',
            greatest(age(xmin), CASE WHEN database = current_database() THEN age(catalog_xmin) END)
        FROM pg_replication_slots
    ) SELECT who, remedy FROM older WHERE age > age(?::xid) ORDER BY 1
"""
"""Who keeps dead rows from being left out. Of catalogs that is pg_statistic, which has values of the columns."""
_MOST_NAMED = 5

_STILL_NEEDED = (
    " WHERE NOT CASE WHEN call_id IS NULL THEN occurred_ns < ? ELSE call_id < ?"
    " AND NOT EXISTS (SELECT 1 FROM hub_calls c WHERE c.call_id = e.call_id) END"
)


# Months.


def drop_old_months(connection: PostgresConnection, before_ns: int, writing: Writing) -> tuple[int, Sequence[str]]:
    """Drop the months that have nothing but events about calls begun before, and about no call that happened before.

    Readers are not held up. What somebody's long transaction keeps from being dropped is left for another time.

    Returns: How many events were dropped, and notes.
    """
    dropped = 0
    try:
        for month in _detached(connection):
            dropped += _drop_or_put_back(connection, month, before_ns, writing)
        for month in sorted(read(connection).months):
            if Month(month + 1).bound > id_bound(before_ns):
                break
            if not _needed(connection, month.table, before_ns):
                connection.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {month.table} CONCURRENTLY")
                dropped += _drop_or_put_back(connection, month, before_ns, writing)
    except (errors.LockNotAvailable, errors.ObjectInUse):
        return dropped, ("a long transaction keeps a month from being dropped; the next hub prune does it",)
    return dropped, ()


def put_back_months(connection: PostgresConnection, writing: Writing) -> Sequence[str]:
    """Put months back that were detached to be dropped: nobody sees what is in them. Returns: What it could not do."""
    try:
        for month in _detached(connection):
            with writing(connection):
                if _is_alone(connection, month.table):
                    make(connection, month)
    except (errors.LockNotAvailable, errors.ObjectInUse):
        return ("a long transaction keeps a month out of the log that hub prune is to drop; run the same again",)
    return ()


def _needed(connection: PostgresConnection, table: str, before_ns: int) -> bool:
    values = (before_ns, id_bound(before_ns))
    return connection.execute(f"SELECT 1 FROM {table} e {_STILL_NEEDED} LIMIT 1", values).fetchone() is not None


def _detached(connection: PostgresConnection) -> list[Month]:
    """Months that somebody who was killed detached, or was about to detach, and did not come to drop."""
    for name in pending(connection):
        finish_detaching(connection, name)
    return _alone(connection)


def out_of_the_log(connection: PostgresConnection) -> list[str]:
    """Months of which nobody sees anything until the next pruning or erasure, which finishes what was begun."""
    return sorted({*pending(connection), *(month.table for month in _alone(connection))})


def _alone(connection: PostgresConnection) -> list[Month]:
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace"
        " AND relkind = 'r' AND NOT relispartition"
    )
    return [month for (name,) in tables.fetchall() if (month := Month.named(name)) is not None]


def _is_alone(connection: PostgresConnection, name: str) -> bool:
    """Whether it is no partition. Within a writer's turn it stays so."""
    found = connection.execute("SELECT 1 FROM pg_inherits WHERE inhrelid = ?::regclass", (name,))
    return found.fetchone() is None


def _drop_or_put_back(connection: PostgresConnection, month: Month, before_ns: int, writing: Writing) -> int:
    """Of a month that was detached. Put back is one to which an event that is needed came just before.

    Returns: How many events were dropped.
    """
    needed = _needed(connection, month.table, before_ns)
    if not needed:
        _forget(connection, month.table)
    (count,) = connection.execute(f"SELECT count(*) FROM {month.table}").fetchone() or (0,)
    with writing(connection):
        if not _is_alone(connection, month.table):
            return 0  # a writer needed the month, and put it back
        if needed:
            make(connection, month)
            return 0
        connection.execute(f"DROP TABLE {month.table}")
    return int(count)


def _forget(connection: PostgresConnection, month: str) -> None:
    """Take the events of a month out of the full-text index, if there is one."""
    links = search_indexes.TABLES[1]
    if _is_there(connection, links):
        connection.execute(f"DELETE FROM {links} l USING {month} e WHERE l.position = e.position")


# Tables.


def tidy(connection: PostgresConnection) -> None:
    """Let what was deleted be used again. Nobody is held up."""
    for table in (TABLE, *_tables(connection)):
        with suppress(errors.LockNotAvailable):  # autovacuum is at it
            connection.execute(f"VACUUM {table}")


def _tables(connection: PostgresConnection) -> list[str]:
    """Those beside hub_events from which something goes. The full-text index's are there when it is on."""
    named = (*_TABLES, *search_indexes.TABLES)
    return [name for name in named if _is_there(connection, name)]


def _is_there(connection: PostgresConnection, table: str) -> bool:
    return connection.execute("SELECT to_regclass(?)", (table,)).fetchone() != (None,)


def rewrite(connection: PostgresConnection, months: Collection[Month] | None) -> Scrubbed:
    """Write tables and their indexes anew: VACUUM alone leaves the bytes of dead rows in place, and what the planner
    knows of values stands in pg_statistic. Each table is locked while it is written.

    Args:
        months: Of streams that were rewritten; None for all.
    """
    with _heard(connection) as refused, _patient(connection):
        failed = _wait_for_snapshots(connection)
        for statement in _statements(connection, months):
            try:
                connection.execute(statement)
            except errors.LockNotAvailable:
                failed.append(f"{statement} found the table in use for {_PATIENCE_MS / 1000:g} s")
    notes = [f"{one}; run the same again" for one in failed] + [f"{one}; run the same as its owner" for one in refused]
    return Scrubbed(tuple(notes), complete=not notes)


def _statements(connection: PostgresConnection, months: Collection[Month] | None) -> Iterator[str]:
    layout = read(connection)
    parts = {TABLE} if months is None else {layout.table_of(month) for month in months}
    for table in (*sorted(parts), *_tables(connection)):
        yield f"VACUUM (FULL, ANALYZE) {table}"
    yield f"ANALYZE {TABLE}"
    yield "VACUUM FULL pg_statistic"


def _wait_for_snapshots(connection: PostgresConnection) -> list[str]:
    """Transactions that began before now may still see rows that are dead: those are copied. Returns: A complaint."""
    (now,) = connection.execute("SELECT pg_current_xact_id()::xid::text").fetchone() or ("",)
    deadline = time.monotonic() + _SNAPSHOTS_MAY_LAST
    while True:
        older = connection.execute(_OLDER, (now,)).fetchall()
        if not older:
            return []
        if time.monotonic() > deadline:
            return [f"{who} still sees what was deleted: {remedy}" for who, remedy in older[:_MOST_NAMED]]
        time.sleep(0.1)


@contextmanager
def _patient(connection: PostgresConnection) -> Iterator[None]:
    (before,) = connection.execute("SELECT current_setting('lock_timeout')").fetchone() or ("",)
    connection.execute("SELECT set_config('lock_timeout', ?, false)", (str(_PATIENCE_MS),))
    try:
        yield
    finally:
        connection.execute("SELECT set_config('lock_timeout', ?, false)", (before,))


@contextmanager
def _heard(connection: PostgresConnection) -> Iterator[list[str]]:
    """What the server warns of: a table that the login may not rewrite is passed over."""
    warnings: list[str] = []

    def hear(told: Diagnostic) -> None:
        if told.severity_nonlocalized == "WARNING" and told.message_primary:
            warnings.append(told.message_primary)

    connection.raw.add_notice_handler(hear)
    try:
        yield warnings
    finally:
        connection.raw.remove_notice_handler(hear)
