"""The public views, spelled out once. Columns are only ever added, at the end.

Pure text: made after each migration, read by the commands and by whoever checks a query. Instants are kept as text in
hub_calls, so that ORDER BY started_at uses an index; elsewhere they are made from nanoseconds here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping


def _at(ns: str) -> str:
    """SQL for the UTC instant *ns* as YYYY-MM-DDTHH:MM:SS.ffffffZ, truncated."""
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {ns} / 1000000000, 'unixepoch') || printf('.%06dZ', {ns} % 1000000000 / 1000)"
    )


def _unix(ns: str) -> str:
    """SQL for *ns* in seconds. A double holds no nanoseconds since 1970, so whole seconds go apart."""
    return f"({ns} / 1000000000 + {ns} % 1000000000 / 1e9)"


_HOUR = "substr(started_at, 1, 13) || ':00:00.000000Z'"
_MODEL = "coalesce(request_model, response_model)"

LLM_CALLS = f"""
SELECT call_id, project, environment, service, producer, session_id, user_id, trace_id, span_id, parent_span_id,
  provider, operation, request_model, response_model, tier, response_id, server_address, status, status_code,
  error_type, error_message, finish_reason, stream,
  started_at, {_unix("started_ns")} AS started_unix, ended_at, {_unix("ended_ns")} AS ended_unix,
  duration_ms, ttft_ms, chunk_count, attempts, continuation_count, message_count, has_system, tool_count, params,
  input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
  input_tokens + output_tokens AS total_tokens,
  cost_nanos / 1e9 AS cost_usd, cost_nanos, cost_source, price_version, response_cached, counted, capture,
  request_summary, response_summary, tags, source, replay_of, replay_run
FROM hub_calls
"""

LLM_MESSAGES = """
SELECT e.call_id AS call_id,
  CASE e.type WHEN 'llm:request:debug' THEN 'input' ELSE 'output' END AS direction,
  json_extract(m.value, '$[1]') + p.part AS position,
  p.role AS role, p.type AS type, p.name AS name, p.tool_call_id AS tool_call_id,
  CAST(json_extract(c.body, p.path) AS TEXT) AS content, p.bytes AS bytes
FROM hub_events e
CROSS JOIN json_each(e.content, '$.messages') m
CROSS JOIN hub_parts p ON p.content_id = json_extract(m.value, '$[0]')
CROSS JOIN hub_contents c ON c.id = p.content_id
WHERE e.type IN ('llm:request:debug', 'llm:response:debug') AND e.content IS NOT NULL
"""

_RESULT = """
FROM hub_tool_results r JOIN hub_parts rp ON rp.content_id = r.content_id AND rp.part = r.part
      JOIN hub_contents rc ON rc.id = r.content_id
    WHERE r.tool_call_id = p.tool_call_id AND r.project = k.project AND r.session = coalesce(k.session_id, '')
      AND r.call_id > t.call_id ORDER BY r.call_id, r.content_id, r.part LIMIT 1
""".strip()

LLM_TOOL_CALLS = f"""
SELECT t.call_id AS call_id, t.position AS position, p.tool_call_id AS tool_call_id, p.name AS name,
  CAST(json_extract(c.body, p.path) AS TEXT) AS arguments,
  (SELECT CAST(json_extract(rc.body, rp.path) AS TEXT) {_RESULT}) AS result,
  (SELECT r.call_id {_RESULT}) AS result_call_id
FROM hub_tool_calls t
JOIN hub_calls k ON k.call_id = t.call_id
JOIN hub_parts p ON p.content_id = t.content_id AND p.part = t.part
JOIN hub_contents c ON c.id = t.content_id
"""

LLM_ATTEMPTS = f"""
SELECT call_id, attempt, {_at("started_ns")} AS started_at, duration_ms, provider, model, status_code, error_type,
  delay_ms, input_tokens, output_tokens, cost_nanos
FROM hub_attempts
UNION ALL
SELECT call_id, max(coalesce(attempts, 1), failed_attempts + 1), {_at("attempt_ns")},
  CASE failed_attempts WHEN 0 THEN duration_ms ELSE (ended_ns - attempt_ns) / 1e6 END,
  provider, coalesce(response_model, request_model), status_code, error_type, NULL, input_tokens, output_tokens,
  cost_nanos
FROM hub_calls c
WHERE (failed_attempts = 0 OR attempts IS NULL OR attempts > failed_attempts)
  AND NOT EXISTS (SELECT 1 FROM hub_attempts a WHERE a.call_id = c.call_id AND a.is_last = 1)
