"""`hub sql`, run as a user runs it: values, the schema, formats."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from hub.cli.values import value_of
from tests.cli_kit import HUB, Command, commands, on_a_terminal, settle
from tests.filled_store import fill


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("filled") / "calls.db"
    fill(path)
    return str(path)


@pytest.fixture
def sql(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    settle(tmp_path, monkeypatch, HUB_DB_URL=db, HUB_SPOOL_DIR=tmp_path / "spool")
    return commands("sql")


# Values.


@pytest.mark.parametrize(
    "args",
    [
        ("SELECT :a AS a, :b AS b", "-p", "a", "x' OR 1 = 1", "-p", "b", "-3"),
        ("-p", "a", "x' OR 1 = 1", "--param", "b", "-3", "SELECT :a AS a, :b AS b"),
        ("-p", "a=x' OR 1 = 1", "SELECT :a AS a, :b AS b", "--param=b=-3"),
        ("SELECT ? AS a, ? AS b", "--", "x' OR 1 = 1", "-3"),
        ("SELECT ? AS a, :b AS b", "x' OR 1 = 1", "--", "-3"),
    ],
)
def test_values_are_given_by_name_or_in_order(sql: Command, args: tuple[str, ...]) -> None:
    result = sql(*args)
    assert json.loads(result.stdout) == [{"a": "x' OR 1 = 1", "b": -3}], result.stderr


def test_a_value_may_have_the_signs_that_part_names_and_options(sql: Command) -> None:
    result = sql("SELECT :a AS a, :b AS b, :c AS c", "-p", "a", "--db", "-p", "b", "x=y", "-p", "c", "")
    assert json.loads(result.stdout) == [{"a": "--db", "b": "x=y", "c": ""}]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("SELECT ?", "-p", "1", "x"), "-p takes a name and a value"),
        (("SELECT ?", "-p", "x"), "-p takes a name and a value"),
        (("SELECT ?", "5", "-p", "x", "1"), "not both"),
        (("SELECT :x", "-p"), "requires an argument"),
        (("SELECT :x", "-p", "y", "1"), "pass one value for each placeholder"),
        (("SELECT ?", "-p", "y", "1"), "pass one value for each placeholder"),
        (("SELECT ?", "1", "2"), "pass one value for each placeholder"),
        (("SELECT ?",), "pass one value for each placeholder"),
        (("--schema", "llm_call"), "did you mean llm_calls?"),
        (("--schema", "nonsense!"), "the views are llm_"),
        (("--schema", "llm_calls", "llm_events"), "one view, or nothing"),
    ],
)
def test_values_that_fit_nothing_are_refused(sql: Command, args: tuple[str, ...], words: str) -> None:
    result = sql(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("42", 42), ("-1", -1), ("0", 0), ("0.5", 0.5), ("-12.50", -12.5), (str(2**63 - 1), 2**63 - 1)),
        *(
            (text, text)
            for text in ("007", "1e5", "12345678901234e5", "+1", " 1", "1.", ".5", "-", "", "NaN", "Infinity")
        ),
        *((text, text) for text in (str(2**63), "9" * 5_000, "٣", "1_000", "None", "NULL", "gpt-4o", "2026-01-01")),
        *(("null", None), ("true", 1), ("false", 0), ('"null"', "null"), ('"42"', "42"), ('"', '"'), ('""', "")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_looks_like_a_number_is_one_and_quotes_make_text(text: str, value: Any) -> None:
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


def test_a_number_is_compared_as_one_and_text_as_text(sql: Command) -> None:
    count = "SELECT count(*) AS n FROM llm_calls WHERE total_tokens > :least AND session_id = :session"
    assert json.loads(sql(count, "-p", "least", "1000", "-p", "session", "chat-1").stdout) == [{"n": 3}]
    assert json.loads(sql(count, "-p", "least", "9000", "-p", "session", "chat-1").stdout) == [{"n": 0}]


# The schema.


def test_the_schema_is_shown_by_view_and_column(sql: Command) -> None:
    rows = json.loads(sql("--schema", "llm_latency_hourly").stdout)
    assert [row["column"] for row in rows] == [
        *("hour", "project", "service", "provider", "model", "metric", "le", "calls"),
    ]
    assert rows[6]["unit"] == "ms"
    assert rows[6]["null"] == "above 2^22 ms"
    lines = sql("--schema", "llm_latency_hourly", "--csv").stdout.splitlines()
    assert lines[0] == "view,column,type,unit,meaning,null"
    assert lines[-1] == "llm_latency_hourly,calls,integer,calls,in this bucket alone,never"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_schema_is_readable_on_a_terminal(sql: Command, db: str, tmp_path: Path, columns: int) -> None:
    env = {**os.environ, "NO_COLOR": "1"}
    code, text = on_a_terminal(["sql", "--schema"], env, columns=columns)
    assert code == 0
    assert "llm_costs_hourly" in text
    assert "nano-dollars/token" in text or columns == 40
    assert max(map(len, text.splitlines())) <= columns
    assert "\x1b" not in text


# Formats.

ODD = """
SELECT NULL AS unknown, '' AS empty, 9223372036854775807 AS big, -9223372036854775808 AS small, 0.1 AS decimal,
  9e999 AS endless, 'a,"b"
