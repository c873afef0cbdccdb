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
        """A field of *json*."""
        ...

    def newest(self, after: str, before: str) -> str:
        """The newest calls between two instants: what follows FROM, conditions included. Read by an index on both
        engines: bounded before anything else is asked."""
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

    def newest(self, after: str, before: str) -> str:
        last = f"SELECT started_at FROM llm_calls WHERE started_at >= {after} AND started_at < {before}"
        last += f"\n  ORDER BY started_at DESC LIMIT 1 OFFSET {MOST_CALLS - 1}"
        return f"llm_calls\nWHERE started_at >= coalesce(({last}), {after})\n  AND started_at < {before}"


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

    def newest(self, after: str, before: str) -> str:
        newest = f"SELECT * FROM llm_calls WHERE started_at >= {after} AND started_at < {before}"
        return f"({newest}\n  ORDER BY started_at DESC LIMIT {MOST_CALLS}) AS recent\nWHERE TRUE"


DIALECTS: Final[Mapping[Engine, Dialect]] = {"sqlite": SQLite(), "postgresql": PostgreSQL()}


class _Fields:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __getitem__(self, name: str) -> str:
        return self._dialect.field("data", name.split("/"))


def words(engine: Engine) -> dict[str, Any]:
    """What stands in braces in a query.

    hours, hours_before: conditions over an hourly view, for the time range and one as long before it. Hours are whole:
    the first one counts though the range begins within it. all_hours: whatever the filters say.
    calls: conditions over llm_calls. recent, retries: the newest calls, attempts that another one followed; FROM one of
    these goes on with AND.
    time, started_time ...: of the hour, of the call, cut to the interval.
    """
    dialect = DIALECTS[engine]
    since, until = dialect.since, dialect.until
    span = f"({until} - {since})"
    after, before = dialect.at(since), dialect.at(f"{until} + 1")
    all_hours = f"hour > {dialect.at(f'{since} - 3600')} AND hour < {dialect.at(until)}"
    past_hours = f"hour > {dialect.at(f'{since} - {span} - 3600')} AND hour <= {dialect.at(f'{since} - 3600')}"
    of_project = _one_of("project", "project")
    of_hour = _filters("coalesce(model, 'unknown')")
    of_call = "counted = 1 AND " + _filters("coalesce(request_model, response_model, 'unknown')")
    occurred = f"occurred_ns >= {_nanos(since)} AND occurred_ns < {_nanos(f'{until} + 1')}"
    retries = (
        "(SELECT call_id AS retried, occurred_at, occurred_ns, data FROM llm_events\n"
        f"  WHERE type = 'provider:retry' AND {HUB_EVENTS}\n  ORDER BY position DESC LIMIT {MOST_EVENTS}) AS newest"
    )
    return {
        "all_hours": all_hours,
        "hours": f"{all_hours}\n  AND {of_hour}",
        "hours_before": f"{past_hours}\n  AND {of_hour}",
        "seconds": span,
        "calls": f"started_at >= {after} AND started_at < {before}\n  AND {of_call}",
        "recent": f"{dialect.newest(after, before)}\n  AND {of_call}",
        "recent_of_project": f"{dialect.newest(after, before)}\n  AND counted = 1 AND {of_project}",
        "retries": f"{retries} JOIN llm_calls ON call_id = retried\nWHERE {occurred}\n  AND {of_call}",
        "hub_events": f"{HUB_EVENTS}\n  AND {occurred}",
        "newest_events": f"(SELECT * FROM llm_events ORDER BY position DESC LIMIT {MOST_EVENTS}) AS newest",
        "of_project": of_project,
        "started": dialect.shown("started_at"),
        "occurred": dialect.shown("occurred_at"),
        "time": dialect.time("hour"),
        "started_time": dialect.time("started_at"),
        "recorded_time": dialect.time("recorded_at"),
        "occurred_time": dialect.time("occurred_at"),
        "recorded_ms": f"{dialect.seconds('recorded_at')} * 1000.0",
        "lag_ms": f"({dialect.seconds('recorded_at')} - occurred_ns / 1e9) * 1000.0",
        "data": _Fields(dialect),
    }


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
