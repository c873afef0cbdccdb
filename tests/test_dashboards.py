"""The Grafana dashboards: their JSON is what the panel list makes, and every query in it answers, on both engines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import combinations
from math import isclose
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hub.dashboards.__main__ import FOLDER, committed
from hub.dashboards.catalog import DASHBOARDS
from hub.dashboards.grafana import store_uid
from hub.dashboards.sql import ENGINES, HUB_EVENTS, Engine
from storage import open_store
from storage.postgres_roles import make_reader
from tests.canonical_store import OPTIONS, filled
from tests.dashboards_kit import JSON, Answer, Database, Range, dashboards, database, expanded, panels, rules, text_of
from tests.factories import SECOND, START, Factory
from tests.postgres_kit import connected

DAY = 86_400
BEGIN = START // SECOND // 3_600 * 3_600
ALL = Range(since=BEGIN, until=BEGIN + 21 * DAY, interval_ms=6 * 3_600_000)

PANELS = [
    pytest.param(engine, dashboard, panel, id=f"{dashboard['uid']}, {panel['title']}")
    for engine in ENGINES
    for dashboard, panel in panels(engine)
]
Stores = dict[Engine, Database]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A store with something of everything in each engine, PostgreSQL's over a login that reads views only."""
    with ExitStack() as stack:
        found: Stores = {}
        for engine in ENGINES:
            reader = stack.enter_context(filled(engine, tmp_path_factory.mktemp("dashboards")))
            url = reader.settings.db_url
            tell_of_the_hub(url)
            where = str(reader.settings.sqlite_path) if engine == "sqlite" else reading_login(url)
            found[engine] = stack.enter_context(database(engine, where))
        yield found


def tell_of_the_hub(url: str, *, drops: bool = True) -> None:
    """Events of the hub's own, as a process that had trouble leaves them."""
    factory = Factory("p9", seed=9, start=START + 2 * DAY * SECOND)
    writer = factory.new_id()
    told: list[tuple[str, JSON]] = [
        (
            "hub:started",
            {
                "resource": {"service.name": "till"},
                "scope": {"name": "llm-hub", "version": "0.1.0"},
                "capture": "full",
                "durability": "crash_safe",
            },
        ),
        ("hub:dropped", {"sink": None, "reason": "full", "count": 40}),
        ("hub:dropped", {"sink": "otlp", "reason": "behind", "count": 200}),
        ("hub:dropped", {"sink": "store", "reason": "expired", "count": 7}),
        ("hub:conflict", {"version": 2}),
    ]
    events = []
    for version, (kind, data) in enumerate(told if drops else told[:1], 1):
        factory.now += 3_600 * SECOND
        events.append(factory.event(kind, stream=writer, version=version, data=data, call_id=None))
    store = open_store(url, wall=OPTIONS["wall"])
    store.append(events)
    store.close()


def reading_login(url: str) -> str:
    with connected(url) as connection:
        login = make_reader(connection, url, f"{url.rpartition('/')[2]}_dashboards")
    assert login.url is not None
    return login.url


def answer(
    stores: Stores, engine: Engine, dashboard: str, title: str, within: Range = ALL, **chosen: list[str]
) -> Answer:
    (panel,) = (
        panel
        for of, panel in panels(engine)
        if of["uid"] == f"llm-hub-{dashboard}-{engine}" and panel["title"] == title
    )
    return stores[engine].answer(panel, within, chosen)


# The files.


def test_the_files_are_what_the_list_of_panels_makes() -> None:
    wanted = dict(committed())
    for path, content in wanted.items():
        assert path.read_bytes() == content, f"{path} is out of date: python -m hub.dashboards"
    there = {path for folder in ("dashboards", "alerting") for path in (FOLDER / "grafana" / folder).rglob("*.*")}
    assert there == {path for path in wanted if path.parent.name != "jaeger"}


