"""The index of full-text search: made, followed, and true whatever is taken out of the store."""

from __future__ import annotations

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from hub.errors import QueryRefused, SearchOff
from hub.store import Erasure
from storage import migrate, search, search_words
from storage.schema import in_history, metadata_of
from storage.search_indexes import TABLES
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from storage.sqlite_connection import SQLiteConnection
from storage.sqlite_query import run, views
from tests.contracts.case import LATER
from tests.factories import SECOND, START, Factory
from tests.postgres_server import Server
from tests.search_kit import (
    blocks,
    calls_with,
    found,
    found_now,
    id_of,
    is_true,
    opened_again,
    postgres_store,
    relations,
    tables,
    url_of,
    user,
)
from tests.test_schema import with_next

MONTH = 31 * 24 * 3600 * SECOND
CANARY = "qzxkvjwpqhgfbnmtyrueiolads"
TAIL = CANARY[9:].encode()
"""Words that begin alike share their beginning in FTS5's pages."""


@pytest.fixture
def store(own_store: SqlStore) -> SqlStore:
    return own_store


@pytest.fixture
def factory() -> Factory:
    return Factory()


# Turning it on, and following.


def test_search_is_off_until_it_is_turned_on(store: SqlStore, factory: Factory) -> None:
    store.append(factory.call())
    for ask in (lambda: found_now(store, "the"), store.follow_search, store.search_bytes):
        with pytest.raises(SearchOff, match="hub search --enable"):
            ask()
    assert tables(store) == []
    assert store.drop_search() is False


def test_what_arrives_later_is_found_once_it_is_followed(store: SqlStore, factory: Factory) -> None:
    store.append(factory.call([user("first")]))
    assert len(calls_with(store, "first")) == 1
    late = factory.call([user("first and second")])
    store.append(late)
    before = found_now(store, "second")
    assert (before.hits, before.waiting) == ([], 6)
    assert store.follow_search() == 6
    assert store.follow_search() == 0
    after = found_now(store, "second")
    assert ([hit.call["call_id"] for hit in after.hits], after.waiting) == ([id_of(late)], 0)


