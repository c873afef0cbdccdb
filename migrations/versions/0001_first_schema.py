"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows only under the name INTEGER


def upgrade() -> None:
    _log()
    _other_projections()
    _calls()
    _facts()


def _log() -> None:
    partitioned = op.get_bind().dialect.name == "postgresql"
    identity = sa.PrimaryKeyConstraint if partitioned else sa.UniqueConstraint
    op.create_table(
        "hub_events",
        sa.Column("position", _SERIAL, primary_key=not partitioned, autoincrement=False, nullable=False),
        sa.Column("event_id", _TEXT, nullable=False),
        sa.Column("stream_id", _TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("call_id", _TEXT),
        sa.Column("type", _TEXT, nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("level", _TEXT, nullable=False),
        sa.Column("occurred_ns", sa.BigInteger(), nullable=False),
        sa.Column("recorded_ns", sa.BigInteger(), nullable=False),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("environment", _TEXT),
        sa.Column("service", _TEXT, nullable=False),
        sa.Column("session_id", _TEXT),
        sa.Column("user_id", _TEXT),
        sa.Column("tags", _TEXT),
        sa.Column("trace_id", _TEXT),
        sa.Column("span_id", _TEXT),
        sa.Column("parent_span_id", _TEXT),
        sa.Column("trace_flags", sa.Integer()),
        sa.Column("tracestate", _TEXT),
        sa.Column("parent_is_remote", sa.SmallInteger()),
        sa.Column("causation_id", _TEXT),
        sa.Column("producer", _TEXT, nullable=False),
        sa.Column("producer_seq", sa.BigInteger(), nullable=False),
        sa.Column("data", _TEXT, nullable=False),
        sa.Column("content", _TEXT),
        identity("stream_id", "version", name="uq_hub_events_stream_id_version"),
        postgresql_partition_by="RANGE (stream_id)",
    )
    if partitioned:
        op.create_index("ix_hub_events_position", "hub_events", ["position"])
    op.create_index("ix_hub_events_call_id", "hub_events", ["call_id"])
    op.create_index(
        "ix_hub_events_contributed",
        "hub_events",
        ["type", "position"],
        sqlite_where=sa.text("type NOT IN ('llm:request','llm:request:debug','llm:response','llm:response:debug')"),
        postgresql_where=sa.text("type NOT IN ('llm:request','llm:request:debug','llm:response','llm:response:debug')"),
    )
    op.create_table(
        "hub_contents",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=False),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("body", _TEXT),
        sa.Column("packed", sa.LargeBinary()),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.UniqueConstraint("hash", name="uq_hub_contents_hash"),
    )


def _other_projections() -> None:
    op.create_table(
        "hub_parts",
        sa.Column("content_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("role", _TEXT),
        sa.Column("type", _TEXT, nullable=False),
        sa.Column("name", _TEXT),
        sa.Column("tool_call_id", _TEXT),
        sa.Column("path", _TEXT),
        sa.Column("bytes", sa.Integer()),
        sa.PrimaryKeyConstraint("content_id", "part"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_attempts",
        sa.Column("position", _SERIAL, primary_key=True, autoincrement=False),
        sa.Column("call_id", _TEXT, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("started_ns", sa.BigInteger()),
        sa.Column("duration_ms", sa.Double()),
        sa.Column("provider", _TEXT),
        sa.Column("model", _TEXT),
        sa.Column("status_code", sa.BigInteger()),
        sa.Column("error_type", _TEXT),
        sa.Column("delay_ms", sa.Double()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cost_nanos", sa.BigInteger()),
    )
    op.create_index("ix_hub_attempts_call_id", "hub_attempts", ["call_id"])
    op.create_table(
        "hub_tool_calls",
        sa.Column("call_id", _TEXT, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_tool_results",
        sa.Column("tool_call_id", _TEXT, nullable=False),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("session", _TEXT, nullable=False),
        sa.Column("content_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("call_id", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("tool_call_id", "project", "session", "content_id", "part"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_event_schemas",
        sa.Column("type", _TEXT, nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("fields", _TEXT, nullable=False),
        sa.Column("view", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("type", "schema_version"),
    )


def _calls() -> None:
    op.create_table(
        "hub_calls",
        sa.Column("call_id", _TEXT, primary_key=True),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("environment", _TEXT),
        sa.Column("service", _TEXT),
        sa.Column("producer", _TEXT),
        sa.Column("session_id", _TEXT),
        sa.Column("user_id", _TEXT),
        sa.Column("trace_id", _TEXT),
        sa.Column("span_id", _TEXT),
        sa.Column("parent_span_id", _TEXT),
        sa.Column("provider", _TEXT),
        sa.Column("operation", _TEXT),
        sa.Column("request_model", _TEXT),
        sa.Column("response_model", _TEXT),
        sa.Column("tier", _TEXT),
        sa.Column("response_id", _TEXT),
        sa.Column("server_address", _TEXT),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("status_code", sa.BigInteger()),
        sa.Column("error_type", _TEXT),
        sa.Column("error_message", _TEXT),
        sa.Column("finish_reason", _TEXT),
        sa.Column("stream", sa.SmallInteger()),
        sa.Column("started_at", _INSTANT),
        sa.Column("started_ns", sa.BigInteger()),
        sa.Column("ended_at", _INSTANT),
        sa.Column("ended_ns", sa.BigInteger()),
        sa.Column("duration_ms", sa.Double()),
        sa.Column("duration_le", sa.Double()),
        sa.Column("ttft_ms", sa.Double()),
        sa.Column("ttft_le", sa.Double()),
        sa.Column("chunk_count", sa.BigInteger()),
        sa.Column("attempts", sa.BigInteger()),
        sa.Column("continuation_count", sa.BigInteger()),
        sa.Column("message_count", sa.BigInteger()),
        sa.Column("has_system", sa.SmallInteger()),
        sa.Column("tool_count", sa.BigInteger()),
        sa.Column("params", _TEXT),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("cost_nanos", sa.BigInteger()),
        sa.Column("cost_source", _TEXT),
        sa.Column("price_version", _TEXT),
        sa.Column("response_cached", sa.SmallInteger()),
        sa.Column("counted", sa.SmallInteger(), nullable=False),
        sa.Column("capture", _TEXT),
        sa.Column("request_summary", _TEXT),
        sa.Column("response_summary", _TEXT),
        sa.Column("tags", _TEXT),
        sa.Column("source", _TEXT),
        sa.Column("replay_of", _TEXT),
        sa.Column("replay_run", _TEXT),
        sa.Column("request_version", sa.Integer()),
        sa.Column("response_version", sa.Integer()),
        sa.Column("failed_attempts", sa.Integer(), nullable=False),
        sa.Column("attempt_ns", sa.BigInteger()),
        sa.Column("input_parts", sa.Integer(), nullable=False),
        sa.Column("output_parts", sa.Integer(), nullable=False),
    )
    op.create_index(
        "ix_hub_calls_open",
        "hub_calls",
        ["producer"],
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index("ix_hub_calls_request_model_started_at", "hub_calls", ["request_model", "started_at"])
    op.create_index(
        "ix_hub_calls_response_id_ended_ns",
        "hub_calls",
        ["response_id", "ended_ns"],
        sqlite_where=sa.text("response_id IS NOT NULL"),
        postgresql_where=sa.text("response_id IS NOT NULL"),
    )
    op.create_index(
        "ix_hub_calls_session_id",
        "hub_calls",
        ["session_id"],
        sqlite_where=sa.text("session_id IS NOT NULL"),
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_index("ix_hub_calls_started_at", "hub_calls", ["started_at"])


def _facts() -> None:
    op.create_table(
        "hub_prices",
        sa.Column("id", _SERIAL, primary_key=True),
        sa.Column("provider", _TEXT, nullable=False),
        sa.Column("model", _TEXT, nullable=False),
        sa.Column("effective_ns", sa.BigInteger(), nullable=False),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("version", _TEXT, nullable=False),
        sa.Column("card", _TEXT),
        sa.UniqueConstraint("provider", "model", "effective_ns", name="uq_hub_prices_provider_model_effective_ns"),
    )
    op.create_table(
        "hub_models",
        sa.Column("provider", _TEXT, nullable=False),
        sa.Column("model", _TEXT, nullable=False),
        sa.Column("display_name", _TEXT),
        sa.Column("context_window", sa.BigInteger()),
        sa.Column("max_output_tokens", sa.BigInteger()),
        sa.Column("input", sa.Double()),
        sa.Column("output", sa.Double()),
        sa.Column("cache_read", sa.Double()),
        sa.Column("cache_write", sa.Double()),
        sa.Column("cost_tier", _TEXT),
        sa.Column("capabilities", _TEXT),
        sa.Column("metadata", _TEXT),
        sa.Column("seen_ns", sa.BigInteger()),
        sa.PrimaryKeyConstraint("provider", "model"),
    )
    op.create_table(
        "hub_spans",
        sa.Column("trace_id", _TEXT, nullable=False),
        sa.Column("span_id", _TEXT, nullable=False),
        sa.Column("parent_span_id", _TEXT),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("kind", _TEXT),
        sa.Column("service", _TEXT),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Double()),
        sa.Column("status", _TEXT),
        sa.Column("attributes", _TEXT),
        sa.PrimaryKeyConstraint("trace_id", "span_id"),
    )
    op.create_table(
        "hub_keys",
        sa.Column("project", _TEXT, primary_key=True),
        sa.Column("key", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "hub_tombstones",
        sa.Column("id", _SERIAL, primary_key=True),
        sa.Column("project", _TEXT, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("before_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("project", "kind", "hash", name="uq_hub_tombstones_project_kind_hash"),
    )
    op.create_table(
        "hub_checkpoints",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("cursor", _TEXT, nullable=False),
    )
    op.create_table(
        "hub_counters",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
