"""Times as people type them: 7d ago, a day, or a moment."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import typer

_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def instant(text: str, option: str) -> int:
    """UTC Unix nanoseconds of *text*. Without a zone it is UTC; a day is its beginning.

    Raises: typer.BadParameter
    """
    if match := _AGO.fullmatch(text.strip().lower()):
        return time.time_ns() - round(float(match[1]) * _SECONDS[match[2]] * 1e9)
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a day such as 2026-01-31, a moment such as 2026-01-31T12:00Z, or how long ago: 7d, 12h"
        ) from None
