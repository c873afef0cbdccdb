"""The dashboard about the hub itself: what the store can tell of it. The rest (spools, sizes) `hub doctor` knows."""

from __future__ import annotations

from typing import Final

from hub.dashboards.model import Dashboard, Panel
from hub.dashboards.queries import OF_NEWEST
from hub.dashboards.sql import MOST_EVENTS

_OF_EVENTS: Final = f"Of the newest {MOST_EVENTS:,} events, as far as they lie in the time range."
_COUNT: Final = "CAST({data[count]} AS bigint)"
_SINK: Final = "coalesce({data[sink]}, 'all sinks')"
_DROPPED: Final = "FROM llm_events WHERE type = 'hub:dropped' AND {hub_events}"
_DROPS: Final = f"{_DROPPED} AND {{of_project}}"

LOST_EVENTS: Final = f"""
SELECT coalesce(sum({_COUNT}), 0) AS value {_DROPPED}
  AND {_SINK} IN ('all sinks', 'store') AND {{data[reason]}} <> 'expired'
""".strip()
"""How many events the store did not get; those of times that are pruned are missed by nobody."""

HEALTH: Final = Dashboard(
    name="health",
    title="Hub health",
    question="Can I trust this?",
    filters=("project",),
    panels=(
        Panel(
            title="Newest event",
            question="Does anything arrive?",
            notes="When the store took its newest event.",
            kind="stat",
            sql="SELECT {recorded_ms} AS newest FROM llm_events ORDER BY position DESC LIMIT 1",
            unit="dateTimeFromNow",
            width=6,
            height=5,
        ),
        Panel(
            title="Events lost",
            question="Is anything missing?",
            notes="Events that the store did not get, by hub:dropped. Those of times already pruned are left out.",
            kind="stat",
            sql=f"{LOST_EVENTS} AND {{of_project}}",
            width=6,
            height=5,
        ),
        Panel(
            title="Conflicts",
            question="Did two processes write the same place?",
            notes="hub:conflict events. There should be none; please report them.",
            kind="stat",
            sql="""
SELECT count(*) AS events FROM llm_events WHERE type = 'hub:conflict' AND {hub_events} AND {of_project}
""",
            width=6,
            height=5,
        ),
        Panel(
            title="Calls without an end",
            question="Did processes die with calls open?",
            notes="lost: the process died; running: no answer yet. " + OF_NEWEST,
            kind="stat",
            sql="""
SELECT count(CASE WHEN status = 'lost' THEN 1 END) AS lost, count(CASE WHEN status = 'running' THEN 1 END) AS running
FROM {recent_of_project}
""",
            width=6,
            height=5,
        ),
        Panel(
            title="Write lag",
            question="How long do events wait before they are stored?",
            notes="From what happened to the store's taking it; recovery and imports bring old events. " + _OF_EVENTS,
            kind="lines",
            sql="""
SELECT {recorded_time} AS time, avg({lag_ms}) AS mean, max({lag_ms}) AS worst
FROM {newest_events} WHERE {of_project}
GROUP BY 1 ORDER BY 1
""",
            unit="ms",
            width=12,
        ),
        Panel(
            title="Events dropped",
            question="When was something dropped, where and why?",
            notes="A sink that dropped events: the store, otlp, or all of them. hub export otlp sends spans again.",
            kind="bars",
            sql=f"""
SELECT {{occurred_time}} AS time, {_SINK} || ': ' || {{data[reason]}} AS series, sum({_COUNT}) AS events
{_DROPS}
GROUP BY 1, 2 ORDER BY 1, 2
""",
            width=12,
        ),
        Panel(
            title="Drops",
            question="What was dropped last?",
            notes="As hub:dropped events tell.",
            kind="table",
            sql=f"""
SELECT {{occurred}} AS occurred, project, {_SINK} AS sink, {{data[reason]}} AS reason, {_COUNT} AS events, producer
{_DROPS}
ORDER BY position DESC LIMIT 50
""",
            width=12,
        ),
        Panel(
            title="The hub's own events",
            question="What did the hub tell of itself?",
            notes="hub:degraded: a spool went to memory; hub:recovered: what a dead process left was brought in; "
            "hub:unsampled: calls were left out by sampling; hub:redacted: an erasure.",
            kind="table",
            sql="""
SELECT type, count(*) AS events, max(occurred_ns) / 1000000 AS last_seen
FROM llm_events WHERE {hub_events} AND {of_project} AND type IN ('hub:started', 'hub:dropped', 'hub:conflict',
  'hub:degraded', 'hub:recovered', 'hub:unsampled', 'hub:redacted', 'hub:schema')
GROUP BY type ORDER BY type
""",
            units={"last_seen": "dateTimeAsIso"},
            width=12,
        ),
        Panel(
            title="Programs",
            question="Who writes here, and how?",
            notes="The newest starts, by hub:started events: what is kept of content, and how safe the spool is.",
            kind="table",
            sql="""
SELECT {occurred} AS occurred, project, {data[resource/service.name]} AS service, {data[scope/version]} AS hub,
  {data[capture]} AS capture, {data[durability]} AS durability, producer
FROM llm_events WHERE type = 'hub:started' AND {hub_events} AND {of_project}
ORDER BY position DESC LIMIT 50
""",
            width=12,
        ),
        Panel(
            title="Calls without token counts",
            question="Whose cost stays unknown?",
            notes="Answered calls whose usage nobody told; OpenAI's streams tell it when asked for. " + OF_NEWEST,
            kind="table",
            sql="""
SELECT coalesce(provider, 'unknown') AS provider, coalesce(request_model, 'unknown') AS model, stream,
  count(*) AS calls
FROM {recent_of_project} AND status = 'ok' AND input_tokens IS NULL
GROUP BY 1, 2, 3 ORDER BY calls DESC, 1, 2
""",
            width=12,
        ),
    ),
)
