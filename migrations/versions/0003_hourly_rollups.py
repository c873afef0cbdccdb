"""Hourly rollups, stretches of messages that requests share, and price cards that later ones take the place of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
_COSTS = (
    "calls",
    "errors",
    "unpriced_calls",
    "priced_calls",
    "cost_nanos",
    *(f"{kind}_{measure}" for kind in _TOKENS for measure in ("calls", "tokens")),
)


def upgrade() -> None:
    op.create_table(
        "hub_sequences",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("items", _TEXT, nullable=False),
        sa.UniqueConstraint("hash", name="uq_hub_sequences_hash"),
    )
    with op.batch_alter_table("hub_prices") as prices:
        prices.drop_constraint("uq_hub_prices_provider_model_effective_ns", type_="unique")
        prices.add_column(sa.Column("made_ns", sa.BigInteger()))
    _hourly("hub_costs_hourly", [], _COSTS)
    bucket: list[sa.Column[Any]] = [
        sa.Column("metric", _TEXT, nullable=False),
        sa.Column("le", sa.Double(), nullable=False),
    ]
    _hourly("hub_latency_hourly", bucket, ("calls",))
    if op.get_bind().dialect.name == "sqlite":  # no older store has calls on PostgreSQL
        _fill()
    # Processes that run code of 0002 would go on and count nothing into the hourly sums. This stops each of their
    # appends with an error that they take for an outage: what they trace waits in their spools.
    op.alter_column("hub_checkpoints", "cursor", new_column_name="reached")
    uncounted = sa.text("counted = 0")
    op.create_index(
        "ix_hub_calls_repeated", "hub_calls", ["call_id"], sqlite_where=uncounted, postgresql_where=uncounted
    )


def _fill() -> None:
    key = (
        "SELECT substr(started_at, 1, 13) || ':00:00.000000Z', project, coalesce(service, ''), coalesce(provider, ''),"
        " coalesce(request_model, response_model, ''),"
    )
    counted = "FROM hub_calls WHERE counted = 1 AND started_at IS NOT NULL"
    tokens = ", ".join(f"count({kind}_tokens), coalesce(sum({kind}_tokens), 0)" for kind in _TOKENS)
    measures = ", ".join(_COSTS)
    op.execute(
        f"INSERT INTO hub_costs_hourly (hour, project, service, provider, model, {measures})"
        f" {key} count(*), count(CASE status WHEN 'error' THEN 1 END),"
        " count(CASE WHEN cost_nanos IS NULL AND (status NOT IN ('running', 'error') OR input_tokens IS NOT NULL)"
        f" THEN 1 END), count(cost_nanos), coalesce(sum(cost_nanos), 0), {tokens} {counted} GROUP BY 1, 2, 3, 4, 5"
    )
    for metric in ("duration", "ttft"):
        op.execute(
            "INSERT INTO hub_latency_hourly (hour, project, service, provider, model, metric, le, calls)"
            f" {key} '{metric}', coalesce({metric}_le, -1), count(*) {counted} AND {metric}_ms IS NOT NULL"
            " GROUP BY 1, 2, 3, 4, 5, 7"
        )


def _hourly(name: str, more: list[sa.Column[Any]], measures: tuple[str, ...]) -> None:
    key: list[sa.Column[Any]] = [
        sa.Column("hour", _INSTANT, nullable=False),
        *(sa.Column(column, _TEXT, nullable=False) for column in ("project", "service", "provider", "model")),
        *more,
    ]
    op.create_table(
        name,
        *key,
        *(
            sa.Column(prefix + measure, sa.BigInteger(), nullable=False, server_default="0")
            for prefix in ("", "kept_")
            for measure in measures
        ),
        sa.PrimaryKeyConstraint(*(column.name for column in key)),
        sqlite_with_rowid=False,
    )
