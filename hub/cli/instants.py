"""Times as people type them: 7d ago, a day, or a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer

from hub.config import duration


def instant(text: str, option: str, now: Callable[[], int] = time.time_ns) -> int:
    """UTC Unix nanoseconds of *text*. Without a zone it is UTC; a day is its beginning.

    Raises: typer.BadParameter
    """
    try:
        return now() - round(duration(text).total_seconds() * 1e9)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a day such as 2026-01-31, a moment such as 2026-01-31T12:00Z, or how long ago: 7d, 12h"
        ) from None
