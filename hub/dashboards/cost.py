"""Who spends, and on what."""

from __future__ import annotations

from typing import Final

from hub.dashboards.model import Dashboard, Panel
from hub.dashboards.queries import OF_NEWEST, WHOLE_HOURS, over_time, sums

COST: Final = Dashboard(
    name="cost",
    title="Cost",
    question="Who spends?",
    panels=(
        Panel(
            title="Spend",
            question="What did it cost, against the time before?",
            notes="In US dollars, of calls whose price is known. " + WHOLE_HOURS,
            kind="stat",
            sql=sums("sum(cost_usd)"),
            unit="currencyUSD",
            width=6,
            height=5,
        ),
        Panel(
            title="In 30 days",
            question="What will a month cost, if it goes on like this?",
            notes="The spend of the time range, stretched to 30 days: choose a range of whole days.",
            kind="stat",
            sql="SELECT sum(cost_usd) * 2592000.0 / nullif({seconds}, 0) AS usd FROM llm_costs_hourly WHERE {hours}",
            unit="currencyUSD",
            width=6,
            height=5,
        ),
        Panel(
            title="Unpriced calls",
            question="How many calls cost something nobody knows?",
            notes="They are missing in every sum here; hub doctor says what to add to hub.toml.",
            kind="stat",
            sql=sums("coalesce(sum(unpriced_calls), 0)"),
            width=6,
            height=5,
        ),
        Panel(
            title="Input from the cache",
            question="What share of the input was read from the provider's cache?",
            notes="Of the input of models whose answers tell.",
            kind="stat",
            sql=sums(
                "100.0 * sum(cache_read_tokens)\n"
                "  / nullif(sum(CASE WHEN cache_read_tokens IS NOT NULL THEN input_tokens END), 0)"
            ),
            unit="percent",
            width=6,
            height=5,
        ),
        Panel(
            title="Spend by model",
            question="When, and on which model?",
            notes="In US dollars; a model without a known price is not drawn.",
            kind="bars",
            sql=over_time("sum(cost_usd)", known="cost_usd"),
            unit="currencyUSD",
            width=12,
        ),
        Panel(
            title="Spend by service",
            question="Which program spends it?",
            notes="In US dollars.",
            kind="bars",
            sql=over_time("sum(cost_usd)", series="service", known="cost_usd"),
            unit="currencyUSD",
            width=12,
        ),
        Panel(
            title="Models",
            question="What does each model cost?",
            notes="usd_1000: dollars for a thousand calls, those without a price left out.",
            kind="table",
            sql="""
SELECT provider, model, sum(calls) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
  sum(cost_usd) AS usd, 1000.0 * sum(cost_usd) / nullif(sum(calls - unpriced_calls), 0) AS usd_1000,
  sum(unpriced_calls) AS unpriced
FROM llm_costs_hourly WHERE {hours}
GROUP BY provider, model ORDER BY usd DESC NULLS LAST, calls DESC
""",
            units={"usd": "currencyUSD", "usd_1000": "currencyUSD"},
            width=12,
        ),
        Panel(
            title="Dearest sessions",
            question="Which conversation or job cost most?",
            notes=OF_NEWEST,
            kind="table",
            sql="""
SELECT session_id, max(project) AS project, count(*) AS calls, sum(total_tokens) AS tokens, sum(cost_usd) AS usd,
  min(started_unix) * 1000.0 AS began, max(started_unix) * 1000.0 AS last_call
FROM {recent} AND session_id IS NOT NULL
GROUP BY session_id ORDER BY usd DESC NULLS LAST, session_id LIMIT 20
""",
            units={"usd": "currencyUSD", "began": "dateTimeAsIso", "last_call": "dateTimeAsIso"},
            width=12,
        ),
        Panel(
            title="Input from the cache, by model",
            question="Does caching work?",
            notes="The share of the input that the provider read from its cache.",
            kind="lines",
            sql=over_time("100.0 * sum(cache_read_tokens) / nullif(sum(input_tokens), 0)", known="cache_read_tokens"),
            unit="percent",
            width=12,
        ),
        Panel(
            title="Tokens",
            question="What is it that is paid for?",
            notes="Input contains what was read from the cache, output contains reasoning.",
            kind="lines",
            sql="""
SELECT {time} AS time, sum(input_tokens) AS input, sum(cache_read_tokens) AS "from the cache",
  sum(output_tokens) AS output, sum(reasoning_tokens) AS reasoning
FROM llm_costs_hourly WHERE {hours}
GROUP BY 1 ORDER BY 1
""",
            width=12,
        ),
    ),
)
