"""Where a spool lives: a folder with a lock and a control file, or nowhere but in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hub.spool.control import Control
from hub.spool.folder import make_folder


class Home(NamedTuple):
    """`error` says why there is no folder where there should be one."""

    folder: Path | None
    lock_fd: int
    control: Control
    error: OSError | None


def make_home(root: Path | None, meta: Mapping[str, Any], sinks: Sequence[str]) -> Home:
    """A new home under *root*; without a root, or when no folder can be made there, in memory. Raises: OSError"""
    made: list[Control] = []
    error: OSError | None = None
    if root is not None:
        producer = meta["constants"]["producer"]
        try:
            folder, fd = make_folder(root, producer, lambda young: made.append(Control.create(young, meta, sinks)))
            return Home(folder, fd, made[0], None)
        except OSError as raised:
            error = raised
    return Home(None, -1, Control.create(None, meta, sinks), error)