def test_there_are_five_for_each_engine_with_uids_of_their_own() -> None:
    found = [dashboard for engine in ENGINES for dashboard in dashboards(engine)]
    assert len(found) == 10
    assert len({dashboard["uid"] for dashboard in found}) == 10
    assert all(len(dashboard["uid"]) <= 40 for dashboard in found)
    assert {one.title for one in DASHBOARDS} == {
        "Overview",
        "Cost",
        "Latency and reliability",
        "Calls",
        "Hub health",
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_panels_are_at_most_ten_and_none_lies_on_another(engine: Engine) -> None:
    for dashboard in dashboards(engine):
        found = dashboard["panels"]
        assert 0 < len(found) <= 10
        assert len({panel["id"] for panel in found}) == len({panel["title"] for panel in found}) == len(found)
        for panel in found:
            assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]
        for one, other in combinations((panel["gridPos"] for panel in found), 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_panel_says_what_it_answers_and_reads_the_store_that_was_chosen(engine: Engine) -> None:
    for dashboard in dashboards(engine):
        variables = {one["name"]: one for one in dashboard["templating"]["list"]}
        kind = variables["store"]["query"]
        assert variables["store"]["type"] == "datasource"
        assert variables["store"]["current"]["value"] == store_uid(engine)
        filters = {"project"} if "health" in dashboard["uid"] else {"project", "service", "model"}
        assert set(variables) == {"store", "call_url", *filters}
        for panel in dashboard["panels"]:
            assert "?" in panel["description"] or "." in panel["description"]
            (target,) = panel["targets"]
            assert panel["datasource"] == target["datasource"] == {"type": kind, "uid": "${store}"}
            for name in filters:
                if name == "project" and panel["title"] == "Newest event":
                    continue
                assert f"${{{name}:sqlstring}}" in text_of(target)


def test_every_panel_is_listed_in_the_documentation() -> None:
    told = (FOLDER.parent / "docs" / "dashboards.md").read_text()
    listed = told[told.index("### ") :].splitlines()
    wanted = [f"| {panel.title} | {panel.question} |" for one in DASHBOARDS for panel in one.panels]
    assert [line for line in listed if line.startswith("| ") and line != "| panel | answers |"] == wanted


def test_a_query_with_something_that_the_data_source_does_not_replace_is_noticed() -> None:
    for left in ("$__timeFilter(started_at)", "${model}", "$__interval", "[[project]]"):
        with pytest.raises(AssertionError):
            expanded(f"SELECT {left}", "sqlite", ALL)
    with pytest.raises(AssertionError):
        expanded("SELECT $__from", "postgresql", ALL)


# The queries.


@pytest.mark.parametrize(("engine", "dashboard", "panel"), PANELS)
def test_a_panel_has_rows_and_the_columns_that_it_speaks_of(
    stores: Stores, engine: Engine, dashboard: JSON, panel: JSON
) -> None:
    found = stores[engine].answer(panel, ALL)
    assert found.rows
    assert len(set(found.columns)) == len(found.columns)
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in found.columns
    linked = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "links"
    }
    assert linked == {"call_id", "trace_id"} & set(found.columns)


