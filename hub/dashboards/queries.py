"""What several panels ask alike.

Sums and percentiles come from the hourly views, whatever the number of calls; single calls from the newest of the time
range. On SQLite a column has the type of its first value, so what is a double is made one in every row.
"""

from __future__ import annotations

from typing import Final

from hub.dashboards.sql import MOST_CALLS

WHOLE_HOURS: Final = "Whole hours: the first one counts though the time range begins within it."
BUCKETS: Final = (
    "From latency buckets: the upper bound of the bucket that the call in question fell into, up to 19% too high."
)
OF_NEWEST: Final = f"Of the newest {MOST_CALLS:,} calls of the time range."


def sums(values: str) -> str:
    """*values*, of the time range and of one as long before it."""
    one = f"SELECT {values} AS value FROM llm_costs_hourly"
    return (
        'SELECT this.value AS "this time", past.value AS "the time before"\n'
        f"FROM ({one} WHERE {{hours}}) AS this,\n  ({one} WHERE {{hours_before}}) AS past"
    )


def over_time(value: str, series: str = "model", known: str | None = None) -> str:
    """*value* of each *series*, where the column *known* is."""
    condition = f" AND {known} IS NOT NULL" if known else ""
    return f"""
SELECT {{time}} AS time, coalesce({series}, 'unknown') AS series, {value} AS value
FROM llm_costs_hourly WHERE {{hours}}{condition}
GROUP BY 1, 2 ORDER BY 1, 2
"""


def running(metric: str, by: str, columns: str | None = None) -> str:
    """The calls in each bucket, added up from the fastest within each *by*, as a table `running`.

    Args:
        columns: What *by* names, where these are no columns.
    """
    return f"""
WITH buckets AS (
  SELECT {columns or by}, le, sum(calls) AS calls FROM llm_latency_hourly
  WHERE metric = '{metric}' AND {{hours}}
  GROUP BY {by}, le
), running AS (
  SELECT {by}, le, sum(calls) OVER (PARTITION BY {by} ORDER BY le NULLS LAST) AS up_to,
    sum(calls) OVER (PARTITION BY {by}) AS all_calls
  FROM buckets
)
""".rstrip()


def percentile(share: float, name: str) -> str:
    """Of a group of `running`; null where it is above all bounds."""
    return f"min(CASE WHEN up_to >= {share} * all_calls THEN le END) AS {name}"


def percentiles(metric: str, counted: str) -> str:
    """A row for each model."""
    return f"""{running(metric, "model")}
SELECT coalesce(model, 'unknown') AS model, max(all_calls) AS {counted}, {percentile(0.5, "p50_ms")},
  {percentile(0.95, "p95_ms")}, {percentile(0.99, "p99_ms")}
FROM running GROUP BY model ORDER BY 4 DESC NULLS LAST, 1
"""


def p95_over_time(metric: str) -> str:
    """A series for each model."""
    return f"""{running(metric, "time, series", "{time} AS time, coalesce(model, 'unknown') AS series")}
SELECT time, series, {percentile(0.95, "p95_ms")} FROM running GROUP BY 1, 2 ORDER BY 1, 2
"""
