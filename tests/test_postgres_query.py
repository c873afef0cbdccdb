"""Guarded SQL on PostgreSQL: what may be read, what may not, and where it stops. With the login that may do everything,
and with one that sees the views only."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import QueryLimit, QueryRefused, SchemaMismatch
from storage.postgres_connection import PostgresConnection
from storage.postgres_fetch import StatementFailed, fetch
from storage.postgres_guard import check
from storage.postgres_lexer import tokens
from storage.postgres_query import look_around, run
from storage.postgres_roles import make_reader
from storage.postgres_rules import FUNCTIONS, KEYWORDS, OPERATORS, TYPES
from storage.postgres_server import connect
from storage.query import Limits, Params, Result
from storage.views import VIEWS
from tests.filled_store import fill
from tests.postgres_kit import connected
from tests.postgres_shared import migrated_database, server_url


@dataclass(frozen=True)
class Database:
    url: str
    reader_url: str
    reader: str


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A small store, an object of the owner's that is not public, and a reading login."""
    with migrated_database(server_url()) as url:
        fill(url)
        name = url.rpartition("/")[2] + "_reader"
        with closing(connect(url).raw) as raw:
            raw.execute("CREATE TABLE other (secret text); INSERT INTO other VALUES ('s')")
            raw.execute("CREATE TABLE model (x int); CREATE VIEW private AS SELECT key FROM hub_keys")
            raw.execute("CREATE FUNCTION leak(llm_calls) RETURNS text LANGUAGE sql AS 'SELECT secret FROM other'")
            raw.execute("CREATE FUNCTION leak() RETURNS text LANGUAGE sql AS 'SELECT secret FROM other'")
            for kind in ("int", "text", "float"):
                raw.execute(f"CREATE FUNCTION leak({kind}) RETURNS int LANGUAGE sql AS 'SELECT 1'".encode())
            raw.execute(
                "REVOKE EXECUTE ON FUNCTION leak(), leak(int), leak(text), leak(float), leak(llm_calls) FROM PUBLIC"
            )
            raw.execute("CREATE FUNCTION zone(text) RETURNS text LANGUAGE sql AS 'SELECT secret FROM other'")
            raw.execute("CREATE OPERATOR <<<< (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)")
            raw.execute("CREATE SCHEMA app; CREATE TABLE app.users (name text); CREATE EXTENSION dblink")
            raw.execute('CREATE VIEW "llm_event_acme_Odd" AS SELECT call_id AS "a ""b" FROM hub_calls')
        with connected(url) as connection:
            made = make_reader(connection, url, name)
        assert made.url is not None
        yield Database(url, made.url, name)


