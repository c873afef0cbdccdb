"""Logins that see the views only, tried with a real login and no guard before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from hub.errors import ConfigError, StoreUnavailable
from storage import event_views, open_store
from storage.postgres_migrate import upgrade
from storage.postgres_read_side import PostgresReadSide
from storage.postgres_roles import Login, make_reader
from storage.reading import log_page
from storage.views import VIEWS
from tests.factories import Factory
from tests.filled_store import fill
from tests.postgres_kit import connected
from tests.postgres_shared import migrated_database, server_url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database(server_url()) as url:
        fill(url)
        yield url


@pytest.fixture(scope="module")
def login(url: str) -> Login:
    with connected(url) as connection:
        return make_reader(connection, url, _named(url, "reader"))


@pytest.fixture
def reader(login: Login) -> Iterator[psycopg.Connection[Any]]:
    assert login.url is not None
    with psycopg.connect(login.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")  # what a login may do by itself
        yield connection


def _named(url: str, name: str) -> str:
    return f"{urlsplit(url).path[1:]}_{name}"  # and so it goes with its database


def test_it_sees_every_view(reader: psycopg.Connection[Any]) -> None:
    for view in VIEWS:
        reader.execute(f"SELECT * FROM {view}").fetchall()
    assert reader.execute("SELECT count(*) FROM llm_messages").fetchone() != (0,)


def test_nothing_is_left_to_take_from_it(login: Login) -> None:
    assert login.left == ()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM hub_keys",
        "SELECT * FROM hub_calls",
        "SELECT * FROM hub_events",
        "SELECT * FROM hub_schema",
        "DELETE FROM llm_models",
        "UPDATE hub_calls SET status = 'ok'",
        "INSERT INTO hub_tombstones DEFAULT VALUES",
        "TRUNCATE hub_events",
        "BEGIN; LOCK TABLE hub_calls",
        "BEGIN; LOCK TABLE llm_calls IN EXCLUSIVE MODE",
        "CREATE TABLE t (x int)",
        "CREATE TEMP TABLE t (x int)",
        "CREATE SCHEMA s",
        "CREATE VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER VIEW llm_calls OWNER TO CURRENT_USER",
        "DROP VIEW llm_calls",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_get(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT lo_import('/etc/passwd')",
        "COPY llm_calls TO '/tmp/stolen'",
        "COPY llm_calls TO PROGRAM 'id'",
        "CREATE ROLE more",
        "SET ROLE hub",
        "SET SESSION AUTHORIZATION hub",
        "SET temp_file_limit = -1",
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hub' AND pid <> pg_backend_pid()",
    ],
)
def test_all_else_is_refused(reader: psycopg.Connection[Any], sql: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        reader.execute(sql.encode())
    assert caught.value.sqlstate in ("42501", "42809"), caught.value  # no right to it, or nothing one could do


def test_its_sessions_are_bounded(login: Login) -> None:
    assert login.url is not None
    settings = ("default_transaction_read_only", "statement_timeout", "temp_file_limit", "search_path")
    with psycopg.connect(login.url) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in settings]
    assert found == [("on",), ("1min",), ("1GB",), ("public",)]


def test_views_made_later_are_seen_as_well(url: str, reader: psycopg.Connection[Any]) -> None:
    with connected(url) as connection:
        upgrade(connection, url)
        fields = {"type": "acme:limit", "fields": {"a": "text"}, "schema_version": 1}
        record = Factory().event("hub:schema", stream=str(uuid4()), version=1, data=fields)
        assert event_views.announce(connection, record) == "acme:limit"
        upgrade(connection, url)
    assert reader.execute("SELECT a FROM llm_event_acme_limit").fetchall() == []


def test_made_again_it_is_as_it_was(url: str, login: Login) -> None:
    with connected(url) as connection:
        connection.execute(f"REVOKE SELECT ON llm_calls FROM {login.name}")
        again = make_reader(connection, url, login.name)
    assert again == Login(login.name, None, ())
    assert login.url is not None
    with psycopg.connect(login.url) as reader:
        assert reader.execute("SELECT count(*) FROM llm_calls").fetchone() == (8,)


def test_writers_write_on(url: str, login: Login) -> None:
    store = open_store(url)
    assert store.append(Factory().call()).new == 4
    store.close()


@pytest.mark.parametrize("name", ["", "pg_reader", "public", "x" * 64])
def test_a_name_that_no_login_can_have_is_refused(url: str, name: str) -> None:
    with connected(url) as connection, pytest.raises(ConfigError, match="choose a name"):
        make_reader(connection, url, name)


def test_a_login_of_somebody_is_left_alone(url: str) -> None:
    with connected(url) as connection, pytest.raises(ConfigError, match="choose another name"):
        make_reader(connection, url, "hub")


def test_a_login_with_a_strange_name_is_made(url: str) -> None:
    name = _named(url, 'odd "; DROP ROLE')
    with connected(url) as connection:
        made = make_reader(connection, url, name)
    assert made.url is not None
    with psycopg.connect(made.url) as reader:
        assert reader.execute("SELECT current_user").fetchone() == (name,)


def test_an_owner_who_is_no_superuser_is_told_what_is_left(postgres_url: str) -> None:
    owner, reader = _named(postgres_url, "owner"), _named(postgres_url, "reader")
    database = urlsplit(postgres_url).path[1:]
    with psycopg.connect(postgres_url, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'o'")
        superuser.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
    owners = postgres_url.replace(urlsplit(postgres_url).netloc.partition("@")[0], f"{owner}:o")
    with connected(owners) as connection:
        upgrade(connection, owners)
        made = make_reader(connection, owners, reader)
    assert [statement.partition(" ON ")[0] for statement in made.left] == ["GRANT EXECUTE", "REVOKE EXECUTE"]
    with psycopg.connect(postgres_url, autocommit=True) as superuser:
        for statement in made.left:
            superuser.execute(statement.encode())
    store = open_store(owners)
    store.append(Factory().call())
    store.close()
    with connected(owners) as connection:
        assert make_reader(connection, owners, reader).left == ()
    side = PostgresReadSide(owners)
    try:
        assert side.sql("SELECT count(*) FROM llm_calls").rows == ((1,),)
        assert side._place is not None
        assert side._place.role == reader, "SQL from people gets the reader's rights"
    finally:
        side.close()


def test_in_a_database_with_other_tables_only_our_schema_is_closed(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        connection.execute("CREATE SCHEMA app; CREATE TABLE app.users (name text)")
        upgrade(connection, postgres_url)
        made = make_reader(connection, postgres_url, _named(postgres_url, "reader"))
    assert [statement.split()[0:2] for statement in made.left] == [
        ["REVOKE", "TEMPORARY"],
        ["GRANT", "EXECUTE"],
        ["REVOKE", "EXECUTE"],
    ]


def test_who_may_not_make_logins_is_told(postgres_url: str) -> None:
    owner = _named(postgres_url, "owner")
    with psycopg.connect(postgres_url, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'o'; GRANT CREATE ON SCHEMA public TO {owner}".encode())
    owners = postgres_url.replace(urlsplit(postgres_url).netloc.partition("@")[0], f"{owner}:o")
    with connected(owners) as connection:
        upgrade(connection, owners)
        with pytest.raises(StoreUnavailable, match="CREATEROLE"):
            make_reader(connection, owners, _named(postgres_url, "reader"))


def test_a_reader_is_told_that_events_need_the_store_s_own_login(login: Login) -> None:
    assert login.url is not None
    side = PostgresReadSide(login.url)
    try:
        with pytest.raises(StoreUnavailable, match="views only"):
            side.read(lambda connection: log_page(connection, None, None, 10))
        assert side.sql("SELECT count(*) > 0 FROM llm_events").rows == ((1,),)
    finally:
        side.close()
