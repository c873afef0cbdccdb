"""The public views, spelled out once for all engines. Columns are only ever added, at the end.

Pure text: made after each migration, read by the commands and by whoever checks a query. On SQLite instants are text,
on PostgreSQL timestamptz; in hub_calls and the hourly tables they are columns, so that ORDER BY uses an index,
elsewhere they are made from nanoseconds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hub.events import SPAN_EVENT
from storage.engine import Engine
from storage.rollups import TOKENS


class Dialect(Protocol):
    """What views have to say differently on each engine."""

    def at(self, ns: str) -> str:
        """The UTC instant *ns*, to the microsecond, truncated."""
        ...

    def messages(self, manifest: str, alias: str) -> str:
        """A join with each message of *manifest*, see hub_events.content, that is in no stretch, as *alias*."""
        ...

    def sequences(self, manifest: str, alias: str) -> str:
        """A join with each stretch of messages."""
        ...

    def items(self, array: str, alias: str) -> str:
        """A join with each element of a JSON *array*."""
        ...

    def element(self, alias: str, index: int) -> str:
        """The integer at *index* of such an element, itself an array."""
        ...

    def inside(self, json: str, path: str) -> str:
        """The text at the column *path* of *json*; see `Connection.json_path`."""
        ...

    def field(self, json: str, name: str, kind: str) -> str:
        """The field *name* of *json*, an object, as *kind*: text, integer, real, boolean or json. An integer is one of
        64 bits."""
        ...

    def replace(self, view: str, select: str) -> list[str]:
        """Statements that make a view, or make it anew with more columns."""
        ...


class _SQLite:
    def at(self, ns: str) -> str:
        return (
            f"strftime('%Y-%m-%dT%H:%M:%S', {ns} / 1000000000, 'unixepoch')"
            f" || printf('.%06dZ', {ns} % 1000000000 / 1000)"
        )

    def messages(self, manifest: str, alias: str) -> str:
        path = f"CASE json_type({manifest}, '$.messages') WHEN 'array' THEN '$.messages' ELSE '$.messages.tail' END"
        return f"CROSS JOIN json_each({manifest}, {path}) {alias}"

    def sequences(self, manifest: str, alias: str) -> str:
        return f"CROSS JOIN json_each({manifest}, '$.messages.sequences') {alias}"

    def items(self, array: str, alias: str) -> str:
        return f"CROSS JOIN json_each({array}) {alias}"

    def element(self, alias: str, index: int) -> str:
        return f"json_extract({alias}.value, '$[{index}]')"

    def inside(self, json: str, path: str) -> str:
        return f"CAST(json_extract({json}, {path}) AS TEXT)"

    def field(self, json: str, name: str, kind: str) -> str:
        value = f"json_extract({json}, '$.\"{name}\"')"
        if kind == "integer":  # what has more than 64 bits is read as a double
            is_integer = f"json_type({json}, '$.\"{name}\"') = 'integer' AND typeof({value}) = 'integer'"
            return f"CASE WHEN {is_integer} THEN {value} END"
        return value

    def replace(self, view: str, select: str) -> list[str]:
        return [f"DROP VIEW IF EXISTS {view}", f"CREATE VIEW {view} AS {select}"]


class _PostgreSQL:
    def at(self, ns: str) -> str:
        return f"to_timestamp({ns} / 1000000000) + {ns} % 1000000000 / 1000 * interval '1 microsecond'"

    def messages(self, manifest: str, alias: str) -> str:
        kept = f"{manifest}::json -> 'messages'"
        list_ = f"CASE json_typeof({kept}) WHEN 'array' THEN {kept} WHEN 'object' THEN {kept} -> 'tail' END"
        return f"CROSS JOIN LATERAL json_array_elements({list_}) {alias}(value)"

    def sequences(self, manifest: str, alias: str) -> str:
        return f"CROSS JOIN LATERAL json_array_elements({manifest}::json #> '{{messages,sequences}}') {alias}(value)"

    def items(self, array: str, alias: str) -> str:
        return f"CROSS JOIN LATERAL json_array_elements({array}::json) {alias}(value)"

    def element(self, alias: str, index: int) -> str:
        return f"CAST({alias}.value ->> {index} AS bigint)"

    def inside(self, json: str, path: str) -> str:
        return f"({json}::json #>> {path}::text[])"

    def field(self, json: str, name: str, kind: str) -> str:
        value, text = f"{json}::json -> '{name}'", f"({json}::json ->> '{name}')"
        if kind == "boolean":
            return f"CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END"
        if kind == "integer":
            fits = f"CAST({text} AS numeric) BETWEEN {-(2**63)} AND {2**63 - 1}"
            return (
                f"CASE WHEN json_typeof({value}) = 'number' AND {text} ~ '^-?[0-9]{{1,19}}$'"
                f" THEN CASE WHEN {fits} THEN CAST({text} AS bigint) END END"
            )
        if kind == "real":
            return f"CASE json_typeof({value}) WHEN 'number' THEN CAST({text} AS double precision) END"
        return text

    def replace(self, view: str, select: str) -> list[str]:
        return [f"CREATE OR REPLACE VIEW {view} AS {select}"]


DIALECTS: Mapping[Engine, Dialect] = {"sqlite": _SQLite(), "postgresql": _PostgreSQL()}
_BILLION = "CAST(1e9 AS double precision)"


def _double(number: str) -> str:
    """SQL for *number* as a double: PostgreSQL divides a bigint exactly, SQLite rounds."""
    return f"CAST({number} AS double precision)"


def _unix(ns: str) -> str:
    """SQL for *ns* in seconds. A double holds no nanoseconds since 1970, so whole seconds go apart."""
    return f"({_double(f'{ns} / 1000000000')} + {_double(f'{ns} % 1000000000')} / {_BILLION})"


def _calls(_dialect: Dialect) -> str:
    return f"""
