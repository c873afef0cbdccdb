"""Single calls, with links to trace and text."""

from __future__ import annotations

from typing import Final

from hub.dashboards.model import Dashboard, Panel
from hub.dashboards.queries import OF_NEWEST

_ROW: Final = """
{started} AS started, provider, request_model AS model, service, request_summary AS asked, status,
  duration_ms, ttft_ms, input_tokens, output_tokens, cost_usd, call_id, trace_id
""".strip()
_ROW_UNITS: Final = {"duration_ms": "ms", "ttft_ms": "ms", "cost_usd": "currencyUSD"}

CALLS: Final = Dashboard(
    name="calls",
    title="Calls",
    question="Show me that call.",
    panels=(
        Panel(
            title="Newest",
            question="What happened last?",
            notes="trace_id leads to the trace, call_id to the call.",
            kind="table",
            sql=f"SELECT {_ROW}\nFROM llm_calls WHERE {{calls}} ORDER BY started_at DESC, call_id LIMIT 100",
            units=_ROW_UNITS,
            width=24,
            height=12,
        ),
        Panel(
            title="Slowest",
            question="Which calls took longest?",
            notes=OF_NEWEST,
            kind="table",
            sql=f"""
SELECT {_ROW}
FROM {{recent}} AND duration_ms IS NOT NULL ORDER BY duration_ms DESC, call_id LIMIT 20
""",
            units=_ROW_UNITS,
            width=24,
        ),
        Panel(
            title="Dearest",
            question="Which calls cost most?",
            notes=OF_NEWEST,
            kind="table",
            sql=f"""
SELECT {_ROW}
FROM {{recent}} AND cost_nanos IS NOT NULL ORDER BY cost_nanos DESC, call_id LIMIT 20
""",
            units=_ROW_UNITS,
            width=24,
        ),
        Panel(
            title="Not finished",
            question="Which calls have no answer?",
            notes="running: none yet; lost: open when the process died; abandoned: its reader left. " + OF_NEWEST,
            kind="table",
            sql=f"""
SELECT {_ROW}
FROM {{recent}} AND status IN ('running', 'lost', 'abandoned') ORDER BY started_at DESC, call_id LIMIT 50
""",
            units=_ROW_UNITS,
            width=24,
        ),
    ),
)
