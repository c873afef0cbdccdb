"""Erasing and pruning in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from hub.cli.retention_checks import retention
from hub.config import load
from hub.errors import StoreUnavailable
from hub.events import EventRecord
from storage import postgres_pruning
from storage.postgres import PostgresStore
from storage.postgres_migrate import upgrade
from storage.postgres_server import connect
from storage.sql_store import SqlStore
from tests.contracts.retention import DAY, RetentionContract, everything, hourly, select, user
from tests.factories import SECOND, Factory
from tests.postgres_server import Server


class TestPostgresRetention(RetentionContract):
    @pytest.fixture
    def open_store(self, own_migrated_url: str) -> Callable[[], SqlStore]:
        return lambda: PostgresStore(own_migrated_url)


# Months.

MAY, JUNE, JULY = (int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) * SECOND for month in (5, 6, 7))


@pytest.fixture
def store(own_migrated_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(own_migrated_url)
    yield store
    store.close()


def calls_in(*moments: int, project: str = "shop") -> list[EventRecord]:
    return [one for at in moments for one in Factory(f"{project}{at}", project=project, start=at + DAY).calls(3)]


def months(store: SqlStore) -> set[str]:
    found = select(store, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'hub_events'::regclass")
    return {name.removeprefix("hub_events_") for (name,) in found}


def tables(store: SqlStore) -> set[str]:
    found = select(store, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE 'hub_events_2%'")
    return {name.removeprefix("hub_events_") for (name,) in found}


def test_months_that_are_too_old_as_a_whole_are_dropped_and_the_rest_deleted(store: PostgresStore) -> None:
    store.append(calls_in(MAY, JUNE, JULY))
    before = hourly(store)
    assert {"2026_05", "2026_06", "2026_07"} <= months(store)
    report = store.prune(calls_before_ns=JUNE + 10 * DAY)
    assert (report.calls, report.events, report.contents, report.notes) == (6, 24, 12, ())
    assert "2026_05" not in tables(store)
    assert {"2026_06", "2026_07"} <= months(store)
    assert len(store.read_all().events) == 12
    assert hourly(store) == before
    store.rebuild()
    assert hourly(store) == before


def test_a_month_in_which_a_younger_event_stands_is_not_dropped(store: PostgresStore) -> None:
    factory = Factory(start=MAY + DAY)
    stream = factory.new_id()
    ticks = [
        factory.event("acme:tick", stream=stream, version=number, call_id=None, at=at)
        for number, at in ((1, MAY + DAY), (2, JULY))
    ]
    store.append(calls_in(MAY, JULY) + ticks)
    assert store.prune(calls_before_ns=JUNE).events == 13
    assert "2026_05" in months(store)
    assert list(store.read_stream(UUID(stream))) == ticks[1:]
    assert store.prune(calls_before_ns=JULY + 1).events == 1
    assert "2026_05" not in tables(store)


def test_a_writer_that_knew_a_dropped_month_makes_it_anew(own_migrated_url: str, store: PostgresStore) -> None:
    writer = PostgresStore(own_migrated_url)
    writer.append(calls_in(MAY, JULY))
    store.prune(calls_before_ns=JUNE)
    others = calls_in(MAY, project="lab")
    assert writer.append(others).new == 12
    assert [one for one in writer.read_all().events if one["project"] == "lab"] == others
    assert store.prune(calls_before_ns=JUNE).calls == 3
    assert "2026_05" not in tables(store)
    writer.close()


def test_a_month_that_somebody_who_was_killed_detached_is_dropped(store: PostgresStore) -> None:
    store.append(calls_in(MAY, JULY))
    with store._apart() as connection:
        connection.execute("ALTER TABLE hub_events DETACH PARTITION hub_events_2026_05")
    before = hourly(store)
    store.prune(calls_before_ns=JUNE)
    assert "2026_05" not in tables(store)
    assert hourly(store) == before


def test_a_month_that_was_detached_and_is_needed_yet_is_put_back(store: PostgresStore) -> None:
    records = calls_in(MAY)
    store.append(records + calls_in(JULY))
    with store._apart() as connection:
        connection.execute("ALTER TABLE hub_events DETACH PARTITION hub_events_2026_05")
    assert store.prune(calls_before_ns=MAY - DAY).events == 0
    assert "2026_05" in months(store)
    assert [one for one in store.read_all().events if one["occurred_at"] < JUNE] == records


def test_a_month_that_was_detached_is_put_back_by_a_writer_who_needs_it(
    own_migrated_url: str, store: PostgresStore
) -> None:
    store.append(calls_in(MAY, JULY))
    before = hourly(store)
    with store._apart() as connection:
        connection.execute("ALTER TABLE hub_events DETACH PARTITION hub_events_2026_05")
    writer = PostgresStore(own_migrated_url)
    others = calls_in(MAY, project="lab")
    assert writer.append(others).new == 12
    writer.close()
    assert store.prune(calls_before_ns=MAY + 2 * DAY).calls == 6
    assert "2026_05" in months(store)
    assert store.prune(calls_before_ns=JUNE).events == 0
    assert "2026_05" not in tables(store)
    sums = [row for row in hourly(store)[0] if row[1] == "shop"]
    assert sums == [row for row in before[0] if row[1] == "shop"]


def test_pruning_does_not_fail_for_a_table_that_is_being_vacuumed(
    own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    store.append(calls_in(MAY, JULY))
    with psycopg.connect(own_migrated_url) as other:
        other.execute("LOCK TABLE hub_contents IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        assert store.prune(bodies_before_ns=JUNE).contents == 6


def test_giving_room_back_says_nothing_of_what_an_erasure_cannot_reach(store: PostgresStore) -> None:
    store.append(calls_in(MAY, JULY))
    assert store.prune(calls_before_ns=JUNE, shrink=True).notes == ()


def test_a_long_transaction_delays_the_dropping_of_a_month_and_nothing_else(
    own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    store.append(calls_in(MAY, JULY))
    before = hourly(store)
    with psycopg.connect(own_migrated_url) as reader:
        reader.execute("SELECT count(*) FROM hub_events")
        report = store.prune(calls_before_ns=JUNE)
        assert report.calls == 3
        assert "a long transaction" in report.notes[0]
        assert store.append(calls_in(JULY + DAY)).new == 12
        store.rebuild()
    assert len(select(store, "SELECT 1 FROM llm_calls")) == 6
    assert store.prune(calls_before_ns=JUNE).notes == ()
    assert "2026_05" not in tables(store)
    assert [row for row in hourly(store)[0] if row[0] < datetime(2026, 6, 1, tzinfo=UTC)] == [
        row for row in before[0] if row[0] < datetime(2026, 6, 1, tzinfo=UTC)
    ]


def test_an_event_of_a_month_that_is_about_to_be_dropped_waits_for_its_readers_and_is_kept(
    own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    factory = Factory(start=MAY + DAY)
    stream = factory.new_id()
    early, late, another = (
        factory.event("acme:tick", stream=stream, version=version, call_id=None, at=at)
        for version, at in ((1, MAY + DAY), (2, JULY), (3, JULY))
    )
    store.append([early, *calls_in(MAY, JULY)])
    pruner = PostgresStore(own_migrated_url)
    with psycopg.connect(own_migrated_url) as reader:
        reader.execute("SELECT count(*) FROM hub_events")
        assert pruner.prune(calls_before_ns=JUNE).notes
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="a month of events"):
                store.append([late])
        assert store.append(calls_in(JULY + DAY)).new == 12
    assert store.append([late]).new == 1
    assert store.append([another]).new == 1
    assert pruner.prune(calls_before_ns=JUNE).notes == ()
    assert list(store.read_stream(UUID(stream))) == [late, another]
    assert "2026_05" in months(store)
    pruner.close()


def test_a_tool_s_answer_is_not_left_with_a_call_whose_month_is_still_to_be_dropped(
    own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    tool = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
    answered = [asks, {"role": "tool", "tool_call_id": "c1", "content": "found"}]
    for moment in (MAY, JULY):
        store.append(Factory(f"p{moment}", start=moment).call(answered, "so", session_id="s1"))
    with psycopg.connect(own_migrated_url) as reader:
        reader.execute("SELECT count(*) FROM hub_events")
        assert store.prune(calls_before_ns=JUNE).notes
        live = everything(store)["hub_tool_results"]
        store.rebuild()
        assert everything(store)["hub_tool_results"] == live
    store.prune(calls_before_ns=JUNE)
    assert everything(store)["hub_tool_results"] == live


@pytest.mark.parametrize("pending", [False, True], ids=["detached", "about to be"])
def test_an_erasure_reaches_a_month_that_a_killed_pruning_took_out_of_the_log(
    own_migrated_url: str, store: PostgresStore, pending: bool
) -> None:
    factory = Factory(start=MAY + DAY)
    store.append(factory.call(user_id="u1") + calls_in(JULY))
    with store._apart() as connection:
        if pending:
            connection.execute(_DETACH_PENDING)
        else:
            connection.execute("ALTER TABLE hub_events DETACH PARTITION hub_events_2026_05")
    (found,) = [one for one in retention(load({"db_url": own_migrated_url}, {})) if one.check == "interrupted"]
    assert "hub_events_2026_05" in found.finding
    report = store.erase(user())
    assert (report.calls, report.complete) == (1, True)
    assert "2026_05" in months(store)
    assert {one["user_id"] for one in store.read_all().events} == {None}
    assert [one for one in retention(load({"db_url": own_migrated_url}, {})) if one.check == "interrupted"] == []


_DETACH_PENDING = "UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'hub_events_2026_05'::regclass"
"""What a DETACH CONCURRENTLY that is killed leaves."""


# Files.


def test_an_erasure_writes_anew_what_was_pruned_before_and_only_once(store: PostgresStore) -> None:
    factory = Factory(start=MAY + DAY)
    store.append(factory.calls(30, user_id="CANARY"))
    factory.now += 19 * DAY
    store.append(factory.call())
    assert store.prune(calls_before_ns=MAY + 10 * DAY).calls == 30
    assert b"CANARY" in bytes_of(store, "hub_events_2026_05")
    report = store.erase(user("CANARY"))
    assert (report.events_redacted, report.complete) == (0, True)
    assert b"CANARY" not in bytes_of(store, "hub_events_2026_05")
    place = select(store, "SELECT pg_relation_filepath('hub_events_2026_05')")
    assert store.erase(user("CANARY")).complete
    assert select(store, "SELECT pg_relation_filepath('hub_events_2026_05')") == place


def bytes_of(store: SqlStore, table: str) -> bytes:
    """What stands in the file of a table."""
    with store._apart() as connection:
        connection.execute("CHECKPOINT")
        (found,) = connection.execute(f"SELECT pg_read_binary_file(pg_relation_filepath('{table}'))").fetchone()
    return bytes(found)


def test_prepared_transactions_and_replication_slots_that_hold_on_to_what_was_erased_are_named(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pruning, "_SNAPSHOTS_MAY_LAST", 0.2)
    own_postgres.stop("fast")
    own_postgres.start(max_prepared_transactions=2, wal_level="logical")
    url = own_postgres.url()
    connection = connect(url)
    upgrade(connection, url)
    connection.raw.close()
    with closing(PostgresStore(url)) as store, psycopg.connect(url, autocommit=True) as other:
        store.append(Factory().call(user_id="u1"))
        other.execute("SELECT pg_create_logical_replication_slot('mirror', 'pgoutput')")
        other.execute("BEGIN")
        other.execute("CREATE TABLE of_others ()")
        other.execute("PREPARE TRANSACTION 'forgotten'")
        report = store.erase(user())
        assert (report.events_redacted, report.complete) == (4, False)
        said = " ".join(report.notes)
        assert "the prepared transaction 'forgotten' still sees" in said
        assert "the replication slot mirror still sees" in said
        other.execute("ROLLBACK PREPARED 'forgotten'")
        other.execute("SELECT pg_drop_replication_slot('mirror')")
        assert store.erase(user()).complete


def test_a_transaction_that_still_sees_what_was_erased_is_named(
    own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pruning, "_SNAPSHOTS_MAY_LAST", 0.2)
    monkeypatch.setattr(postgres_pruning, "_PATIENCE_MS", 200)
    store.append(Factory().call(user_id="u1"))
    with psycopg.connect(own_migrated_url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        report = store.erase(user())
        assert (report.events_redacted, report.complete) == (4, False)
        assert f"pid {reader.info.backend_pid}" in report.notes[0]
    report = store.erase(user())
    assert (report.events_redacted, report.complete) == (0, True)


def test_a_table_in_use_is_named(own_migrated_url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pruning, "_SNAPSHOTS_MAY_LAST", 0.2)
    monkeypatch.setattr(postgres_pruning, "_PATIENCE_MS", 200)
    store.append(Factory().call(user_id="u1"))
    with psycopg.connect(own_migrated_url) as reader:
        reader.execute("SELECT count(*) FROM hub_contents")
        report = store.erase(user())
        assert (report.events_redacted, report.complete) == (4, False)
        assert any("hub_contents found the table in use" in note for note in report.notes)
    assert store.erase(user()).complete


def test_a_login_that_may_not_write_statistics_anew_is_told(postgres_url: str) -> None:
    role = urlsplit(postgres_url).path[1:] + "_own"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        connection.execute(f"CREATE SCHEMA AUTHORIZATION {role}")
        connection.execute(f"GRANT pg_read_all_stats TO {role}")
    parts = urlsplit(postgres_url)
    url = parts._replace(netloc=f"{role}:x@{parts.hostname}:{parts.port}").geturl()
    connection_of_its_own = connect(url)
    upgrade(connection_of_its_own, url)
    connection_of_its_own.raw.close()
    store = PostgresStore(url)
    store.append(Factory().call(user_id="u1"))
    report = store.erase(user())
    assert (report.events_redacted, report.complete) == (4, False)
    assert any("pg_statistic" in note for note in report.notes)
    store.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role}")
