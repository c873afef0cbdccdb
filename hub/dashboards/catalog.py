"""The dashboards, and the rules that watch while nobody looks."""

from __future__ import annotations

from typing import Final

from hub.dashboards.calls import CALLS
from hub.dashboards.cost import COST
from hub.dashboards.health import HEALTH, LOST_EVENTS
from hub.dashboards.latency import LATENCY
from hub.dashboards.model import Alert
from hub.dashboards.overview import OVERVIEW

DASHBOARDS: Final = (OVERVIEW, COST, LATENCY, CALLS, HEALTH)

ALERTS: Final = (
    Alert(
        name="errors",
        title="Calls fail",
        summary="More than 5% of the calls of the last hours failed.",
        sql="SELECT coalesce(100.0 * sum(errors) / nullif(sum(calls), 0), 0.0) AS value\n"
        "FROM llm_costs_hourly WHERE {all_hours}",
        limit=5,
        hours=1,
        lasting="10m",
    ),
    Alert(
        name="spend",
        title="Calls cost much",
        summary="More than 50 dollars were spent within a day.",
        sql="SELECT coalesce(sum(cost_usd), 0.0) AS value FROM llm_costs_hourly WHERE {all_hours}",
        limit=50,
        hours=24,
        lasting="0s",
    ),
    Alert(
        name="drops",
        title="Events are lost",
        summary="Events were dropped before the store had them; hub doctor tells why.",
        sql=LOST_EVENTS,
        limit=0,
        hours=24,
        lasting="0s",
    ),
)
"""Their limits are examples. Nothing is filtered: they watch all projects."""
