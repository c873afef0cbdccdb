"""How much may wait, and who still gets in."""

from __future__ import annotations

from dataclasses import dataclass

from hub.log import Pressure, Priority

MEBIBYTE = 1 << 20
DISK_BYTES, MEMORY_BYTES = 1024 * MEBIBYTE, 32 * MEBIBYTE
DISK_SEGMENT, MEMORY_SEGMENT = 16 * MEBIBYTE, 2 * MEBIBYTE
LAG = 64 * MEBIBYTE
"""How far behind the store another sink may hold segments back."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes waiting for the store at which something changes. All that a spool's files take is at most `max_bytes`."""

    shed: int
    """Above: new content is left out."""
    essential: int
    """Above: only calls' own events and the hub's."""
    reserve: int
    """Above: only the hub's account of what it dropped."""
    capacity: int
    lag: int
    """What a sink other than the store may be behind it."""

    @classmethod
    def of(cls, max_bytes: int, segment_bytes: int, *, sinks: int = 2) -> Bounds:
        """Room is set aside for two segments ready ahead, one partly passed, and for slow sinks."""
        lag = min(LAG, max_bytes // 8)
        ahead = 3 * segment_bytes + (lag if sinks > 1 else 0)
        capacity = max(max_bytes - ahead, max_bytes // 2)
        return cls(
            shed=min(max_bytes // 4, capacity // 2),
            essential=capacity * 9 // 10,
            reserve=capacity - min(MEBIBYTE, capacity // 20),
            capacity=capacity,
            lag=lag,
        )

    def admits(self, waiting: int, priority: int) -> bool:
        """Whether a frame may come in with which *waiting* bytes would wait."""
        if waiting <= self.essential:
            return True
        return priority > Priority.EVENT and waiting <= (
            self.capacity if priority >= Priority.RESERVED else self.reserve
        )

    def pressure(self, waiting: int) -> Pressure:
        if waiting <= self.shed:
            return Pressure.NONE
        return Pressure.SHED_CONTENT if waiting <= self.essential else Pressure.ESSENTIAL_ONLY

    def next_gate(self, waiting: int) -> int:
        """Up to how many waiting bytes nothing changes for anybody. Above `essential`: every frame is looked at."""
        return self.shed if waiting <= self.shed else self.essential if waiting <= self.essential else 0
