"""PostgreSQL itself: setting a database up, its partitions, who is told of what, and a server that goes away."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from hub.errors import ConfigError, ForeignStore, SchemaMismatch, StoreError, StoreUnavailable
from hub.runtime import Hub
from hub.store import Erasure
from storage import open_store, postgres_partitions
from storage.migrate import REVISION, VERSION_TABLE
from storage.postgres import CHANNEL, PostgresStore
from storage.postgres_migrate import TURN
from storage.schema import metadata_of
from tests.factories import START, Factory
from tests.postgres_kit import connected, migrate, migrated_store, select
from tests.postgres_server import Server


def ns(year: int, month: int, day: int = 15) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9


# Setting up.


def test_a_database_that_was_never_set_up_is_refused_with_the_command_to_run(postgres_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="run hub migrate") as caught:
        PostgresStore(postgres_url).append(Factory().call())
    assert "password" not in str(caught.value)
    assert select(postgres_url, "SELECT count(*) FROM pg_class WHERE relname LIKE 'hub%'") == [(0,)]


def test_setting_up_again_changes_nothing(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store:
        store.append(Factory().calls(2))
        assert migrate(postgres_url) == REVISION
        assert len(store.read_all().events) == 8


def test_setting_up_passes_over_a_view_that_cannot_be_made(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    factory, alike = Factory(), "same_" * 20

    def announce(event_type: str, fields: dict[str, str], version: int = 1) -> None:
        data = {"type": event_type, "schema_version": version, "fields": fields}
        store.append([factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data=data)])

    with migrated_store(postgres_url) as store:
        announce("acme:used", {"n": "integer"})
        migrate(postgres_url)
        with connected(postgres_url) as connection:
            connection.execute("CREATE VIEW mine AS SELECT n FROM llm_event_acme_used")
        announce("acme:used", {"n": "text"}, 2)
        announce("acme:wide", {f"field_{number}": "text" for number in range(1_700)})
        announce("acme:alike", {alike + "a": "text", alike + "b": "text"})
        assert migrate(postgres_url) == REVISION
        [told] = [one.getMessage() for one in caplog.records]
        assert "llm_event_acme_used of acme:used" in told
        assert "view mine" in told
        announce("acme:used", {"n": "integer", "more": "text"})
    for view in ("mine", "llm_event_acme_used", "llm_event_acme_wide", "llm_event_acme_alike"):
        assert select(postgres_url, f"SELECT * FROM {view}") == []


def test_a_view_that_others_build_upon_is_made_again_with_more_fields(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    factory = Factory()
    with migrated_store(postgres_url) as store:
        for fields in ({"n": "integer"}, {"n": "integer", "more": "text"}):
            data = {"type": "acme:used", "schema_version": 1, "fields": fields}
            store.append([factory.event("hub:schema", stream=factory.new_id(), version=1, call_id=None, data=data)])
            migrate(postgres_url)
            with connected(postgres_url) as connection:
                connection.execute("CREATE OR REPLACE VIEW mine AS SELECT n FROM llm_event_acme_used")
    assert not caplog.records
    assert select(postgres_url, "SELECT n, more FROM llm_event_acme_used") == []


def test_twelve_may_set_up_at_once(postgres_url: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: migrate(postgres_url), range(12)))
    assert sorted(found, key=str) == [REVISION] * 11 + [None]
    PostgresStore(postgres_url).append(Factory().call())


def test_the_migrations_make_the_tables_that_are_declared(postgres_url: str) -> None:
    migrate(postgres_url)
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))

    def is_no_partition(_item: object, name: str | None, kind: str, *_more: object) -> bool:
        return kind not in ("table", "index") or not str(name).startswith("hub_events_")

    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "include_object": is_no_partition}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata_of("postgresql")) == []
    engine.dispose()


def test_another_program_s_tables_are_left_alone(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        connection.execute("CREATE TABLE recipes (name text)")
    with pytest.raises(ForeignStore, match=r"recipes.*CREATE SCHEMA"):
        migrate(postgres_url)
    assert select(postgres_url, "SELECT relname FROM pg_class WHERE relname LIKE 'hub%'") == []


def test_a_schema_of_its_own_in_a_database_of_others_is_enough(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        connection.execute("CREATE TABLE recipes (name text)")
        connection.execute("CREATE SCHEMA hub")
    url = f"{postgres_url}?options=-csearch_path%3Dhub"
    with migrated_store(url) as store:
        store.append(calls := Factory().calls(2))
        assert list(store.read_all().events) == calls
        assert store.rebuild() == 8


def test_a_newer_database_is_refused_untouched(postgres_url: str) -> None:
    migrate(postgres_url)
    with connected(postgres_url) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0099'")
    with pytest.raises(SchemaMismatch, match="upgrade llm-hub"):
        PostgresStore(postgres_url).append(Factory().call())
    with pytest.raises(SchemaMismatch, match="upgrade llm-hub"):
        migrate(postgres_url)
    assert select(postgres_url, f"SELECT version_num FROM {VERSION_TABLE}") == [("0099",)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("hub:", "hub:wrong"), "user and password"),
        (lambda url: url.rsplit("/", 1)[0] + "/nowhere", "no such database"),
        (lambda url: "postgresql://hub:canary@127.0.0.1:1/hub", "no server answers"),
        (lambda url: "postgresql://hub:canary@no-such-host.invalid/hub", "host is not known"),
    ],
)
def test_what_keeps_us_from_the_server_is_told_without_the_password(postgres_url: str, change: Any, words: str) -> None:
    with pytest.raises(StoreUnavailable, match=words) as caught:
        PostgresStore(change(postgres_url)).append(Factory().call())
    assert "canary" not in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://hub:canary@host/db?nonsense=1", "postgresql://USER"),
        ("postgresql://hub:canary%zz@host/db", "postgresql://USER"),
        ("postgresql://hub:canary%00@host/db", "postgresql://USER"),
        ("postgresql://hub:p:canary/ss@host/db", r"hub:\*\*\*@host"),
        ("postgresql://hub:p@canary.invalid@host/db", r"hub:\*\*\*@host"),
    ],
)
def test_a_url_that_libpq_cannot_read_is_refused_without_any_of_the_password(url: str, words: str) -> None:
    with pytest.raises((ConfigError, StoreUnavailable), match=words) as caught:
        PostgresStore(url).append(Factory().call())
    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_not_all_texts_fit_in_is_refused_with_the_remedy(postgres_url: str, encoding: str) -> None:
    url = f"{postgres_url}_{encoding.lower()}"
    name = url.rsplit("/", 1)[1]
    with connected(postgres_url) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
        try:
            for use in (migrate, lambda url: PostgresStore(url).append(Factory().call())):
                with pytest.raises(StoreError, match=rf"{encoding}.*ENCODING 'UTF8'"):
                    use(url)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("scheme", ["postgresql://", "postgres://", "postgresql+psycopg://"])
def test_urls_of_every_common_form_are_taken(postgres_url: str, scheme: str) -> None:
    migrate(postgres_url)
    store = open_store(postgres_url.replace("postgresql://", scheme))
    assert store.append(Factory().call()).new == 4
    store.close()


def test_without_the_driver_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('not installed')")
    program = "from storage import open_store; open_store('postgresql://hub:canary@host/db')"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install 'llm-hub[postgres]'" in done.stderr
    assert "canary" not in done.stderr.splitlines()[-1]


# Partitions.


def partitions(url: str) -> dict[str, int]:
    return dict(select(url, "SELECT tableoid::regclass::text, count(*) FROM hub_events GROUP BY 1 ORDER BY 1"))


def test_events_stand_in_the_month_of_their_stream(postgres_url: str) -> None:
    factory = Factory(start=ns(2024, 2))
    with migrated_store(postgres_url, wall=lambda: ns(2026, 11)) as store:
        early = factory.call()
        factory.now = ns(2025, 12, 31)
        store.append([*early, *factory.call()])
        assert partitions(postgres_url) == {"hub_events_2024_02": 4, "hub_events_2025_12": 4}
        assert list(store.read_stream(UUID(early[0]["stream_id"]))) == early


@pytest.mark.parametrize("year", [1970, 1999, 2014, 2027, 2200, 9000])
def test_a_clock_decades_off_makes_no_partitions_and_loses_nothing(postgres_url: str, year: int) -> None:
    factory = Factory(start=ns(year, 6))
    records = [factory.event("acme:tick", stream=factory.new_id(), version=1, at=START) for _ in range(3)]
    with migrated_store(postgres_url) as store:
        before = partition_names(postgres_url)
        store.append(records)
        assert store.append(records).duplicates == 3
        assert list(store.read_all().events) == records
        assert partition_names(postgres_url) == before


def partition_names(url: str) -> set[str]:
    return {
        name
        for (name,) in select(
            url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'hub_events'::regclass"
        )
    }


def test_as_time_goes_on_what_was_later_moves_into_its_month(postgres_url: str) -> None:
    clock = [time.time_ns()]
    this = postgres_partitions.Month.at(clock[0] // 10**6)
    then = [postgres_partitions.Month(this + months) for months in (3, 5)]
    factory = Factory()
    with migrated_store(postgres_url, wall=lambda: clock[0]) as store:
        calls = []
        for month in then:
            factory.now = (month.start_ms + 86_400_000) * 10**6
            calls += factory.call()
        store.append(calls)
        assert partitions(postgres_url) == {"hub_events_later": 8}
        clock[0] = (then[0].start_ms + 10**6) * 10**6
        calls += (new := Factory("new", start=clock[0]).call())
        assert store.append(new).new == 4
        assert partitions(postgres_url) == {then[0].table: 8, "hub_events_later": 4}
        assert list(store.read_all().events) == calls
        assert postgres_partitions.Month(then[0] + 1).table in partition_names(postgres_url)


def test_a_long_query_holds_up_neither_the_new_month_nor_the_events(postgres_url: str) -> None:
    clock = [time.time_ns()]
    with migrated_store(postgres_url, wall=lambda: clock[0]) as store, connected(postgres_url) as reader:
        store.append(Factory().call())
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM llm_events").fetchall()
        month = postgres_partitions.Month(postgres_partitions.Month.at(clock[0] // 10**6) + 4)
        clock[0] = month.start_ms * 10**6
        late = Factory("late", start=clock[0]).call()
        started = time.monotonic()
        assert store.append(late).new == 4
        assert time.monotonic() - started < 3
        assert partitions(postgres_url)["hub_events_later"] == 4
        reader.execute("ROLLBACK")
        clock[0] += 120 * 10**9
        assert store.append(Factory("next", start=clock[0]).call()).new == 4
    assert partitions(postgres_url)[month.table] == 8


def test_a_partition_that_is_gone_is_made_again(postgres_url: str) -> None:
    factory = Factory(start=ns(2024, 2))
    with migrated_store(postgres_url) as store:
        store.append(factory.call())  # makes the store's keys, after which partitions are looked for again
        store.append(factory.call())
        with connected(postgres_url) as connection:
            connection.execute("DROP TABLE hub_events_2024_02")
        again = factory.call()
        with pytest.raises(StoreUnavailable, match="being dropped"):
            store.append(again)
        assert store.append(again).new == 4


def test_a_month_that_another_process_made_meanwhile_is_used(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store:
        store.append(Factory("first").call())
        store.append(Factory("second").call())  # knows the months now
        another = PostgresStore(postgres_url)
        another.append(Factory("another", start=ns(2024, 2)).call())
        another.close()
        assert store.append(Factory("third", start=ns(2024, 2)).call()).new == 4
        assert partitions(postgres_url)["hub_events_2024_02"] == 8


def test_a_new_month_that_another_process_made_meanwhile_is_used(postgres_url: str) -> None:
    clock = [time.time_ns()]
    with migrated_store(postgres_url, wall=lambda: clock[0]) as store:
        store.append(Factory("first").call())
        store.append(Factory("second").call())  # knows the months now
        month = postgres_partitions.Month(postgres_partitions.Month.at(clock[0] // 10**6) + 2)
        clock[0] = month.start_ms * 10**6
        another = PostgresStore(postgres_url, wall=lambda: clock[0])
        another.append(Factory("another", start=clock[0]).call())
        another.close()
        assert store.append(Factory("third", start=clock[0]).call()).new == 4
        assert partitions(postgres_url)[month.table] == 8


@pytest.mark.parametrize("month", [1, 12])
def test_a_partition_s_name_tells_its_month(month: int) -> None:
    found = postgres_partitions.Month(2024 * 12 + month - 1)
    assert postgres_partitions.Month.named(found.table) == found
    for other in ("hub_events", "hub_events_odd", "hub_events_later", "hub_events_2024_13", "hub_events_2024_01_old"):
        assert postgres_partitions.Month.named(other) is None


# Who is told, and who waits.


def test_each_batch_is_told_of_once_with_its_last_position(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store, connected(postgres_url) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        records = Factory().calls(2)
        store.append(records)
        store.append(records)
        store.append(Factory("other").call())
        told = [notice.payload for notice in listener.raw.notifies(timeout=5, stop_after=2)]
        assert told == ["8", "12"]
        assert list(listener.raw.notifies(timeout=0.2)) == []


def test_a_writer_that_stands_still_is_waited_for_and_then_told_of(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store, connected(postgres_url) as other:
        store.append(Factory().call())
        other.execute("BEGIN")
        other.execute(TURN)
        late = Factory("late").call()
        with pytest.raises(StoreUnavailable, match="another writer"):
            store.append(late)
        other.execute("ROLLBACK")
        assert store.append(late).new == 4


def test_positions_are_given_in_the_order_of_commits(postgres_url: str) -> None:
    migrate(postgres_url)
    stores = [PostgresStore(postgres_url) for _ in range(4)]
    seen: list[int] = []
    ended = threading.Event()

    def follow() -> None:
        while True:
            done = ended.is_set()
            new = select(
                postgres_url, "SELECT position FROM llm_events WHERE position > ? ORDER BY 1", seen[-1] if seen else 0
            )
            seen.extend(position for (position,) in new)
            if done and not new:
                return

    def write(number: int) -> None:
        factory = Factory(f"p{number}")
        for _ in range(10):
            stores[number].append(factory.calls(3))

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    ended.set()
    follower.join()
    assert seen == list(range(1, 481))
    for store in stores:
        store.close()


def statistics_of(url: str) -> set[tuple[Any, ...]]:
    return set(
        select(url, "SELECT starelid, staattnum, stainherit, xmin::text FROM pg_statistic WHERE starelid > 16384")
    )


def test_a_writer_analyzes_a_log_that_grew_fourfold_and_no_other_one(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store:
        store.append(Factory().calls(16))
        assert ("hub_events",) in select(
            postgres_url, "SELECT starelid::regclass::text FROM pg_statistic WHERE stainherit"
        )
        before = statistics_of(postgres_url)
        another = PostgresStore(postgres_url)
        another.append(Factory("another").call())
        assert statistics_of(postgres_url) == before
        another.append(Factory("more").calls(64))
        another.close()
        assert statistics_of(postgres_url) != before


def test_events_are_written_while_their_tables_cannot_be_analyzed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    with migrated_store(postgres_url) as store, connected(postgres_url) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE hub_contents IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        assert store.append(Factory().call()).new == 4
        other.execute("ROLLBACK")


def test_writers_whose_logins_look_elsewhere_first_take_turns_too(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_server.LOCK_MS", 200)
    migrate(postgres_url)
    with connected(postgres_url) as connection:
        connection.execute("CREATE SCHEMA of_another")
    elsewhere = PostgresStore(f"{postgres_url}?options=-csearch_path%3Dof_another,public")
    assert elsewhere.append(Factory(start=ns(2024, 2)).call()).new == 4
    late = Factory("late").call()
    with connected(postgres_url) as other:
        other.execute("BEGIN")
        other.execute(TURN)
        with pytest.raises(StoreUnavailable, match="another writer"):
            elsewhere.append(late)
    assert elsewhere.append(late).new == 4
    assert elsewhere.rebuild() == 8
    elsewhere.close()
    assert select(postgres_url, "SELECT 1 FROM pg_class WHERE relnamespace = 'of_another'::regnamespace") == []


def test_writers_see_what_others_wrote_whatever_the_database_s_isolation(postgres_url: str) -> None:
    migrate(postgres_url)
    name = postgres_url.rsplit("/", 1)[1]
    with connected(postgres_url) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    stores = [PostgresStore(postgres_url) for _ in range(3)]

    def write(number: int) -> None:
        factory = Factory(f"p{number}")
        for _ in range(8):
            stores[number].append(factory.call())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    assert select(postgres_url, "SELECT count(*), max(position) FROM hub_events") == [(96, 96)]
    for store in stores:
        store.close()


# A server that goes away.


def test_a_server_that_is_stopped_at_once_costs_no_event(own_postgres: Server) -> None:
    url = own_postgres.url()
    with migrated_store(url) as store:
        store.append(first := Factory().call())
        own_postgres.stop("immediate")
        late = Factory("late").call()
        with pytest.raises(StoreUnavailable):
            store.append(late)
        with pytest.raises(StoreUnavailable, match="no server answers"):
            store.append(late)
        own_postgres.start()
        assert store.append(late).new == 4
        assert list(store.read_all().events) == first + late


def test_a_connection_that_the_server_ends_is_made_again(postgres_url: str) -> None:
    with migrated_store(postgres_url) as store:
        store.append(Factory().call())
        select(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()",
        )
        late = Factory("late").call()
        with pytest.raises(StoreUnavailable, match="tried again"):
            store.append(late)
        assert store.append(late).new == 4


def test_a_server_that_only_lets_us_read_is_waited_for(postgres_url: str) -> None:
    migrate(postgres_url)
    name = postgres_url.rsplit("/", 1)[1]
    with connected(postgres_url) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        store = PostgresStore(postgres_url)
        with pytest.raises(StoreUnavailable, match="only lets us read"):
            store.append(Factory().call())
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    store.close()
    assert store.append(Factory().call()).new == 4
    store.close()


def test_a_program_goes_on_while_its_server_is_down_and_all_is_there_after(
    own_postgres: Server, tmp_path: Path
) -> None:
    url = own_postgres.url()
    migrate(url)
    with Hub(db_url=url, spool_dir=tmp_path / "spool", project="shop", otel="off") as hub:

        def ask(messages: list[dict[str, str]]) -> str:
            return "an answer"

        ask = hub.traced(ask, provider="acme", model="acme-1")
        for number in range(20):
            ask([{"role": "user", "content": f"before {number}"}])
        assert hub.flush(20) == 0
        own_postgres.stop("immediate")
        slowest = 0.0
        for number in range(200):
            started = time.perf_counter()
            ask([{"role": "user", "content": f"meanwhile {number}"}])
            slowest = max(slowest, time.perf_counter() - started)
        assert hub.flush(0.3) > 0
        assert slowest < 1
        own_postgres.start()
        assert hub.flush(30) == 0
    ended = "SELECT count(*), count(DISTINCT call_id) FROM llm_calls WHERE status = 'ok'"
    assert select(url, ended) == [(220, 220)]
    assert select(url, "SELECT count(*) FROM llm_messages") == [(440,)]


def test_what_is_erased_is_in_no_row_of_any_table(postgres_url: str) -> None:
    factory = Factory()
    with migrated_store(postgres_url) as store:
        store.append(factory.call([{"role": "user", "content": "the canary sings"}], user_id="u1"))
        store.append(factory.calls(2))
        store.erase(Erasure(project="shop", before_ns=START * 2, user_id="u1"))
        tables = select(
            postgres_url, "SELECT relname FROM pg_class WHERE relname LIKE 'hub_%' AND relkind IN ('r', 'p')"
        )
        for (table,) in tables:
            assert select(postgres_url, f"SELECT * FROM {table} t WHERE t::text LIKE '%canary%'") == [], table
