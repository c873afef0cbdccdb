"""The segments of one spool: those in use, those ready ahead, those passed."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from pathlib import Path

from hub.polite import Rest, no_rest
from hub.spool.bounds import MEMORY_SEGMENT
from hub.spool.segments import DATA, Segment, frame_size

READY = 2


class Shelf:
    """Hands out segments to the append path and does the slow part of their lives in the keeper's thread.

    A segment that lies in `ready` is not being worked on: only so may the append path take it at any moment.
    """

    def __init__(self, folder: Path | None, *, segment_bytes: int, max_frame_bytes: int) -> None:
        self.folder = folder
        """None: new segments are in memory."""
        self.segment_bytes = segment_bytes
        self._longest = DATA + frame_size(max_frame_bytes)
        self._home = folder
        self._file_bytes = segment_bytes
        self._unsynced_names = False
        self._syncing = threading.Lock()
        self._numbers = itertools.count(1)
        self.newest: Segment | None = None
        self.in_use: dict[int, Segment] = {}
        self.ready: deque[Segment] = deque()
        self.retired: deque[Segment] = deque()
        """Full ones whose mapping is still to be undone."""

    def make(self) -> Segment:
        """A new segment. Raises: OSError: There is no room."""
        segment = Segment.create(
            self.folder,
            next(self._numbers),
            allocated=self.segment_bytes,
            size=self.segment_bytes + self._longest,
        )
        self._unsynced_names = True
        return segment

    @property
    def in_memory_only_now(self) -> bool:
        """Whether segments should be files, and are not."""
        return self.folder is None and self._home is not None

    def use_memory(self) -> None:
        """Make no more files: there is no room."""
        self.folder = None
        self.segment_bytes = min(self.segment_bytes, MEMORY_SEGMENT)

    def use_disk(self) -> None:
        """Make files again, if there is room for one. Raises: OSError"""
        self.folder, self.segment_bytes = self._home, self._file_bytes
        try:
            self.ready.append(self.make())
        except OSError:
            self.use_memory()
            raise

    def prepare(self, rest: Rest, *, sync: bool = False) -> None:
        """Have two segments ready, the pages of one of them present. Raises: OSError: There is no room."""
        while len(self.ready) < READY:
            self.ready.append(self.make())
        if any(segment.present for segment in self.ready):
            return
        try:
            segment = self.ready.popleft()
        except IndexError:
            return
        segment.touch(rest)
        if sync:
            segment.presync()
        self.ready.appendleft(segment)

    def use(self, segment: Segment) -> Segment:
        """Put *segment* behind the newest and seal that one. Raises: OSError: It cannot be mapped."""
        old = self.newest
        if old is None:
            segment.activate(1, 0, 0)
        else:
            segment.activate(old.ordinal + 1, old.base + max(old.allocated, old.end), old.events_before + old.events)
        self.in_use[segment.ordinal] = segment
        self.newest = segment
        if old is not None:
            old.sealed = True
            self.retired.append(old)
        return segment

    def retire(self, rest: Rest) -> None:
        """Undo the mappings of full segments."""
        try:
            while self.retired:
                self.retired.popleft().retire(rest)
        except IndexError:  # the append path was quicker
            pass

    def remove_before(self, ordinal: int, rest: Rest) -> None:
        """Delete the segments that everybody has passed."""
        for number in [number for number in list(self.in_use) if number < ordinal]:
            self.in_use.pop(number).remove(rest)

    def sync(self) -> None:
        """Bring to the disk what was appended so far. Raises: OSError"""
        with self._syncing:
            if self._unsynced_names and self._home is not None:
                self._unsynced_names = False
                try:
                    for folder in (self._home, self._home.parent):  # the segments' names, and the folder's own
                        _sync_names(folder)
                except OSError:
                    self._unsynced_names = True
                    raise
            for segment in list(self.in_use.values()):
                if segment.dirty:
                    segment.sync()

    @property
    def dirty(self) -> bool:
        return any(segment.dirty for segment in list(self.in_use.values()))

    def drop_ready(self) -> None:
        """Delete the segments that were made ahead."""
        while self.ready:
            self.ready.popleft().remove(no_rest)

    def all(self) -> list[Segment]:
        return [*self.in_use.values(), *self.ready]


def _sync_names(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
