"""Full-text search over messages: a projection that is off until somebody asks for it.

Two indexes: the words of each message, by content id, so that a message of fifty calls is there once; and the messages
of each event that carries some, by its position. Both follow the store in short steps, from a checkpoint that is saved
in the step's own transaction: appends do nothing for them. What is taken out of the store is taken out of them in the
same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import orjson

from hub.errors import SearchOff
from hub.polite import Rest, no_rest
from storage.append import read_counters, set_checkpoint
from storage.bodies import ids_in, unpack
from storage.engine import Connection, Lookup, marks
from storage.search_indexes import Index, T, Writing, indexes
from storage.search_words import RULES, UNICODE, words_of
from storage.sequences import expand

CARRIERS = ("llm:request:debug", "llm:response:debug")
"""The events whose messages are those of calls."""

_CHECKPOINT = "search"
_OUTDATED = 0
_FIRST, _MOST = 64, 2_048
_MOST_BYTES = 4 << 20
"""Of content in memory at a time."""

_SIZES = Lookup("SELECT id, bytes FROM hub_contents WHERE id {}")
_CARRIERS = Lookup("SELECT position, type, content FROM hub_events WHERE position {} AND content IS NOT NULL")
_MESSAGES = Lookup("SELECT DISTINCT content_id FROM hub_parts WHERE content_id {}")
_BODIES = Lookup("SELECT id, body, packed FROM hub_contents WHERE id {}")

Progress = Callable[[int, int], None]


class Place(NamedTuple):
    """How far the indexes have come, and by which rules."""

    rules: int
    unicode: str
    content: int
    """The newest content that is in."""
    position: int
    """Of the newest event that is in."""

    def __str__(self) -> str:
        return " ".join(map(str, self))


def place(connection: Connection, *, to_change: bool = False) -> Place | None:
    """None when search is off.

    Args:
        to_change: Nobody else changes it, or the indexes, before the transaction ends.
    """
    lock = " FOR UPDATE" if to_change and connection.engine == "postgresql" else ""
    row = connection.execute(f"SELECT reached FROM hub_checkpoints WHERE name = ?{lock}", (_CHECKPOINT,)).fetchone()
    if row is None:
        return None
    rules, unicode, content, position = row[0].split()
    return Place(int(rules), unicode, int(content), int(position))


def is_current(found: Place) -> bool:
    """Whether the indexes can be asked: they were made by today's rules, and nothing made them worthless."""
    return found.rules == RULES


def _save(connection: Connection, new: Place) -> None:
    set_checkpoint(connection, _CHECKPOINT, str(new))


class _Outdated(Exception):
    """The indexes have to be made anew."""


class _Disturbed(Exception):
    """Content was deleted meanwhile, or somebody else does the same work and was faster."""


# Turning it on and off.


def turn_on(connection: Connection, writing: Writing) -> None:
    """Make the indexes, empty, unless they are there."""
    if place(connection) is None:
        _make_anew(connection, writing, None)


def turn_off(connection: Connection, writing: Writing) -> bool:
    """Drop the indexes. Returns: Whether search was on."""
    with writing(connection):
        was_on = place(connection) is not None
        connection.execute("DELETE FROM hub_checkpoints WHERE name = ?", (_CHECKPOINT,))
    with suppress(_Disturbed):
        _drop(connection, _while_at(None, writing))
    return was_on


def outdate(connection: Connection) -> None:
    """Have the indexes made anew by who follows next. Within a transaction."""
    found = place(connection)
    if found is not None:
        _save(connection, found._replace(rules=_OUTDATED))


def _make_anew(connection: Connection, writing: Writing, found: Place | None) -> None:
    """Drop whatever stands in place of the indexes, and make empty ones."""
    undisturbed = _while_at(found, writing)
    with suppress(_Disturbed):
        _drop(connection, undisturbed)
        with undisturbed(connection):
            for one in indexes(connection.engine):
                one.make(connection)
            _save(connection, Place(RULES, UNICODE, 0, 0))


