"""Segment files: preallocated, written through a shared mapping, read by pread.

What is in a shared mapping belongs to the kernel and survives kill -9. A frame is

    length u32 | crc u32 | first_seq u64 | first_version u32 | count u16 | format u16 | body | padding to 8 bytes

and its length word is written last: a reader that finds 0 there is at the end. The crc covers the header behind it and
the body. Frames are never written into a hole, where a full disk would be SIGBUS instead of an error.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hub.polite import Rest

FORMAT = 1
FRAME = struct.Struct("=IIQIHH")
LENGTH = struct.Struct("=I")
REST = struct.Struct("=QIHH")
"""Of a frame's header what the crc covers."""

SEGMENT = struct.Struct("=8sQQ")
"""magic, ordinal, events before it. The ordinal is 0 until the segment is put to use."""
MAGIC = b"hubseg\x00\x01"
DATA = 64
"""Where frames begin."""

SUFFIX = ".seg"
MAX_COUNT = 0xFFFF
CRC_SLICE = 4096
"""zlib gives up the interpreter for more, and getting it back beside a busy thread takes milliseconds."""
TOUCH = 64 * 1024
WARM = 2 << 20
POPULATE_WRITE = 23
"""Linux's MADV_POPULATE_WRITE, which the mmap module does not name."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ZEROS = bytes(TOUCH)


def checksum(data: bytes, start: int = 0) -> int:
    """CRC-32 without ever giving up the interpreter."""
    if len(data) <= CRC_SLICE:
        return zlib.crc32(data, start)
    view = memoryview(data)
    for offset in range(0, len(data), CRC_SLICE):
        start = zlib.crc32(view[offset : offset + CRC_SLICE], start)
    return start


def frame_size(body_bytes: int) -> int:
    """Bytes that a frame with such a body takes in a segment."""
    return (FRAME.size + body_bytes + 7) & ~7


@dataclass(frozen=True, slots=True)
class Frame:
    """What was appended together, as it stands in a segment."""

    first_seq: int
    first_version: int
    count: int
    body: bytes
    end: int
    """Where the next frame begins."""


class Source(Protocol):
    """Bytes of a segment, for one thread."""

    def read(self, length: int, start: int) -> bytes: ...

    def close(self) -> None: ...


class FileSource:
    """Reads through a descriptor of its own, so that the segment may be removed meanwhile."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, length: int, start: int) -> bytes:
        return os.pread(self._fd, length, start)

    def close(self) -> None:
        os.close(self._fd)


class MapSource:
    """Reads a segment in memory. Once that is removed, reads fail with ValueError or give zeros."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped

    def read(self, length: int, start: int) -> bytes:
        return self._map[start : start + length]

    def close(self) -> None: ...


class Segment:
    """One file, or as much anonymous memory. Only the appending side maps and writes it."""

    def __init__(self, fd: int, path: Path | None, size: int, allocated: int) -> None:
        self.fd = fd
        self.path = path
        """None: the segment is in memory and dies with the process."""
        self.size = size
        self.allocated = allocated
        self.map: mmap.mmap | None = None
        self.ordinal = 0
        self.base = 0
        """Bytes of the segments before this one."""
        self.events_before = 0
        self.end = DATA
        """Frames before this are whole. Only the append path moves it."""
        self.events = 0
        self.sealed = False
        self.present = False
        """Every page was written to once, see `touch`."""
        self.warm_until = 0
        """Pages before this are as `warm` left them."""
        self.synced = DATA
        self._files = threading.Lock()

    @classmethod
    def create(cls, folder: Path | None, number: int, *, allocated: int, size: int) -> Segment:
        """A segment with *allocated* bytes of its *size* reserved; in memory when there is no folder.

        Raises: OSError: There is no room, or no such folder.
        """
        if folder is None:
            segment = cls(-1, None, size, allocated)
            segment.map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            return segment
        path = folder / f"{number:08d}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, allocated)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(fd, path, size, allocated)

    def open_map(self) -> mmap.mmap:
        """Map the file for writing. Raises: OSError"""
        if self.map is None:
            self.map = mmap.mmap(self.fd, self.size)
        return self.map

    def touch(self, rest: Rest) -> None:
        """Make every page present by writing zeros, so that the first append to it finds it there."""
        mapped = self.open_map()
        for offset in range(0, self.allocated, TOUCH):
            step = min(TOUCH, self.allocated - offset)
            mapped[offset : offset + step] = _ZEROS[:step]
            rest()
        self.present = True

    def warm(self, rest: Rest) -> None:
        """Have the pages that come next writable. A sync leaves every page clean, and the first write to a clean page
        costs the program more than the copy itself (1.2 us instead of 0.15, measured)."""
        mapped = self.map
        if mapped is None or self.warm_until - self.end > WARM // 2:
            return
        start = max(self.warm_until, self.end // mmap.PAGESIZE * mmap.PAGESIZE)
        self.warm_until = min(start + WARM, self.allocated)
        try:
            for offset in range(start, self.warm_until, TOUCH):
                mapped.madvise(POPULATE_WRITE, offset, min(TOUCH, self.allocated - offset))
                rest()
        except (OSError, ValueError):  # a kernel before 5.14, or the segment was let go meanwhile
            pass

    def activate(self, ordinal: int, base: int, events_before: int) -> mmap.mmap:
        """Put the segment to use behind the others. Raises: OSError: It cannot be mapped."""
        mapped = self.open_map()
        SEGMENT.pack_into(mapped, 0, MAGIC, ordinal, events_before)
        self.ordinal, self.base, self.events_before = ordinal, base, events_before
        return mapped

    def reserve(self, end: int) -> None:
        """Make room up to *end*, for the rare frame that is longer than a segment. Raises: OSError"""
        if self.path is not None:
            os.posix_fallocate(self.fd, self.allocated, end - self.allocated)
        self.allocated = end

    def retire(self, rest: Rest) -> None:
        """Let go of the mapping of a file that is full; it is read through descriptors."""
        if self.path is not None:
            self._unmap(rest)

    def _unmap(self, rest: Rest) -> None:
        mapped, self.map = self.map, None
        if mapped is None:
            return
        step = 4 * TOUCH  # to unmap 16 MiB at once holds the interpreter for a millisecond
        for offset in range(0, self.allocated - step, step):
            mapped.madvise(mmap.MADV_DONTNEED, offset, step)
            rest()
        mapped.close()

    def open_source(self) -> Source:
        """For one reading thread. Raises: OSError: The segment was removed."""
        with self._files:
            if self.fd >= 0:
                return FileSource(os.dup(self.fd))
        mapped = self.map
        if self.path is not None or mapped is None:
            raise OSError(errno.EBADF, "the segment was removed")
        return MapSource(mapped)

    @property
    def dirty(self) -> bool:
        """Whether frames were appended since the last sync. Memory never is."""
        return self.path is not None and self.synced < self.end

    def sync(self) -> None:
        """Bring what was appended so far to the disk. Raises: OSError"""
        end = self.end
        with self._files:
            fd = os.dup(self.fd) if self.fd >= 0 else -1
        if fd >= 0:
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        self.synced = end

    def presync(self) -> None:
        """Bring the zeros of a segment made ahead to the disk: later syncs then write only frames. Raises: OSError"""
        if self.path is not None:
            os.fdatasync(self.fd)

    def remove(self, rest: Rest) -> None:
        """Delete the file. Readers that have it open may read on."""
        self._unmap(rest)
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of map and descriptor; the file stays. Closing twice is harmless."""
        mapped, self.map = self.map, None
        if mapped is not None:
            mapped.close()
        with self._files:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def forget_in_child(self) -> None:
        """Close after a fork, when a thread that is not there any more may have held a lock."""
        self._files = threading.Lock()
        self.close()


