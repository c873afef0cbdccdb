"""What was dropped whole: how much, why, and which sequence numbers."""

from __future__ import annotations

from typing import Any

from hub.spool.control import Control, Reason

MOST_RANGES = 32
"""Of sequence numbers in one hub:dropped. The last one then spans what comes, kept events too."""


class DropLedger:
    """Counts live in the control file; the ranges, until an event has named them, in memory."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._ranges: dict[Reason, list[list[int]]] = {}

    def add(self, reason: Reason, first: int, last: int) -> None:
        """No sink will get the events with these sequence numbers."""
        self._control.drop(reason, last - first + 1)
        ranges = self._ranges.setdefault(reason, [])
        if ranges and (ranges[-1][1] == first - 1 or len(ranges) >= MOST_RANGES):
            ranges[-1][1] = last
        else:
            ranges.append([first, last])

    def take(self) -> list[dict[str, Any]]:
        """Payloads of the hub:dropped events that are due, of all sinks."""
        ranges, self._ranges = self._ranges, {}
        reports = self._control.reports()
        for report in reports:
            if report["sink"] is None:
                report["producer_seqs"] = ranges.get(Reason[report["reason"].upper()], [])
        return reports