class Asked:
    """Runs guarded SQL over one connection."""

    def __init__(self, url: str) -> None:
        self.connection, self.url = connect(url), url
        self.place = look_around(self.connection, url)

    def __call__(
        self,
        sql: str,
        params: Params = (),
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Result:
        if self.connection.raw.closed:
            self.connection = connect(self.url)
        return run(self.connection, self.url, self.place, sql, params, limits=limits, clock=clock)


@pytest.fixture(scope="module", params=["owner", "owner as reader", "reader"])
def ask(request: pytest.FixtureRequest, database: Database) -> Iterator[Asked]:
    asked = Asked(database.reader_url if request.param == "reader" else database.url)
    assert asked.place.role == (None if request.param == "reader" else database.reader)
    if request.param == "owner":
        asked.place = replace(asked.place, role=None)
    yield asked
    asked.connection.raw.close()


READS: list[tuple[str, Params, list[tuple[object, ...]]]] = [
    ("SELECT count(*) FROM llm_calls", (), [(8,)]),
    ("-- the failed\nSELECT error_type FROM llm_calls WHERE status = 'error'; -- done", (), [("RuntimeError",)]),
    ("/* one /* two */ */ SELECT count(*) FROM llm_calls WHERE provider = ?", ("acme",), [(1,)]),
    ("SELECT count(*) FROM llm_calls WHERE input_tokens > ? OR user_id = ?", ("1000", 7), [(5,)]),
    (
        "SELECT :n + 1, :n || '?', '?:n', $$ ?:n $$, \"?\" FROM (SELECT 1 AS \"?\") x",
        {"n": 4},
        [(5, "4?", "?:n", " ?:n ", 1)],
    ),
    ("SELECT count(*) FROM llm_calls WHERE (:m IS NULL OR request_model = :m)", {"m": None}, [(8,)]),
    ("SELECT tags::jsonb ->> 'feature' FROM llm_calls WHERE tags IS NOT NULL LIMIT 1", (), [("search",)]),
    ("SELECT value FROM llm_calls, jsonb_each_text(tags::jsonb) LIMIT 1", (), [("search",)]),
    ("SELECT content FROM llm_messages WHERE content LIKE '%joke'", (), [("Tell me a joke",)]),
    ("SELECT count(*) FROM public.llm_calls c JOIN ONLY llm_events e USING (call_id) WHERE e.version = 1", (), [(8,)]),
    ("WITH dear AS (SELECT * FROM llm_calls WHERE cost_nanos > 0) SELECT count(*) FROM dear", (), [(4,)]),
    ("WITH llm_calls AS (SELECT 1 AS one) SELECT * FROM llm_calls", (), [(1,)]),
    ("WITH x(a, b) AS MATERIALIZED (VALUES (1, 2)) SELECT x.b FROM x AS y(a, b), x", (), [(2,)]),
    ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n", (), [(6,)]),
    ("SELECT power(10::numeric, 100000), power(2::numeric, 100)", (), [("1" + "0" * 100_000, 2**100)]),
    ("SELECT e.version, (e).type, e.data IS NULL FROM llm_events e WHERE position = 1", (), [(1, "llm:request", 0)]),
    (
        "SELECT row_number() OVER (ORDER BY started_at), model.provider FROM llm_calls model LIMIT 1",
        (),
        [(1, "openai")],
    ),
    (
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY version) FILTER (WHERE version < 3) FROM llm_events",
        (),
        [(1.0,)],
    ),
    (
        "SELECT 'a' LIKE ('a'), 1 BETWEEN (0) AND (2) FROM llm_models GROUP BY GROUPING SETS ((), ())",
        (),
        [(1, 1), (1, 1)],
    ),
    ("VALUES (1), (-2), (2*-1)", (), [(1,), (-2,), (-2,)]),
    (
        "SELECT date_trunc('month', started_at) < now(), extract(year FROM started_at) > 2000 FROM llm_calls LIMIT 1",
        (),
        [(1, 1)],
    ),
    ("SELECT substring('abc' FROM 2 FOR 1), position('b' IN 'abc'), CAST('1' AS numeric(5, 2))", (), [("b", 2, 1.0)]),
    (
        "SELECT interval '1 day', timestamptz '2026-01-01 05:45+05:45', DATE '2026-01-02', 'x' COLLATE \"C\"",
        (),
        [("1 day", "2026-01-01T00:00:00.000000Z", "2026-01-02", "x")],
    ),
    (
        "SELECT (SELECT 1), 2 IN (1, 2), EXISTS (SELECT 1), ARRAY(SELECT 1), NOT (true), 1::int, E'\\'', b'1', 2^3",
        (),
        [(1, 1, 1, "{1}", 0, 1, "'", "1", 8.0)],
    ),
    ('SELECT "a ""b" IS NOT NULL FROM "llm_event_acme_Odd" LIMIT 1', (), [(1,)]),
    (
        "SELECT sum(cost_nanos) > 10, avg(cost_nanos) > 0.5, sum(cost_nanos) FROM llm_calls WHERE false",
        (),
        [(None, None, None)],
    ),
]


@pytest.mark.parametrize(("sql", "params", "rows"), READS)
def test_reads_of_the_views_are_answered(ask: Asked, sql: str, params: Params, rows: list[tuple[object, ...]]) -> None:
    found = ask(sql, params).rows
    assert list(found) == rows
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in rows]


def test_a_plan_is_shown(ask: Asked) -> None:
    for explain in ("EXPLAIN", "EXPLAIN ANALYZE VERBOSE", "EXPLAIN (ANALYZE, COSTS off, FORMAT JSON)"):
        assert "hub_calls" in str(ask(f"{explain} SELECT * FROM llm_calls").rows)


