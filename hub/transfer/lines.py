"""JSON lines, plain or compressed: written in pieces that stand for themselves, read within bounds."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import orjson
import zstandard

from hub.transfer.found import Broken, Found

Compression = Literal["", "gz", "zst"]

_CHUNK, _SLICE = 1 << 20, 256
_HOPELESS = 1_000
"""So many longest lines without an end: what is read is no text, or made to keep us busy."""
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}


def compression_of(path: Path) -> Compression:
    """By the file's ending."""
    return {".gz": "gz", ".zst": "zst"}.get(path.suffix.lower(), "")  # type: ignore[return-value]


def compressed(raw: bytes, how: Compression) -> bytes:
    """*raw* so that pieces written one after the other are one file of that kind."""
    if how == "gz":
        return gzip.compress(raw, compresslevel=6, mtime=0)
    if how == "zst":
        return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(raw)
    return raw


class JsonLines:
    """The records of a file of JSON lines, which may be compressed and need not be well-meant."""

    form = "jsonl"

    def __init__(self, file: BufferedReader[Any], total: int, *, longest: int) -> None:
        """
        Args:
            file: At its start.
            longest: Bytes of a line; longer ones are passed over, not held.
        """
        self._file, self.total, self._longest = file, total, longest

    @property
    def done(self) -> int:
        return self._file.tell() if self.total else 0

    def __iter__(self) -> Iterator[Found | Broken]:
        number = 0
        try:
            for line in self._lines():
                number += 1
                if line is None:
                    yield Broken(f"line {number}", f"it is longer than {self._longest >> 20} MiB (HUB_MAX_BODY_BYTES)")
                elif line.strip():
                    yield found_in(line, f"line {number}")
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            yield Broken(f"line {number + 1}", f"the compressed data is damaged or cut off here ({error})")

    def _lines(self) -> Iterator[bytes | None]:
        """Each line; None for one that is too long."""
        held: list[bytes] = []
        size = 0
        for chunk in self._chunks():
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                size += end - start
                yield b"".join((*held, chunk[start:end])) if size <= self._longest else None
                held.clear()
                size, start = 0, end + 1
            size += len(chunk) - start
            if size <= self._longest:
                held.append(chunk[start:])
            else:
                held.clear()
                if size > _HOPELESS * self._longest:
                    break
        if size:
            yield b"".join(held) if size <= self._longest else None

    def _chunks(self) -> Iterator[bytes]:
        start = self._file.peek(4)
        how = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")
        read = {"": self._plain, "gz": self._gunzipped, "zst": self._unpacked}[how]
        first = True
        for chunk in read():
            yield chunk.removeprefix(b"\xef\xbb\xbf") if first else chunk
            first = False

    def _plain(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            yield chunk

    def _gunzipped(self) -> Iterator[bytes]:
        with gzip.GzipFile(fileobj=self._file) as file:
            while chunk := file.read1(_CHUNK):
                yield chunk

    def _unpacked(self) -> Iterator[bytes]:
        """Frame after frame. What a slice of the file holds comes out at once, so the slices are small: 256 bytes can
        hold 8 MiB. (The library's own reader takes a file that is cut off for one that ends.)"""
        frame, waiting = None, b""
        while piece := waiting or self._file.read(_SLICE):
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(piece)
            waiting = frame.unused_data
            frame = None if frame.eof else frame
        if frame is not None:
            raise EOFError("the last frame has no end")


def found_in(text: bytes | str, place: str) -> Found | Broken:
    """The JSON value that *text* is."""
    try:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:  # Python's own takes NaN and half of a surrogate pair, which can be mended
            value = json.loads(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    except RecursionError:
        return Broken(place, "it is nested too deep")
    except ValueError as error:
        return Broken(place, f"it is no JSON ({error})")
    return Found(place, value, len(text))


def json_in(text: Any) -> Any:
    """What *text* stands for; *text* itself where it is none, or no JSON."""
    found = found_in(text, "") if isinstance(text, str) else None
    return found.value if isinstance(found, Found) else text
