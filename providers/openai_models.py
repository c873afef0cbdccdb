"""What GET /models lists, with what servers and genai-prices know of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from providers.models import ModelInfo, Pricing

_WINDOWS = ("context_window", "context_length", "max_model_len", "max_context_length")
"""Groq's, OpenRouter's, vLLM's and LM Studio's names for it."""
_LONGEST = ("max_completion_tokens", "max_output_tokens", "max_output_length")


def listed(body: bytes) -> list[Mapping[str, Any]] | None:
    """The entries of an answer to GET /models; None when it is none."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return None
    entries = answer.get("data") if isinstance(answer, dict) else answer  # Together sends the bare list
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def models_of(entries: Iterable[Mapping[str, Any]], provider: str) -> list[ModelInfo]:
    """The models, by name. A context window or longest answer that nobody tells is 0.

    Loads genai-prices, which takes a quarter of a second the first time.
    """
    return [_model(entry, provider) for entry in sorted(entries, key=lambda entry: str(entry["id"]))]


def _model(entry: Mapping[str, Any], provider: str) -> ModelInfo:
    known = _known(provider, entry["id"])
    name = entry.get("name")
    return ModelInfo(
        id=entry["id"],
        display_name=name if isinstance(name, str) else entry["id"],
        context_window=_number(entry, _WINDOWS) or getattr(known, "context_window", None) or 0,
        max_output_tokens=_number(entry, _LONGEST) or 0,
        pricing=None if known is None else _pricing(known),
        metadata={key: value for key, value in entry.items() if key not in ("id", "object", "name")},
    )


def _number(entry: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((value for name in names if type(value := entry.get(name)) is int and value > 0), None)


def _known(provider: str, model: str) -> Any:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None


def _pricing(known: Any) -> Pricing | None:
    prices = known.get_prices(datetime.now(UTC))
    given, answered = _price(prices, "input_mtok"), _price(prices, "output_mtok")
    if given is None or answered is None:
        return None
    return Pricing(
        input_per_million=given,
        output_per_million=answered,
        cache_read_per_million=_price(prices, "cache_read_mtok"),
        cache_write_per_million=_price(prices, "cache_write_mtok"),
    )


def _price(prices: Any, unit: str) -> float | None:
    """What most requests pay, where longer ones cost more."""
    rate = getattr(prices, unit, None)
    rate = getattr(rate, "base", rate)
    return float(rate) if isinstance(rate, Decimal | int | float) else None
