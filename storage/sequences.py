"""Stretches of messages that requests have in common, kept once: the manifest of a long conversation's next request
names a few of them and the newest messages, not each message again.

A stretch ends behind a message whose content's id is a multiple of 16, so that two requests with the same messages are
cut at the same places, wherever their own lists begin. Short lists are not cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from hub.polite import Rest, no_rest
from storage.bodies import ids_in
from storage.engine import Connection, Insert, Lookup

Places = list[list[int]]
"""Of each message the content's id and the position of its first part within the call."""

MANY = 12
"""Messages. Fewer take less room as they are."""
_CUT, _LONGEST = 16, 64
_INSERT = Insert("hub_sequences", ("id", "hash", "items"))
_FIND = Lookup("SELECT hash, id FROM hub_sequences WHERE hash {}")
_LOAD = Lookup("SELECT id, items FROM hub_sequences WHERE id {}")


class Sequence(NamedTuple):
    """A stretch of messages: as JSON, positions counted from its own first, and where that one is."""

    hash: bytes
    items: bytes
    first: int


def cut(places: Places) -> tuple[list[Sequence], Places]:
    """The stretches of a list of messages, and the messages behind the last one."""
    if len(places) < MANY:
        return [], places
    found, start = [], 0
    for index, (content_id, _) in enumerate(places):
        if content_id % _CUT == 0 or index - start + 1 == _LONGEST:
            first = places[start][1]
            items = orjson.dumps([[one, at - first] for one, at in places[start : index + 1]])
            found.append(Sequence(hashlib.blake2b(items, digest_size=16).digest(), items, first))
            start = index + 1
    return found, places[start:]


def keep(
    connection: Connection, wanted: Collection[Sequence], known: Mapping[bytes, int], last: int, rest: Rest
) -> tuple[dict[bytes, int], int]:
    """Make sure that all *wanted* are stored, within a transaction.

    Args:
        known: Ids by hash that need not be looked for.
        last: The newest id that was given.
    Returns: The id of each, by hash, and the newest id.
    """
    missing = {one.hash: one.items for one in wanted if one.hash not in known}
    found = {one.hash: known[one.hash] for one in wanted if one.hash in known}
    for digest, sequence_id in connection.lookup(_FIND, missing, rest):
        found[digest] = sequence_id
        del missing[digest]
    values: list[Any] = []
    for digest, items in missing.items():
        last += 1
        found[digest] = last
        values += (last, digest, items.decode())
    connection.insert(_INSERT, values, rest)
    return found, last


def packed(sequences: Iterable[Sequence], ids: Mapping[bytes, int], tail: Places) -> object:
    """What a manifest keeps in place of a list of messages that was cut."""
    return {"sequences": [[ids[one.hash], one.first] for one in sequences], "tail": tail}


def expand(connection: Connection, manifests: Iterable[dict[str, Any]]) -> None:
    """Put the messages themselves in the place of stretches in decoded *manifests*. A stretch that is there no more was
    erased or pruned: its messages are left out."""
    cut_ones = [one for one in manifests if isinstance(one.get("messages"), dict)]
    found = dict(load_sequences(connection, {sequence_id for one in cut_ones for sequence_id in sequences_in(one)}))
    for one in cut_ones:
        one["messages"] = list(_places(one["messages"], found))


def load_sequences(connection: Connection, wanted: Collection[int]) -> Iterator[tuple[int, Places]]:
    """Stretches by id, positions counted from each one's first."""
    for sequence_id, items in connection.lookup(_LOAD, wanted, no_rest):
        yield sequence_id, orjson.loads(items)


def ids_beside_sequences(manifest: Mapping[str, Any]) -> Iterator[int]:
    """The contents that a decoded manifest names itself; others stand in its stretches."""
    messages = manifest.get("messages")
    if isinstance(messages, dict):
        manifest = {**manifest, "messages": messages["tail"]}
    yield from ids_in(manifest)


def sequences_in(manifest: Mapping[str, Any]) -> Iterator[int]:
    """The stretches that a decoded manifest names."""
    messages = manifest.get("messages")
    if isinstance(messages, dict):
        for sequence_id, _ in messages["sequences"]:
            yield sequence_id


def _places(messages: dict[str, Any], found: Mapping[int, Places]) -> Iterator[list[int]]:
    for sequence_id, first in messages["sequences"]:
        for content_id, offset in found.get(sequence_id, ()):
            yield [content_id, first + offset]
    yield from messages["tail"]