REFUSED = {
    # statements
    "insert": "INSERT INTO hub_calls (call_id) VALUES ('x')",
    "update": "UPDATE hub_calls SET status = 'ok' RETURNING *",
    "delete": "DELETE FROM hub_calls",
    "merge": "MERGE INTO other USING other o ON true WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE hub_calls",
    "drop": "DROP VIEW llm_calls",
    "create": "CREATE TEMP TABLE t AS SELECT * FROM llm_calls",
    "select into": "SELECT * INTO TEMP t FROM llm_calls",
    "select into, quiet": "SELECT 1 AS x INTO t",
    "writable cte": "WITH gone AS (DELETE FROM hub_calls RETURNING *) SELECT * FROM gone",
    "writable cte, insert": "WITH x AS (INSERT INTO other VALUES ('y') RETURNING *) SELECT count(*) FROM x",
    "insert behind with": "WITH x AS (SELECT 1) INSERT INTO other SELECT 'y' FROM x",
    "explained write": "EXPLAIN ANALYZE DELETE FROM hub_calls",
    "explained write with options": "EXPLAIN (ANALYZE true) INSERT INTO other VALUES ('y')",
    "explained write behind with": "EXPLAIN ANALYZE WITH x AS (DELETE FROM other RETURNING *) SELECT * FROM x",
    "explained create": "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "explained execute": "EXPLAIN ANALYZE EXECUTE p",
    "explained write behind an option that looks like the end": 'EXPLAIN (ANALYZE, ")") DELETE FROM other',
    "explain settings": "EXPLAIN (SETTINGS) SELECT 1",
    "for update": "SELECT * FROM llm_calls FOR UPDATE",
    "for no key update": "SELECT * FROM llm_calls FOR NO KEY UPDATE OF llm_calls SKIP LOCKED",
    "for share": "SELECT * FROM llm_calls FOR/**/SHARE NOWAIT",
    "copy": "COPY llm_calls TO '/tmp/stolen'",
    "copy program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "do": "DO $$ BEGIN PERFORM pg_sleep(9); END $$",
    "call": "CALL p()",
    "set": "SET statement_timeout = 0",
    "reset role": "RESET ROLE",
    "set role": "SET ROLE postgres",
    "show": "SHOW data_directory",
    "begin": "BEGIN",
    "commit": "COMMIT",
    "lock": "LOCK TABLE hub_calls",
    "listen": "LISTEN hub_events",
    "notify": "NOTIFY hub_events",
    "prepare": "PREPARE p AS SELECT 1",
    "declare": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "load": "LOAD 'auto_explain'",
    "vacuum": "VACUUM",
    "two statements": "SELECT 1; SELECT 2",
    "a write behind a semicolon": "SELECT 1; -- fine\r DELETE FROM hub_calls",
    "a commit behind a semicolon": "SELECT 1; COMMIT; DELETE FROM hub_calls",
    "only a semicolon": ";",
    "nothing": " -- only a comment",
    "empty": "",
    # relations
    "keys": "SELECT key FROM hub_keys",
    "keys in capitals": "SELECT key FROM HUB_KEYS",
    "keys in quotes": 'SELECT key FROM "hub_keys"',
    "keys with schema": "SELECT key FROM public.hub_keys",
    "keys with schema in quotes": 'SELECT key FROM "public" . "hub_keys"',
    "keys with database": "SELECT key FROM postgres.public.hub_keys",
    "keys in a list": "SELECT * FROM llm_calls, hub_keys",
    "keys in a join": "SELECT * FROM llm_calls CROSS JOIN hub_keys",
    "keys in a join in parentheses": "SELECT * FROM (hub_keys CROSS JOIN llm_calls)",
    "keys in a subquery": "SELECT (SELECT max(key) FROM hub_keys)",
    "keys in a union": "SELECT call_id::bytea FROM llm_calls UNION ALL SELECT key FROM hub_keys",
    "keys by table": "SELECT * FROM llm_calls WHERE EXISTS (TABLE hub_keys)",
    "keys by only": "SELECT * FROM ONLY hub_keys",
    "keys by only in parentheses": "SELECT * FROM ONLY (hub_keys)",
    "keys with inheritance": "SELECT * FROM hub_keys *",
    "keys sampled": "SELECT * FROM hub_keys TABLESAMPLE SYSTEM (100)",
    "keys behind a comment": "SELECT key FROM/* llm_calls */hub_keys",
    "keys behind a comment that ends at a return": "SELECT key FROM --x\rhub_keys",
    "keys behind a nested comment": "SELECT key FROM /* /* */ llm_calls -- */ hub_keys",
    "keys by a cte of a view's name": "WITH llm_calls AS (SELECT key FROM hub_keys) SELECT * FROM llm_calls",
    "keys in a cte": "WITH x AS (TABLE hub_keys) SELECT * FROM x",
    "keys by unicode escapes": 'SELECT key FROM U&"hub\\005fkeys"',
    "keys by a full-width name": 'SELECT key FROM "hub_keys"::text',
    "keys by an alias that looks like a dot": 'SELECT * FROM hub_keys "."',
    "keys by an alias that looks like a parenthesis": 'SELECT * FROM llm_calls "(", hub_keys ")"',
    "keys behind an alias that looks like the end": 'SELECT * FROM hub_keys ";"',
    "keys by a long name": 'SELECT * FROM "' + "x" * 64 + '"',
    "keys through a private view": "SELECT key FROM private",
    "keys behind a parenthesis too many": "SELECT 1) AS p) AS q UNION ALL SELECT 1 FROM (SELECT * FROM (SELECT 1",
    "another table": "SELECT * FROM other",
    "another schema": "SELECT * FROM app.users",
    "a partition": "SELECT * FROM hub_events_odd",
    "an index": "SELECT * FROM hub_calls_pkey",
    "a table named as a column": "SELECT * FROM llm_calls, model",
    "row type of a table": "SELECT NULL::hub_keys",
    "catalog": "SELECT * FROM pg_class",
    "catalog with schema": "SELECT * FROM pg_catalog.pg_authid",
    "catalog in quotes": 'SELECT * FROM "pg_catalog"."pg_shadow"',
    "logins": "SELECT rolname FROM pg_roles",
    "activity": "SELECT query FROM pg_stat_activity",
    "settings": "SELECT * FROM pg_settings",
    "statistics": "SELECT most_common_vals FROM pg_stats",
    "large objects": "SELECT * FROM pg_largeobject",
    "information schema": "SELECT * FROM information_schema.tables",
    "information schema in quotes": 'SELECT * FROM "information_schema"."columns"',
    "toast": "SELECT * FROM pg_toast.pg_toast_2604",
    # functions
    "sleep": "SELECT pg_sleep(5)",
    "sleep in quotes": 'SELECT "pg_sleep"(5)',
    "sleep with schema": "SELECT pg_catalog.pg_sleep(5)",
    "sleep with schema in quotes": 'SELECT "pg_catalog" . "pg_sleep" (5)',
    "sleep in capitals": "SELECT PG_SLEEP(5)",
    "sleep behind a comment": "SELECT pg_sleep/**/\n(5)",
    "sleep by unicode escapes": "SELECT U&\"pg!005fsleep\" UESCAPE '!' (5)",
    "sleep as a field": "SELECT (5.0).pg_sleep",
    "sleep as a field in quotes": 'SELECT ((5.0)) /**/ . "pg_sleep"',
    "sleep as a field of an element": "SELECT (ARRAY[5.0])[1].pg_sleep",
    "sleep as a field of a query": "SELECT (SELECT 5.0).pg_sleep",
    "sleep as a field of a column": "SELECT (x.a).pg_sleep FROM (SELECT 5.0 AS a) x",
    "sleep as a field of an element of a column": "SELECT x.a[1].pg_sleep FROM (SELECT ARRAY[5.0] AS a) x",
    "sleep as a cte": "WITH pg_sleep(x) AS (SELECT 1) SELECT pg_sleep(5)",
    "sleep in from": "SELECT * FROM pg_sleep(5)",
    "sleep laterally": "SELECT * FROM llm_calls, LATERAL pg_sleep(5)",
    "sleep in rows from": "SELECT * FROM ROWS FROM (pg_sleep(5))",
    "sleep in limit": "SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(5))",
    "sleep hidden in an escaped string": "SELECT E'a'\n'\\'' , pg_sleep(5), '' --'",
    "sleep hidden in a dollar quote": "SELECT $a$ $b$ $a$, pg_sleep(5), $b$ $b$",
    "sleep hidden in an operator": "SELECT 1 +-- */ +\n pg_sleep(5)::text::int",
    "file": "SELECT pg_read_file('/etc/passwd')",
    "file as a field": "SELECT ('/etc/passwd').pg_read_file",
    "binary file": "SELECT encode(pg_read_binary_file('PG_VERSION'), 'hex')",
    "folder": "SELECT pg_ls_dir('.')",
    "stat": "SELECT (pg_stat_file('PG_VERSION')).size",
    "lo_create": "SELECT lo_create(0)",
    "lo_from_bytea": "SELECT lo_from_bytea(0, 'x')",
    "lo_import": "SELECT lo_import('/etc/passwd')",
    "lo_export": "SELECT lo_export(1, '/tmp/x')",
    "set_config": "SELECT set_config('role', 'none', true)",
    "set_config in where": "SELECT 1 WHERE set_config('transaction_read_only', 'off', true) = 'off'",
    "current_setting": "SELECT current_setting('data_directory')",
    "nextval": "SELECT nextval('hub_x')",
    "setval": "SELECT setval('hub_x'::regclass, 1)",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "terminate": "SELECT pg_terminate_backend(1)",
    "cancel": "SELECT pg_cancel_backend(1)",
    "reload": "SELECT pg_reload_conf()",
    "notification": "SELECT pg_notify('hub_events', '9')",
    "message to the log": "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "snapshot": "SELECT pg_export_snapshot()",
    "transaction id": "SELECT pg_current_xact_id()",
    "old transaction id": "SELECT txid_current()",
    "server's address": "SELECT inet_server_addr()",
    "version": "SELECT version()",
    "dblink": "SELECT * FROM dblink('dbname=postgres', 'DELETE FROM hub_calls') AS t(x text)",
    "dblink_exec": "SELECT dblink_exec('dbname=postgres', 'DROP TABLE hub_calls')",
    "query_to_xml": "SELECT query_to_xml('DELETE FROM hub_calls', true, true, '')",
    "table_to_xml": "SELECT table_to_xml('hub_keys', true, true, '')",
    "ts_stat": "SELECT * FROM ts_stat('SELECT key::text::tsvector FROM hub_keys')",
    "ts_rewrite": "SELECT ts_rewrite('a'::tsquery, 'SELECT 1')",
    "xmlparse": "SELECT xmlparse(DOCUMENT '<a/>')",
    "xmltable": "SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS x text)",
    "json_table": "SELECT * FROM json_table('[]', '$' COLUMNS (a regclass))",
    "json_populate_record": "SELECT json_populate_record(NULL::llm_calls, '{}')",
    "a function of the owner": "SELECT leak()",
    "a function of a row, as a column": "SELECT llm_calls.leak FROM llm_calls",
    "a function of a row, as a column in quotes": 'SELECT (c)."leak" FROM llm_calls c',
    "a function with the name of a keyword": "SELECT zone('x')",
    "a function of a row": "SELECT leak(c) FROM llm_calls c",
    "pg_typeof as a column": "SELECT (c).pg_typeof FROM llm_calls c",
    "size of a table": "SELECT pg_total_relation_size('hub_calls')",
    "view text": "SELECT pg_get_viewdef('llm_calls')",
    "rights": "SELECT has_table_privilege('hub_keys', 'SELECT')",
    "much of nothing": "SELECT repeat('x', 1000000000)",
    "much padding": "SELECT lpad('', 1000000000)",
    "much formatting": "SELECT format('%1000000000s', '')",
    "generate_series": "SELECT count(*) FROM generate_series(1, 10000000000)",
    "array_fill": "SELECT array_fill(0, ARRAY[100000000])",
    "explained function": "EXPLAIN ANALYZE SELECT pg_sleep(5)",
    # words that are values
    "current_user": "SELECT current_user",
    "session_user": "SELECT session_user",
    "user": "SELECT user",
    "current_schema": "SELECT current_schema",
    "current_catalog": "SELECT current_catalog",
    "current_role": "SELECT CURRENT_ROLE",
    "system_user": "SELECT system_user",
    # types
    "regclass": "SELECT 'hub_keys'::regclass",
    "regclass in quotes": "SELECT 'hub_keys'::\"regclass\"",
    "regclass by cast": "SELECT CAST('hub_keys' AS regclass)",
    "regclass in front": "SELECT regclass 'hub_keys'",
    "regclass as a function": "SELECT regclass('hub_keys')",
    "regclass with schema": "SELECT 'hub_keys'::pg_catalog.regclass",
    "array of regclass": "SELECT '{hub_keys}'::regclass[]",
    "array of regclass by its name": "SELECT '{hub_keys}'::_regclass",
    "regrole": "SELECT 10::regrole",
    "regproc": "SELECT 'leak'::regproc",
    "transaction id as a type": "SELECT '1'::xid8",
    "xml": "SELECT '<a/>'::xml",
    # operators
    "an operator of somebody": "SELECT 1 <<<< 2",
    "an operator with schema": "SELECT 1 OPERATOR(pg_catalog.+) 2",
    "an operator with schema in quotes": 'SELECT 1 OPERATOR("public".<<<<) 2',
    # text
    "NUL": "SELECT 1 \0 FROM llm_calls",
    "lone surrogate": "SELECT '\udcff'",
    "open string": "SELECT 'x",
    "open name": 'SELECT "x',
    "open comment": "SELECT /* /* */ 1",
    "open dollar quote": "SELECT $a$ x $b$",
    "own placeholders": "SELECT $1",
    "no value for a placeholder": "SELECT ?",
    "no value for a name": "SELECT :x",
    "not SQL": "SELECT FROM WHERE",
    "unknown column": "SELECT nonsense FROM llm_calls",
    "unknown view": "SELECT * FROM llm_nonsense",
    "unknown function": "SELECT nonsense(1)",
    "division by zero": "SELECT 1 / 0",
    "deep": "SELECT " + "(" * 40_000 + "1" + ")" * 40_000,
    "long": "SELECT '" + "x" * 200_000 + "'",
}


