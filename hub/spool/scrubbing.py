"""What every sink has passed stands in a segment until that is used up; here it is overwritten, whoever's spool it is.

The process that writes a spool never looks at what its sinks have passed, nor does a recovery, so nobody has to be
asked.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.errors import HubError
from hub.spool.control import Control
from hub.spool.folder import folders
from hub.spool.housekeeping import STORE
from hub.spool.segments import DATA, segment_files

_ZEROS = bytes(1 << 16)
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Undone:
    """A spool that holds something yet: its process is alive, or nobody could recover it."""

    folder: Path
    pid: int | None
    waiting: Mapping[str, int]
    """Events by the sink that has not had them yet."""
    problem: str | None = None
    """Why it could not be looked at, or overwritten."""


def wait_for_stores(root: Path, timeout: float) -> None:
    """Wait until the store has had what waits for it now in the spools under *root*, at most *timeout* seconds."""
    deadline = time.monotonic() + timeout
    targets = {folder: control.admitted for folder in folders(root) if (control := _look(folder)) is not None}
    while targets and time.monotonic() < deadline:
        time.sleep(_POLL)
        targets = {
            folder: admitted
            for folder, admitted in targets.items()
            if (control := _look(folder)) is not None and control.sink(STORE).passed < admitted
        }


def overwrite_passed(root: Path) -> list[Undone]:
    """Overwrite what all sinks have passed in the spools under *root*. Returns: Where something is left."""
    found = []
    for folder in folders(root):
        try:
            undone = _overwrite_in(folder)
        except FileNotFoundError:
            continue  # it ended meanwhile, and was deleted
        except (OSError, HubError) as error:
            undone = Undone(folder, None, {}, str(error))
        if undone is not None:
            found.append(undone)
    return found


def waiting_elsewhere(root: Path, project: str) -> list[Path]:
    """Spools beside *root*, of databases of other names, in which something of *project* waits or may wait."""
    found = []
    for other in sorted(root.parent.glob("*")):
        if other == root or not other.is_dir():
            continue
        for folder in folders(other):
            control = _look(folder)
            if control is None or (control.meta["constants"]["project"] == project and _waiting(control)):
                found.append(folder)
    return found


def _waiting(control: Control) -> dict[str, int]:
    return {sink: counts.waiting for sink, counts in control.accounting().sinks.items() if counts.waiting > 0}


def _look(folder: Path) -> Control | None:
    try:
        return Control.open(folder)
    except (OSError, HubError):
        return None


def _overwrite_in(folder: Path) -> Undone | None:
    control = Control.open(folder)
    state = min((control.sink(sink) for sink in control.sinks), key=lambda one: (one.ordinal, one.offset))
    for segment in segment_files(folder):
        if segment.ordinal < state.ordinal:
            _overwrite(segment.path, segment.path.stat().st_size)
        elif segment.ordinal == state.ordinal:
            _overwrite(segment.path, state.offset)
    waiting = _waiting(control)
    return Undone(folder, control.meta.get("pid"), waiting) if waiting else None


def _overwrite(path: Path, end: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        start = DATA
        while (start := _next_data(fd, start)) < end:
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
            for offset in range(start, stop, len(_ZEROS)):
                os.pwrite(fd, _ZEROS[: stop - offset], offset)
            start = stop
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _next_data(fd: int, start: int) -> int:
    """Where, from *start* on, the file is no hole: nothing is to be overwritten in one, it would only take room."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.fstat(fd).st_size
        raise
