"""What a check of `hub doctor` says."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "warn", "fail"]


class Finding(NamedTuple):
    """What one check found."""

    check: str
    state: State
    finding: str
    remedy: str = ""