"""

LLM_EVENTS = f"""
SELECT position, event_id, stream_id, version, call_id, type, schema_version, level,
  {_at("occurred_ns")} AS occurred_at, occurred_ns, {_at("recorded_ns")} AS recorded_at, project, session_id,
  trace_id, span_id, causation_id, producer, producer_seq, data
FROM hub_events
"""

LLM_COSTS_HOURLY = f"""
SELECT {_HOUR} AS hour, project, service, provider, {_MODEL} AS model,
  count(*) AS calls, count(CASE status WHEN 'error' THEN 1 END) AS errors,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
  sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
  sum(reasoning_tokens) AS reasoning_tokens,
  sum(cost_nanos) / 1e9 AS cost_usd, sum(cost_nanos) AS cost_nanos,
  count(CASE WHEN cost_nanos IS NULL AND (status NOT IN ('running', 'error') OR input_tokens IS NOT NULL)
    THEN 1 END) AS unpriced_calls
FROM hub_calls
WHERE counted = 1 AND started_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5
"""


def _latency(metric: str) -> str:
    return f"""
SELECT {_HOUR} AS hour, project, service, provider, {_MODEL} AS model, '{metric}' AS metric,
  {metric}_le AS le, count(*) AS calls
FROM hub_calls
WHERE counted = 1 AND started_at IS NOT NULL AND {metric}_ms IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 7
""".strip()


LLM_LATENCY_HOURLY = f"""
{_latency("duration")}
UNION ALL
{_latency("ttft")}
"""

LLM_MODELS = f"""
SELECT provider, model, display_name, context_window, max_output_tokens, input, output, cache_read, cache_write,
  cost_tier, capabilities, metadata, {_at("seen_ns")} AS seen_at
FROM hub_models
"""

LLM_SPANS = f"""
SELECT trace_id, span_id, parent_span_id, name, kind, service, {_at("started_ns")} AS started_at, duration_ms, status,
  attributes
FROM hub_spans
"""

VIEWS: Mapping[str, str] = {
    "llm_calls": LLM_CALLS,
    "llm_messages": LLM_MESSAGES,
    "llm_tool_calls": LLM_TOOL_CALLS,
    "llm_attempts": LLM_ATTEMPTS,
    "llm_events": LLM_EVENTS,
    "llm_costs_hourly": LLM_COSTS_HOURLY,
    "llm_latency_hourly": LLM_LATENCY_HOURLY,
    "llm_models": LLM_MODELS,
    "llm_spans": LLM_SPANS,
}
"""Name to SELECT statement."""


def statements() -> list[str]:
    """What makes the public views anew. Views of contributed events stay as they are."""
    made: list[str] = []
    for name, select in VIEWS.items():
        made += [f"DROP VIEW IF EXISTS {name}", f"CREATE VIEW {name} AS {select.strip()}"]
    return made


# Views of contributed events.

_ENVELOPE = ("position", "event_id", "call_id", "project", "session_id", "user_id", "trace_id")
NOT_CONTRIBUTED = "('llm:request','llm:request:debug','llm:response','llm:response:debug')"
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PREFIX = "llm_event_"


def event_view_name(event_type: str) -> str:
    """`acme:rate_limit` -> `llm_event_acme_rate_limit`; longer than 63 bytes it is cut and ends in a hash."""
    name = _PREFIX + re.sub(r"[^a-z0-9_]", "_", event_type.lower())
    if len(name) <= 63:
        return name
    return name[:54] + "_" + hashlib.sha256(event_type.encode()).hexdigest()[:8]


def event_view(event_type: str, name: str, fields: Iterable[str]) -> str:
    """The statement that makes the view *name*: the payload's fields, behind what tells where the event belongs.

    A field whose name is no identifier is left out; one named like a column of the envelope takes that column's place.
    """
    own = [field for field in dict.fromkeys(fields) if _FIELD.fullmatch(field)]
    taken = {field.lower() for field in own}
    columns = [column for column in _ENVELOPE if column not in taken]
    if "occurred_at" not in taken:
        columns.append(f"{_at('occurred_ns')} AS occurred_at")
    columns += [f'json_extract(data, \'$."{field}"\') AS "{field}"' for field in own]
    literal = event_type.replace("'", "''")
    return (
        f"CREATE VIEW {name} AS SELECT {', '.join(columns)} FROM hub_events"
        f" WHERE type = '{literal}' AND type NOT IN {NOT_CONTRIBUTED}"
    )
