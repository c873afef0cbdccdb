"""The slow work that appends leave to the keeper's thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hub.polite import Rest
from hub.spool.cursor import SinkCursor

if TYPE_CHECKING:
    from hub.spool import Spool

STORE = "store"
"""The sink whose cursor alone holds segments back."""
DISK_RETRY = 5.0


class Housekeeping:
    """For one thread at a time, but for `sync_files`, which the syncer's thread may call beside the keeper's."""

    def __init__(self, spool: Spool, rest: Rest) -> None:
        self._spool = spool
        self._rest = rest
        self._disk_again = 0.0

    def tend(self) -> None:
        """Write deferred frames, undo mappings, delete what was passed, have segments ready ahead."""
        spool = self._spool
        if spool.has_deferred:
            spool.write_deferred()
        spool.shelf.retire(self._rest)
        self._reclaim()
        if not spool.closed:
            self._prepare()
            if (current := spool.shelf.newest) is not None:
                current.warm(self._rest)

    def _reclaim(self) -> None:
        cursors, lag = self._spool.cursors, self._spool.bounds.lag
        store = cursors[STORE].position
        for cursor in cursors.values():
            if store - cursor.position > lag:
                self._hurry(cursor, store - lag)
        self._spool.shelf.remove_before(min(cursor.state.ordinal for cursor in cursors.values()), self._rest)

    def _hurry(self, cursor: SinkCursor, position: int) -> None:
        for segment in list(self._spool.shelf.in_use.values()):
            if segment.base >= position:
                cursor.skip_to(segment)
                return

    def _prepare(self) -> None:
        spool = self._spool
        if spool.shelf.in_memory_only_now and time.monotonic() > self._disk_again:
            self.try_disk()
        try:
            spool.shelf.prepare(self._rest, sync=spool.durability == "durable")
        except OSError as error:
            if spool.shelf.folder is not None:
                with spool.exclusive():
                    spool.fall_back(error)
                    spool.weigh()

    def fell_back(self) -> None:
        """The disk was full just now: leave it alone for a while."""
        self._disk_again = time.monotonic() + DISK_RETRY

    def try_disk(self) -> None:
        """Go back to files if there is room again."""
        spool = self._spool
        self.fell_back()
        try:
            spool.shelf.use_disk()
        except OSError:
            return
        with spool.exclusive():
            spool.bounds = spool.full_bounds
            spool.floor = spool.cursors[STORE].position
            spool.weigh()
        spool.trouble.append({"reason": "disk_again"})

    def sync_files(self) -> bool:
        """Bring what was appended so far to the disk; False: part of it is in memory. Raises: OSError"""
        spool = self._spool
        if spool.shelf.dirty:
            spool.shelf.sync()
            spool.control.sync()
            if (current := spool.shelf.newest) is not None:
                current.warm_until = 0
        return spool.shelf.folder is not None