def _drop(connection: Connection, writing: Writing) -> None:
    for one in indexes(connection.engine):
        one.drop(connection, writing)


def _while_at(found: Place | None, writing: Writing) -> Writing:
    """*writing*, for as long as the indexes are at *found*: somebody else may do the same work."""

    @contextmanager
    def undisturbed(connection: Connection) -> Iterator[None]:
        with writing(connection):
            if place(connection, to_change=True) != found:
                raise _Disturbed
            yield

    return undisturbed


def size(connection: Connection) -> int:
    """Of the indexes, in bytes. Raises: SearchOff"""
    if place(connection) is None:
        raise SearchOff
    return sum(one.size(connection) for one in indexes(connection.engine))


# Following the store.


def follow(connection: Connection, writing: Writing, beside: Writing, progress: Progress, rest: Rest) -> int:
    """Bring the indexes up to what the store holds now. Killed on the way, the next one goes on where it stopped.

    Args:
        connection: One that nobody else uses.
        writing: A transaction that no other writer's overlaps.
        beside: One that does not keep events from being appended, where the engine can do that.
    Returns: How many messages and events were looked at.
    Raises: SearchOff
    """
    while True:
        found = place(connection)
        if found is not None and not is_current(found):
            _make_anew(connection, writing, found)
        try:
            return _Follower(connection, beside, progress, rest).run()
        except _Outdated:
            continue


