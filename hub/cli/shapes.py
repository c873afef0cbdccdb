"""Values as people read them: short, honest about what is unknown, and harmless to a terminal."""

from __future__ import annotations

import re
from datetime import datetime

UNKNOWN = "-"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """*text* without what could drive a terminal or turn reading around: what a model wrote is not to be trusted."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """*text*, cleaned, on one line."""
    return " ".join(clean(text).split())


def value(anything: object) -> str:
    """*anything* for a cell of a table."""
    if anything is None:
        return UNKNOWN
    if isinstance(anything, bool):
        return "true" if anything else "false"
    if isinstance(anything, float):
        return f"{anything:.6g}"
    if isinstance(anything, bytes):
        return f"{len(anything)} bytes"
    return one_line(anything)


def many(count: int, noun: str) -> str:
    """1 stream, 2 streams."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(ms: float | None) -> str:
    """850ms, 1.24s, 2m05s, 3h20m."""
    if ms is None:
        return UNKNOWN
    if ms < 999.5:
        return f"{ms:.0f}ms" if ms >= 9.95 else f"{ms:.1f}ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.2f}s" if seconds < 9.995 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def tokens(count: int | None) -> str:
    """812, 1.2k, 34k, 1.5M."""
    if count is None:
        return UNKNOWN
    for least, size, letter in ((999_500, 1_000_000, "M"), (1_000, 1_000, "k")):
        if count >= least:
            scaled = count / size
            return f"{scaled:.1f}{letter}" if scaled < 9.95 else f"{scaled:.0f}{letter}"
    return str(count)


def cost(nanos: int | None) -> str:
    """Dollars; unknown is not zero."""
    if nanos is None:
        return UNKNOWN
    if nanos == 0:
        return "$0"
    dollars = nanos / 1e9
    if dollars >= 1:
        return f"${dollars:,.2f}"
    return f"${dollars:.4f}" if dollars >= 0.0001 else f"${dollars:.0e}"


def size(count: float | None) -> str:
    """12 B, 3.4 KiB, 1.2 GiB."""
    if count is None:
        return UNKNOWN
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1023.95 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def moment(utc: str | None, now: datetime) -> str:
    """A time of a view in the zone of *now*, as short as it can be: 14:03:22 today, 11-20 14:03 this year."""
    if utc is None:
        return UNKNOWN
    try:
        local = datetime.fromisoformat(utc).astimezone(now.tzinfo)
    except ValueError:
        return one_line(utc)
    if local.date() == now.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%m-%d %H:%M}" if local.year == now.year else f"{local:%Y-%m-%d}"
