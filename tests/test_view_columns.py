"""What is said of the views' columns is true of a store that has something of everything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.cli.schema import ANNOUNCED, described
from hub.reader import Reader
from storage.query import Limits
from storage.view_columns import COLUMNS, NEVER, Column, Type, View
from tests.canonical_store import ENGINES, filled

KINDS: dict[Type, type] = {
    "text": str,
    "integer": int,
    "double": float,
    "timestamp": str,
    "json": str,
    "flag": int,
}


@pytest.fixture(scope="module", params=ENGINES)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with filled(request.param, tmp_path_factory.mktemp("canonical")) as reader:
        yield reader


def test_every_column_of_every_view_is_told_of_in_its_order(reader: Reader) -> None:
    told = {view: [column.name for column in one.columns] for view, one in described(reader).items()}
    assert told == {view: list(columns) for view, columns in reader.schema().items()}
    assert COLUMNS.keys() < told.keys()


@pytest.mark.parametrize("view", COLUMNS)
def test_the_types_and_the_nulls_are_as_told(reader: Reader, view: str) -> None:
    rows = reader.sql(f"SELECT * FROM {view}", limits=Limits(rows=100_000)).rows
    for column, values in zip(COLUMNS[view].columns, zip(*rows, strict=True), strict=True):
        assert column.type is not None
        assert {type(value) for value in values} - {type(None)} == {KINDS[column.type]}, column
        assert (None in values) is (column.null != NEVER), column
        if column.type == "flag":
            assert set(values) <= {0, 1, None}, column


def test_a_number_s_unit_is_told_and_is_the_one_of_its_name() -> None:
    for view, told in COLUMNS.items():
        for column in told.columns:
            ending = column.name.rpartition("_")[2]
            wanted = {"ms": "ms", "unix": "s", "ns": "ns", "nanos": "nano-dollars", "usd": "USD", "tokens": "tokens"}
            assert column.unit == wanted.get(ending, column.unit), (view, column)
            assert column.unit or column.type != "double", (view, column)
            assert not column.unit or column.type in ("integer", "double"), (view, column)


def test_every_line_fits_a_table() -> None:
    for told in COLUMNS.values():
        assert told.meaning.endswith(".")
        for column in told.columns:
            assert column.meaning
            assert column.null
            assert len(column.meaning) <= 90
            assert len(column.null) <= 60


def test_a_contributed_event_s_fields_have_the_types_of_their_newest_class(reader: Reader) -> None:
    view = described(reader, "llm_event_acme_rate_limit")["llm_event_acme_rate_limit"]
    types = {column.name: column.type for column in view.columns}
    assert (types["retry_after_ms"], types["count"], types["hard"]) == ("double", "integer", "flag")
    assert (types["seen"], types["who"], types["zone"]) == ("json", "text", "text")
    assert types["occurred_at"] == "timestamp"
    rows = reader.sql("SELECT * FROM llm_event_acme_rate_limit").rows
    for column, values in zip(view.columns, zip(*rows, strict=True), strict=True):
        assert column.type is not None
        assert {type(value) for value in values} - {type(None)} == {KINDS[column.type]}, column


def test_a_view_whose_class_the_log_no_longer_tells_of_is_shown_without_types(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = reader.sql
    monkeypatch.setattr(reader, "sql", lambda *args: dataclasses.replace(found(*args), rows=()))
    view: View = described(reader, "llm_event_acme_rate_limit")["llm_event_acme_rate_limit"]
    zone: Column = view.columns[-1]
    assert (zone.name, zone.type) == ("zone", None)
    assert view.columns[0].type == "integer"


def test_of_classes_that_disagree_the_first_of_a_version_counts(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(version: int, **fields: str) -> tuple[str, int]:
        data = {"type": "acme:rate_limit", "schema_version": version, "fields": fields}
        return json.dumps(data), 1

    announced = [told(1, who="text", count="integer"), told(1, who="json", count="integer"), told(1, count="integer")]
    announced += [told(1, who="text", count="integer", zone="text"), told(2, who="text", count="real"), ("{}", 1)]
    announced += [(json.dumps({"type": "acme:rate.limit", "fields": {"who": "real"}}), 1), (json.dumps({"type": 7}), 1)]
    found = reader.sql
    monkeypatch.setattr(reader, "sql", lambda *args: dataclasses.replace(found(*args), rows=tuple(announced)))
    view = described(reader, "llm_event_acme_rate_limit")["llm_event_acme_rate_limit"]
    types = {column.name: column.type for column in view.columns}
    assert (types["who"], types["zone"], types["count"], types["hard"]) == ("text", "text", "json", None)


def test_what_announces_classes_is_found_by_an_index(tmp_path: Path) -> None:
    with filled("sqlite", tmp_path) as reader:
        plan = reader.sql(f"EXPLAIN QUERY PLAN {ANNOUNCED}").rows
    assert any("ix_hub_events_contributed" in str(row[-1]) for row in plan), plan
