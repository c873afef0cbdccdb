"""Tables, migrations, snapshot and the writer's column lists say the same."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from hub.errors import HubError, StoreUnavailable
from storage import append, migrate, projector
from storage.schema import metadata
from storage.sqlite import SQLiteStore
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_file import translated
from tests.factories import Factory
from tests.old_stores import make_old
from tests.store_rows import projections, rows


def migrated(path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None, factory=SQLiteConnection)) as connection:
        migrate.upgrade(connection, None)
    return path


def schema(path: Path) -> list[tuple[str, str, list[str]]]:
    found = rows(path, "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
    return [(row["type"], row["name"], (row["sql"] or "").split()) for row in found]


def test_the_migrations_make_the_tables_that_are_declared(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{migrated(tmp_path / 'x.db')}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_new_store_is_what_the_migrations_make(tmp_path: Path) -> None:
    assert migrate.snapshot() == Path(migrate.__file__).with_name("schema.sql").read_text(), (
        "run python -m storage.migrate"
    )
    store = SQLiteStore(tmp_path / "new.db")
    store.checkpoint("made")
    store.close()
    assert schema(tmp_path / "new.db") == schema(migrated(tmp_path / "old.db"))
    version = f"SELECT version_num FROM {migrate.VERSION_TABLE}"
    assert rows(tmp_path / "new.db", version) == [{"version_num": migrate.REVISION}]


def test_the_writer_names_the_columns_that_there_are() -> None:
    inserts = [
        append._INSERT_EVENTS,
        append._INSERT_CONTENTS,
        projector._INSERT_CALLS,
        projector._WRITE_CALLS,
        projector._INSERT_PARTS,
        projector._INSERT_ATTEMPTS,
        projector._INSERT_TOOL_CALLS,
        projector._INSERT_TOOL_RESULTS,
    ]
    for insert in inserts:
        declared = [column.name for column in metadata.tables[insert.table].columns]
        assert sorted(insert.columns) == sorted(declared), insert.table


def test_a_rebuild_copies_columns_in_their_order(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "x.db")
    store.append(Factory().calls(2))
    before = projections(store.path)
    store.rebuild()
    assert projections(store.path) == before
    store.close()


def test_the_migrations_are_found_from_a_checkout() -> None:
    assert (migrate.locate() / "versions" / "0001_first_schema.py").is_file()


def test_the_migrations_are_found_from_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(migrate.locate(), tmp_path / "storage" / "migrations")
    monkeypatch.setattr(migrate, "__file__", str(tmp_path / "storage" / "migrate.py"))
    assert migrate.locate() == tmp_path / "storage" / "migrations"


def test_missing_migrations_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "__file__", str(tmp_path / "storage" / "migrate.py"))
    with pytest.raises(HubError, match="install llm-hub again"):
        migrate.locate()


# Upgrades.

_NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{next}", "{newest}"

def upgrade() -> None:
    op.add_column("hub_calls", sa.Column("mood", sa.Text()))
    op.create_table("hub_moods", sa.Column("name", sa.Text(), primary_key=True))
    {more}
"""


NEXT = f"{int(migrate.REVISION) + 1:04d}"


