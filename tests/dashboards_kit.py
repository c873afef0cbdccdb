"""The dashboards' queries, taken out of the JSON and run as Grafana's data sources would run them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from hub.dashboards.sql import Engine

FOLDER = Path(__file__).parents[1] / "dashboards"
JSON = dict[str, Any]


class Answer(NamedTuple):
    columns: list[str]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What is looked at, in seconds since 1970, and how finely Grafana cuts it."""

    since: int
    until: int
    interval_ms: int = 3_600_000


def dashboards(engine: Engine) -> list[JSON]:
    """As the repository has them."""
    return [read(path) for path in sorted((FOLDER / "grafana" / "dashboards" / engine).glob("*.json"))]


def rules(engine: Engine) -> list[JSON]:
    (group,) = read(FOLDER / "grafana" / "alerting" / engine / "rules.json")["groups"]
    found: list[JSON] = group["rules"]
    return found


def read(path: Path) -> JSON:
    found: JSON = json.loads(path.read_text())
    return found


def panels(engine: Engine) -> Iterator[tuple[JSON, JSON]]:
    """Each panel with its dashboard."""
    for dashboard in dashboards(engine):
        for panel in dashboard["panels"]:
            yield dashboard, panel


def text_of(target: JSON) -> str:
    """The query in a panel's target, or in a rule's model."""
    found: str = target["queryText"] if "queryText" in target else target["rawSql"]
    return found


def expanded(sql: str, engine: Engine, within: Range, chosen: Mapping[str, Sequence[str]] | None = None) -> str:
    """*sql* as it reaches the database.

    Args:
        chosen: Values of filters; All for the others.
    """

    def values(match: re.Match[str]) -> str:
        picked = (chosen or {}).get(match[1])
        return "'*'" if picked is None else ", ".join("'" + value.replace("'", "''") + "'" for value in picked)

    sql = re.sub(r"\$\{(\w+):sqlstring\}", values, sql)
    known = {"$__interval_ms": within.interval_ms}
    if engine == "sqlite":  # what the plugin replaces: no macro, and milliseconds
        known |= {"$__from": within.since * 1_000, "$__to": within.until * 1_000}
    else:
        known |= {"$__unixEpochFrom()": within.since, "$__unixEpochTo()": within.until}
    for name, value in known.items():
        sql = sql.replace(name, str(value))
    left = re.search(r"\$_\S*|\$\{\S*|\[\[\S*", sql)
    assert left is None, left
    return sql


@contextmanager
def database(engine: Engine, where: str) -> Iterator[Database]:
    """*where*: a file that is opened to be read only, or the URL of a login."""
    opened: Any = (
        sqlite3.connect(f"file:{where}?mode=ro", uri=True)
        if engine == "sqlite"
        else psycopg.connect(where, autocommit=True)
    )
    with closing(opened):
        yield Database(engine, opened)


@dataclass(frozen=True, slots=True)
class Database:
    """One of the engines, and nothing of the hub's between it and the query."""

    engine: Engine
    connection: Any

    def ask(self, sql: str) -> Answer:
        cursor = self.connection.execute(sql)
        return Answer([column[0] for column in cursor.description], cursor.fetchall())

    def answer(self, panel: JSON, within: Range, chosen: Mapping[str, Sequence[str]] | None = None) -> Answer:
        (target,) = panel["targets"]
        return self.ask(expanded(text_of(target), self.engine, within, chosen))
