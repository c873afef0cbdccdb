"""A store that cannot be used: a clear error, nothing lost, and no help needed once it can be."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from hub.delivery import is_outage
from hub.errors import ForeignStore, SchemaMismatch, StoreError, StoreUnavailable
from hub.events import EventRecord
from storage import migrate
from storage.postgres import PostgresStore
from storage.sqlite import SQLiteStore
from tests import postgres_kit
from tests.contracts.case import whole_log
from tests.factories import Factory
from tests.old_stores import REVISIONS, make_old
from tests.postgres_server import Server
from tests.store_rows import rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "data" / "calls.db")
    yield store
    store.close()


# What a SQLite file may have become.


def sql(*statements: str) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return harm


def overwritten(start: int, end: int) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(random.Random(start).randbytes(end - start))

    return harm


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, size)


def replaced(by: Callable[[Path], object]) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        path.unlink()
        by(path)

    return harm


HARMS: dict[str, tuple[Callable[[Path], object], type[StoreError], str]] = {
    "noise in the header": (overwritten(0, 100), ForeignStore, "not a SQLite database.*HUB_DB_URL"),
    "noise in the schema": (overwritten(100, 8_000), StoreError, "damaged.*restore a backup"),
    "noise behind the schema": (overwritten(8_192, 400_000), StoreError, "damaged.*restore a backup"),
    "cut in the middle": (cut(300_000), StoreError, "damaged.*restore a backup"),
    "cut in its first page": (cut(5_000), StoreError, "damaged.*restore a backup"),
    "a table gone": (sql("DROP TABLE hub_events"), StoreError, "damaged.*hub_events.*restore a backup"),
    "no schema's number": (sql("DELETE FROM hub_schema"), StoreError, "damaged.*hub_schema.*restore a backup"),
    "a number of no schema": (sql("UPDATE hub_schema SET version_num = '0000'"), SchemaMismatch, "restore a backup"),
    "a newer schema": (sql("UPDATE hub_schema SET version_num = '0099'"), SchemaMismatch, "upgrade llm-hub"),
    "another program's": (replaced(sql("CREATE TABLE recipes (name)")), ForeignStore, "recipes.*another file"),
    "a text": (replaced(lambda path: path.write_text("Dear diary, " * 99)), ForeignStore, "not a SQLite database"),
    "a folder": (replaced(Path.mkdir), StoreError, "folder.*name a file"),
    "a pipe": (replaced(os.mkfifo), StoreError, "pipe.*name a file"),
    "a device": (replaced(lambda path: path.symlink_to("/dev/null")), StoreError, "device.*name a file"),
    "a link to itself": (replaced(lambda path: path.symlink_to(path)), StoreError, "symbolic links.*check the path"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_cannot_be_used_is_told_and_what_waits_goes_into_the_one_that_comes_in_its_place(
    store: SQLiteStore, harm: str
) -> None:
    do_harm, error, words = HARMS[harm]
    factory = Factory()
    store.append(kept := factory.calls(100))
    store.close()
    backup = Path(shutil.copy(store.path, store.path.with_name("backup")))
    do_harm(store.path)
    before = store.path.read_bytes() if store.path.is_file() else b""
    late = factory.calls(20)
    for _ in range(2):
        with pytest.raises(error, match=words) as caught:
            store.append(late)
        assert str(store.path) in str(caught.value)
        assert is_outage(caught.value), "or the events would be dropped"
        with pytest.raises(StoreError):
            whole_log(store)
    if before:
        assert store.path.read_bytes() == before, "it may be mended, or be somebody else's"
    take_away(store.path)
    assert store.append(late).new == 80
    assert whole_log(store) == late
    take_away(store.path)
    backup.replace(store.path)
    assert store.append(late).new == 80
    assert whole_log(store) == kept + late


def take_away(path: Path) -> None:
    away = Path(tempfile.mkdtemp(prefix="away-", dir=path.parent))
    for suffix in ("", "-wal", "-shm"):
        if os.path.lexists(file := path.with_name(path.name + suffix)):
            file.rename(away / file.name)


def test_a_link_to_where_no_file_is_yet_leads_to_the_new_one(tmp_path: Path) -> None:
    there, link = tmp_path / "large disk" / "calls.db", tmp_path / "calls.db"
    link.symlink_to(there)
    store = SQLiteStore(link)
    with pytest.raises(StoreUnavailable, match="No such file"):
        store.append(call := Factory().call())
    there.parent.mkdir()
    assert store.append(call).new == 4
    store.close()
    assert there.is_file()
    assert link.is_symlink()


# A disk without room.


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file of this process, and of those it starts, may become longer than *size*, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 4_096, 20_000, 70_000, 200_000, 400_000])
def test_a_store_for_which_there_is_no_room_is_made_when_there_is(store: SQLiteStore, size: int) -> None:
    calls = Factory().calls(100)
    with room(size):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="make room"):
                store.append(calls)
    assert store.append(calls).new == 400
    assert whole_log(store) == calls
    assert rows(store, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@pytest.mark.parametrize("size", [8_192, 150_000, 450_000])
def test_an_upgrade_for_which_there_is_no_room_leaves_the_store_as_it_was(tmp_path: Path, size: int) -> None:
    path, calls = tmp_path / "calls.db", Factory().calls(100)
    make_old(path, REVISIONS[0], calls)
    before = rows(path, "SELECT name, sql FROM sqlite_master")
    store = SQLiteStore(path)
    with room(size), pytest.raises(StoreUnavailable, match="make room"):
        store.append(calls)
    assert rows(path, "SELECT name, sql FROM sqlite_master") == before
    assert store.append(calls).duplicates == 400
    assert whole_log(store) == calls
    store.close()


def test_a_server_without_room_takes_nothing_of_a_batch_and_all_of_it_later(own_postgres: Server) -> None:
    own_postgres.stop("fast")
    with room(17 << 20):  # a segment of its write-ahead log has 16 MB
        own_postgres.start()
    with postgres_kit.migrated_store(own_postgres.url()) as store:
        store.append(kept := Factory("small").calls(2))
        with pytest.raises(StoreUnavailable):
            store.append(calls := large_calls(12))
        assert whole_log(store) == kept
        own_postgres.stop("fast")
        own_postgres.start()
        with pytest.raises(StoreUnavailable):
            whole_log(store)
        assert store.append(calls).new == len(calls)
        assert whole_log(store) == kept + calls


def large_calls(count: int) -> list[EventRecord]:
    """Calls of 2 MB that nothing makes smaller."""
    factory, chance = Factory(), random.Random(1)
    return [
        record
        for _ in range(count)
        for record in factory.call([{"role": "user", "content": chance.randbytes(1 << 20).hex()}])
    ]


# A PostgreSQL database that is none of ours, or no more.


def test_a_number_of_no_schema_is_refused_by_the_store_and_by_hub_migrate(postgres_url: str) -> None:
    postgres_kit.migrate(postgres_url)
    with postgres_kit.connected(postgres_url) as connection:
        connection.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '0000'")
    with pytest.raises(SchemaMismatch, match="hub migrate"):
        PostgresStore(postgres_url).append(Factory().call())
    with pytest.raises(SchemaMismatch, match="restore a backup"):
        postgres_kit.migrate(postgres_url)


def test_a_login_that_may_not_write_is_told_what_it_lacks(postgres_url: str) -> None:
    postgres_kit.migrate(postgres_url)
    name = f"{postgres_url.rpartition('/')[2]}_reader"
    with postgres_kit.connected(postgres_url) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'canary'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    parts = psycopg.conninfo.conninfo_to_dict(postgres_url)
    url = f"postgresql://{name}:canary@{parts['host']}:{parts['port']}/{parts['dbname']}"
    with closing(PostgresStore(url)) as store, pytest.raises(StoreUnavailable, match=r"right.*hub migrate") as caught:
        store.append(Factory().call())
    assert "canary" not in str(caught.value)
