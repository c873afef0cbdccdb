"""The tables, one definition for every engine.

Loaded by migrations, checks and commands, never by the writer: SQLAlchemy takes 25 MB and a quarter of a second, too
much for a program that only wants its calls recorded. tests/test_schema.py holds the writer's column lists, the newest
migration and storage/schema.sql to what is said here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.engine import Engine
from storage.rollups import COST_KEY, COST_MEASURES, COSTS, LATENCY, LATENCY_KEY, LATENCY_MEASURES

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)

String = Text().with_variant(Text(collation="C"), "postgresql")  # text sorts by bytes everywhere
Instant = Text().with_variant(TIMESTAMP(timezone=True), "postgresql")  # SQLite keeps YYYY-MM-DDTHH:MM:SS.ffffffZ
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only under the name INTEGER


def _where(condition: str) -> dict[str, Any]:
    """What makes an index partial on both engines."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


events = Table(
    "hub_events",
    metadata,
    Column("position", Serial, primary_key=True, autoincrement=False),
    Column("event_id", String, nullable=False),
    Column("stream_id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("call_id", String),
    Column("type", String, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("level", String, nullable=False),
    Column("occurred_ns", BigInteger, nullable=False),
    Column("recorded_ns", BigInteger, nullable=False),
    Column("project", String, nullable=False),
    Column("environment", String),
    Column("service", String, nullable=False),
    Column("session_id", String),
    Column("user_id", String),
    Column("tags", String),
    Column("trace_id", String),
    Column("span_id", String),
    Column("parent_span_id", String),
    Column("trace_flags", Integer),
    Column("tracestate", String),
    Column("parent_is_remote", SmallInteger),
    Column("causation_id", String),
    Column("producer", String, nullable=False),
    Column("producer_seq", BigInteger, nullable=False),
    Column("data", String, nullable=False),
    Column("content", String),
    UniqueConstraint("stream_id", "version"),
    Index(None, "call_id"),
    Index(
        "ix_hub_events_contributed",
        "type",
        "position",
        **_where("type NOT IN ('llm:request','llm:request:debug','llm:response','llm:response:debug')"),
    ),
    Index(
        "ix_hub_events_spans",
        "trace_id",
        sqlite_where=text("type = 'otel:span'"),
        postgresql_where=text("type = 'otel:span'"),
    ),
)
"""One row per event, only ever inserted; erasure alone rewrites (user, session, tags, content, contributed data).

position: over the whole log, from 1, in the order of commits; (stream_id, version): the identity; tags, data: JSON;
content: references into hub_contents, as JSON {"messages": [[id, position of its first part], ...], other key: id}; a
long list is {"sequences": [[id in hub_sequences, position of its first part], ...], "tail": [as above]}.
"""

contents = Table(
    "hub_contents",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("project", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("body", String),
    Column("packed", LargeBinary),
    Column("bytes", Integer, nullable=False),
    UniqueConstraint("hash"),
)
"""One row per distinct piece of content of a project. hash: BLAKE2b keyed with the project's key, so equal hashes mean
one project; body: JSON, or packed: that JSON in zstd; bytes: of the JSON. Ids are never used again."""

sequences = Table(
    "hub_sequences",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("items", String, nullable=False),
    UniqueConstraint("hash"),
)
"""Stretches of messages that manifests name, see storage/sequences.py. hash: BLAKE2b of items; items: JSON [[id of the
content, position of its first part, counted from the stretch's], ...]."""

parts = Table(
    "hub_parts",
    metadata,
    Column("content_id", BigInteger, nullable=False),
    Column("part", Integer, nullable=False),
    Column("role", String),
    Column("type", String, nullable=False),
    Column("name", String),
    Column("tool_call_id", String),
    Column("path", String),
    Column("bytes", Integer),
    PrimaryKeyConstraint("content_id", "part"),
    sqlite_with_rowid=False,
)
"""The parts of each distinct message. path: where in hub_contents.body the part's text stands, so that it exists once
and is erased with the body."""

calls = Table(
    "hub_calls",
    metadata,
    Column("call_id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("environment", String),
    Column("service", String),
    Column("producer", String),
    Column("session_id", String),
    Column("user_id", String),
    Column("trace_id", String),
    Column("span_id", String),
    Column("parent_span_id", String),
    Column("provider", String),
    Column("operation", String),
    Column("request_model", String),
    Column("response_model", String),
    Column("tier", String),
    Column("response_id", String),
    Column("server_address", String),
    Column("status", String, nullable=False),
    Column("status_code", BigInteger),
    Column("error_type", String),
    Column("error_message", String),
    Column("finish_reason", String),
    Column("stream", SmallInteger),
    Column("started_at", Instant),
    Column("started_ns", BigInteger),
    Column("ended_at", Instant),
    Column("ended_ns", BigInteger),
    Column("duration_ms", Double),
    Column("duration_le", Double),
    Column("ttft_ms", Double),
    Column("ttft_le", Double),
    Column("chunk_count", BigInteger),
    Column("attempts", BigInteger),
    Column("continuation_count", BigInteger),
    Column("message_count", BigInteger),
    Column("has_system", SmallInteger),
    Column("tool_count", BigInteger),
    Column("params", String),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_nanos", BigInteger),
    Column("cost_source", String),
    Column("price_version", String),
    Column("response_cached", SmallInteger),
    Column("counted", SmallInteger, nullable=False),
    Column("capture", String),
    Column("request_summary", String),
    Column("response_summary", String),
    Column("tags", String),
    Column("source", String),
    Column("replay_of", String),
    Column("replay_run", String),
    Column("request_version", Integer),
    Column("response_version", Integer),
    Column("failed_attempts", Integer, nullable=False),
    Column("attempt_ns", BigInteger),
    Column("input_parts", Integer, nullable=False),
    Column("output_parts", Integer, nullable=False),
    Index(None, "started_at"),
    Index(None, "request_model", "started_at"),
    Index(None, "session_id", **_where("session_id IS NOT NULL")),
    Index(None, "response_id", "ended_ns", **_where("response_id IS NOT NULL")),
    Index("ix_hub_calls_repeated", "call_id", **_where("counted = 0")),
    Index("ix_hub_calls_open", "producer", **_where("status = 'running'")),
)
"""A projection: one row per call, folded from its events by storage/projections.py. Most columns are llm_calls' own.

*_le: upper bound of the latency bucket, null above the last one; attempt_ns: when the attempt under way began;
*_version: of the event the request or response was read from; *_parts: message parts so far."""

attempts = Table(
    "hub_attempts",
    metadata,
    Column("position", Serial, primary_key=True, autoincrement=False),
    Column("call_id", String, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
    Column("duration_ms", Double),
    Column("provider", String),
    Column("model", String),
    Column("status_code", BigInteger),
    Column("error_type", String),
    Column("delay_ms", Double),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_nanos", BigInteger),
    Column("is_last", SmallInteger),
    Index(None, "call_id"),
)
"""A projection: the attempts of calls but for the last, which stands here too, with is_last 1, where it has a provider,
usage and cost of its own. position: of the event that told."""

tool_calls = Table(
    "hub_tool_calls",
    metadata,
    Column("call_id", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("content_id", BigInteger, nullable=False),
    Column("part", Integer, nullable=False),
    PrimaryKeyConstraint("call_id", "position"),
    sqlite_with_rowid=False,
)
"""A projection: the tools a model asked for. position: among the call's output parts."""

tool_results = Table(
    "hub_tool_results",
    metadata,
    Column("tool_call_id", String, nullable=False),
    Column("project", String, nullable=False),
    Column("session", String, nullable=False),
    Column("content_id", BigInteger, nullable=False),
    Column("part", Integer, nullable=False),
    Column("call_id", String, nullable=False),
    PrimaryKeyConstraint("tool_call_id", "project", "session", "content_id", "part"),
    sqlite_with_rowid=False,
)
"""A projection: what tools answered. call_id: the first call whose request carries the answer; session: '' for none."""

prices = Table(
    "hub_prices",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("effective_ns", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Column("version", String, nullable=False),
    Column("card", String),
    Column("made_ns", BigInteger),
)
"""Rates as they were used; rows never change, and a row takes the place of those with smaller ids that begin with it or
later. provider: '' when the call named none; effective_ns: for calls begun from then on; card: see hub.pricing, null
when the model was looked up and has no known price; made_ns: when the row was written, null before that was kept."""

models = Table(
    "hub_models",
    metadata,
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("display_name", String),
    Column("context_window", BigInteger),
    Column("max_output_tokens", BigInteger),
    Column("input", Double),
    Column("output", Double),
    Column("cache_read", Double),
    Column("cache_write", Double),
    Column("cost_tier", String),
    Column("capabilities", String),
    Column("metadata", String),
    Column("seen_ns", BigInteger),
    PrimaryKeyConstraint("provider", "model"),
)
"""Models that providers listed. Prices in nano-dollars a token; capabilities, metadata: JSON."""

event_schemas = Table(
    "hub_event_schemas",
    metadata,
    Column("type", String, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("fields", String, nullable=False),
    Column("view", String, nullable=False),
    PrimaryKeyConstraint("type", "schema_version"),
)
"""A projection of hub:schema events: the fields of contributed event types, as JSON {name: type}, and their view."""

keys = Table(
    "hub_keys",
    metadata,
    Column("project", String, primary_key=True),
    Column("key", LargeBinary, nullable=False),
)
"""The key of each project's content hashes and tombstones. Never shown or exported: it would let content be guessed."""

tombstones = Table(
    "hub_tombstones",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("project", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("before_ns", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    UniqueConstraint("project", "kind", "hash"),
)
"""What was erased or pruned and stays so. kind: call, session or user; hash: keyed, of the id; before_ns: calls begun
before. Of the kinds calls and bodies, which are pruning's, hash is empty."""


def _measures(*names: str) -> list[Column[int]]:
    """Each twice: of calls that are in the store, and of those that are no more."""
    return [
        Column(prefix + name, BigInteger, nullable=False, server_default="0")
        for prefix in ("", "kept_")
        for name in names
    ]


costs_hourly = Table(
    COSTS,
    metadata,
    Column("hour", Instant, nullable=False),
    Column("project", String, nullable=False),
    Column("service", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    *_measures(*COST_MEASURES),
    PrimaryKeyConstraint(*COST_KEY),
    sqlite_with_rowid=False,
)
"""A projection: what calls add up to, see storage/rollups.py. kept_*: no projection, for nothing else knows it."""

latency_hourly = Table(
    LATENCY,
    metadata,
    Column("hour", Instant, nullable=False),
    Column("project", String, nullable=False),
    Column("service", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("le", Double, nullable=False),
    *_measures(*LATENCY_MEASURES),
    PrimaryKeyConstraint(*LATENCY_KEY),
    sqlite_with_rowid=False,
)
"""As hub_costs_hourly: calls in each bucket of duration or ttft."""

checkpoints = Table(
    "hub_checkpoints",
    metadata,
    Column("name", String, primary_key=True),
    Column("reached", String, nullable=False),
)
"""How far each projection has come."""

counters = Table(
    "hub_counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""position, content, sequence: the last ones given. epoch: grows when keys, prices, tombstones or schemas were added or
content was deleted, so that writers drop what they remember. For the others see storage/upkeep.py,
storage/pruning.py and storage/repricing.py."""


def in_history(name: str | None, kind: str, _parents: object) -> bool:
    """Whether migrations know of a table: those of full-text search are made and dropped by a command. What Alembic
    asks before it compares a database with what is declared here."""
    return kind != "table" or not str(name).startswith("hub_search_")


def metadata_of(engine: Engine) -> MetaData:
    """The tables as *engine* has them: PostgreSQL's hub_events is partitioned, so its identity is its primary key."""
    if engine == "sqlite":
        return metadata
    found = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(found)
    partitioned = found.tables["hub_events"]
    (unique,) = (one for one in partitioned.constraints if isinstance(one, UniqueConstraint))
    partitioned.constraints.remove(unique)
    Index("ix_hub_events_position", partitioned.c.position)
    return found
