"""Times as people type them: 7d ago, a day, or a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer

from hub.config import duration

_LAST_NS = 2**63 - 1
"""What stores can hold, in the year 2262."""


def instant(text: str, option: str, now: Callable[[], int] = time.time_ns) -> int:
    """UTC Unix nanoseconds of *text*, from 1970 and as far as stores know time. Without a zone it is UTC; a day is its
    beginning.

    Raises: typer.BadParameter
    """
    try:
        return max(0, now() - round(duration(text).total_seconds() * 1e9))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ns = int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
        return min(max(0, ns), _LAST_NS)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a day such as 2026-01-31, a moment such as 2026-01-31T12:00Z, or how long ago: 7d, 12h"
        ) from None
