"""UUIDs of version 7: those that follow from something else, so that whoever makes them makes the same, and the time in
any of them."""

from __future__ import annotations

import hashlib
from uuid import UUID

_MOST_MS = 2**48 - 1
_MS = 10**6


def uuid7_from(ms: int, seed: bytes) -> str:
    """A UUIDv7 of the time *ms*, UTC Unix milliseconds, and 74 bits that follow from *seed*.

    Raises: ValueError: There is no room for the time in 48 bits.
    """
    digest = _digest(seed)
    return _uuid7(ms, digest & 0xFFF, digest >> 12)


def uuid7_at(ns: int, seed: bytes) -> str:
    """A UUIDv7 of the time *ns*, UTC Unix nanoseconds, to a quarter of a microsecond, so that ids of one millisecond
    are in the order of their times; its other 62 bits follow from *seed*.

    Raises: ValueError: There is no room for the time in 48 bits of milliseconds.
    """
    return _uuid7(ns // _MS, (ns % _MS << 12) // _MS, _digest(seed))


def id_ms(uuid7: str) -> int | None:
    """The time in an id, UTC Unix milliseconds; None if it is no UUID."""
    try:
        return int(uuid7[:8] + uuid7[9:13], 16)
    except ValueError:
        return None


def id_bound(ns: int) -> str:
    """What all ids of the time *ns*, UTC Unix nanoseconds, and later are not below; whole milliseconds, downwards."""
    digits = f"{min(max(ns // _MS, 0), _MOST_MS):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _digest(seed: bytes) -> int:
    return int.from_bytes(hashlib.sha256(seed).digest(), "big")


def _uuid7(ms: int, next_12_bits: int, rest: int) -> str:
    if not 0 <= ms <= _MOST_MS:
        raise ValueError(f"no UUID has the time {ms}")
    return str(UUID(int=ms << 80 | 7 << 76 | next_12_bits << 64 | 2 << 62 | rest & (1 << 62) - 1))
