"""What exceptions of providers, SDKs and HTTP libraries say beside their type and text."""

from __future__ import annotations

import sys

from hub.extractors.values import get
from hub.outcomes import ResponseFacts


def failure_facts(error: BaseException) -> ResponseFacts:
    """Status, whether trying again may help, and after how long: what *error* has of it as attributes."""
    facts: ResponseFacts = {}
    if not isinstance(error, Exception):
        return facts
    if (status := status_of(error)) is not None:
        facts["status_code"] = status
    if isinstance(retryable := get(error, "retryable"), bool):
        facts["retryable"] = retryable
    if (wait := seconds_to_wait(error)) is not None:
        facts["retry_after_ms"] = wait * 1e3
    return facts


def status_of(error: BaseException) -> int | None:
    """The HTTP status that *error* or its response has."""
    for status in (get(error, "status_code"), get(get(error, "response"), "status_code"), get(error, "status")):
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return int(status)
    return None


def seconds_to_wait(error: BaseException) -> float | None:
    """In how many seconds *error* says that the next attempt is allowed."""
    for wait in (get(error, "retry_after"), get(error, "retry_after_seconds")):
        if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 <= wait <= sys.float_info.max:
            return float(wait)
    return None