@pytest.fixture(scope="module")
def changes(database: Database) -> Iterator[Callable[[], object]]:
    """What a statement that wrote or locked would have changed."""
    with closing(connect(database.url).raw) as raw:
        yield lambda: raw.execute(
            "SELECT (SELECT count(*) FROM hub_events), (SELECT count(*) FROM hub_calls), (SELECT count(*) FROM other),"
            " (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_largeobject_metadata),"
            " (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            "  WHERE l.locktype = 'advisory' AND d.datname = current_database())"
        ).fetchall()


@pytest.fixture(scope="module")
def owner(database: Database) -> Iterator[Asked]:
    """The login that may do everything, with its own rights."""
    asked = Asked(database.url)
    asked.place = replace(asked.place, role=None)
    yield asked
    asked.connection.raw.close()


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_and_changes_nothing(owner: Asked, changes: Callable[[], object], sql: str) -> None:
    before, began = changes(), time.monotonic()
    with pytest.raises(QueryRefused) as caught:
        owner(sql)
    assert time.monotonic() - began < 4
    assert caught.value.reason
    assert caught.value.remedy
    assert changes() == before
    assert owner("SELECT count(*) FROM llm_calls").rows == ((8,),)


WOULD_SLEEP = [sql for name, sql in REFUSED.items() if name.startswith("sleep") and " cte" not in name]
WOULD_READ = [
    sql
    for name, sql in REFUSED.items()
    if name.startswith("keys")
    and not any(word in name for word in ("full-width", "long name", "database", "sampled", "too many"))
]