def test_indexing_that_is_stopped_goes_on_where_it_was(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [factory.call([user(f"number {number}")], "fine") for number in range(50)]
    for call in made:
        store.append(call)
    monkeypatch.setattr(search, "_MOST", 8)
    monkeypatch.setattr(search, "_FIRST", 8)
    for steps in (3, 12):  # once while messages are indexed, once while events are
        told: list[tuple[int, int]] = []

        def stop(done: int, total: int, told: list[tuple[int, int]] = told, steps: int = steps) -> None:
            told.append((done, total))
            if len(told) == steps:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.follow_search(stop, enable=True)
        assert told == sorted(told)
    assert store.follow_search() > 0
    assert calls_with(store, "number") == [id_of(call) for call in reversed(made)]
    assert calls_with(store, "number 7") == [id_of(made[7])]


def test_writers_go_on_while_messages_are_indexed(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_MOST", 4)
    monkeypatch.setattr(search, "_FIRST", 4)
    for _ in range(20):
        store.append(factory.call([user("early")]))

    def write(_done: int, _total: int) -> None:
        store.append(factory.call([user("late")]))

    store.follow_search(write, enable=True)
    assert len(calls_with(store, "early")) == 20
    assert len(calls_with(store, "late")) > 10
    assert is_true(store)


def test_several_may_turn_it_on_and_follow_at_once(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_MOST", 4)
    monkeypatch.setattr(search, "_FIRST", 4)
    made = [factory.call([user(f"number {number}")], "fine") for number in range(40)]
    for call in made:
        store.append(call)
    others = [opened_again(store) for _ in range(4)]
    with ThreadPoolExecutor(len(others)) as pool:
        for done in [pool.submit(one.follow_search, enable=True) for one in others]:
            done.result()
    for one in others:
        one.close()
    assert calls_with(store, "number") == [id_of(call) for call in reversed(made)]
    assert calls_with(store, "fine") == [id_of(call) for call in reversed(made)]
    assert is_true(store)


def test_appends_do_not_wait_for_an_index_in_postgresql(postgres_url: str, factory: Factory) -> None:
    with closing(postgres_store(postgres_url)) as store:
        store.follow_search(enable=True)
        with store._apart() as connection, store._beside(connection):
            assert search.place(connection, to_change=True) is not None
            assert store.append(factory.call()).new == 4


def test_turned_off_nothing_is_left_of_it(store: SqlStore, factory: Factory) -> None:
    for number in range(300):
        store.append(factory.call([user(f"{factory.text(300)} {number} {random.Random(number).random()}")]))
    assert len(calls_with(store, "299")) == 1
    assert sorted(tables(store)) == sorted(TABLES)
    assert store.drop_search() is True
    assert tables(store) == []
    with pytest.raises(SearchOff):
        store.follow_search()
    assert len(calls_with(store, "299")) == 1


def test_turning_it_off_that_was_stopped_leaves_it_off_and_to_be_turned_on_again(
    store: SqlStore, factory: Factory
) -> None:
    store.append(factory.call([user("teapot")]))
    store.follow_search(enable=True)
    with store._apart() as connection, store._writing(connection):
        connection.execute("DELETE FROM hub_checkpoints WHERE name = 'search'")
    with pytest.raises(SearchOff):
        found_now(store, "teapot")
    assert len(calls_with(store, "teapot")) == 1


# Staying true.


def test_a_rebuild_has_it_made_anew(store: SqlStore, factory: Factory) -> None:
    made = [factory.call([user(f"number {number}")]) for number in range(5)]
    for call in made:
        store.append(call)
    assert len(calls_with(store, "number")) == 5
    store.rebuild()
    stale = found_now(store, "number")
    assert (stale.hits, stale.is_complete, stale.waiting) == ([], False, 30)
    assert store.follow_search() == 30
    assert is_true(store)
    assert calls_with(store, "number") == [id_of(call) for call in reversed(made)]


def test_an_index_made_by_other_rules_is_made_anew(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RULES", search_words.RULES - 1 or 7)
    monkeypatch.setattr(search, "words_of", lambda _message: ["other"])
    store.append(factory.call([user("teapot")], "kettle"))
    assert len(calls_with(store, "other")) == 1
    monkeypatch.undo()
    assert len(calls_with(store, "teapot")) == 1
    assert calls_with(store, "other") == []


def test_what_is_erased_is_found_no_more_and_what_others_share_is_theirs(store: SqlStore, factory: Factory) -> None:
    shared = user("a teapot for all")
    gone = factory.call([shared, user("mine alone")], "for me", user_id="u1")
    kept = factory.call([shared], "for you")
    store.append(gone + kept)
    assert calls_with(store, "teapot") == [id_of(kept), id_of(gone)]
    store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
    for ask in (found_now, found):
        hits = ask(store, "teapot", repeats=True).hits
        assert [hit.call["call_id"] for hit in hits] == [id_of(kept)]
        assert ask(store, "alone").hits == ask(store, '"for me"').hits == []
    store.append(gone)
    assert calls_with(store, "alone") == []
    assert is_true(store)


def test_what_is_pruned_is_found_no_more_and_the_rest_stays_indexed(store: SqlStore, factory: Factory) -> None:
    shared, made = user("a teapot for all"), []
    for month in (0, 2, 4):
        factory.now = START + month * MONTH
        made.append(factory.call([shared, user(f"in month {month}")], f"for {month}"))
        store.append(made[-1])
    assert calls_with(store, "month") == [id_of(call) for call in reversed(made)]
    done = store.prune(calls_before_ns=START + MONTH, bodies_before_ns=START + 3 * MONTH)
    assert (done.calls, done.bodies) == (1, 2)
    assert [hit.call["call_id"] for hit in found_now(store, "teapot", repeats=True).hits] == [id_of(made[2])]
    assert is_true(store)
    assert store.follow_search() == 0


@pytest.mark.parametrize("after", [0, 5, 15])
def test_what_is_erased_while_it_is_being_indexed_never_is(store: SqlStore, factory: Factory, after: int) -> None:
    for user_id in ("u1", None):
        for _ in range(10):
            store.append(factory.call([user(factory.text(99))], "teapot", user_id=user_id))
    read: list[None] = []

    def rest() -> None:
        read.append(None)
        if len(read) == after + 1:
            store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))

    follower = opened_again(store)
    follower._rest = rest
    follower.follow_search(enable=True)
    follower.close()
    assert len(read) > after
    assert len(calls_with(store, "teapot")) == 10
    assert is_true(store)


def test_what_is_erased_between_two_steps_is_taken_out_or_passed_over(
    store: SqlStore, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_MOST", 4)
    monkeypatch.setattr(search, "_FIRST", 4)
    store.append([record for _ in range(10) for record in factory.call([user(factory.text(99))], user_id="u1")])
    store.append([record for _ in range(10) for record in factory.call([user("teapot")], factory.text(99))])
    told: list[int] = []

    def erase(done: int, _total: int) -> None:
        told.append(done)
        if len(told) == 2:
            store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))

    store.follow_search(erase, enable=True)
    assert len(calls_with(store, "teapot")) == 10
    assert is_true(store)


def test_erased_words_leave_no_bytes_in_a_sqlite_file(tmp_path: Path, factory: Factory) -> None:
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        for number in range(200):
            store.append(factory.call([user(f"{CANARY[:9]}{number} {factory.text(200)}")]))
        store.append(factory.call([user(f"say {CANARY}")], user_id="u1"))
        for number in range(200):
            store.append(factory.call([user(f"{number} {factory.text(200)}")]))
            store.follow_search(enable=True)
        assert len(calls_with(store, CANARY)) == 1
        assert TAIL in blocks(store.path)
        store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        assert TAIL not in blocks(store.path)
        assert is_true(store)
        with store._apart() as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert TAIL not in b"".join(path.read_bytes() for path in tmp_path.glob("calls.db*"))
        assert len(calls_with(store, f"{CANARY[:9]}7")) == 1


def test_erased_words_leave_no_bytes_in_files_of_postgresql(own_postgres: Server, factory: Factory) -> None:
    with closing(postgres_store(own_postgres.url())) as store:
        for number in range(50):
            store.append(factory.call([user(f"{number} {factory.text(200)}")]))
        store.append(factory.call([user(f"say {CANARY}")], user_id="u1"))
        assert len(calls_with(store, CANARY)) == 1
        assert CANARY.encode() in relations(own_postgres)
        store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        assert CANARY.encode() not in relations(own_postgres)
        assert len(calls_with(store, "7")) == 1


def test_an_erasure_by_another_unicode_has_the_index_made_anew(tmp_path: Path, factory: Factory) -> None:
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        store.append(factory.call([user(f"say {CANARY}")], user_id="u1"))
        store.append(factory.call([user("teapot")]))
        store.follow_search(enable=True)
        with store._apart() as connection, store._writing(connection):
            connection.execute(
                "UPDATE hub_checkpoints SET reached = replace(reached, ?, '1.0')", (search_words.UNICODE,)
            )
        store.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        assert TAIL not in blocks(store.path)
        assert len(calls_with(store, "teapot")) == 1
        assert calls_with(store, CANARY) == []


# Beside the rest of the store.


def test_people_s_sql_does_not_see_it(tmp_path: Path, factory: Factory) -> None:
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        store.append(factory.call([user("teapot")]))
        store.follow_search(enable=True)
        shadows = [name for name in tables(store, "%") if name.startswith("hub_search")]
        assert len(shadows) > len(TABLES)
        assert not [view for view in views(store.path) if "search" in view]
        for name in shadows:
            with pytest.raises(QueryRefused):
                run(store.path, f"SELECT * FROM {name}")
        with pytest.raises(QueryRefused):
            run(store.path, f"SELECT count(*) FROM {TABLES[0]} WHERE {TABLES[0]} MATCH 'teapot'")
        assert run(store.path, "SELECT count(*) FROM llm_calls").rows == ((1,),)


def test_the_schema_s_history_knows_nothing_of_it(store: SqlStore, factory: Factory) -> None:
    store.append(factory.call())
    store.follow_search(enable=True)
    engine = create_engine(url_of(store).replace("postgresql://", "postgresql+psycopg://"))

    def is_no_partition(_item: object, name: str | None, kind: str, *_more: object) -> bool:
        return kind not in ("table", "index") or not str(name).startswith("hub_events_")

    with engine.connect() as connection:
        options = {
            "version_table": migrate.VERSION_TABLE,
            "include_name": in_history,
            "include_object": is_no_partition,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata_of(engine.dialect.name)) == []  # type: ignore[arg-type]
    engine.dispose()


def test_a_store_is_upgraded_with_its_index(tmp_path: Path, factory: Factory) -> None:
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        call = factory.call([user("teapot")])
        store.append(call)
        store.follow_search(enable=True)
    with closing(sqlite3.connect(store.path, isolation_level=None, factory=SQLiteConnection)) as connection:
        migrate.upgrade(connection, store.path, migrations=with_next(tmp_path / "more"))
        connection.execute(f"UPDATE hub_schema SET version_num = '{migrate.REVISION}'")
    with closing(SQLiteStore(tmp_path / "calls.db")) as store:
        assert calls_with(store, "teapot") == [id_of(call)]
    assert (tmp_path / f"calls.db.backup-{migrate.REVISION}").exists()
