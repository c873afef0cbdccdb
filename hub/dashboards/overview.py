"""The first page."""

from __future__ import annotations

from typing import Final

from hub.dashboards.model import Dashboard, Panel
from hub.dashboards.queries import BUCKETS, OF_NEWEST, WHOLE_HOURS, over_time, percentile, running, sums

OVERVIEW: Final = Dashboard(
    name="overview",
    title="Overview",
    question="Is it healthy?",
    panels=(
        Panel(
            title="Calls",
            question="How many calls, against the time before?",
            notes=WHOLE_HOURS,
            kind="stat",
            sql=sums("coalesce(sum(calls), 0)"),
            width=6,
            height=5,
        ),
        Panel(
            title="Errors",
            question="What share of the calls failed?",
            notes="Calls with status error. " + WHOLE_HOURS,
            kind="stat",
            sql=sums("100.0 * sum(errors) / nullif(sum(calls), 0)"),
            unit="percent",
            width=6,
            height=5,
        ),
        Panel(
            title="Spend",
            question="What did it cost?",
            notes="In US dollars, of calls whose price is known. " + WHOLE_HOURS,
            kind="stat",
            sql=sums("sum(cost_usd)"),
            unit="currencyUSD",
            width=6,
            height=5,
        ),
        Panel(
            title="p95",
            question="How long do the slowest 5% take at least?",
            notes=BUCKETS,
            kind="stat",
            sql=f"""
WITH buckets AS (
  SELECT 'this' AS period, le, sum(calls) AS calls FROM llm_latency_hourly
  WHERE metric = 'duration' AND {{hours}} GROUP BY le
  UNION ALL
  SELECT 'past' AS period, le, sum(calls) AS calls FROM llm_latency_hourly
  WHERE metric = 'duration' AND {{hours_before}} GROUP BY le
), running AS (
  SELECT period, le, sum(calls) OVER (PARTITION BY period ORDER BY le NULLS LAST) AS up_to,
    sum(calls) OVER (PARTITION BY period) AS all_calls
  FROM buckets
), found AS (
  SELECT period, {percentile(0.95, "p95")} FROM running GROUP BY period
)
SELECT max(CASE WHEN period = 'this' THEN p95 END) AS "this time",
  max(CASE WHEN period = 'past' THEN p95 END) AS "the time before"
FROM found
""",
            unit="ms",
            width=6,
            height=5,
        ),
        Panel(
            title="Calls by model",
            question="Who is asked, and how often?",
            notes="Calls that began in each interval.",
            kind="bars",
            sql=over_time("sum(calls)"),
            width=12,
        ),
        Panel(
            title="Failed calls by model",
            question="When did it fail, and with whom?",
            notes="Calls with status error.",
            kind="bars",
            sql=over_time("sum(errors)"),
            width=12,
        ),
        Panel(
            title="Durations",
            question="Is it getting slower?",
            notes=BUCKETS,
            kind="lines",
            sql=f"""{running("duration", "time", "{time} AS time")}
SELECT time, {percentile(0.5, "p50")}, {percentile(0.95, "p95")}, {percentile(0.99, "p99")}
FROM running GROUP BY 1 ORDER BY 1
""",
            unit="ms",
            width=12,
            most_points=200,
        ),
        Panel(
            title="Latest errors",
            question="What went wrong last?",
            notes="Calls that failed, or were open when their process died. " + OF_NEWEST,
            kind="table",
            sql="""
SELECT {started} AS started, status, coalesce(error_type, status) AS error, status_code, provider,
  request_model AS model, service, duration_ms, call_id, trace_id
FROM {recent} AND status IN ('error', 'lost') ORDER BY started_at DESC, call_id LIMIT 20
""",
            units={"duration_ms": "ms"},
            width=12,
        ),
    ),
)