@pytest.mark.parametrize("sql", WOULD_SLEEP)
def test_without_the_guard_the_hidden_call_is_made(database: Database, sql: str) -> None:
    with closing(psycopg.connect(database.url)) as raw:
        raw.execute("SET statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            raw.execute(sql.encode())


@pytest.mark.parametrize("sql", WOULD_READ)
def test_without_the_guard_the_hidden_table_is_read(database: Database, sql: str) -> None:
    with closing(psycopg.connect(database.url)) as raw, raw.transaction(force_rollback=True):
        raw.execute("REVOKE SELECT ON hub_keys FROM PUBLIC")
        raw.execute(f"GRANT SELECT ON llm_calls, private TO {database.reader}")
        raw.execute("ALTER VIEW private SET (security_invoker = true)")
        raw.execute(f"SET LOCAL ROLE {database.reader}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="hub_keys"):
            raw.execute(sql.encode())


@pytest.fixture(scope="module")
def unguarded(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Runs what it is given, as a login that may neither call leak() nor read other: PostgreSQL then says whether it
    would have come to that."""
    with psycopg.connect(database.reader_url, autocommit=True) as connection:
        yield connection


_QUOTES = "' '' \" \"\" \\ E' e' U&' $$ $a$ $b$ b' n' \\' '\\'' E'\\'' 'a'"
_REST = "-- /* */ ( ) , || 1 x + - * / é AS $1 $ e ; ? :x :: . [ ]"
PIECES = [*_QUOTES.split(), *_REST.split(), "\n", "\r", "\v", " ", "\u00a0", "E''\n'", "'\n'", ' AS "']
puzzle = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
CALLS = [
    ", (1).leak",
    ", ('x').leak",
    ", (ARRAY['x'])[1].leak",
    ", (SELECT 1.5) . leak",
    ", leak()",
    " leak() ",
    ' "leak"()',
    " || public . leak ( ) ||",
    "\f+/**/leak--\n()",
]
READS_OF_A_TABLE = [
    ", other",
    ' JOIN "other" ON true',
    " CROSS JOIN(other CROSS JOIN llm_spans)",
    ", ONLY (other)",
    ", public.other",
    " UNION ALL TABLE other",
    " WHERE 1 IN (SELECT 1 FROM/**/other)",
    ", LATERAL (TABLE--\rother)",
]


@settings(max_examples=400, deadline=None)
@given(puzzle, st.sampled_from(CALLS), puzzle)
def test_no_puzzle_hides_a_call(
    owner: Asked, unguarded: psycopg.Connection[Any], before: str, hidden: str, after: str
) -> None:
    _no_hole(owner, unguarded, f"SELECT {before}{hidden}{after}", "leak")


@settings(max_examples=400, deadline=None)
@given(puzzle, st.sampled_from(READS_OF_A_TABLE), puzzle)
def test_no_puzzle_hides_a_table(
    owner: Asked, unguarded: psycopg.Connection[Any], before: str, hidden: str, after: str
) -> None:
    _no_hole(owner, unguarded, f"SELECT 1 FROM llm_calls {before}{hidden}{after}", "other")


def _no_hole(owner: Asked, unguarded: psycopg.Connection[Any], sql: str, secret: str) -> None:
    try:
        check(tokens(sql), owner.place.views, owner.place.schema, owner.connection)
    except QueryRefused:
        return
    try:
        unguarded.execute(sql.encode())
        reached = ""
    except psycopg.Error as failed:  # most of it is no SQL
        reached = str(failed) if failed.sqlstate == "42501" else ""
    assert secret not in reached, sql


@pytest.mark.parametrize(
    "sql", ["DELETE FROM hub_calls", "CREATE TABLE t (x int)", "SELECT nextval('s')", "SELECT lo_create(0)"]
)
def test_what_the_guard_let_through_could_not_write(owner: Asked, sql: str) -> None:
    raw = owner.connection.raw
    with raw.transaction():
        raw.execute("CREATE SEQUENCE IF NOT EXISTS s")
    try:
        raw.execute(owner.place.opening(Limits()))
        with pytest.raises(StatementFailed, match="read-only"):
            fetch(
                raw,
                sql.replace("'s'", "'public.s'").replace(" hub", " public.hub"),
                [],
                rows=1,
                size=1_000,
                deadline=time.monotonic() + 5,
            )
    finally:
        raw.rollback()


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
DOUBLED = "WITH RECURSIVE n(t) AS (SELECT '0' UNION ALL SELECT t || t FROM n WHERE length(t) < 2^24) "


@pytest.mark.parametrize(
    "sql",
    [
        NUMBERS + "SELECT count(*) FROM n",
        "SELECT count(*) FROM llm_events a, llm_events b, llm_events c, llm_events d, llm_events e, llm_events f",
        "EXPLAIN ANALYZE " + NUMBERS + "SELECT count(*) FROM n",
    ],
)
def test_a_query_without_end_is_stopped_at_its_deadline(ask: Asked, sql: str) -> None:
    began = time.monotonic()
    with pytest.raises(QueryLimit, match=r"longer than 0.2 s"):
        ask(sql, limits=Limits(seconds=0.2))
    assert time.monotonic() - began < 4


def test_the_client_breaks_off_what_the_server_does_not_stop(owner: Asked) -> None:
    began = [time.monotonic() - 30.5]  # so that it is late half a second from now, and the server in 30
    with pytest.raises(QueryLimit, match="longer than"):
        owner(
            NUMBERS + "SELECT count(*) FROM n",
            limits=Limits(seconds=30),
            clock=lambda: began.pop() if began else time.monotonic(),
        )
    with closing(connect(owner.url).raw) as raw:
        deadline = time.monotonic() + 5
        running = True
        while running and time.monotonic() < deadline:
            running = raw.execute(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
                " AND query LIKE 'WITH RECURSIVE%'"
            ).fetchone() != (False,)
        assert not running


@pytest.mark.parametrize(
    "sql",
    [
        DOUBLED + "SELECT t FROM n ORDER BY length(t) DESC LIMIT 1",
        NUMBERS + "SELECT i, 'a long text that is sent again and again, until there is too much of it' FROM n",
    ],
)
def test_memory_is_bounded(ask: Asked, sql: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(QueryLimit, match="MiB"):
        ask(sql, limits=Limits(bytes=4 << 20, rows=10**9))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "KiB"


def test_more_than_the_server_can_hold_is_too_much(owner: Asked) -> None:
    with pytest.raises(QueryLimit, match="MiB"):
        owner(DOUBLED.replace("2^24", "2^15") + "SELECT length(replace(max(t), '0', max(t))) FROM n")


def test_more_rows_than_allowed_are_left_out_and_the_result_says_so(ask: Asked) -> None:
    result = ask(NUMBERS + "SELECT i FROM n", limits=Limits(rows=3))
    assert (result.rows, result.truncated) == (((1,), (2,), (3,)), True)
    assert not ask("SELECT call_id FROM llm_calls", limits=Limits(rows=8)).truncated
    assert ask("SELECT call_id FROM llm_calls WHERE false").columns == ("call_id",)


def test_values_that_look_like_sql_stay_values(ask: Asked) -> None:
    hostile = "x' UNION SELECT key FROM hub_keys -- \\' $$ ?"
    assert ask("SELECT ? AS v FROM llm_calls LIMIT 1", (hostile,)).rows == ((hostile,),)
    assert ask("SELECT :v AS v", {"v": hostile, "unused": 1}).rows == ((hostile,),)


@pytest.mark.parametrize("value", [object(), {"a": 1}, "NUL \0", "\udcff"])
def test_a_value_that_cannot_be_sent_is_refused(owner: Asked, value: object) -> None:
    with pytest.raises(QueryRefused):
        owner("SELECT ?", (value,))
    assert owner("SELECT 1").rows == ((1,),)


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SELECT ?, ?", (1,)),
        ("SELECT 1", (1,)),
        ("SELECT ?", {"a": 1}),
        ("SELECT :a", {"b": 1}),
        ("SELECT :a", (1,)),
        ("SELECT ?, :a", {"a": 1}),
    ],
)
def test_each_placeholder_takes_one_value(owner: Asked, sql: str, params: Params) -> None:
    with pytest.raises(QueryRefused, match="one value for each"):
        owner(sql, params)


def test_the_lists_name_only_what_postgresql_has(owner: Asked) -> None:
    def unknown(names: frozenset[str], known: str) -> set[str]:
        return set(names) - {name for (name,) in owner.connection.execute(known)}

    keywords = {name for (name,) in owner.connection.execute("SELECT word FROM pg_get_keywords()")}
    assert unknown(FUNCTIONS, "SELECT proname FROM pg_proc") <= keywords
    assert not unknown(TYPES, "SELECT typname FROM pg_type")
    assert not unknown(OPERATORS, "SELECT oprname FROM pg_operator") - {"!=", "=>"}
    assert not unknown(KEYWORDS, "SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'")


def test_no_function_of_the_list_writes_or_waits(owner: Asked) -> None:
    """What is volatile is known by name."""
    rows = owner.connection.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY(?) ORDER BY 1",
        (list(FUNCTIONS),),
    )
    assert [name for (name,) in rows] == ["clock_timestamp", "random"]


def test_every_view_can_be_read(ask: Asked) -> None:
    assert set(VIEWS) <= ask.place.views.keys()
    for view, columns in ask.place.views.items():
        assert ask(f'SELECT * FROM "{view}"').columns == tuple(columns)


def test_a_database_that_was_not_migrated_is_named_with_the_remedy(postgres_url: str) -> None:
    with closing(connect(postgres_url).raw) as raw, pytest.raises(SchemaMismatch, match="hub migrate") as caught:
        look_around(PostgresConnection(raw, postgres_url), postgres_url)
    assert str(psycopg.conninfo.conninfo_to_dict(postgres_url)["password"]) not in str(caught.value)
