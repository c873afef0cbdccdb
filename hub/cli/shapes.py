"""Values as people read them: short, honest about what is unknown, and harmless to a terminal."""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal

UNKNOWN = "-"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """*text* without what could drive a terminal or turn reading around: what a model wrote is not to be trusted."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text).replace("\r\n", "\n"))


def escaped(json: str) -> str:
    """*json*, a JSON text, with the same characters spelled out: it says the same, and drives no terminal."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", json)


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
        return number(anything)
    if isinstance(anything, bytes):
        return f"{len(anything)} bytes"
    return one_line(anything)


def number(real: float) -> str:
    """Six digits, or all those before the point, without an exponent as long as that is readable."""
    text = f"{real:.6g}"
    if "e" not in text or not math.isfinite(real):
        return text
    if 1 <= abs(real) < 1e16:
        return f"{real:.3f}".rstrip("0").rstrip(".")
    return f"{Decimal(text):f}" if abs(real) >= 1e-12 and abs(real) < 1 else text


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
    """Dollars, to the cent, or as many places as it takes to see a digit; unknown is not zero."""
    if nanos is None:
        return UNKNOWN
    if nanos <= 0:
        return f"-{cost(-nanos)}" if nanos else "$0"
    if nanos >= 10**9:
        return f"${nanos / 1e9:,.2f}"
    return f"${nanos / 1e9:.{max(4, 10 - len(str(nanos)))}f}"


def exact_cost(nanos: int | None) -> str:
    """Dollars, to the last nano-dollar."""
    if nanos is None:
        return UNKNOWN
    whole, rest = divmod(abs(nanos), 10**9)
    places = f"{rest:09d}"
    places = places[:6] + places[6:].rstrip("0")
    return f"{'-' if nanos < 0 else ''}${whole:,}.{places}"


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
