"""`hub stats`: what the hourly views add up to, against the calls themselves."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from typer.testing import Result

from hub.cli import hourly
from hub.cli.hourly import percentile
from hub.errors import QueryLimit
from hub.reader import Reader
from storage.projections import bucket
from tests.canonical_calls import Call, buckets, counted_calls
from tests.canonical_store import ENGINES, filled
from tests.cli_kit import Command, commands, on_a_terminal, settle

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", params=ENGINES)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with filled(request.param, tmp_path_factory.mktemp("canonical")) as reader:
        yield reader


@pytest.fixture
def stats(reader: Reader, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    settle(tmp_path, monkeypatch, HUB_DB_URL=reader.settings.db_url, HUB_SPOOL_DIR=tmp_path / "spool")
    return commands("stats")


def rows(result: Result) -> Rows:
    assert result.exit_code == 0, result.output
    found: Rows = json.loads(result.stdout)
    return found


def hour_of(call: Call) -> str:
    assert call.started is not None
    second = call.started // 10**9
    return f"{call.day}T{second // 3_600 % 24:02}:00:00.000000Z"


def week_of(call: Call) -> str:
    day = date.fromisoformat(call.day or "")
    return str(day - timedelta(days=day.isoweekday() - 1))


OF: dict[str, Callable[[Call], str | None]] = {
    "project": lambda call: call.project,
    "service": lambda call: call.service,
    "provider": lambda call: call.request.get("provider"),
    "model": lambda call: call.model,
    "hour": hour_of,
    "day": lambda call: call.day,
    "week": week_of,
    "month": lambda call: (call.day or "")[:7],
}


@pytest.mark.parametrize(
    "by", ["model", "hour", "day", "week", "month", "provider,model", "model,day", "week,project,service", ""]
)
def test_groups_add_up_to_their_calls(stats: Command, by: str) -> None:
    names = [name for name in by.split(",") if name]
    groups: dict[tuple[Any, ...], list[Call]] = defaultdict(list)
    for call in counted_calls():
        if call.started is not None:
            groups[tuple(OF[name](call) for name in names)].append(call)

    def total(values: list[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    found = rows(stats("--by", by))
    assert {tuple(row[name] for name in names) for row in found} == groups.keys()
    assert len(found) == len(groups)
    for row in found:
        calls = groups[tuple(row[name] for name in names)]
        errors = sum(call.status == "error" for call in calls)
        assert (row["calls"], row["errors"], row["error_rate"]) == (len(calls), errors, errors / len(calls))
        for kind in ("input", "output", "cache_read"):
            assert row[f"{kind}_tokens"] == total([call.tokens(kind) for call in calls])
        assert row["cost_nanos"] == total([call.nanos for call in calls])
        assert row["cost_usd"] == (None if row["cost_nanos"] is None else row["cost_nanos"] / 1e9)
        assert row["unpriced_calls"] == sum(call.is_unpriced for call in calls)
        for name, (metric, share) in hourly.PERCENTILES.items():
            assert_within_its_bucket(row[name], buckets(metric, calls), share)


def assert_within_its_bucket(found: float | None, bounds: list[float], share: float) -> None:
    """*found* lies in the bucket of the call that *share* of the others are not slower than."""
    if not bounds:
        assert found is None
        return
    bound = bounds[math.ceil(share * len(bounds)) - 1]
    assert found is not None
    if bound == math.inf:
        assert found == 2**22
    else:
        assert (0 if bound == 1 else bound / 2**0.25) < found <= bound * (1 + 1e-12)


def test_an_estimated_percentile_is_close_to_the_true_one() -> None:
    chance = random.Random(5)
    times = sorted(chance.lognormvariate(6, 1) for _ in range(20_000))
    counts: dict[float | None, int] = defaultdict(int)
    for time in times:
        counts[bucket(time)] += 1
    for share in (0.5, 0.9, 0.95, 0.99):
        assert percentile(counts, share) == pytest.approx(times[int(share * len(times))], rel=0.02)


@pytest.mark.parametrize(
    ("counts", "share", "wanted"),
    [
        ({}, 0.5, None),
        ({1.0: 4}, 0.5, 0.5),
        ({2.0: 1}, 1.0, 2.0),
        ({2.0: 1}, 0.0, 2 / 2**0.25),
        ({2.0: 1, None: 1}, 0.5, 2.0),
        ({2.0: 1, None: 1}, 0.51, 2.0**22),
        ({4.0: 2, 2.0: 2}, 0.75, 4 / 2**0.125),
        ({2.0: 0, 4.0: 1}, 1.0, 4.0),
    ],
)
def test_percentiles_of_few_calls(counts: dict[float | None, int], share: float, wanted: float | None) -> None:
    assert percentile(counts, share) == (None if wanted is None else pytest.approx(wanted))


def test_no_call_is_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run = reader.sql

    def watched(query: str, *args: Any, **options: Any) -> Any:
        asked.append(query)
        return run(query, *args, **options)

    monkeypatch.setattr(reader, "sql", watched)
    assert hourly.grouped(reader, ("model", "day"), since=None, until=None)
    assert len(asked) == 2
    assert not any("llm_calls" in query for query in asked)


def test_more_groups_than_can_be_shown_are_refused(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "_MOST_GROUPS", 3)
    with pytest.raises(QueryLimit, match="fewer dimensions or a shorter time"):
        hourly.grouped(reader, ("model", "hour"), since=None, until=None)


# Times.


def test_since_and_until_take_whole_hours(stats: Command) -> None:
    hours = sorted({hour_of(call) for call in counted_calls() if call.started is not None})
    first, second, third = hours[2:5]
    half_past = first.replace(":00:00.000000", ":30")
    found = rows(stats("--by", "hour", "--since", half_past, "--until", third))
    assert [row["hour"] for row in found] == [first, second]
    found = rows(stats("--by", "hour", "--since", first, "--until", third.replace("0Z", "1Z")))
    assert [row["hour"] for row in found] == [first, second, third]


def test_a_day_is_its_beginning_in_utc(stats: Command) -> None:
    found = rows(stats("--by", "day", "--since", "2026-09-23", "--until", "2026-09-25"))
    assert [row["day"] for row in found] == ["2026-09-23", "2026-09-24"]
    found = rows(stats("--by", "hour", "--since", "2026-09-23T02:00+02:00", "--until", "2026-09-24"))
    assert {row["hour"][:10] for row in found} == {"2026-09-23"}


def test_a_time_without_calls_is_no_error(stats: Command) -> None:
    result = stats("--since", "2020-01-01", "--until", "2020-02-01")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert "No calls match" in result.stderr
    assert rows(stats("--by", "day", "--since", "2262-01-01"))[0]["calls"] == 1


def test_a_store_that_is_not_there_is_told_of(stats: Command) -> None:
    result = stats("--db", "none.db")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert "hub demo" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--by", "modl"), "did you mean model?"),
        (("--by", "session_id"), "take one of project, service"),
        (("--by", "day,hour"), "takes one of hour, day, week, month"),
        (("--sort", "p90"), "take one of model, calls"),
        (("--sort", "day"), "take one of model, calls"),
        (("--since", "soon"), "--since takes a day"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), "an hour or more behind"),
    ],
)
def test_bad_usage_says_what_to_do(stats: Command, args: tuple[str, ...], words: str) -> None:
    result = stats(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.replace("│", " ").split())


# Order and formats.


def test_dearest_first_and_times_in_their_order(stats: Command) -> None:
    costs = [row["cost_nanos"] for row in rows(stats())]
    known = [cost for cost in costs if cost is not None]
    assert known == sorted(known, reverse=True)
    assert costs == known + [None] * (len(costs) - len(known))
    assert None in costs
    days = [row["day"] for row in rows(stats("--by", "model,day"))]
    assert days == sorted(days)


@pytest.mark.parametrize(
    ("sort", "column", "falls"),
    [
        *(("cost", "cost_nanos", True), ("-cost", "cost_nanos", False), ("calls", "calls", True)),
        *(("model", "model", False), ("-model", "model", True), ("p95", "p95_ms", True), ("ttft", "ttft_p95_ms", True)),
    ],
)
def test_rows_are_sorted_as_asked_and_unknown_comes_last(stats: Command, sort: str, column: str, falls: bool) -> None:
    values = [row[column] for row in rows(stats("--sort", sort))]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=falls)
    assert values[len(known) :] == [None] * (len(values) - len(known))


def test_each_format_says_the_same(stats: Command) -> None:
    found = rows(stats("--by", "model,day"))
    assert [json.loads(line) for line in stats("--by", "model,day", "--jsonl").stdout.splitlines()] == found
    listed = list(csv.DictReader(io.StringIO(stats("--by", "model,day", "--csv").stdout)))
    assert [row["cost_nanos"] for row in listed] == [
        "" if row["cost_nanos"] is None else str(row["cost_nanos"]) for row in found
    ]
    assert list(listed[0]) == ["model", "day", *hourly.COLUMNS]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_fits_and_keeps_what_matters(stats: Command, columns: int) -> None:
    code, text = on_a_terminal(["stats", "--by", "model,day"], {**os.environ, "NO_COLOR": "1"}, columns=columns)
    lines = text.splitlines()
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert {"model", "day", "calls", "cost", "p95"} <= set(lines[0].split())
    assert ("p99" in lines[0].split()) is (columns == 120)
    assert any("claude-sonnet-4-5" in line for line in lines)
    assert "\x1b" not in text


def test_unpriced_calls_have_a_column_where_there_are_any(stats: Command) -> None:
    env = {**os.environ, "NO_COLOR": "1"}
    assert "unpriced" in on_a_terminal(["stats"], env, columns=120)[1].splitlines()[0]
    few = ["stats", "--since", "2026-09-21", "--until", "2026-09-21T15:00Z"]
    assert "unpriced" not in on_a_terminal(few, env, columns=120)[1].splitlines()[0]