class BlockReader:
    """Reads the frames of one segment in blocks."""

    def __init__(self, source: Source, *, block_bytes: int = 1 << 20) -> None:
        self._source = source
        self._block_bytes = block_bytes
        self._block = b""
        self._start = 0

    def close(self) -> None:
        self._source.close()

    def _bytes(self, start: int, length: int, limit: int) -> bytes:
        """Up to *length* bytes from *start*; fewer at the end of the file. Never reads ahead of *limit*: what is not
        yet a frame may be one at the next read."""
        offset = start - self._start
        if offset < 0 or offset + length > len(self._block):
            wanted = min(max(length, self._block_bytes), limit - start)
            self._block, self._start, offset = self._source.read(wanted, start), start, 0
        return self._block[offset : offset + length]

    def frame(self, offset: int, limit: int, *, verify: bool) -> Frame | None:
        """The frame at *offset*, or None: nothing is there, or something torn, damaged or of another format.

        Args:
            limit: No frame reaches beyond.
            verify: False where the writer, in the same process, said that all before *limit* is whole.
        Raises: OSError, ValueError: The segment cannot be read.
        """
        if offset + FRAME.size > limit:
            return None
        header = self._bytes(offset, FRAME.size, limit)
        if len(header) < FRAME.size:
            return None
        length, crc, first_seq, first_version, count, layout = FRAME.unpack(header)
        if length == 0 or layout != FORMAT or offset + FRAME.size + length > limit:
            return None
        body = self._bytes(offset + FRAME.size, length, limit)
        if verify and (len(body) < length or checksum(header[8:], checksum(body)) != crc):
            return None
        return Frame(first_seq, first_version, count, body, offset + frame_size(length))


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment that a dead process left."""

    path: Path
    ordinal: int
    events_before: int


def segment_files(folder: Path) -> list[SegmentFile]:
    """The segments in *folder* that were put to use, in the order of their use. Raises: OSError"""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with path.open("rb") as file:
            head = file.read(SEGMENT.size)
        if len(head) == SEGMENT.size:
            magic, ordinal, events_before = SEGMENT.unpack(head)
            if magic == MAGIC and ordinal > 0:
                found.append(SegmentFile(path, ordinal, events_before))
    return sorted(found, key=lambda segment: segment.ordinal)


def scan(path: Path, offset: int = DATA) -> Iterator[Frame]:
    """The whole frames of a file, from *offset* to the first that is not whole. Raises: OSError"""
    reader = BlockReader(FileSource(os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
    try:
        limit = path.stat().st_size
        while (frame := reader.frame(offset, limit, verify=True)) is not None:
            yield frame
            offset = frame.end
    finally:
        reader.close()
