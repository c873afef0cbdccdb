"""The read side on PostgreSQL when the world around it changes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from hub.errors import QueryRefused, SchemaMismatch, StoreError, StoreUnavailable
from storage import event_views, open_store
from storage.postgres_migrate import upgrade
from storage.postgres_read_side import PostgresReadSide
from storage.query import Limits
from storage.read_side import open_read_side
from storage.reading import log_page
from tests.factories import Factory
from tests.postgres_kit import connected, migrate, select
from tests.postgres_server import Server

COUNT = "SELECT count(*) FROM llm_calls"


@pytest.fixture
def side(own_migrated_url: str) -> Iterator[PostgresReadSide]:
    side = PostgresReadSide(own_migrated_url)
    yield side
    side.close()


def write(url: str) -> None:
    store = open_store(url)
    store.append(Factory().call())
    store.close()


def test_a_server_that_was_away_between_two_reads_is_not_noticed(own_postgres: Server) -> None:
    migrate(own_postgres.url())
    side = PostgresReadSide(own_postgres.url())
    assert side.sql(COUNT).rows == ((0,),)
    own_postgres.stop("immediate")
    with pytest.raises(StoreUnavailable, match="start PostgreSQL"):
        side.sql(COUNT)
    own_postgres.start()
    assert side.sql(COUNT).rows == ((0,),)
    own_postgres.kill()
    own_postgres.start()
    assert side.read(lambda connection: log_page(connection, None, None, 10)).events == ()
    side.close()


def test_a_server_that_goes_away_in_the_middle_is_told(own_postgres: Server) -> None:
    migrate(own_postgres.url())
    side = PostgresReadSide(own_postgres.url())
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    killer = threading.Timer(0.5, own_postgres.stop)
    killer.start()
    with pytest.raises(StoreUnavailable):
        side.sql(endless, limits=Limits(seconds=30))
    killer.join()
    side.close()


def test_a_connection_that_the_server_ended_is_made_anew(side: PostgresReadSide, own_migrated_url: str) -> None:
    assert side.sql(COUNT).rows == ((0,),)
    ended = select(
        own_migrated_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert (True,) in ended
    assert side.sql(COUNT).rows == ((0,),)


def test_a_view_made_meanwhile_can_be_read(side: PostgresReadSide, own_migrated_url: str) -> None:
    with pytest.raises(QueryRefused):
        side.sql("SELECT * FROM llm_event_acme_limit")
    with connected(own_migrated_url) as connection:
        fields = {"type": "acme:limit", "fields": {"a": "text"}, "schema_version": 1}
        event_views.announce(connection, Factory().event("hub:schema", stream=str(uuid4()), version=1, data=fields))
        upgrade(connection, own_migrated_url)
    assert "a" in side.sql("SELECT * FROM llm_event_acme_limit").columns
    assert "llm_event_acme_limit" in side.views()


def test_several_threads_share_it(side: PostgresReadSide) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: side.sql("SELECT ? + 0", (n,)).rows, range(40)))
    assert found == [((n,),) for n in range(40)]


def test_a_child_connects_by_itself(side: PostgresReadSide) -> None:
    assert side.sql(COUNT).rows == ((0,),)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if side.sql(COUNT).rows == ((0,),) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert side.sql(COUNT).rows == ((0,),)


def test_waiting_ends_when_something_is_written(side: PostgresReadSide, own_migrated_url: str) -> None:
    side.wait(0.01)  # begins to listen
    writer = threading.Timer(0.3, write, [own_migrated_url])
    writer.start()
    began = time.monotonic()
    side.wait(0.01)
    assert 0.2 < time.monotonic() - began < 4
    writer.join()
    assert side.sql(COUNT).rows == ((1,),)


def test_who_is_told_often_looks_now_and_then(side: PostgresReadSide, own_migrated_url: str) -> None:
    ended = threading.Event()

    def write_on() -> None:
        while not ended.is_set():
            select(own_migrated_url, "SELECT pg_notify('hub_events', '1')")

    writer = threading.Thread(target=write_on)
    writer.start()
    began, looks = time.monotonic(), 0
    while time.monotonic() - began < 1:
        side.wait(0.25)
        looks += 1
    ended.set()
    writer.join()
    assert 3 <= looks <= 6


def test_where_nothing_is_told_waiting_is_a_pause(side: PostgresReadSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "_url", "postgresql://nobody@127.0.0.1:1/none")
    began = time.monotonic()
    side.wait(0.2)
    assert 0.2 <= time.monotonic() - began < 3


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_write_the_url_leads_there(own_migrated_url: str, scheme: str) -> None:
    side = open_read_side(own_migrated_url.replace("postgresql", scheme, 1))
    assert side.sql(COUNT).rows == ((0,),)
    assert not side.is_missing()
    side.close()


def test_a_schema_of_its_own_is_read_where_the_url_says(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        connection.execute('CREATE SCHEMA "Team A"')
    url = f"{postgres_url}?options=-csearch_path%3D%22Team%5C%20A%22"
    migrate(url)
    write(url)
    side = PostgresReadSide(url)
    assert side.sql(f'{COUNT} JOIN "Team A".llm_events USING (call_id)').rows == ((4,),)
    for sql in ('SELECT key FROM "Team A".hub_keys', "SELECT key FROM hub_keys"):
        with pytest.raises(QueryRefused):
            side.sql(sql)
    side.close()
    with pytest.raises(SchemaMismatch):
        PostgresReadSide(postgres_url).sql(COUNT)


def test_a_database_that_is_not_in_utf8_is_refused(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2] + "_latin"
    other = postgres_url.replace(postgres_url.rpartition("/")[2], name)
    with connected(postgres_url) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1'")
        try:
            with connected(other) as latin:
                latin.execute("CREATE VIEW llm_calls AS SELECT 1 AS call_id")
            side = PostgresReadSide(other)
            with pytest.raises(StoreError, match="UTF8"):
                side.sql(COUNT)
            side.close()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
