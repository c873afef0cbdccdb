"""What the engines say differently, as words for the queries: `{hours}`, `{recent}`, `{data[reason]}` ...

Of Grafana only what both data sources replace: the bounds of the time range, $__interval_ms and
`${variable:sqlstring}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

Engine = Literal["sqlite", "postgresql"]
ENGINES: Final[tuple[Engine, ...]] = ("sqlite", "postgresql")

ALL: Final = "'*'"
"""What a filter's variable stands for when nothing is chosen, as SQL."""

MOST_CALLS: Final = 50_000
"""Calls that a query reads one by one, so that none takes long: the newest ones of the time range."""

MOST_EVENTS: Final = 10_000

HUB_EVENTS: Final = "type NOT IN ('llm:request','llm:request:debug','llm:response','llm:response:debug')"
"""As it stands in the index of all other events, so that SQLite uses it."""


class Dialect(Protocol):
    """What an engine says in its own way."""

    since: str
    """The begin of the time range, in whole seconds since 1970."""
    until: str

    def at(self, seconds: str) -> str:
        """The instant, to be compared with instants of the views."""
        ...

    def time(self, instant: str) -> str:
        """*instant* cut to the panel's interval, as Grafana takes it for a time."""
        ...

    def shown(self, instant: str) -> str:
        """*instant* as Grafana takes it for a time."""
        ...

    def seconds(self, instant: str) -> str:
        """*instant* in seconds since 1970, as a double."""
        ...

    def field(self, json: str, path: Sequence[str]) -> str:
        """The text of a field of *json*."""
        ...


class SQLite:
    """The plugin frser-sqlite-datasource: times are numbers, whole or not."""

    since = "$__from / 1000"
    until = "$__to / 1000"

    def at(self, seconds: str) -> str:
        return f"strftime('%Y-%m-%dT%H:%M:%S.000000Z', {seconds}, 'unixepoch')"

    def time(self, instant: str) -> str:
        return f"CAST(strftime('%s', {instant}) AS integer) / ($__interval_ms / 1000) * ($__interval_ms / 1000)"

    def shown(self, instant: str) -> str:
        return self.seconds(instant)

    def seconds(self, instant: str) -> str:
        return f"((julianday({instant}) - 2440587.5) * 86400.0)"

    def field(self, json: str, path: Sequence[str]) -> str:
        inside = "".join(f'."{name}"' for name in path)
        return f"json_extract({json}, '${inside}')"


class PostgreSQL:
    """Grafana's own data source."""

    since = "$__unixEpochFrom()"
    until = "$__unixEpochTo()"

    def at(self, seconds: str) -> str:
        return f"to_timestamp({seconds})"

    def time(self, instant: str) -> str:
        step = "($__interval_ms / 1000)"
        return f"to_timestamp(floor(extract(epoch FROM {instant}) / {step}) * {step})"

    def shown(self, instant: str) -> str:
        return instant

    def seconds(self, instant: str) -> str:
        return f"CAST(extract(epoch FROM {instant}) AS double precision)"

    def field(self, json: str, path: Sequence[str]) -> str:
        return f"(CAST({json} AS json) #>> '{{{','.join(path)}}}')"


DIALECTS: Final[Mapping[Engine, Dialect]] = {"sqlite": SQLite(), "postgresql": PostgreSQL()}


class _Fields:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __getitem__(self, name: str) -> str:
        return self._dialect.field("data", name.split("/"))


def words(engine: Engine) -> dict[str, Any]:
    """What stands in braces in a query.

    hours, hours_before: conditions over an hourly view, for the time range and one as long before it. Hours are whole:
    the first one counts though the range begins within it.
    calls: the same over llm_calls; recent: the newest calls of the range, instead of llm_calls.
    time, started_time: of the hour, of the call, cut to the interval.
    """
    dialect = DIALECTS[engine]
    since, until = dialect.since, dialect.until
    span = f"({until} - {since})"
    filters = _filters("coalesce(model, 'unknown')")
    of_call = _filters("coalesce(request_model, response_model, 'unknown')")
    calls = f"{_started(dialect)}\n  AND {of_call}"
    all_hours = f"hour > {dialect.at(f'{since} - 3600')} AND hour < {dialect.at(until)}"
    return {
        "all_hours": all_hours,
        "hours": f"{all_hours}\n  AND {filters}",
        "hours_before": f"hour > {dialect.at(f'{since} - {span} - 3600')} AND hour <= {dialect.at(f'{since} - 3600')}\n"
        f"  AND {filters}",
        "seconds": span,
        "time": dialect.time("hour"),
        "calls": calls,
        "recent": _newest(calls),
        "recent_of_project": _newest(f"{_started(dialect)} AND {_one_of('project', 'project')}"),
        "started": dialect.shown("started_at"),
        "started_time": dialect.time("started_at"),
        "hub_events": f"{HUB_EVENTS}\n  AND occurred_ns >= {_nanos(since)} AND occurred_ns < {_nanos(f'{until} + 1')}",
        "of_project": _one_of("project", "project"),
        "newest_events": f"(SELECT * FROM llm_events ORDER BY position DESC LIMIT {MOST_EVENTS}) AS newest",
        "occurred": dialect.shown("occurred_at"),
        "recorded_ms": f"{dialect.seconds('recorded_at')} * 1000.0",
        "recorded_time": dialect.time("recorded_at"),
        "occurred_time": dialect.time("occurred_at"),
        "lag_ms": f"({dialect.seconds('recorded_at')} - occurred_ns / 1e9) * 1000.0",
        "data": _Fields(dialect),
    }


def _started(dialect: Dialect) -> str:
    after, before = dialect.at(dialect.since), dialect.at(f"{dialect.until} + 1")
    return f"started_at >= {after} AND started_at < {before} AND counted = 1"


def _newest(calls: str) -> str:
    return f"(SELECT * FROM llm_calls WHERE {calls}\n  ORDER BY started_at DESC LIMIT {MOST_CALLS}) AS recent"


def _filters(model: str) -> str:
    service = _one_of("coalesce(service, 'unknown')", "service")
    return f"{_one_of('project', 'project')} AND {service} AND {_one_of(model, 'model')}"


def _one_of(column: str, variable: str) -> str:
    """True where nothing is chosen, so that a long list of all values is never compared with."""
    chosen = f"(${{{variable}:sqlstring}})"
    return f"({ALL} IN {chosen} OR {column} IN {chosen})"


def for_engine(sql: str, engine: Engine) -> str:
    """*sql* with its words replaced."""
    return sql.strip().format_map(words(engine))


VARIABLES: Final[Mapping[str, str]] = {
    name: f"SELECT DISTINCT {column} AS {name} FROM llm_costs_hourly ORDER BY 1"
    for name, column in (
        ("project", "project"),
        ("service", "coalesce(service, 'unknown')"),
        ("model", "coalesce(model, 'unknown')"),
    )
}
"""What finds the values of each filter."""


def _nanos(seconds: str) -> str:
    return f"CAST({seconds} AS bigint) * 1000000000"
