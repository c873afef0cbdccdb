"""Ids that follow from something else, so that whoever makes them makes the same."""

from __future__ import annotations

import hashlib
from uuid import UUID

_MOST_MS = 2**48 - 1


def uuid7_from(ms: int, seed: bytes) -> str:
    """A UUIDv7 of the time *ms*, UTC Unix milliseconds, and 74 bits that follow from *seed*.

    Raises: ValueError: There is no room for the time in 48 bits.
    """
    if not 0 <= ms <= _MOST_MS:
        raise ValueError(f"no UUID has the time {ms}")
    digest = int.from_bytes(hashlib.sha256(seed).digest(), "big")
    number = ms << 80 | 7 << 76 | (digest & 0xFFF) << 64 | 2 << 62 | digest >> 12 & (1 << 62) - 1
    return str(UUID(int=number))
