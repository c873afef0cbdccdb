"""Guarded SQL: what may be read, what may not, and where it stops."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from hub.errors import ForeignStore, QueryLimit, QueryRefused, StoreError, StoreUnavailable
from storage.query import Limits, Params, Result
from storage.query_child import run_in_child
from storage.sqlite_query import run, views
from storage.views import VIEWS
from tests.filled_store import fill

Run = Callable[..., Result]

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE hub_calls (call_id TEXT PRIMARY KEY, provider TEXT, cost INTEGER, tags TEXT);
CREATE TABLE hub_contents (id INTEGER PRIMARY KEY, body TEXT);
CREATE TABLE hub_keys (project TEXT, key BLOB);
CREATE TABLE other (x);
INSERT INTO hub_calls VALUES ('a1', 'openai', 3, '{"team": "x"}'), ('a2', 'acme', 4, NULL);
INSERT INTO hub_contents VALUES (1, '["kept apart"]');
INSERT INTO hub_keys VALUES ('p', x'00ff');
CREATE VIEW llm_calls AS SELECT call_id, provider, cost, tags FROM hub_calls;
CREATE VIEW llm_messages AS SELECT id AS call_id, json_extract(body, '$[0]') AS content FROM hub_contents;
CREATE VIEW llm_event_acme_limit AS SELECT call_id FROM hub_calls;
CREATE VIEW private AS SELECT key FROM hub_keys;
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return path


@pytest.fixture(params=[run, run_in_child], ids=["here", "child"])
def query(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


READS: list[tuple[str, Params, list[tuple[object, ...]]]] = [
    ("SELECT call_id FROM llm_calls ORDER BY 1", (), [("a1",), ("a2",)]),
    ("SELECT count(*) FROM llm_calls", (), [(2,)]),
    ("-- the dearest\nSELECT max(cost) FROM llm_calls; -- done", (), [(4,)]),
    ("/* one */ SELECT provider FROM llm_calls WHERE cost = ?", (3,), [("openai",)]),
    ("SELECT provider FROM llm_calls WHERE cost = :cost", {"cost": 4}, [("acme",)]),
    ("SELECT tags ->> 'team' FROM llm_calls WHERE tags IS NOT NULL", (), [("x",)]),
    ("SELECT value FROM llm_calls, json_each(tags)", (), [("x",)]),
    ("SELECT content FROM llm_messages", (), [("kept apart",)]),
    ("SELECT call_id FROM llm_event_acme_limit LIMIT 1", (), [("a1",)]),
    ("WITH dear AS (SELECT * FROM llm_calls WHERE cost > 3) SELECT call_id FROM dear", (), [("a2",)]),
    ("WITH llm_calls AS (SELECT 1 AS one) SELECT * FROM llm_calls", (), [(1,)]),
    ("WITH hub_keys AS (SELECT 1 AS one) SELECT one FROM hub_keys", (), [(1,)]),
    ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n", (), [(6,)]),
    ("SELECT row_number() OVER (ORDER BY cost DESC), call_id FROM llm_calls", (), [(1, "a2"), (2, "a1")]),
    ("VALUES (1), (2)", (), [(1,), (2,)]),
    ("SELECT strftime('%Y', 0, 'unixepoch')", (), [("1970",)]),
]


@pytest.mark.parametrize(("sql", "params", "rows"), READS)
def test_reads_of_the_views_are_answered(
    query: Run, store: Path, sql: str, params: Params, rows: list[tuple[object, ...]]
) -> None:
    assert list(query(store, sql, params).rows) == rows


REFUSED = {
    "attach": "ATTACH 'new.db' AS other",
    "vacuum into": "VACUUM INTO 'copy.db'",
    "vacuum": "VACUUM",
    "pragma write": "PRAGMA user_version = 7",
    "pragma read": "PRAGMA table_info(hub_keys)",
    "pragma function": "SELECT * FROM pragma_table_info('hub_keys')",
    "insert": "INSERT INTO llm_calls VALUES (1, 2, 3, 4)",
    "insert behind with": "WITH x AS (SELECT 1) INSERT INTO hub_calls SELECT 'z', 'z', 1, NULL FROM x",
    "delete behind with": "WITH x AS (SELECT 1) DELETE FROM hub_calls",
    "update with returning": "UPDATE hub_calls SET cost = 0 RETURNING *",
    "drop": "DROP VIEW llm_calls",
    "create": "CREATE TEMP TABLE t AS SELECT * FROM llm_calls",
    "create view over keys": "CREATE TEMP VIEW llm_calls AS SELECT * FROM hub_keys",
    "begin": "BEGIN IMMEDIATE",
    "schema": "SELECT sql FROM sqlite_master",
    "schema, other name": "SELECT sql FROM sqlite_schema",
    "schema in a subquery": "SELECT (SELECT group_concat(sql) FROM main.sqlite_master)",
    "keys": "SELECT key FROM hub_keys",
    "keys in capitals": "SELECT key FROM HUB_KEYS",
    "keys in quotes": 'SELECT key FROM "main"."hub_keys"',
    "keys counted": "SELECT count(*) FROM hub_keys",
    "keys in a union": "SELECT call_id FROM llm_calls UNION ALL SELECT key FROM hub_keys",
    "keys in a comment trick": "SELECT call_id FROM llm_calls WHERE cost IN (SELECT hex(key) FROM/**/hub_keys)",
    "keys under a view's name": "WITH llm_calls AS (SELECT key FROM hub_keys) SELECT * FROM llm_calls",
    "keys under an alias": "SELECT * FROM (SELECT key FROM hub_keys) AS llm_calls",
    "keys through a private view": "SELECT key FROM private",
    "content table": "SELECT body FROM hub_contents",
    "content under a view's name": "WITH llm_messages AS (SELECT body FROM hub_contents) SELECT * FROM llm_messages",
    "a table that is not ours": "SELECT * FROM other",
    "load_extension": "SELECT load_extension('/tmp/x.so')",
    "zeroblob": "SELECT hex(zeroblob(400000000))",
    "randomblob": "SELECT length(randomblob(400000000))",
    "build facts": "SELECT sqlite_version()",
    "page statistics": "SELECT * FROM dbstat",
    "two statements": "SELECT 1; SELECT 2",
    "a second one behind a comment": "SELECT 1; -- fine\n DELETE FROM hub_calls",
    "write behind a comment": "/* SELECT */ DELETE FROM hub_calls",
    "explained write": "EXPLAIN DELETE FROM hub_calls",
    "nothing": "  -- only a comment",
    "empty": "",
    "not SQL": "SELECT FROM WHERE",
    "unknown column": "SELECT nonsense FROM llm_calls",
    "NUL": "SELECT 1 \0 FROM llm_calls",
    "lone surrogate": "SELECT '\udcff'",
    "missing parameter": "SELECT ?",
    "deep": "SELECT " + "(" * 400 + "1" + ")" * 400,
    "long": "SELECT '" + "x" * 200_000 + "'",
    "many unions": " UNION ALL ".join(["SELECT 1"] * 300),
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_and_changes_nothing(query: Run, store: Path, sql: str) -> None:
    before = (store.read_bytes(), sorted(store.parent.glob("*.db")))
    with pytest.raises(QueryRefused) as caught:
        query(store, sql)
    assert caught.value.reason
    assert caught.value.remedy
    assert (store.read_bytes(), sorted(store.parent.glob("*.db"))) == before


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


def test_a_query_without_end_is_stopped_at_its_deadline(query: Run, store: Path) -> None:
    began = time.monotonic()
    with pytest.raises(QueryLimit, match=r"longer than 0.2 s"):
        query(store, NUMBERS + "SELECT count(*) FROM n", limits=Limits(seconds=0.2))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("quoted", ["t{}", '"t{}"', "[T{}]", "'t{}'"])
def test_what_doubles_at_each_level_is_refused_before_sqlite_copies_it_out(store: Path, quoted: str) -> None:
    def bomb(levels: int) -> str:
        names = [quoted.format(level) for level in range(levels)]
        steps = [f"{name} AS (SELECT l.a FROM {of} l, {of} r)" for of, name in pairwise(names)]
        return f"WITH {names[0]} (a) AS (SELECT 1 AS a), {', '.join(steps)} SELECT 1 FROM {names[-1]} t"

    assert run(store, bomb(10)).rows
    began = time.monotonic()
    with pytest.raises(QueryRefused, match="refer to each other too often"):
        run(store, bomb(26), limits=Limits(seconds=1))
    assert time.monotonic() - began < 1


def test_a_single_function_that_computes_without_pause_is_killed_with_its_process(store: Path) -> None:
    slow = "SELECT instr(printf('%.*c', 2000000, 'a'), printf('%.*c', 1000000, 'a') || 'b')"
    with pytest.raises(QueryLimit, match="longer than"):
        run_in_child(store, slow, limits=Limits(seconds=0.1))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT replace(printf('%.*c', 60000, 'a'), 'a', printf('%.*c', 60000, 'b'))",
        NUMBERS + "SELECT printf('%.*c', 1000000, 'a') FROM n",
        NUMBERS.replace("FROM n)", "FROM n WHERE i < 30000)") + "SELECT group_concat(printf('%.*c', 1000, i)) FROM n",
    ],
)
def test_memory_is_bounded(query: Run, store: Path, sql: str) -> None:
    with pytest.raises(QueryLimit, match=r"MiB|memory"):
        query(store, sql, limits=Limits(bytes=16 << 20))


def test_more_rows_than_allowed_are_left_out_and_the_result_says_so(query: Run, store: Path) -> None:
    result = query(store, "SELECT call_id FROM llm_calls ORDER BY 1", limits=Limits(rows=1))
    assert (result.rows, result.truncated) == ((("a1",),), True)
    assert not query(store, "SELECT call_id FROM llm_calls", limits=Limits(rows=2)).truncated


def test_a_failure_while_running_names_its_cause(query: Run, store: Path) -> None:
    with pytest.raises(QueryRefused, match="malformed JSON"):
        query(store, "SELECT json_extract(provider, '$.x') FROM llm_calls")


def test_the_schema_of_the_views_can_be_listed(store: Path) -> None:
    assert views(store)["llm_calls"] == ["call_id", "provider", "cost", "tags"]
    assert "private" not in views(store)


def test_a_file_that_is_no_store_is_named(query: Run, tmp_path: Path) -> None:
    absent, text, foreign = tmp_path / "absent.db", tmp_path / "text.db", tmp_path / "foreign.db"
    text.write_text("no database " * 100)
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE other (x)")
    for path, error in ((absent, StoreUnavailable), (text, ForeignStore), (foreign, ForeignStore)):
        with pytest.raises(StoreError, match=path.name) as caught:
            query(path, "SELECT 1")
        assert type(caught.value) is error
    assert not absent.exists()


def test_a_store_is_read_beside_its_writer(query: Run, store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO hub_calls VALUES ('a3', NULL, NULL, NULL)")
        assert query(store, "SELECT count(*) FROM llm_calls").rows == ((2,),)
        writer.execute("COMMIT")
        assert query(store, "SELECT count(*) FROM llm_calls").rows == ((3,),)


def test_a_path_with_characters_of_a_url_is_read(tmp_path: Path, store: Path) -> None:
    odd = tmp_path / "a b?mode=rwc#%41.db"
    store.rename(odd)
    assert run(odd, "SELECT count(*) FROM llm_calls").rows == ((2,),)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "calls.db"
    fill(path)
    return path


def test_every_view_of_a_real_store_can_be_read(query: Run, real: Path) -> None:
    assert set(VIEWS) <= set(views(real))
    for view, columns in views(real).items():
        assert query(real, f"SELECT * FROM {view}").columns == tuple(columns)
        counted = query(real, f"WITH some AS (SELECT * FROM {view}) SELECT count(*) FROM some").rows
        assert counted == query(real, f"SELECT count(*) FROM {view}").rows
        assert query(real, f"SELECT {columns[0]}, count(*) FROM {view} GROUP BY 1 ORDER BY 2 LIMIT 3")


def test_no_table_of_a_real_store_can_be_read(query: Run, real: Path) -> None:
    with closing(sqlite3.connect(real)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert "hub_keys" in tables
    for table in [*tables, "sqlite_master"]:
        for view in ("llm_calls", "llm_messages"):
            with pytest.raises(QueryRefused):
                query(real, f"WITH {view} AS (SELECT * FROM {table}) SELECT * FROM {view}")
        with pytest.raises(QueryRefused):
            query(real, f"SELECT count(*) FROM {table}")


def test_values_that_look_like_sql_stay_values(query: Run, store: Path) -> None:
    hostile = "x' UNION SELECT key FROM hub_keys --"
    assert query(store, "SELECT ? AS v FROM llm_calls LIMIT 1", (hostile,)).rows == ((hostile,),)
