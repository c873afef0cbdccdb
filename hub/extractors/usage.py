"""Token counts of every dialect as inclusive totals."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hub.extractors.values import count, get, reader

Usage = dict[str, int | None]


def usage_of(usage: Any) -> Usage | None:
    """Counts of one answer: input contains what was cached and what was written to a cache, output contains reasoning.

    OpenAI's two dialects, DeepSeek's cache hits and our own names are inclusive as they come. Anthropic's
    `cache_creation_input_tokens` and `cache_read_input_tokens` stand beside `input_tokens` and are added
    (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching, read 2026-11-20); gateways that give them
    beside OpenAI's `prompt_tokens` have them in it. xAI's `completion_tokens` lack the reasoning that its total has
    (https://docs.x.ai/docs/key-information/consumption-and-rate-limits, read 2026-11-20).

    Returns: None when nothing is known; a count that is not given is None, never 0.
    """
    if usage is None:
        return None
    said = reader(usage)
    input_tokens, output_tokens = count(said("input_tokens")), count(said("output_tokens"))
    beside = input_tokens is not None
    if input_tokens is None:
        input_tokens = count(said("prompt_tokens"))
    if output_tokens is None:
        output_tokens = count(said("completion_tokens"))
    read, written = count(said("cache_read_input_tokens")), count(said("cache_creation_input_tokens"))
    if input_tokens is not None and beside:
        input_tokens += (read or 0) + (written or 0)
    if read is None and written is None:
        details = said("prompt_tokens_details") or said("input_tokens_details")
        read = _first(said("cache_read_tokens"), details and get(details, "cached_tokens"))
        read = _first(read, said("prompt_cache_hit_tokens"))
        written = _first(said("cache_write_tokens"), details and get(details, "cache_write_tokens"))
    details = said("completion_tokens_details") or said("output_tokens_details")
    reasoning = _first(said("reasoning_tokens"), details and get(details, "reasoning_tokens"))
    if reasoning and input_tokens is not None and output_tokens is not None:
        beside = count(said("total_tokens")) == input_tokens + output_tokens + reasoning
        output_tokens += reasoning if beside else 0
    if input_tokens is None and output_tokens is None and read is None and written is None and reasoning is None:
        return None
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "reasoning_tokens": reasoning,
    }


def _first(one: Any, other: Any) -> int | None:
    found = count(one)
    return count(other) if found is None else found


def cost_of(value: Any) -> str | None:
    """Money in US dollars as a decimal string; None for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return format(amount, "f") if amount.is_finite() and amount >= 0 else None