@pytest.mark.parametrize(("engine", "dashboard", "panel"), PANELS)
def test_a_column_of_times_has_times_and_every_other_one_type(
    stores: Stores, engine: Engine, dashboard: JSON, panel: JSON
) -> None:
    found = stores[engine].answer(panel, ALL)
    times = {"time", "started", "occurred"} & set(found.columns)
    assert ("time" in times) is (panel["type"] in ("timeseries", "heatmap"))
    for column, values in zip(found.columns, zip(*found.rows, strict=True), strict=True):
        known = [value for value in values if value is not None]
        if column in times:
            assert len(known) == len(values)
            assert all(BEGIN - ALL.interval_ms / 1_000 < instant(value) <= ALL.until for value in known)
            if column == "time":
                assert known == sorted(known)
                assert all(instant(value) % (ALL.interval_ms // 1_000) == 0 for value in known)
        else:  # the plugin for SQLite would cut doubles off after a whole number
            assert len({type(value) for value in known}) <= 1, column
    if engine == "sqlite":
        assert times <= set(panel["targets"][0]["timeColumns"])
    if "series" in found.columns:
        assert found.columns == ["time", "series", found.columns[2]]
        assert len({row[:2] for row in found.rows}) == len(found.rows)


def instant(value: Any) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value)


@pytest.mark.parametrize(
    ("dashboard", "title"),
    [(dashboard["uid"], panel["title"]) for dashboard, panel in panels("sqlite")],
    ids=lambda value: str(value).removesuffix("-sqlite"),
)
def test_both_engines_show_the_same(stores: Stores, dashboard: str, title: str) -> None:
    name = dashboard.removeprefix("llm-hub-").removesuffix("-sqlite")
    one, other = (answer(stores, engine, name, title) for engine in ENGINES)
    assert one.columns == other.columns
    if title == "Newest event":  # stores are written one after the other
        return
    for row, same in zip(in_order(one), in_order(other), strict=True):
        assert all(map(alike, row, same)), (row, same)


def in_order(found: Answer) -> list[tuple[Any, ...]]:
    """By their texts first: what engines compute may differ in the last digits."""

    def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
        texts = [str(value) for value in row if value is None or isinstance(value, str)]
        return texts, [instant(value) for value in row if value is not None and not isinstance(value, str)]

    return sorted(found.rows, key=key)


def alike(one: Any, other: Any) -> bool:
    """The same number, or instant: SQLite knows those to the millisecond."""
    if one is None or isinstance(one, str):
        return bool(one == other)
    return isclose(instant(one), instant(other), rel_tol=1e-10, abs_tol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("dashboard", "title"),
    [
        ("overview", "Calls"),
        ("overview", "Errors"),
        ("overview", "Spend"),
        ("overview", "p95"),
        ("cost", "Unpriced calls"),
        ("cost", "Input from the cache"),
    ],
)
def test_the_time_before_is_what_was_shown_then(stores: Stores, engine: Engine, dashboard: str, title: str) -> None:
    middle = BEGIN + 5 * DAY
    earlier = answer(stores, engine, dashboard, title, Range(since=middle - 4 * DAY, until=middle))
    later = answer(stores, engine, dashboard, title, Range(since=middle, until=middle + 4 * DAY))
    assert earlier.rows[0][0] is not None
    assert later.rows[0][1] == earlier.rows[0][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_filter_leaves_what_was_chosen(stores: Stores, engine: Engine) -> None:
    def calls(**chosen: list[str]) -> float:
        return float(answer(stores, engine, "overview", "Calls", ALL, **chosen).rows[0][0])

    (models,) = (one["query"] for one in dashboards(engine)[0]["templating"]["list"] if one["name"] == "model")
    names = [name for (name,) in stores[engine].ask(models).rows]
    assert "gpt-4o" in names
    assert sum(calls(model=[name]) for name in names) == calls() == calls(model=names)
    assert 0 < calls(project=["büro"]) < calls()
    assert calls(service=["it's nobody's"]) == 0
    newest = answer(stores, engine, "calls", "Newest", model=["gpt-4o"], service=["till"])
    assert {(row[2], row[3]) for row in newest.rows} == {("gpt-4o", "till")}


@pytest.mark.parametrize("engine", ENGINES)
def test_filters_offer_every_value_there_is(stores: Stores, engine: Engine) -> None:
    for dashboard in dashboards(engine):
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = stores[engine].ask(variable["query"])
                values = [value for (value,) in found.rows]
                assert values
                assert None not in values
                assert len(set(values)) == len(values)


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_are_right(stores: Stores, engine: Engine) -> None:
    asked = stores[engine].ask(
        "SELECT count(*), sum(CASE WHEN status = 'error' THEN 1 ELSE 0 END), max(duration_ms), sum(cost_nanos) / 1e9"
        f" FROM llm_calls WHERE counted = 1 AND started_unix >= {ALL.since} AND started_unix < {ALL.until}"
    )
    calls, errors, slowest, spend = asked.rows[0]
    shown = {
        title: float(answer(stores, engine, "overview", title).rows[0][0]) for title in ("Calls", "Errors", "Spend")
    }
    assert shown == {
        "Calls": calls,
        "Errors": pytest.approx(100 * errors / calls),
        "Spend": pytest.approx(float(spend)),
    }
    heat = answer(stores, engine, "latency", "Durations")
    timed = answer(stores, engine, "latency", "Percentiles")
    assert sum(sum(map(int, row[1:])) for row in heat.rows) == sum(int(row[1]) for row in timed.rows)
    slow = answer(stores, engine, "calls", "Slowest")
    assert slow.rows[0][slow.columns.index("duration_ms")] == slowest
    lost = answer(stores, engine, "health", "Events lost")
    assert int(lost.rows[0][0]) == 40 + 3
    drops = answer(stores, engine, "health", "Drops")
    assert {(row[2], row[3], row[4]) for row in drops.rows} == {
        ("all sinks", "full", 40),
        ("otlp", "behind", 200),
        ("store", "expired", 7),
        ("store", "full", 3),
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_events_of_the_hub_are_found_by_their_index(stores: Stores, engine: Engine) -> None:
    for _, panel in panels(engine):
        sql = expanded(text_of(panel["targets"][0]), engine, ALL)
        if HUB_EVENTS not in sql:
            continue
        if engine == "sqlite":
            plan = str(stores[engine].ask(f"EXPLAIN QUERY PLAN {sql}").rows)
            assert "ix_hub_events_contributed" in plan, panel["title"]


# Alert rules.


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rule_compares_one_number_with_its_limit(stores: Stores, engine: Engine) -> None:
    found = {}
    for rule in rules(engine):
        query, compare = rule["data"]
        assert len(rule["uid"]) <= 40
        assert (query["datasourceUid"], compare["datasourceUid"]) == (store_uid(engine), "__expr__")
        assert rule["condition"] == compare["refId"] == "B"
        assert compare["model"]["expression"] == query["refId"]
        asked = stores[engine].ask(expanded(text_of(query["model"]), engine, ALL))
        ((value,),) = asked.rows
        (condition,) = compare["model"]["conditions"]
        found[rule["title"]] = float(value), float(value) > condition["evaluator"]["params"][0]
    assert found["Events are lost"] == (43.0, True)
    assert not found["Calls fail"][1]
    assert set(found) == {"Calls fail", "Calls cost much", "Events are lost"}


@pytest.mark.parametrize("engine", ENGINES)
def test_rules_are_calm_over_a_store_without_calls(
    engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/calls.db" if engine == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    tell_of_the_hub(url, drops=False)
    with database(engine, url.removeprefix("sqlite:///")) as empty:
        for rule in rules(engine):
            ((value,),) = empty.ask(expanded(text_of(rule["data"][0]["model"]), engine, ALL)).rows
            assert float(value) == 0
        for _, panel in panels(engine):
            empty.answer(panel, ALL)


def test_who_reads_them_can_write_nothing(stores: Stores) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        stores["sqlite"].ask("DELETE FROM hub_calls")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        stores["postgresql"].ask("SELECT * FROM hub_calls")
