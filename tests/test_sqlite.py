"""The SQLite file: trouble with it, several who write to it, who may read it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from hub.errors import ConfigError, StoreError, StoreUnavailable
from storage import open_store
from storage import sqlite_file as files
from storage.sqlite import SQLiteStore
from tests.factories import Factory
from tests.store_rows import projections, rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "calls.db")
    yield store
    store.close()


@pytest.fixture
def factory() -> Factory:
    return Factory()


def connection_of(store: SQLiteStore) -> sqlite3.Connection:
    assert store._connection is not None
    return store._connection


# Opening.


def test_a_store_and_its_folders_are_made_for_their_owner_alone(tmp_path: Path, factory: Factory) -> None:
    path = tmp_path / "not" / "there" / "calls.db"
    store = SQLiteStore(path)
    assert not path.parent.exists(), "opening waits for the first use"
    store.append(factory.call())
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite+pysqlite:///{}", "sqlite:///{}?timeout=5"])
def test_a_url_names_a_file(tmp_path: Path, url: str) -> None:
    path = tmp_path / "a b%20c.db"
    store = open_store(url.format(path))
    assert isinstance(store, SQLiteStore)
    assert store.path == path
    store.checkpoint("made")
    assert path.exists()
    store.close()


@pytest.mark.parametrize(
    "url", ["", "calls.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://u:secret@host/db?key=secret"]
)
def test_a_url_that_names_none_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///FILE") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_the_settings_that_durability_and_erasure_rest_on(store: SQLiteStore) -> None:
    store.checkpoint("made")
    found = {
        name: connection_of(store).execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "mmap_size", "secure_delete")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0, "secure_delete": 1}


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = f"disk / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nother {tmp_path}/local ext4 rw 0 0\n"
    with pytest.raises(StoreError, match="nfs4"):
        files.refuse_network_folder(tmp_path / "calls.db", mounts)
    files.refuse_network_folder(tmp_path / "local" / "calls.db", mounts)
    files.refuse_network_folder(Path("/calls.db"), mounts)
    link = tmp_path / "local" / "link.db"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "calls.db")
    with pytest.raises(StoreError, match="nfs4"):
        files.refuse_network_folder(link, mounts)


# Trouble, and its end.


def test_a_locked_database_takes_nothing_and_goes_on_when_it_is_free(
    store: SQLiteStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(factory.call())
    connection_of(store).execute("PRAGMA busy_timeout = 20")
    call = factory.call()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.append(call)
        other.execute("ROLLBACK")
    assert store.append(call).new == 4


def test_a_writer_that_holds_the_lock_file_too_long_is_told(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with files.write_lock(path), pytest.raises(StoreUnavailable, match="another process"), files.write_lock(path, 0.05):
        pass
    with files.write_lock(path):
        pass


def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_room(store: SQLiteStore, factory: Factory) -> None:
    store.append(factory.call())
    before = projections(store.path)
    connection = connection_of(store)
    connection.execute("PRAGMA max_page_count = 40")
    calls = factory.calls(300)
    with pytest.raises(StoreUnavailable, match="full"):
        store.append(calls)
    assert projections(store.path) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.append(calls).new == 1200
    live = projections(store.path)
    store.rebuild()
    assert projections(store.path) == live


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_read_only_database_takes_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from hub.errors import StoreUnavailable
from storage.sqlite import SQLiteStore
from tests.factories import Factory
os.setuid(65534)
try:
    SQLiteStore(Path(sys.argv[1])).append(Factory().call())
except StoreUnavailable as error:
    print(error)
"""
    folder = Path("/tmp") / f"hub-read-only-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        store = SQLiteStore(folder / "calls.db")
        store.append(Factory("another").call())
        store.close()
        store.path.chmod(0o644)
        run = subprocess.run(
            [sys.executable, "-c", script, str(store.path)], capture_output=True, text=True, cwd=Path.cwd(), check=True
        )
        assert "cannot be written" in run.stdout
        assert "permission" in run.stdout
        assert str(store.path) in run.stdout
    finally:
        shutil.rmtree(folder)


def test_a_deleted_store_is_made_anew_with_what_comes(store: SQLiteStore, factory: Factory) -> None:
    store.append(factory.call())
    for file in store.path.parent.glob("calls.db*"):
        file.unlink()
    call = factory.call()
    assert store.append(call).new == 4
    assert list(store.read_all().events) == call
    assert rows(store.path, "SELECT count(*) AS n FROM llm_messages") == [{"n": 2}]


def test_the_journal_of_a_deleted_store_is_not_played_into_the_new_one(store: SQLiteStore, factory: Factory) -> None:
    store.append(factory.calls(20))
    store.path.unlink()
    assert store.path.with_name("calls.db-wal").exists()
    call = factory.call()
    store.append(call)
    assert list(store.read_all().events) == call
    assert rows(store.path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_store_replaced_by_another_is_noticed(store: SQLiteStore, factory: Factory, tmp_path: Path) -> None:
    other = SQLiteStore(tmp_path / "other.db")
    first = factory.call()
    other.append(first)
    other.close()
    store.append(factory.call())
    for suffix in ("-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink()
    (tmp_path / "other.db").replace(store.path)
    second = factory.call()
    store.append(second)
    assert list(store.read_all().events) == first + second


def test_a_transaction_that_fails_leaves_nothing_remembered(
    store: SQLiteStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [{"role": "user", "content": "once"}]
    store.append(factory.call())
    connection_of(store).execute("PRAGMA max_page_count = 30")
    with pytest.raises(StoreUnavailable):
        store.append(factory.call(messages) + factory.calls(300))
    connection_of(store).execute("PRAGMA max_page_count = 1000000")
    call = factory.call(messages)
    store.append(call)
    assert list(store.read_stream(UUID(call[0]["stream_id"]))) == call


# What it keeps.


def test_erased_text_is_in_none_of_the_files(store: SQLiteStore, factory: Factory) -> None:
    from hub.store import Erasure

    secret = "xyzzy-plugh-canary"
    store.append(factory.call([{"role": "user", "content": secret}], secret, error=secret, user_id=secret))
    store.append(factory.calls(20))
    assert any(secret.encode() in file.read_bytes() for file in store.path.parent.glob("calls.db*"))
    store.erase(Erasure(project="shop", before_ns=2**62, user_id=secret))
    store.append(factory.calls(2))
    for file in store.path.parent.glob("calls.db*"):
        assert secret.encode() not in file.read_bytes(), file


def test_writing_needs_no_sqlalchemy(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from storage.sqlite import SQLiteStore
from tests.factories import Factory
SQLiteStore(Path(sys.argv[1])).append(Factory().call())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic"}))
"""
    run = [sys.executable, "-c", script, str(tmp_path / "calls.db")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "[]"
