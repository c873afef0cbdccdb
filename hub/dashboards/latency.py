"""Who is slow or failing."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from hub.dashboards.model import Dashboard, Panel
from hub.dashboards.queries import BUCKETS, OF_NEWEST, p95_over_time, percentiles
from hub.dashboards.sql import MOST_EVENTS

_OF_RETRIES: Final = f"Of the newest {MOST_EVENTS:,} retries."


def _heatmap() -> str:
    """A column for each octave of durations: Grafana keeps the order of columns, and sorts names. Hours are added up
    first: they lie in order, which spares SQLite the sorting of all buckets."""
    bounds = [2**power for power in range(4, 18)]
    columns = [_between(f"le <= {bounds[0]}", _named(bounds[0]))]
    columns += [_between(f"le > {low} AND le <= {high}", _named(high)) for low, high in pairwise(bounds)]
    columns.append(_between(f"le > {bounds[-1]} OR le IS NULL", "more"))
    names = [column.rpartition(" AS ")[2] for column in columns]
    of_hour = ",\n    ".join(columns)
    return f"""
SELECT {{time}} AS time, {", ".join(f"sum({name}) AS {name}" for name in names)}
FROM (
  SELECT hour, {of_hour}
  FROM llm_latency_hourly WHERE metric = 'duration' AND {{hours}}
  GROUP BY hour
) AS hours
GROUP BY 1 ORDER BY 1
"""


def _between(condition: str, name: str) -> str:
    return f'sum(CASE WHEN {condition} THEN calls ELSE 0 END) AS "{name}"'


def _named(ms: int) -> str:
    return f"{ms} ms" if ms < 1_000 else f"{ms / 1_000:.3g} s"


LATENCY: Final = Dashboard(
    name="latency",
    title="Latency and reliability",
    question="Who is slow or failing?",
    panels=(
        Panel(
            title="Percentiles",
            question="How slow is each model?",
            notes=BUCKETS,
            kind="table",
            sql=percentiles("duration", "calls"),
            units={"p50_ms": "ms", "p95_ms": "ms", "p99_ms": "ms"},
            width=12,
        ),
        Panel(
            title="First token",
            question="How long until something is seen?",
            notes="Of streamed calls. " + BUCKETS,
            kind="table",
            sql=percentiles("ttft", "streams"),
            units={"p50_ms": "ms", "p95_ms": "ms", "p99_ms": "ms"},
            width=12,
        ),
        Panel(
            title="p95 by model",
            question="Which model got slower, and when?",
            notes=BUCKETS,
            kind="lines",
            sql=p95_over_time("duration"),
            unit="ms",
            width=12,
            most_points=100,
        ),
        Panel(
            title="p95 of the first token",
            question="Which model keeps people waiting?",
            notes="Of streamed calls. " + BUCKETS,
            kind="lines",
            sql=p95_over_time("ttft"),
            unit="ms",
            width=12,
            most_points=100,
        ),
        Panel(
            title="Durations",
            question="How are durations spread, and does a second group of slow calls appear?",
            notes="Calls by the upper bound of their duration.",
            kind="heatmap",
            sql=_heatmap(),
            width=12,
            most_points=200,
        ),
        Panel(
            title="Tokens a second",
            question="How fast does each model write?",
            notes="From the first token to the end of the answer, over finished streams. " + OF_NEWEST,
            kind="table",
            sql="""
SELECT coalesce(request_model, 'unknown') AS model, count(*) AS streams,
  1000.0 * sum(output_tokens) / sum(duration_ms - ttft_ms) AS tokens_per_second
FROM {recent} AND status = 'ok' AND output_tokens > 0 AND duration_ms > ttft_ms
GROUP BY 1 ORDER BY 3 DESC, 1
""",
            width=12,
        ),
        Panel(
            title="Failures",
            question="What goes wrong, and where?",
            notes="Calls that did not end well, abandoned and cancelled ones too. " + OF_NEWEST,
            kind="table",
            sql="""
SELECT provider, request_model AS model, status, error_type, status_code, count(*) AS calls,
  max(started_unix) * 1000.0 AS last_seen
FROM {recent} AND status NOT IN ('ok', 'running')
GROUP BY 1, 2, 3, 4, 5 ORDER BY calls DESC, last_seen DESC
LIMIT 50
""",
            units={"last_seen": "dateTimeAsIso"},
            width=12,
        ),
        Panel(
            title="Retries",
            question="What is tried again, and what does it cost in time?",
            notes=f"Attempts that failed and that another one followed, and the waits between them. {_OF_RETRIES}",
            kind="table",
            sql="""
SELECT coalesce({data[provider]}, provider) AS provider, coalesce({data[model]}, request_model) AS model,
  {data[error_type]} AS error_type, CAST({data[status_code]} AS integer) AS status_code, count(*) AS attempts,
  sum(CAST({data[delay_ms]} AS double precision)) AS waited_ms, max(occurred_ns) / 1000000 AS last_seen
FROM {retries}
GROUP BY 1, 2, 3, 4 ORDER BY attempts DESC, 1, 2, 3
LIMIT 50
""",
            units={"waited_ms": "ms", "last_seen": "dateTimeAsIso"},
            width=12,
        ),
        Panel(
            title="Rate limits and overload",
            question="When does a provider turn us away?",
            notes=f"Attempts, retried or not, that were answered with 429, 503 or 529. {OF_NEWEST} {_OF_RETRIES}",
            kind="bars",
            sql="""
SELECT time, series, count(*) AS attempts
FROM (
  SELECT {occurred_time} AS time, CAST({data[status_code]} AS text) AS series FROM {retries}
  UNION ALL
  SELECT {started_time} AS time, CAST(status_code AS text) AS series FROM {recent}
) AS attempts
WHERE series IN ('429', '503', '529')
GROUP BY 1, 2 ORDER BY 1, 2
""",
            width=24,
        ),
    ),
)
