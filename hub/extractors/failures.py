"""What exceptions of providers, SDKs and HTTP libraries say beside their type and text."""

from __future__ import annotations

from typing import Any

from hub.extractors.values import get
from hub.outcomes import ResponseFacts


def failure_facts(error: BaseException) -> ResponseFacts:
    """Status, whether trying again may help, and after how long: what *error* has of it as attributes."""
    facts: ResponseFacts = {}
    if not isinstance(error, Exception):
        return facts
    for status in (get(error, "status_code"), get(get(error, "response"), "status_code"), get(error, "status")):
        if type(status) is int and 100 <= status <= 599:
            facts["status_code"] = status
            break
    if isinstance(retryable := get(error, "retryable"), bool):
        facts["retryable"] = retryable
    wait = _first_number(get(error, "retry_after"), get(error, "retry_after_seconds"))
    if wait is not None:
        facts["retry_after_ms"] = wait * 1e3
    return facts


def _first_number(*values: Any) -> float | None:
    """The first that is a number of seconds one could wait."""
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return float(value)
    return None
