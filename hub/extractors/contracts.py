"""Answers of the three provider contracts: Amplifier's, adversarial-debate's and spine's, known by their fields."""

from __future__ import annotations

from typing import Any

from hub.calls import ResponseFacts
from hub.extractors.usage import Usage, cost_of, usage_of
from hub.extractors.values import get, message, plain, text


def contract_facts(answer: Any) -> ResponseFacts | None:
    """What *answer* says; None when it is no contract's response."""
    if text(get(get(answer, "message"), "role")) is not None:
        return _of_spine(answer)
    content = get(answer, "content")
    if isinstance(content, list) or (isinstance(content, str) and hasattr(answer, "tool_calls")):
        return _of_amplifier(answer)
    return _of_debate(answer) if isinstance(content, str) else None


def _reasons(answer: Any) -> list[str] | None:
    reason = text(get(answer, "finish_reason"))
    return [reason] if reason else None


def _of_spine(answer: Any) -> ResponseFacts:
    usage = get(answer, "usage")
    facts: ResponseFacts = {
        "model": text(get(answer, "model")),
        "usage": usage_of(usage),
        "finish_reasons": _reasons(answer),
        "messages": [message(get(answer, "message"))],
    }
    if cost := get(usage, "cost_usd"):  # 0.0 says that nobody knows
        _report(facts, cost)
    return facts


def _of_amplifier(answer: Any) -> ResponseFacts:
    usage = get(answer, "usage")
    content = get(answer, "content")
    said: dict[str, Any] = {
        "role": "assistant",
        "content": [plain(block) for block in content] if isinstance(content, list) else content,
    }
    if calls := get(answer, "tool_calls"):
        said["tool_calls"] = [plain(call) for call in calls]
    facts: ResponseFacts = {
        "model": text(get(answer, "model")),
        "response_id": text(get(answer, "id")),
        "usage": _with_written(usage_of(usage)),
        "finish_reasons": _reasons(answer),
        "messages": [said],
    }
    if (cost := get(usage, "cost_usd")) is not None:
        _report(facts, cost)
    return facts


def _with_written(usage: Usage | None) -> Usage | None:
    """Amplifier's input contains what the cache gave; what was written to it comes on top."""
    if usage is not None and usage["input_tokens"] is not None and usage["cache_write_tokens"]:
        usage["input_tokens"] += usage["cache_write_tokens"]
    return usage


def _of_debate(answer: Any) -> ResponseFacts:
    usage = get(answer, "usage")
    facts: ResponseFacts = {
        "model": text(get(answer, "model")),
        "response_id": text(get(answer, "id")),
        "usage": usage_of(usage),
        "finish_reasons": _reasons(answer),
        "messages": [{"role": text(get(answer, "role")) or "assistant", "content": plain(get(answer, "content"))}],
    }
    if (cost := get(usage, "cost_usd")) is not None:
        _report(facts, cost)
    return facts


def _report(facts: ResponseFacts, cost: Any) -> None:
    if (amount := cost_of(cost)) is not None:
        facts["reported_cost_usd"], facts["cost_reporter"] = amount, "provider"