def with_next(folder: Path, more: str = "") -> Path:
    """The migrations, and one more."""
    shutil.copytree(migrate.locate(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{NEXT}_next.py").write_text(_NEXT.format(more=more, next=NEXT, newest=migrate.REVISION))
    return folder


def filled(path: Path) -> SQLiteStore:
    store = SQLiteStore(path)
    store.append(Factory().calls(3))
    return store


def test_an_upgrade_keeps_a_backup_and_everything_else(tmp_path: Path) -> None:
    store = filled(tmp_path / "x.db")
    store.close()
    before = projections(store.path)
    with closing(sqlite3.connect(store.path, isolation_level=None, factory=SQLiteConnection)) as connection:
        backup = migrate.upgrade(connection, store.path, migrations=with_next(tmp_path / "more"))
    assert backup == tmp_path / f"x.db.backup-{migrate.REVISION}"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert projections(backup) == before
    assert rows(store.path, "SELECT mood FROM hub_calls LIMIT 1") == [{"mood": None}]
    assert rows(store.path, "SELECT version_num FROM hub_schema") == [{"version_num": NEXT}]
    assert projections(store.path)["llm_calls"] == before["llm_calls"]


def test_a_store_of_the_first_schema_is_brought_up_when_it_is_opened(tmp_path: Path) -> None:
    store = filled(tmp_path / "x.db")
    store.close()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
            connection.execute(f"DROP VIEW {name}")
        connection.execute("ALTER TABLE hub_attempts DROP COLUMN is_last")
        for index in ("ix_hub_calls_repeated", "ix_hub_events_spans"):
            connection.execute(f"DROP INDEX {index}")
        for table in ("hub_costs_hourly", "hub_latency_hourly", "hub_sequences"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE hub_prices RENAME TO newer")
        connection.execute(
            "CREATE TABLE hub_prices (id INTEGER NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,"
            " effective_ns BIGINT NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL, card TEXT, PRIMARY KEY (id),"
            " CONSTRAINT uq_hub_prices_provider_model_effective_ns UNIQUE (provider, model, effective_ns))"
        )
        kept = "id, provider, model, effective_ns, source, version, card"
        connection.execute(f"INSERT INTO hub_prices SELECT {kept} FROM newer")
        connection.execute("DROP TABLE newer")
        connection.execute("ALTER TABLE hub_checkpoints RENAME COLUMN reached TO cursor")
        connection.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '0001'")
    before = rows(store.path, "SELECT * FROM hub_prices")
    again = filled(store.path)
    again.append(Factory("another").calls(1))
    again.close()
    assert rows(store.path, "SELECT * FROM hub_prices") == [{**card, "made_ns": None} for card in before]
    assert rows(store.path, "SELECT sum(calls) AS n FROM llm_costs_hourly") == [{"n": 4}]
    assert rows(store.path, "SELECT sum(calls) AS n FROM llm_latency_hourly") == [{"n": 4}]
    assert rows(store.path, f"SELECT version_num FROM {migrate.VERSION_TABLE}") == [{"version_num": migrate.REVISION}]
    assert rows(store.path, "SELECT count(*) AS n FROM llm_attempts WHERE model IS NOT NULL") == [{"n": 4}]
    assert (tmp_path / "x.db.backup-0001").exists()


def test_code_of_the_schema_before_takes_the_upgraded_store_for_one_that_is_away(tmp_path: Path) -> None:
    """What it cannot write waits in its spool; an IntegrityError would be the event's fault, and cost it."""
    path = tmp_path / "x.db"
    make_old(path, "0002", Factory().calls(3))
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        write_checkpoint = (
            "INSERT INTO hub_checkpoints (name, cursor) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor"
        )
        old.execute(write_checkpoint, ("calls", "12"))
        with closing(SQLiteStore(path)) as store:
            assert store.checkpoint("calls") == "12"
        counters = rows(path, "SELECT * FROM hub_counters")
        old.execute("BEGIN IMMEDIATE")
        old.execute("SELECT name, value FROM hub_counters").fetchall()
        old.execute(
            "INSERT INTO hub_counters (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            ("position", 16),
        )
        with pytest.raises(StoreUnavailable, match="no column named cursor"), translated(path):
            old.execute(write_checkpoint, ("calls", "16"))
        old.execute("ROLLBACK")
    assert rows(path, "SELECT * FROM hub_counters") == counters


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "x.db")
    store.close()
    before = rows(store.path, "SELECT sql FROM sqlite_master")
    with (
        closing(sqlite3.connect(store.path, isolation_level=None, factory=SQLiteConnection)) as connection,
        pytest.raises(ZeroDivisionError),
    ):
        migrate.upgrade(connection, store.path, migrations=with_next(tmp_path / "more", "1 / 0"))
    assert rows(store.path, "SELECT sql FROM sqlite_master") == before
    store.append(Factory("another").calls(1))
    store.close()
