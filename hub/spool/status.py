"""What the control files say of the spools of other processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.errors import HubError
from hub.spool.control import Accounting, Control
from hub.spool.folder import folders, is_held


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """One producer's spool, as it was a moment ago."""

    folder: Path
    alive: bool
    """Its process lives, or it is being recovered now."""
    accounting: Accounting | None
    """None: it cannot be read; see `problem`."""
    bytes: int
    """That its files take on the disk."""
    problem: str | None = None


def spools(root: Path) -> list[SpoolStatus]:
    """All spools under *root*, the oldest first; none when there is no such folder. Changes nothing."""
    found = []
    for folder in folders(root):
        try:
            accounting, problem = Control.open(folder).accounting(), None
        except (OSError, HubError) as error:
            accounting, problem = None, str(error)
        try:
            found.append(SpoolStatus(folder, is_held(folder), accounting, _disk_bytes(folder), problem))
        except FileNotFoundError:
            continue  # recovered and deleted meanwhile
        except OSError as error:
            found.append(SpoolStatus(folder, True, accounting, 0, str(error)))
    return found


def _disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