class _Follower:
    def __init__(self, connection: Connection, beside: Writing, progress: Progress, rest: Rest) -> None:
        self._connection, self._beside, self._progress, self._rest = connection, beside, progress, rest
        self._indexes = indexes(connection.engine)
        counters = read_counters(connection)
        self._end = counters["content"], counters["position"]
        self._size = _FIRST

    def run(self) -> int:
        began = self._look()
        self._all(self._messages_step)
        self._all(self._carriers_step)
        done = self._look()
        return done.content + done.position - began.content - began.position

    def _all(self, step: Callable[[], bool]) -> None:
        self._size, more = _FIRST, True
        while more:
            try:
                more = step()
            except _Disturbed:
                continue
            here = self._look()
            done = here.content + here.position
            self._progress(done, max(done, sum(self._end)))

    def _look(self) -> Place:
        self._place, self._epoch = place(self._connection), read_counters(self._connection)["epoch"]
        if self._place is None:
            raise SearchOff
        if not is_current(self._place):
            raise _Outdated
        return self._place

    def _messages_step(self) -> bool:
        """Returns: Whether there is more to do."""
        here, end = self._look(), self._end[0]
        after = here.content
        if after >= end:
            return False
        sizes = self._connection.execute(
            "SELECT id, bytes FROM hub_contents WHERE id > ? AND id <= ? ORDER BY id LIMIT ?", (after, end, self._size)
        ).fetchall()
        some = _within(sizes)
        is_all = len(some) == len(sizes) < self._size
        last = end if is_all else some[-1]
        rows = []
        for row in _message_rows(self._connection, some):
            rows.append(row)
            self._rest()
        return self._add(self._indexes.messages, rows, here._replace(content=last), is_last=last >= end)

    def _carriers_step(self) -> bool:
        here, end = self._look(), self._end[1]
        after = here.position
        if after >= end:
            return False
        found = self._connection.execute(
            f"SELECT position, content FROM hub_events WHERE position > ? AND position <= ? AND type IN {marks(2)}"
            " AND content IS NOT NULL ORDER BY position LIMIT ?",
            (after, end, *CARRIERS, self._size),
        ).fetchall()
        last = found[-1][0] if len(found) == self._size else end
        rows = carried(self._connection, found)
        return self._add(self._indexes.carriers, rows, here._replace(position=last), is_last=last >= end)

    def _add(self, to: Index[T], rows: Sequence[tuple[int, T]], reached: Place, *, is_last: bool) -> bool:
        with self._beside(self._connection):
            began = time.monotonic()
            here = place(self._connection, to_change=True)
            if here != self._place or read_counters(self._connection)["epoch"] != self._epoch:
                raise _Disturbed
            to.add(self._connection, rows)
            _save(self._connection, reached)
        took = time.monotonic() - began
        if took > to.longest_step:
            self._size = max(1, self._size // 2)
        elif took < to.longest_step / 3:
            self._size = min(2 * self._size, _MOST)
        to.tend(self._connection, self._beside, is_last=is_last)
        return not is_last


# What is taken out of the store. Within the transaction that does it, and before it does.


def forget_contents(connection: Connection, contents: Collection[int]) -> None:
    """Before *contents* are deleted: what was indexed of them is known from themselves alone."""
    found = _removable(connection)
    if found is not None:
        gone = [content_id for content_id in contents if content_id <= found.content]
        indexes(connection.engine).messages.remove(connection, _message_rows(connection, gone))


def forget_events(connection: Connection, positions: Collection[int]) -> None:
    """Before events lose their content, or are deleted."""
    found = _removable(connection)
    if found is not None:
        gone = [position for position in positions if position <= found.position]
        rows = connection.lookup(_CARRIERS, gone, no_rest)
        carriers = [(position, content) for position, kind, content in rows if kind in CARRIERS]
        indexes(connection.engine).carriers.remove(connection, carried(connection, carriers))


def _removable(connection: Connection) -> Place | None:
    """The place of indexes from which single entries can be removed. FTS5 has to be told their words, and the same
    ones: where nobody knows them any more the indexes are made anew."""
    found = place(connection, to_change=True)
    if found is None or found.rules == _OUTDATED:
        return None
    if connection.engine == "sqlite" and (found.rules, found.unicode) != (RULES, UNICODE):
        outdate(connection)
        return None
    return found


def scrub(connection: Connection, writing: Writing, beside: Writing) -> None:
    """After an erasure: leave nothing in the files of what was forgotten. Outside of transactions."""
    found = place(connection)
    if found is None:
        return
    if found.rules == _OUTDATED:
        _make_anew(connection, writing, found)
        return
    for one in indexes(connection.engine):
        one.settle(connection, beside)


# Reading what is indexed.


def bodies(connection: Connection, contents: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """The contents that are still there, in the order given; never many bytes of them at a time."""
    sizes = dict(connection.lookup(_SIZES, contents, no_rest))
    left = [(content_id, sizes[content_id]) for content_id in contents if content_id in sizes]
    while left:
        some = _within(left)
        found = {row[0]: unpack(row[1], row[2]) for row in connection.lookup(_BODIES, some, no_rest)}
        yield from ((content_id, found[content_id]) for content_id in some if content_id in found)
        del left[: len(some)]


def carried(connection: Connection, events: Iterable[tuple[int, str]]) -> list[tuple[int, list[int]]]:
    """The messages that events carry, each once.

    Args:
        events: Of each the position and hub_events.content.
    """
    manifests = [(position, orjson.loads(content)) for position, content in events]
    expand(connection, [manifest for _, manifest in manifests])
    found = []
    for position, manifest in manifests:
        messages = manifest.get("messages")
        if isinstance(messages, list) and messages:
            found.append((position, list(dict.fromkeys(ids_in({"messages": messages})))))
    return found


def _message_rows(connection: Connection, contents: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """What is indexed of those of *contents* that are messages."""
    messages = {content_id for (content_id,) in connection.lookup(_MESSAGES, contents, no_rest)}
    for content_id, message in bodies(connection, [one for one in contents if one in messages]):
        if words := words_of(message):
            yield content_id, words


def _within(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """The first ids whose sizes fit into memory together; one at the least."""
    some, total = list[int](), 0
    for content_id, size in sizes:
        total += size
        if some and total > _MOST_BYTES:
            break
        some.append(content_id)
    return some
