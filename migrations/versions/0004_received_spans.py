"""Spans that were received are events like all others: the view reads them from the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    op.execute("DROP VIEW IF EXISTS llm_spans")
    op.execute("DROP TABLE IF EXISTS hub_spans")
    spans = sa.text("type = 'otel:span'")
    op.create_index("ix_hub_events_spans", "hub_events", ["trace_id"], sqlite_where=spans, postgresql_where=spans)
