"""What an error of any library says of trying again."""

from __future__ import annotations

import math
from typing import Any

from hub.exchange import retry_after_ms

_STATUSES = frozenset({408, 409, 429})
_ENDINGS = ("ConnectionError", "ConnectError", "NetworkError", "TimeoutError", "TimeoutException", "RateLimitError")
_NAMES = frozenset({"RemoteProtocolError", "ClientPayloadError", "Timeout", "gaierror"})


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed when it is sent again.

    What *error* says of itself counts first (`retryable`, as an LLMError has it), then its HTTP status (408, 409, 429
    and from 500 on), then whether its class is one for timeouts and broken connections, whatever library's. Never what
    is no Exception: a cancelled call stays cancelled.
    """
    if not isinstance(error, Exception):
        return False
    if isinstance(said := _get(error, "retryable"), bool):
        return said
    if (status := status_of(error)) is not None:
        return status in _STATUSES or status >= 500
    names = {cls.__name__ for cls in type(error).__mro__}
    return not names.isdisjoint(_NAMES) or any(name.endswith(_ENDINGS) for name in names)


def retry_after(error: BaseException) -> float | None:
    """In how many seconds the one who was asked allows the next attempt, as *error* or its response's headers say."""
    for name in ("retry_after", "retry_after_seconds"):
        wait = _get(error, name)
        if isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0:
            return float(wait)
    for source in (_get(error, "response"), error):
        if (headers := _get(source, "headers")) is not None and (wait := retry_after_ms(headers)) is not None:
            return max(wait, 0.0) / 1000.0 if math.isfinite(wait) else None
    return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that *error* or its response has."""
    for source, name in ((error, "status_code"), (_get(error, "response"), "status_code"), (error, "status")):
        status = _get(source, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return None


def _get(value: Any, name: str) -> Any:
    """An attribute of somebody else's object; None where it has none, or will not tell."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None
