"""`hub sql`, run as a user runs it: values, the schema."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli.main import app
from hub.cli.sql import value_of
from tests.filled_store import fill
from tests.test_cli import on_a_terminal

Sql = Callable[..., Result]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("filled") / "calls.db"
    fill(path)
    return str(path)


@pytest.fixture
def sql(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sql:
    for name in os.environ:
        if name.startswith(("HUB_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HUB_DB_URL", db)
    monkeypatch.setenv("HUB_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *args: runner.invoke(app, ["sql", *args])


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
def test_values_are_given_by_name_or_in_order(sql: Sql, args: tuple[str, ...]) -> None:
    result = sql(*args)
    assert json.loads(result.stdout) == [{"a": "x' OR 1 = 1", "b": -3}], result.stderr


def test_a_value_may_have_the_signs_that_part_names_and_options(sql: Sql) -> None:
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
def test_values_that_fit_nothing_are_refused(sql: Sql, args: tuple[str, ...], words: str) -> None:
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


def test_a_number_is_compared_as_one_and_text_as_text(sql: Sql) -> None:
    count = "SELECT count(*) AS n FROM llm_calls WHERE total_tokens > :least AND session_id = :session"
    assert json.loads(sql(count, "-p", "least", "1000", "-p", "session", "chat-1").stdout) == [{"n": 3}]
    assert json.loads(sql(count, "-p", "least", "9000", "-p", "session", "chat-1").stdout) == [{"n": 0}]


# The schema.


def test_the_schema_is_shown_by_view_and_column(sql: Sql) -> None:
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
def test_the_schema_is_readable_on_a_terminal(sql: Sql, db: str, tmp_path: Path, columns: int) -> None:
    env = {**os.environ, "NO_COLOR": "1"}
    code, text = on_a_terminal(["sql", "--schema"], env, columns=columns)
    assert code == 0
    assert "llm_costs_hourly" in text
    assert "nano-dollars/token" in text or columns == 40
    assert max(map(len, text.splitlines())) <= columns
    assert "\x1b" not in text