SELECT call_id, project, environment, service, producer, session_id, user_id, trace_id, span_id, parent_span_id,
  provider, operation, request_model, response_model, tier, response_id, server_address, status, status_code,
  error_type, error_message, finish_reason, stream,
  started_at, {_unix("started_ns")} AS started_unix, ended_at, {_unix("ended_ns")} AS ended_unix,
  duration_ms, ttft_ms, chunk_count, attempts, continuation_count, message_count, has_system, tool_count, params,
  input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
  input_tokens + output_tokens AS total_tokens,
  {_double("cost_nanos")} / {_BILLION} AS cost_usd, cost_nanos, cost_source, price_version, response_cached, counted,
  capture, request_summary, response_summary, tags, source, replay_of, replay_run
FROM hub_calls
"""


def _messages(dialect: Dialect) -> str:
    def select(first: str, joins: str, content_id: str) -> str:
        return f"""
SELECT e.call_id AS call_id,
  CASE e.type WHEN 'llm:request:debug' THEN 'input' ELSE 'output' END AS direction,
  {first} + p.part AS position,
  p.role AS role, p.type AS type, p.name AS name, p.tool_call_id AS tool_call_id,
  {dialect.inside("c.body", "p.path")} AS content, p.bytes AS bytes
FROM hub_events e
{joins}
CROSS JOIN hub_parts p
CROSS JOIN hub_contents c
WHERE p.content_id = {content_id} AND c.id = p.content_id
  AND e.type IN ('llm:request:debug', 'llm:response:debug') AND e.content IS NOT NULL
""".strip()

    first, content_id = dialect.element("m", 1), dialect.element("m", 0)
    alone = select(first, dialect.messages("e.content", "m"), content_id)
    stretch = (
        f"{dialect.sequences('e.content', 's')}\n"
        f"JOIN hub_sequences q ON q.id = {dialect.element('s', 0)}\n{dialect.items('q.items', 'm')}"
    )
    in_stretch = select(f"{dialect.element('s', 1)} + {first}", stretch, content_id)
    return f"{alone}\nUNION ALL\n{in_stretch}"


_RESULT = """
FROM hub_tool_results r JOIN hub_parts rp ON rp.content_id = r.content_id AND rp.part = r.part
      JOIN hub_contents rc ON rc.id = r.content_id
    WHERE r.tool_call_id = p.tool_call_id AND r.project = k.project AND r.session = coalesce(k.session_id, '')
      AND r.call_id > t.call_id ORDER BY r.call_id, r.content_id, r.part LIMIT 1
""".strip()


def _tool_calls(dialect: Dialect) -> str:
    return f"""
SELECT t.call_id AS call_id, t.position AS position, p.tool_call_id AS tool_call_id, p.name AS name,
  {dialect.inside("c.body", "p.path")} AS arguments,
  (SELECT {dialect.inside("rc.body", "rp.path")} {_RESULT}) AS result,
  (SELECT r.call_id {_RESULT}) AS result_call_id
FROM hub_tool_calls t
JOIN hub_calls k ON k.call_id = t.call_id
JOIN hub_parts p ON p.content_id = t.content_id AND p.part = t.part
JOIN hub_contents c ON c.id = t.content_id
"""


def _attempts(dialect: Dialect) -> str:
    return f"""
