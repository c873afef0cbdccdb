"""Times as people type them: 7d ago, a day, or a moment."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer

_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([smhdw])")
_LAST_NS = 2**63 - 1
"""What stores can hold, in the year 2262."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def instant(text: str, option: str, now: Callable[[], int] = time.time_ns) -> int:
    """UTC Unix nanoseconds of *text*, from 1970 and as far as stores know time. Without a zone it is UTC; a day is its
    beginning.

    Raises: typer.BadParameter
    """
    if match := _AGO.fullmatch(text.strip().lower()):
        return max(0, now() - round(float(match[1]) * _SECONDS[match[2]] * 1e9))
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ns = int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
        return min(max(0, ns), _LAST_NS)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a day such as 2026-01-31, a moment such as 2026-01-31T12:00Z, or how long ago: 7d, 12h"
        ) from None
