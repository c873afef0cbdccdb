"""Answers of the three provider contracts: Amplifier's, adversarial-debate's and spine's, known by their fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.extractors.usage import Usage, cost_of, usage_of
from hub.extractors.values import get, message, plain, reader, text
from hub.outcomes import ResponseFacts


def contract_facts(answer: Any) -> ResponseFacts | None:
    """What *answer* says; None when it is no contract's response."""
    said = reader(answer)
    if (spoken := said("message")) is not None and text(get(spoken, "role")) is not None:
        facts = _of_spine(said, spoken)
    elif isinstance(content := said("content"), list) or (isinstance(content, str) and hasattr(answer, "tool_calls")):
        facts = _of_amplifier(said, content)
    elif isinstance(content, str):
        facts = _of_debate(said, content)
    else:
        return None
    facts["response_cached"] = _is_cached(said) or None
    return facts


_Reader = Callable[[str], Any]


def says_cached(answer: Any) -> bool:
    """Whether *answer*, or its metadata, says that it came out of a cache of answers."""
    return _is_cached(reader(answer))


CACHE_MARKS = frozenset({"cached", "from_cache", "cache_hit", "response_cached", "metadata"})
"""Where an answer may say that it came out of a cache."""


def _is_cached(said: _Reader) -> bool:
    metadata = said("metadata")
    return _is_marked(said) or (metadata is not None and _is_marked(reader(metadata)))


def _is_marked(said: _Reader) -> bool:
    return (
        said("cached") is True
        or said("from_cache") is True
        or said("cache_hit") is True
        or said("response_cached") is True
    )


def _reasons(said: _Reader) -> list[str] | None:
    reason = text(said("finish_reason"))
    return [reason] if reason else None


def _of_spine(said: _Reader, spoken: Any) -> ResponseFacts:
    usage = said("usage")
    facts: ResponseFacts = {
        "model": text(said("model")),
        "usage": usage_of(usage),
        "finish_reasons": _reasons(said),
        "messages": [message(spoken)],
    }
    if cost := get(usage, "cost_usd"):  # 0.0 says that nobody knows
        _report(facts, cost)
    return facts


def _of_amplifier(said: _Reader, content: Any) -> ResponseFacts:
    usage = said("usage")
    spoken: dict[str, Any] = {
        "role": "assistant",
        "content": [plain(block) for block in content] if isinstance(content, list) else content,
    }
    if (calls := said("tool_calls")) and (calls := _beside_the_blocks(calls, spoken["content"])):
        spoken["tool_calls"] = [plain(call) for call in calls]
    facts: ResponseFacts = {
        "model": text(said("model")),
        "response_id": text(said("id")),
        "usage": _with_written(usage_of(usage)),
        "finish_reasons": _reasons(said),
        "messages": [spoken],
    }
    if (cost := get(usage, "cost_usd")) is not None:
        _report(facts, cost)
    return facts


def _beside_the_blocks(calls: Any, content: Any) -> list[Any]:
    """Of an answer's tool calls those that are no blocks of its content too: Amplifier's are mostly both."""
    if not isinstance(calls, list | tuple):
        return []
    if not isinstance(content, list):
        return list(calls)
    blocks = {text(get(block, "id")) for block in content if text(get(block, "type")) == "tool_call"}
    return [call for call in calls if (known := text(get(call, "id"))) is None or known not in blocks]


def _with_written(usage: Usage | None) -> Usage | None:
    """Amplifier's input contains what the cache gave; what was written to it comes on top."""
    if usage is not None and usage["input_tokens"] is not None and usage["cache_write_tokens"]:
        usage["input_tokens"] += usage["cache_write_tokens"]
    return usage


def _of_debate(said: _Reader, content: str) -> ResponseFacts:
    usage = said("usage")
    facts: ResponseFacts = {
        "model": text(said("model")),
        "response_id": text(said("id")),
        "usage": usage_of(usage),
        "finish_reasons": _reasons(said),
        "messages": [{"role": text(said("role")) or "assistant", "content": content}],
    }
    if (cost := get(usage, "cost_usd")) is not None:
        _report(facts, cost)
    return facts


def _report(facts: ResponseFacts, cost: Any) -> None:
    if (amount := cost_of(cost)) is not None:
        facts["reported_cost_usd"], facts["cost_reporter"] = amount, "provider"