SELECT call_id, attempt, {dialect.at("started_ns")} AS started_at, duration_ms, provider, model, status_code,
  error_type, delay_ms, input_tokens, output_tokens, cost_nanos
FROM hub_attempts
UNION ALL
SELECT call_id,
  CASE WHEN coalesce(attempts, 1) > failed_attempts THEN coalesce(attempts, 1) ELSE failed_attempts + 1 END AS attempt,
  {dialect.at("attempt_ns")} AS started_at,
  CASE failed_attempts WHEN 0 THEN duration_ms ELSE {_double("ended_ns - attempt_ns")} / {_double("1e6")} END,
  provider, coalesce(response_model, request_model), status_code, error_type, NULL, input_tokens, output_tokens,
  cost_nanos
FROM hub_calls c
WHERE (failed_attempts = 0 OR attempts IS NULL OR attempts > failed_attempts)
  AND NOT EXISTS (SELECT 1 FROM hub_attempts a WHERE a.call_id = c.call_id AND a.is_last = 1)
"""


def _events(dialect: Dialect) -> str:
    return f"""
SELECT position, event_id, stream_id, version, call_id, type, schema_version, level,
  {dialect.at("occurred_ns")} AS occurred_at, occurred_ns, {dialect.at("recorded_ns")} AS recorded_at, project,
  session_id, trace_id, span_id, causation_id, producer, producer_seq, data
FROM hub_events
"""


def _sum(measure: str) -> str:
    """Of the calls that are there and of those that are no more."""
    return f"({measure} + kept_{measure})"


def _known(measure: str, calls: str) -> str:
    """The sum of *measure*; null when no call knows it."""
    return f"CASE WHEN {_sum(calls)} > 0 THEN {_sum(measure)} END"


_HOURLY = "hour, project, nullif(service, '') AS service, nullif(provider, '') AS provider, nullif(model, '') AS model"


def _costs_hourly(_dialect: Dialect) -> str:
    tokens = ",\n  ".join(f"{_known(f'{kind}_tokens', f'{kind}_calls')} AS {kind}_tokens" for kind in TOKENS)
    cost = _known("cost_nanos", "priced_calls")
    return f"""
SELECT {_HOURLY},
  {_sum("calls")} AS calls, {_sum("errors")} AS errors,
  {tokens},
  {_double(cost)} / {_BILLION} AS cost_usd, {cost} AS cost_nanos, {_sum("unpriced_calls")} AS unpriced_calls
FROM hub_costs_hourly
"""


def _latency_hourly(_dialect: Dialect) -> str:
    return f"""
SELECT {_HOURLY}, metric, nullif(le, -1) AS le, {_sum("calls")} AS calls
FROM hub_latency_hourly
"""


def _models(dialect: Dialect) -> str:
    return f"""
SELECT provider, model, display_name, context_window, max_output_tokens, input, output, cache_read, cache_write,
  cost_tier, capabilities, metadata, {dialect.at("seen_ns")} AS seen_at
FROM hub_models
"""


def _spans(dialect: Dialect) -> str:
    return f"""
SELECT e.trace_id, e.span_id, e.parent_span_id, {dialect.field("e.data", "name", "text")} AS name,
  {dialect.field("e.data", "kind", "text")} AS kind, e.service, {dialect.at("e.occurred_ns")} AS started_at,
  {dialect.field("e.data", "duration_ms", "real")} AS duration_ms,
  {dialect.field("e.data", "status", "text")} AS status, c.body AS attributes
FROM hub_events e LEFT JOIN hub_contents c ON c.id = {dialect.field("e.content", "attributes", "integer")}
WHERE e.type = '{SPAN_EVENT}'
"""


_SELECTS = {
    "llm_calls": _calls,
    "llm_messages": _messages,
    "llm_tool_calls": _tool_calls,
    "llm_attempts": _attempts,
    "llm_events": _events,
    "llm_costs_hourly": _costs_hourly,
    "llm_latency_hourly": _latency_hourly,
    "llm_models": _models,
    "llm_spans": _spans,
}
VIEWS = tuple(_SELECTS)
"""The names of the public views, but for those of contributed events."""


def statements(engine: Engine) -> list[str]:
    """What makes the public views anew. Views of contributed events stay as they are."""
    dialect = DIALECTS[engine]
    return [
        statement for name, select in _SELECTS.items() for statement in dialect.replace(name, select(dialect).strip())
    ]
