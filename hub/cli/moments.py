"""Times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_ns(text: str, now: datetime) -> int:
    """UTC Unix nanoseconds of a date, a time (UTC where it names no zone), or of so long before *now*: 7d, 12h.

    Raises: typer.BadParameter: It is none of them.
    """
    if ago := _AGO.fullmatch(text.strip().lower()):
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is no time: 2026-11-20, 2026-11-20T08:30:00+01:00, or 7d for seven days ago"
            ) from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
