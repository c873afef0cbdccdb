"""Queries over the views that every engine answers alike: rows, order, nulls, types.

The same text for each engine. Every order is total and says where nulls go. What to mind: timestamps are text on SQLite
alone, so they are cast before they are cut; whole numbers divide to whole numbers; a parameter that nothing is compared
with needs a cast; LIKE tells capitals from small letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PARAMS: Final[Mapping[str, Mapping[str, object]]] = {
    "newest of a model": {"model": "gpt-4o-mini"},
    "within a time": {"since": "2026-09-23T00:00:00.000000Z", "until": "2026-09-25T12:00:00.000000Z"},
    "a filter that may be left out": {"model": None, "status": "error"},
    "text found by a pattern from outside": {"pattern": "%été%"},
    "at least so many calls": {"least": 5},
    "the events behind a position": {"after": 100, "most": 40},
}

QUERIES: Final[Mapping[str, str]] = {
    # llm_calls, every column.
    "where calls belong": """
        SELECT call_id, project, environment, service, producer, session_id, user_id, trace_id, span_id, parent_span_id
        FROM llm_calls ORDER BY call_id
    """,
    "who was asked": """
        SELECT call_id, provider, operation, request_model, response_model, tier, response_id, server_address
        FROM llm_calls ORDER BY call_id DESC
    """,
    "how calls ended": """
        SELECT call_id, status, status_code, error_type, error_message, finish_reason, stream, response_cached, counted,
          capture, source, replay_of, replay_run
        FROM llm_calls ORDER BY status, call_id
    """,
    "when calls were": """
        SELECT started_at, started_unix, ended_at, ended_unix, duration_ms, ttft_ms, call_id
        FROM llm_calls ORDER BY started_at DESC NULLS LAST, call_id DESC
    """,
    "counts and parameters": """
        SELECT chunk_count, attempts, continuation_count, message_count, has_system, tool_count, params, tags, call_id
        FROM llm_calls ORDER BY chunk_count NULLS FIRST, tool_count DESC NULLS LAST, call_id
    """,
    "tokens and costs": """
        SELECT call_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
          total_tokens, cost_usd, cost_nanos, cost_source, price_version
        FROM llm_calls ORDER BY cost_nanos DESC NULLS LAST, total_tokens NULLS FIRST, call_id
    """,
    "what calls said": """
        SELECT call_id, request_summary, response_summary FROM llm_calls
        ORDER BY request_summary NULLS FIRST, response_summary DESC NULLS LAST, call_id
    """,
    # Filters and orders.
    "newest of a model": """
        SELECT call_id, started_at, status, cost_usd FROM llm_calls WHERE request_model = :model
        ORDER BY started_at DESC NULLS LAST, call_id DESC LIMIT 50
    """,
    "a page of calls": """
        SELECT call_id, duration_ms FROM llm_calls ORDER BY duration_ms DESC NULLS LAST, call_id LIMIT 10 OFFSET 15
    """,
    "within a time": """
        SELECT call_id, started_at FROM llm_calls WHERE started_at >= :since AND started_at < :until
        ORDER BY started_at, call_id
    """,
    "a filter that may be left out": """
        SELECT call_id, request_model FROM llm_calls
        WHERE (CAST(:model AS text) IS NULL OR request_model = :model) AND status = :status
        ORDER BY call_id
    """,
    "text sorts by bytes": """
        SELECT DISTINCT provider, request_model FROM llm_calls
        ORDER BY request_model NULLS FIRST, provider DESC NULLS LAST
    """,
    "text is compared by bytes": """
        SELECT min(request_model) AS first, max(request_model) AS last, min(provider) AS lowest,
          max(provider) AS highest, count(CASE WHEN request_model > 'a' THEN 1 END) AS above_a,
          count(CASE WHEN request_model BETWEEN 'A' AND 'zz' THEN 1 END) AS ascii
        FROM llm_calls
    """,
    "LIKE tells capitals from small letters": """
        SELECT count(CASE WHEN request_summary LIKE '%kettle%' THEN 1 END) AS small,
          count(CASE WHEN request_summary LIKE '%KETTLE%' THEN 1 END) AS capital,
          count(CASE WHEN lower(request_summary) LIKE '%kettle%' THEN 1 END) AS either,
          count(CASE WHEN request_model LIKE 'acme!_1!%' ESCAPE '!' THEN 1 END) AS literally,
          count(CASE WHEN request_summary NOT LIKE '%_?%' THEN 1 END) AS no_question
        FROM llm_calls
    """,
    "letters beyond ASCII stay as they are": """
        SELECT DISTINCT lower(request_model) AS small, upper(request_model) AS capital,
          length(request_model) AS letters, substr(request_model, 1, 2) AS beginning,
          replace(request_model, 'r', 'R') AS replaced
        FROM llm_calls WHERE length(request_model) < 100 ORDER BY small, capital
    """,
    "text found by a pattern from outside": """
        SELECT call_id, request_summary FROM llm_calls WHERE request_summary LIKE :pattern ORDER BY call_id
    """,
    "one of several": """
        SELECT status, finish_reason, count(*) AS calls FROM llm_calls
        WHERE status IN ('ok', 'error', 'abandoned') AND (finish_reason IN ('length', 'stop') OR finish_reason IS NULL)
        GROUP BY status, finish_reason ORDER BY status, finish_reason NULLS LAST
    """,
    "unlike or unknown": """
        SELECT coalesce(environment, '(none)') AS place, nullif(tier, 'small') AS tier, count(*) AS calls FROM llm_calls
        GROUP BY coalesce(environment, '(none)'), nullif(tier, 'small') ORDER BY place, tier NULLS FIRST
    """,
    # Aggregates.
    "calls by status": """
        SELECT status, count(*) AS calls, count(cost_nanos) AS priced, count(DISTINCT session_id) AS sessions,
          count(*) FILTER (WHERE stream = 1) AS streamed, sum(counted) AS counted
        FROM llm_calls GROUP BY status ORDER BY calls DESC, status
    """,
    "cost and tokens by model": """
        SELECT provider, request_model, count(*) AS calls, sum(input_tokens) AS input, sum(output_tokens) AS output,
          sum(cost_nanos) AS nanos, sum(cost_usd) AS usd, avg(output_tokens) AS mean, max(total_tokens) AS most
        FROM llm_calls WHERE counted = 1
        GROUP BY provider, request_model ORDER BY nanos DESC NULLS LAST, provider NULLS FIRST, request_model NULLS FIRST
    """,
    "at least so many calls": """
        SELECT session_id, count(*) AS calls, sum(total_tokens) AS tokens, min(started_at) AS first,
          max(ended_at) AS last
        FROM llm_calls GROUP BY session_id HAVING count(*) >= :least ORDER BY count(*) DESC, session_id NULLS FIRST
    """,
    "latency by status": """
        SELECT status, stream, min(duration_ms) AS least, avg(duration_ms) AS mean, max(ttft_ms) AS slowest_start
        FROM llm_calls WHERE duration_ms BETWEEN 0 AND 1000000
        GROUP BY status, stream ORDER BY status, stream NULLS LAST
    """,
    "cost by day": """
        SELECT substr(CAST(started_at AS text), 1, 10) AS day, count(*) AS calls, sum(cost_nanos) AS nanos
        FROM llm_calls WHERE counted = 1 GROUP BY substr(CAST(started_at AS text), 1, 10) ORDER BY day NULLS FIRST
    """,
    "calls by hour of the day": """
        SELECT CAST(substr(CAST(started_at AS text), 12, 2) AS integer) AS hour, count(*) AS calls
        FROM llm_calls WHERE started_at IS NOT NULL GROUP BY 1 ORDER BY 1
    """,
    "share of failures": """
        SELECT provider, 1.0 * count(CASE WHEN status = 'error' THEN 1 END) / count(*) AS share,
          100 * count(CASE WHEN status = 'error' THEN 1 END) / count(*) AS percent
        FROM llm_calls WHERE status <> 'running' GROUP BY provider ORDER BY share DESC, provider NULLS LAST
    """,
    "sums over nothing": """
        SELECT count(*) AS calls, sum(cost_nanos) AS nanos, avg(duration_ms) AS mean, max(started_at) AS newest,
          coalesce(sum(output_tokens), 0) AS output
        FROM llm_calls WHERE status = 'no such status'
    """,
    "nothing at all": "SELECT call_id, cost_usd FROM llm_calls WHERE call_id < '0' ORDER BY call_id",
    "whole numbers divide to whole numbers": """
        SELECT chunk_count, chunk_count / 7 AS sevenths, chunk_count % 7 AS rest, -chunk_count / 7 AS below,
          -chunk_count % 7 AS under, abs(7 - chunk_count) AS away, CAST(chunk_count AS double precision) / 7 AS real
        FROM llm_calls WHERE chunk_count < 1000 ORDER BY chunk_count, call_id
    """,
    "extremes": """
        SELECT min(continuation_count) AS lowest, max(tool_count) AS highest, min(message_count) AS negative,
          min(status_code) AS code, max(input_tokens) AS tokens, min(cost_nanos) AS refund, min(cost_usd) AS usd,
          max(duration_ms) AS longest, min(duration_ms) AS shortest, min(ttft_ms) AS soonest, min(started_at) AS first,
          max(started_at) AS last, min(started_unix) AS since, max(ended_unix) AS until
        FROM llm_calls
    """,
    # Windows.
    "dearest calls of each model": """
        SELECT provider, request_model, place, cost_nanos, call_id FROM (
          SELECT provider, request_model, cost_nanos, call_id,
            row_number() OVER (PARTITION BY provider, request_model ORDER BY cost_nanos DESC, call_id) AS place
          FROM llm_calls WHERE cost_nanos IS NOT NULL
        ) AS ranked WHERE place <= 3
        ORDER BY provider NULLS FIRST, request_model NULLS FIRST, place
    """,
    "ranks with ties": """
        SELECT call_id, finish_reason, rank() OVER (ORDER BY finish_reason NULLS LAST) AS rank,
          dense_rank() OVER (ORDER BY finish_reason NULLS LAST) AS dense, ntile(4) OVER (ORDER BY call_id) AS quarter,
          percent_rank() OVER (ORDER BY call_id) AS share
        FROM llm_calls ORDER BY call_id
    """,
    "pauses within a session": """
        SELECT session_id, call_id,
          started_unix - lag(started_unix) OVER (PARTITION BY session_id ORDER BY call_id) AS pause,
          lead(call_id) OVER (PARTITION BY session_id ORDER BY call_id) AS following,
          first_value(request_model) OVER (PARTITION BY session_id ORDER BY call_id) AS first_model
        FROM llm_calls WHERE session_id IS NOT NULL ORDER BY session_id, call_id
    """,
    "tokens so far": """
        SELECT call_id, sum(total_tokens) OVER (ORDER BY call_id) AS so_far,
          sum(output_tokens) OVER (ORDER BY call_id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS of_three,
          count(*) OVER (PARTITION BY provider) AS of_provider
        FROM llm_calls WHERE total_tokens < 1000000 ORDER BY call_id
    """,
    # Several queries in one.
    "share of each provider": """
        WITH spent AS (SELECT provider, sum(cost_nanos) AS nanos FROM llm_calls WHERE cost_nanos > 0 GROUP BY provider),
          total AS (SELECT sum(nanos) AS nanos FROM spent)
        SELECT spent.provider, spent.nanos, 100.0 * spent.nanos / total.nanos AS percent
        FROM spent CROSS JOIN total ORDER BY spent.nanos DESC, spent.provider
    """,
    "days without calls too": """
        WITH RECURSIVE days(day) AS (SELECT 0 UNION ALL SELECT day + 1 FROM days WHERE day < 12)
        SELECT days.day, count(c.call_id) AS calls, coalesce(sum(c.output_tokens), 0) AS output
        FROM days LEFT JOIN llm_calls c
          ON c.started_unix >= 1790000000 + days.day * 86400 AND c.started_unix < 1790000000 + (days.day + 1) * 86400
        GROUP BY days.day ORDER BY days.day
    """,
    "sessions without a failure": """
        SELECT DISTINCT c.session_id FROM llm_calls c WHERE c.session_id IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM llm_calls f WHERE f.session_id = c.session_id AND f.status <> 'ok') ORDER BY c.session_id
    """,
    "replays beside what they repeat": """
        SELECT r.call_id AS again, o.call_id AS first, r.output_tokens - o.output_tokens AS more_output,
          r.cost_nanos - o.cost_nanos AS dearer, r.replay_run
        FROM llm_calls r JOIN llm_calls o ON o.call_id = r.replay_of ORDER BY r.call_id
    """,
    "users of both but not of the third": """
        SELECT user_id FROM llm_calls WHERE provider = 'openai'
        INTERSECT SELECT user_id FROM llm_calls WHERE provider = 'anthropic'
        EXCEPT SELECT user_id FROM llm_calls WHERE provider = 'nobody' ORDER BY user_id NULLS FIRST
    """,
    "models by name, asked for or served": """
        SELECT 'asked' AS how, request_model AS model, count(*) AS calls FROM llm_calls GROUP BY request_model
        UNION ALL SELECT 'served', response_model, count(*) FROM llm_calls GROUP BY response_model
        ORDER BY how, calls DESC, model NULLS LAST
    """,
    # llm_messages, llm_tool_calls, llm_attempts.
    "every message": """
        SELECT call_id, direction, position, role, type, name, tool_call_id, content, bytes FROM llm_messages
        ORDER BY call_id, direction, position
    """,
    "what messages consist of": """
        SELECT direction, role, type, count(*) AS parts, sum(bytes) AS bytes, max(length(content)) AS longest
        FROM llm_messages GROUP BY direction, role, type ORDER BY direction, role NULLS FIRST, type
    """,
    "calls that were told something": """
        SELECT c.call_id, c.session_id, m.direction, m.position, substr(m.content, 1, 20) AS beginning
        FROM llm_messages m JOIN llm_calls c ON c.call_id = m.call_id
        WHERE m.content LIKE '%Kettle%' AND m.type = 'text' AND c.status = 'ok'
        ORDER BY c.call_id, m.direction, m.position
    """,
    "every tool call": """
        SELECT call_id, position, tool_call_id, name, arguments, result, result_call_id FROM llm_tool_calls
        ORDER BY call_id, position
    """,
    "tools by name": """
        SELECT name, count(*) AS asked, count(result) AS answered, count(DISTINCT call_id) AS calls
        FROM llm_tool_calls GROUP BY name ORDER BY name NULLS LAST
    """,
    "every attempt": """
        SELECT call_id, attempt, started_at, duration_ms, provider, model, status_code, error_type, delay_ms,
          input_tokens, output_tokens, cost_nanos
        FROM llm_attempts ORDER BY call_id, attempt
    """,
    "retries by reason": """
        SELECT a.error_type, count(*) AS attempts, sum(a.delay_ms) AS waited, max(c.attempts) AS most
        FROM llm_attempts a JOIN llm_calls c ON c.call_id = a.call_id
        WHERE a.attempt < c.attempts GROUP BY a.error_type ORDER BY attempts DESC, a.error_type NULLS LAST
    """,
    # llm_events and those that programs contributed.
    "every event": """
        SELECT position, event_id, stream_id, version, call_id, type, schema_version, level, occurred_at, occurred_ns,
          recorded_at, project, session_id, trace_id, span_id, causation_id, producer, producer_seq, data
        FROM llm_events ORDER BY position
    """,
    "events by type": """
        SELECT type, level, count(*) AS events, count(DISTINCT stream_id) AS streams, min(position) AS first,
          min(occurred_at) AS earliest
        FROM llm_events GROUP BY type, level ORDER BY type, level
    """,
    "the events behind a position": """
        SELECT position, type, occurred_ns / 3600000000000 AS hour FROM llm_events WHERE position > :after
        ORDER BY position LIMIT :most
    """,
    "streams with a gap": """
        SELECT stream_id, count(*) AS events, max(version) AS newest FROM llm_events GROUP BY stream_id
        HAVING count(*) <> max(version) ORDER BY stream_id
    """,
    "every contributed event": """
        SELECT position, event_id, call_id, project, session_id, user_id, trace_id, occurred_at, retry_after_ms, who,
          "count", hard, seen, zone
        FROM llm_event_acme_rate_limit ORDER BY position
    """,
    "contributed events beside their calls": """
        SELECT e.who, e.retry_after_ms, c.request_model, c.status FROM llm_event_acme_rate_limit e
        LEFT JOIN llm_calls c ON c.call_id = e.call_id ORDER BY e.position
    """,
    # By hour.
    "every hour's costs": """
        SELECT hour, project, service, provider, model, calls, errors, input_tokens, output_tokens, cache_read_tokens,
          cache_write_tokens, reasoning_tokens, cost_usd, cost_nanos, unpriced_calls
        FROM llm_costs_hourly
        ORDER BY hour, project, service, provider NULLS FIRST, model NULLS FIRST
    """,
    "costs by day and model": """
        SELECT substr(CAST(hour AS text), 1, 10) AS day, model, sum(calls) AS calls, sum(errors) AS errors,
          sum(cost_nanos) AS nanos, sum(unpriced_calls) AS unpriced
        FROM llm_costs_hourly GROUP BY substr(CAST(hour AS text), 1, 10), model ORDER BY day, model NULLS FIRST
    """,
    "every hour's latencies": """
        SELECT hour, project, service, provider, model, metric, le, calls FROM llm_latency_hourly
        ORDER BY hour, project, service, provider NULLS FIRST, model NULLS FIRST, metric, le NULLS LAST
    """,
    "percentiles from buckets": """
        WITH buckets AS (
          SELECT model, metric, le, sum(calls) AS calls FROM llm_latency_hourly GROUP BY model, metric, le
        ), running AS (
          SELECT model, metric, le, sum(calls) OVER (PARTITION BY model, metric ORDER BY le NULLS LAST) AS upto,
            sum(calls) OVER (PARTITION BY model, metric) AS total
          FROM buckets
        )
        SELECT model, metric, max(total) AS calls, min(CASE WHEN upto >= 0.5 * total THEN le END) AS p50,
          min(CASE WHEN upto >= 0.95 * total THEN le END) AS p95, min(CASE WHEN upto >= 0.99 * total THEN le END) AS p99
        FROM running GROUP BY model, metric ORDER BY metric, model NULLS FIRST
    """,
    # Models and spans.
    "every model": """
        SELECT provider, model, display_name, context_window, max_output_tokens, input, output, cache_read, cache_write,
          cost_tier, capabilities, metadata, seen_at
        FROM llm_models ORDER BY provider, model
    """,
    "cost by what a model's maker calls dear": """
        SELECT coalesce(m.cost_tier, 'unknown') AS tier, count(*) AS calls, sum(c.cost_nanos) AS nanos
        FROM llm_calls c LEFT JOIN llm_models m ON m.provider = c.provider AND m.model = c.request_model
        WHERE c.counted = 1 GROUP BY coalesce(m.cost_tier, 'unknown') ORDER BY nanos DESC NULLS LAST, tier
    """,
    "every span": """
        SELECT trace_id, span_id, parent_span_id, name, kind, service, started_at, duration_ms, status, attributes
        FROM llm_spans ORDER BY trace_id, span_id
    """,
}
"""What is asked, to how it is asked."""
