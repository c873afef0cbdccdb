"""Content and what stands for it in an event's row.

A piece is one message, or what stands under another key of a content payload, as JSON. Equal pieces of a project are
stored once, under a hash keyed with the project's key: without the key nobody can test the store for a text they guess.
Messages and attributes of spans stay plain, so that views can read them; other large pieces (wire bodies, tools) are
packed with zstd.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import zstandard

from hub.events import Data
from hub.messages import Part, parts
from hub.polite import Rest

MESSAGES, ATTRIBUTES = "messages", "attributes"
_TOOLS = frozenset(("tool_call", "tool_result"))
_PLAIN_BELOW = 512
_LEVEL = 1
_SLICE = 2047  # hashlib gives up the GIL above this, and getting it back beside a busy thread takes 5 ms
_WORTH_GIVING_UP_THE_GIL = 65_536


class Shape(NamedTuple):
    """What projections need of a message: how many parts, and, numbered, those that have to do with tools."""

    size: int
    tools: tuple[tuple[int, Part], ...]


_SIMPLE = Shape(1, ())


class Piece:
    """A piece of content on its way into the store."""

    __slots__ = ("hash", "is_read_by_views", "message", "packed", "parts", "project", "raw", "shape")

    def __init__(
        self,
        hash: bytes,
        project: str,
        raw: bytes,
        message: Any = None,
        *,
        is_message: bool = False,
        is_read_by_views: bool = False,
    ) -> None:
        self.is_read_by_views = is_read_by_views
        self.hash, self.project, self.raw, self.message = hash, project, raw, message
        self.parts: list[Part] | None = None if is_message else []
        self.shape = _SIMPLE
        self.packed: bytes | None = None
        """Set by `make_ready` for pieces that are stored packed."""

    @property
    def is_large(self) -> bool:
        return len(self.raw) >= _PLAIN_BELOW


def make_ready(pieces: Iterable[Piece], rest: Rest) -> None:
    """Do what is left to do before *pieces* can be written: find the parts of messages, pack large others."""
    to_pack = []
    for piece in pieces:
        if piece.parts is None:
            piece.parts = parts(piece.message)
            piece.shape = shape_of(piece.parts)
            rest()
        elif not piece.parts and piece.is_large and not piece.is_read_by_views and piece.packed is None:
            to_pack.append(piece)
    for piece, packed in zip(to_pack, pack([piece.raw for piece in to_pack]), strict=True):
        piece.packed = packed


Outline = dict[str, Any]
"""A content payload with hashes in place of its pieces: {"messages": [hash, ...], other key: hash}."""


def take_apart(content: Data, project: str, key: bytes, pieces: dict[bytes, Piece], rest: Rest) -> Outline:
    """The outline of *content*, of an event of *project*; its pieces are added to *pieces*."""
    outline: Outline = {}
    for name, value in content.items():
        if name == MESSAGES and isinstance(value, list):
            hashes = outline[name] = []
            for message in value:
                raw = orjson.dumps(message)
                digest = keyed_hash(raw, key, b"message")
                hashes.append(digest)
                if digest not in pieces:
                    pieces[digest] = Piece(digest, project, raw, message, is_message=True)
                rest()
        else:
            raw = orjson.dumps(value)
            digest = outline[name] = keyed_hash(raw, key, b"other")
            if digest not in pieces:
                pieces[digest] = Piece(digest, project, raw, is_read_by_views=name == ATTRIBUTES)
            rest()
    return outline


def hashes_in(outline: Outline) -> Iterable[bytes]:
    """The hashes of all pieces of an outline."""
    for found in outline.values():
        if isinstance(found, list):
            yield from found
        else:
            yield found


def keyed_hash(raw: bytes, key: bytes, person: bytes) -> bytes:
    """16 bytes that tell *raw*, used as *person*, from everything else hashed with *key*."""
    digest = hashlib.blake2b(digest_size=16, key=key, person=person)
    if len(raw) <= _SLICE or len(raw) >= _WORTH_GIVING_UP_THE_GIL:
        digest.update(raw)
    else:
        for start in range(0, len(raw), _SLICE):
            digest.update(raw[start : start + _SLICE])
    return digest.digest()


def shape_of(found: Sequence[Part]) -> Shape:
    """What projections need of a message with the parts *found*."""
    tools = [(number, part) for number, part in enumerate(found) if part.type in _TOOLS]
    return Shape(len(found), tuple(tools)) if tools or len(found) != 1 else _SIMPLE


def pack(raws: Sequence[bytes]) -> list[bytes]:
    """Each of *raws* compressed; one call into C for all of them, because each gives up the GIL."""
    if not raws:
        return []
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    if len(raws) > 1 and hasattr(compressor, "multi_compress_to_buffer"):
        segments = compressor.multi_compress_to_buffer(list(raws))
        return [segments[index].tobytes() for index in range(len(segments))]
    return [compressor.compress(raw) for raw in raws]


def unpack(body: str | None, packed: bytes | None) -> Any:
    """The value of a row of hub_contents."""
    if packed is None:
        return orjson.loads(body or "null")
    return orjson.loads(zstandard.ZstdDecompressor().decompress(packed))


def manifest(outline: Outline, ids: Mapping[bytes, int], firsts: Sequence[int]) -> dict[str, Any]:
    """What hub_events.content keeps, before long lists of messages are cut (storage/sequences.py). *firsts*: for each
    message the position of its first part within the call."""
    kept: dict[str, Any] = {}
    for name, found in outline.items():
        if isinstance(found, list):
            kept[name] = [[ids[digest], first] for digest, first in zip(found, firsts, strict=True)]
        else:
            kept[name] = ids[found]
    return kept


def ids_in(manifest: Mapping[str, Any]) -> Iterable[int]:
    """The contents that a decoded manifest names."""
    for found in manifest.values():
        if isinstance(found, list):
            for content_id, _first in found:
                yield content_id
        else:
            yield found


def put_together(manifest: Mapping[str, Any], fetch: Callable[[int], Any], missing: object) -> Data:
    """The content payload a decoded manifest stands for. What *fetch* gives *missing* for is left out."""
    content: Data = {}
    for name, found in manifest.items():
        if isinstance(found, list):
            values = (fetch(content_id) for content_id, _first in found)
            content[name] = [value for value in values if value is not missing]
        elif (value := fetch(found)) is not missing:
            content[name] = value
    return content