c' AS quoted, 'é漢🫖' AS letters, char(27) || '[31m' AS control, 1 AS twice, 2 AS twice, X'00FF' AS bytes
"""


def test_values_of_every_kind_as_json(sql: Command) -> None:
    (row,) = json.loads(sql(ODD).stdout)
    assert row == {
        "unknown": None,
        "empty": "",
        "big": 2**63 - 1,
        "small": -(2**63),
        "decimal": 0.1,
        "endless": None,
        "quoted": 'a,"b"\nc',
        "letters": "é漢🫖",
        "control": "\x1b[31m",
        "twice": 1,
        "twice_2": 2,
        "bytes": "00ff",
    }
    assert json.loads(sql(ODD, "--jsonl").stdout) == row
    assert "\x1b" not in sql(ODD).stdout


def test_values_of_every_kind_as_csv(sql: Command) -> None:
    names, values = csv.reader(io.StringIO(sql(ODD, "--csv").stdout, newline=""))
    assert values == [
        *("", "", str(2**63 - 1), str(-(2**63)), "0.1", "inf", 'a,"b"\nc', "é漢🫖", "\x1b[31m", "1", "2", "00ff"),
    ]
    assert names[-3:] == ["twice", "twice_2", "bytes"]


def test_values_of_every_kind_on_a_terminal(sql: Command) -> None:
    code, text = on_a_terminal(["sql", ODD], {**os.environ, "NO_COLOR": "1"})
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert lines["unknown"].strip() == "-"
    assert lines["big"].strip() == str(2**63 - 1)
    assert lines["control"].strip() == "\ufffd[31m"
    assert lines["bytes"].strip() == "2 bytes"
    assert "\x1b" not in text


def test_a_long_text_is_cut_on_a_terminal_alone(sql: Command) -> None:
    long = "SELECT replace(printf('%.*c', 5000, 'x'), 'x', 'yz') AS long, 1 AS one"
    text = on_a_terminal(["sql", long], {**os.environ, "NO_COLOR": "1"})[1]
    assert "9,500 more; --json has all" in "".join(text.split("\n"))
    assert json.loads(sql(long).stdout)[0]["long"] == "yz" * 5_000
    assert len(sql(long, "--csv").stdout) > 10_000


NOTHING = "SELECT * FROM llm_calls WHERE call_id = ''"


def test_without_rows_the_columns_are_known_where_a_format_can_tell_them(sql: Command, tmp_path: Path) -> None:
    assert sql(NOTHING).stdout == "[]\n"
    assert sql(NOTHING, "--jsonl").stdout == ""
    assert sql(NOTHING, "--csv").stdout.startswith("call_id,project,")
    code, text = on_a_terminal(["sql", NOTHING], {**os.environ, "NO_COLOR": "1"})
    assert (code, text.startswith("hub: no rows; the columns would be call_id, project, ")) == (0, True)
    assert sql(NOTHING, "--parquet", "none.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("none.parquet").column_names[:2] == ["call_id", "project"]


@pytest.mark.parametrize("form", ["--json", "--jsonl", "--csv"])
def test_a_reader_that_has_enough_is_no_error(sql: Command, form: str) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i, i AS j FROM n"
    process = subprocess.Popen(
        [HUB, "sql", many, form, "-n", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(30)) == ("", 0)
    process.stderr.close()


# Parquet.


def test_parquet_has_the_rows_with_types(sql: Command) -> None:
    result = sql("SELECT * FROM llm_calls ORDER BY call_id", "--parquet", "calls.parquet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "hub: 8 rows in calls.parquet\n")
    table = pyarrow.parquet.read_table("calls.parquet")
    wanted = json.loads(sql("SELECT * FROM llm_calls ORDER BY call_id").stdout)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert (types["call_id"], types["input_tokens"], types["cost_usd"]) == ("string", "int64", "double")
    assert types["started_at"] == types["ended_at"] == "timestamp[ns, tz=UTC]"
    assert list(wanted[0]) == table.column_names
    for name in ("call_id", "input_tokens", "cost_usd", "duration_ms", "error_message", "tags"):
        assert table.column(name).to_pylist() == [row[name] for row in wanted]
    times = [moment.value for moment in table.column("started_at")]
    unix = [round(row["started_unix"] * 1e6) * 1_000 for row in wanted]
    assert times == unix


def test_parquet_of_odd_columns(sql: Command) -> None:
    odd = """
        SELECT 1 AS mixed, 1 AS number, X'00' AS bytes, NULL AS unknown, 'x' AS twice, 1 AS twice,
          '2026-02-30T00:00:00.000000Z' AS no_day, '1500-01-01T00:00:00.000000Z' AS early, 9e999 AS endless
        UNION ALL SELECT 'x', 1.5, NULL, NULL, 'y', 2, NULL, NULL, 1.0
    """
    assert sql(odd, "--parquet", "odd.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("odd.parquet").to_pylist() == [
        {"mixed": "1", "number": 1.0, "bytes": b"\0", "unknown": None, "twice": "x", "twice_2": 1}
        | {"no_day": "2026-02-30T00:00:00.000000Z", "early": "1500-01-01T00:00:00.000000Z", "endless": math.inf},
        {"mixed": "x", "number": 1.5, "bytes": None, "unknown": None, "twice": "y", "twice_2": 2}
        | {"no_day": None, "early": None, "endless": 1.0},
    ]


def test_parquet_says_where_rows_were_left_out_and_replaces_a_file(sql: Command) -> None:
    Path("calls.parquet").write_text("old")
    result = sql("SELECT call_id FROM llm_calls", "--parquet", "calls.parquet", "-n", "3")
    assert "3 rows in calls.parquet" in result.stderr
    assert "only the first 3 rows" in result.stderr
    assert pyarrow.parquet.read_table("calls.parquet").num_rows == 3


def test_the_schema_as_parquet(sql: Command) -> None:
    assert sql("--schema", "llm_models", "--parquet", "schema.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("schema.parquet").column("unit").to_pylist()[3] == "tokens"


def test_a_parquet_file_that_cannot_be_written_is_told_of(sql: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sql("SELECT 1 AS one", "--parquet", "no/folder/x.parquet")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "no/folder/x.parquet" in result.stderr
    assert sql("SELECT 1 AS one", "--parquet", "x.parquet", "--csv").exit_code == 2
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = sql("SELECT 1 AS one", "--parquet", "x.parquet")
    assert (result.exit_code, "pip install 'llm-hub[parquet]'" in result.stderr) == (2, True)
    assert not Path("x.parquet").exists()
