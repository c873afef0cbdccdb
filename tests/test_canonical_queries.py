"""The canonical queries: alike on every engine, in an order that nothing leaves open, and right."""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from hub.reader import Reader, open_reader
from storage.query import Limits
from storage.view_columns import COLUMNS
from tests.canonical_calls import all_calls, buckets, counted_calls, of_type
from tests.canonical_queries import PARAMS, QUERIES
from tests.canonical_store import ENGINES, ERASED_CALLS, EVENTS, filled

Rows = list[tuple[Any, ...]]

EMPTY = {"nothing at all"}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with filled("sqlite", tmp_path_factory.mktemp("canonical")) as reader:
        yield reader


@pytest.fixture(scope="module", params=ENGINES)
def reader(
    request: pytest.FixtureRequest, sqlite: Reader, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    if request.param == "sqlite":
        yield sqlite
    else:
        with filled(request.param, tmp_path_factory.mktemp("canonical")) as reader:
            yield reader


def answer(reader: Reader, name: str) -> Rows:
    result = reader.sql(QUERIES[name], PARAMS.get(name, ()), limits=Limits(rows=100_000))
    assert not result.truncated
    return list(result.rows)


def alike(one: Any, other: Any) -> bool:
    """Doubles that were added up may differ in the last digits: nothing says in which order that is done."""
    if type(one) is float and type(other) is float:
        return math.isclose(one, other, rel_tol=1e-12)
    return type(one) is type(other) and one == other


def assert_alike(found: Rows, wanted: Rows) -> None:
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert len(one) == len(other)
        assert all(map(alike, one, other)), (number, one, other)


@pytest.mark.parametrize("name", QUERIES)
def test_every_engine_gives_the_same_rows_in_the_same_order(reader: Reader, sqlite: Reader, name: str) -> None:
    found = answer(reader, name)
    assert_alike(found, answer(sqlite, name))
    assert bool(found) is (name not in EMPTY)


@pytest.fixture(scope="module")
def backwards(sqlite: Reader, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The same store, the rows of its tables written the other way round."""
    path = tmp_path_factory.mktemp("backwards") / "calls.db"
    with closing(sqlite3.connect(str(sqlite.settings.sqlite_path))) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        for table in ("hub_calls", "hub_models"):
            copy.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table} ORDER BY rowid DESC")
            copy.execute(f"DELETE FROM {table}")
            copy.execute(f"INSERT INTO {table} SELECT * FROM kept")
            copy.execute("DROP TABLE kept")
        copy.execute("UPDATE hub_attempts SET position = -position")
        copy.commit()
    return open_reader(str(path))


@pytest.mark.parametrize("name", QUERIES)
def test_the_order_is_the_query_s_own(backwards: Reader, sqlite: Reader, name: str) -> None:
    assert_alike(answer(backwards, name), answer(sqlite, name))


def test_there_are_fifty_and_each_column_of_each_view_is_asked_for() -> None:
    assert len(QUERIES) >= 50
    assert QUERIES.keys() >= PARAMS.keys()
    for view, told in COLUMNS.items():
        asked = " ".join(text for text in QUERIES.values() if re.search(rf"\b{view}\b", text))
        missing = [column.name for column in told.columns if not re.search(rf"\b{column.name}\b", asked)]
        assert not missing, view


# Answers worked out from the events, without SQL.


def test_calls_by_status(reader: Reader) -> None:
    wanted = Counter(call.status for call in all_calls())
    rows = answer(reader, "calls by status")
    assert {row[0]: row[1] for row in rows} == wanted
    assert {row[0]: row[2] for row in rows} == {
        status: sum(call.nanos is not None for call in all_calls() if call.status == status) for status in wanted
    }
    assert [row[1] for row in rows] == sorted(wanted.values(), reverse=True)
    assert sum(row[5] for row in rows) == len(counted_calls())


def test_cost_and_tokens_by_model(reader: Reader) -> None:
    groups = defaultdict(list)
    for call in counted_calls():
        groups[call.request.get("provider"), call.request.get("model")].append(call)

    def total(values: list[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    found = {row[:2]: (row[2], row[3], row[4], row[5]) for row in answer(reader, "cost and tokens by model")}
    assert found == {
        key: (
            len(calls),
            total([call.tokens("input") for call in calls]),
            total([call.tokens("output") for call in calls]),
            total([call.nanos for call in calls]),
        )
        for key, calls in groups.items()
    }


def test_cost_by_day(reader: Reader) -> None:
    days: dict[str | None, int] = defaultdict(int)
    for call in counted_calls():
        days[call.day] += call.nanos or 0
    rows = answer(reader, "cost by day")
    assert {day: nanos or 0 for day, _, nanos in rows} == days
    assert [row[0] for row in rows] == sorted(days, key=lambda day: day or "")


def test_the_hourly_costs_are_those_of_the_calls(reader: Reader) -> None:
    rows = answer(reader, "every hour's costs")
    dated = [call for call in counted_calls() if call.started is not None]
    assert sum(row[5] for row in rows) == len(dated)
    assert sum(row[6] for row in rows) == sum(call.status == "error" for call in dated)
    assert sum(row[13] or 0 for row in rows) == sum(call.nanos or 0 for call in dated)
    hours = Counter((call.started or 0) // (3_600 * 10**9) for call in dated)
    wanted = {f"{datetime.fromtimestamp(hour * 3_600, UTC):%Y-%m-%dT%H:00:00.000000Z}": n for hour, n in hours.items()}
    found: Counter[str] = Counter()
    for row in rows:
        found[row[0]] += row[5]
    assert found == wanted


def test_unpriced_calls_are_those_that_spent_and_have_no_price(reader: Reader) -> None:
    wanted = Counter(call.model for call in counted_calls() if call.started is not None and call.is_unpriced)
    found: Counter[str | None] = Counter()
    for row in answer(reader, "costs by day and model"):
        found[row[1]] += row[5]
    assert +found == wanted


def test_percentiles_are_the_upper_bounds_of_the_buckets_they_fall_into(reader: Reader) -> None:
    rows = answer(reader, "percentiles from buckets")
    wanted, models = {}, {call.model for call in counted_calls()}
    for metric in ("duration", "ttft"):
        for model in models:
            if not (bounds := buckets(metric, (call for call in counted_calls() if call.model == model))):
                continue
            ranked = [bounds[math.ceil(share * len(bounds)) - 1] for share in (0.5, 0.95, 0.99)]
            wanted[model, metric] = (len(bounds), *(None if bound == math.inf else bound for bound in ranked))
    assert {row[:2]: row[2:] for row in rows} == wanted


def test_text_sorts_by_its_bytes(reader: Reader) -> None:
    models = [row[1] for row in answer(reader, "text sorts by bytes") if row[1] is not None]
    assert models == sorted(models, key=lambda model: str(model).encode())
    assert models.index("zeta") < models.index("Ärger-1")
    providers = [row[0] for row in answer(reader, "share of each provider")]
    assert len(providers) == len(set(providers))


def test_capitals_are_told_from_small_letters(reader: Reader) -> None:
    ((small, capital, either, literally, _),) = answer(reader, "LIKE tells capitals from small letters")
    asked = [call for call in of_type("llm:request:debug") if call["content"] and "messages" in call["content"]]
    texts = [str(call["content"]["messages"][-1]) for call in asked if call["content"]]
    assert small == sum("kettle" in text for text in texts)
    assert capital == sum("KETTLE" in text for text in texts)
    assert 0 < small < either == sum("kettle" in text.lower() for text in texts)
    assert literally == sum(call.request.get("model") == "acme_1%" for call in all_calls())


def test_tools_and_what_they_answered(reader: Reader) -> None:
    assert answer(reader, "tools by name") == [
        ("nothing", 1, 0, 1),
        ("order", 1, 0, 1),
        ("weather", 1, 1, 1),
        (None, 1, 0, 1),
    ]
    arguments = {row[3]: row[4] for row in answer(reader, "every tool call")}
    assert arguments == {
        "weather": '{"city": "Zürich"}',
        "order": '{"z":1,"a":[true,null]}',
        None: "7",
        "nothing": None,
    }


def test_retries_by_reason(reader: Reader) -> None:
    assert answer(reader, "retries by reason") == [
        ("rate_limit", 1, 500.0, 3),
        ("timeout", 1, None, 2),
        ("Überlast", 1, 0.0, 3),
    ]


def test_events_by_type_and_streams_with_a_gap(reader: Reader) -> None:
    wanted = Counter(record["type"] for record in EVENTS())
    assert {row[0]: row[2] for row in answer(reader, "events by type")} == wanted
    versions = defaultdict(list)
    for record in EVENTS():
        versions[record["stream_id"]].append(record["version"])
    gaps = sorted((stream, len(seen), max(seen)) for stream, seen in versions.items() if len(seen) != max(seen))
    assert answer(reader, "streams with a gap") == gaps


def test_whole_numbers_divide_as_in_c(reader: Reader) -> None:
    for count, quotient, rest, below, under, away, real in answer(reader, "whole numbers divide to whole numbers"):
        assert (quotient, rest, below, under) == (count // 7, count % 7, -(count // 7), -(count % 7))
        assert (away, real) == (abs(7 - count), count / 7)


def test_what_was_erased_is_null_and_counts_stay(reader: Reader) -> None:
    erased = [call for call in of_type("llm:request") if call["session_id"] == "chat-forgotten"]
    ids = {call["stream_id"] for call in erased}
    assert len(ids) == ERASED_CALLS
    places = [row for row in answer(reader, "where calls belong") if row[0] in ids]
    assert [row[5:7] for row in places] == [(None, None)] * ERASED_CALLS
    assert not [row for row in answer(reader, "every message") if row[0] in ids]
    costs = [row[8] for row in answer(reader, "tokens and costs") if row[0] in ids]
    assert costs == [250 * 150 + 500 * 600] * ERASED_CALLS
    session_events = [row for row in answer(reader, "every event") if row[4] in ids]
    assert len(session_events) == 4 * ERASED_CALLS


def test_contributed_events_have_their_fields_as_columns(reader: Reader) -> None:
    rows = answer(reader, "every contributed event")
    assert rows[0][8:] == (1_500.25, "Zoë", 2**53 + 1, 1, '{"b":[1,2],"a":null}', None)
    assert rows[1][8:] == (0.0, "", -5, 0, "[]", "Süd")
    assert rows[2][8:] == (None,) * 6
    assert [row[3] for row in answer(reader, "contributed events beside their calls")] == ["ok", None, None, None]
