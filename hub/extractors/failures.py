"""What a failure says beside its type and text: exceptions of any library, and the status and headers of answers."""

from __future__ import annotations

import email.utils
import math
import sys
import time
from typing import Any

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


def is_transient(status_code: int) -> bool:
    """Whether the same request may have another answer than this one when it is sent again."""
    return status_code in (408, 409, 429) or status_code >= 500


def retry_after_ms(headers: Any) -> float | None:
    """How long the server asks to wait, from `retry-after-ms` or `retry-after`; None when it does not say."""
    wait = _number(_header(headers, "retry-after-ms"))
    if wait is None and (seconds := _seconds_until(_header(headers, "retry-after"))) is not None:
        wait = seconds * 1000.0
    return max(wait, 0.0) if wait is not None and math.isfinite(wait) else None


def _header(headers: Any, name: str) -> Any:
    """Of any library's headers; those in a plain dict may be spelt as they were sent."""
    try:
        value = headers.get(name)
        return headers.get(name.title()) if value is None else value
    except Exception:  # no mapping, though it is called headers
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seconds_until(value: Any) -> float | None:
    """Seconds as they are, and until a date."""
    try:
        date = email.utils.parsedate_tz(value)
        return _number(value) if date is None else email.utils.mktime_tz(date) - time.time()
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
