"""Full-text search over messages: a projection that is off until somebody asks for it.

Two indexes: the words of each message, by content id, so that a message of fifty calls is there once; and the messages
of each event that carries some, by its position. Both follow the store in short steps, from a checkpoint that is saved
in the step's own transaction: appends do nothing for them. What is taken out of the store is taken out of them in the
same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import orjson

from hub.errors import SearchOff
from hub.polite import Rest, no_rest
from storage.append import read_counters
from storage.bodies import ids_in, unpack
from storage.engine import Connection, Engine, Lookup, marks
from storage.search_indexes import Index, Writing, index
from storage.search_words import RULES, UNICODE, words_of

TABLES = ("hub_search_messages", "hub_search_calls")
"""They stand beside the schema's history: made and dropped by a command, never migrated."""
CARRIERS = ("llm:request:debug", "llm:response:debug")
"""The events whose messages are those of calls."""

_CHECKPOINT = "search"
_OUTDATED = 0
_STEP = 0.05
"""Seconds for which one step may hold other writers up."""
_FIRST, _MOST = 64, 2_048
_MOST_BYTES = 4 << 20
"""Of content in memory at a time."""
_CHUNK = 200

_SIZES = Lookup("SELECT id, bytes FROM hub_contents WHERE id {}")
_MESSAGES = Lookup("SELECT DISTINCT content_id FROM hub_parts WHERE content_id {}")
_BODIES = Lookup("SELECT id, body, packed FROM hub_contents WHERE id {}")

Apart = Callable[[], AbstractContextManager[Connection]]
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


class Indexes(NamedTuple):
    """Both indexes of a store."""

    messages: Index
    calls: Index


def indexes(engine: Engine) -> Indexes:
    """Those of a store in *engine*, whether they are there or not."""
    return Indexes(*(index(engine, table) for table in TABLES))


def place(connection: Connection) -> Place | None:
    """None when search is off."""
    row = connection.execute("SELECT cursor FROM hub_checkpoints WHERE name = ?", (_CHECKPOINT,)).fetchone()
    if row is None:
        return None
    rules, unicode, content, position = row[0].split()
    return Place(int(rules), unicode, int(content), int(position))


def is_current(found: Place) -> bool:
    """Whether the indexes can be asked: they were made by today's rules, and nothing made them worthless."""
    return found.rules == RULES


def _save(connection: Connection, new: Place) -> None:
    connection.execute(
        "INSERT INTO hub_checkpoints (name, cursor) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
        (_CHECKPOINT, str(new)),
    )


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
            if place(connection) != found:
                raise _Disturbed
            yield

    return undisturbed


def size(connection: Connection) -> int:
    """Of the indexes, in bytes. Raises: SearchOff"""
    if place(connection) is None:
        raise SearchOff
    return sum(one.size(connection) for one in indexes(connection.engine))


# Following the store.


def follow(connection: Connection, writing: Writing, progress: Progress, rest: Rest) -> int:
    """Bring the indexes up to what the store holds now. Killed on the way, the next one goes on where it stopped.

    Args:
        connection: One that nobody else uses.
    Returns: How many messages and events were looked at.
    Raises: SearchOff
    """
    while True:
        found = place(connection)
        if found is not None and not is_current(found):
            _make_anew(connection, writing, found)
        try:
            return _Follower(connection, writing, progress, rest).run()
        except _Outdated:
            continue


class _Follower:
    def __init__(self, connection: Connection, writing: Writing, progress: Progress, rest: Rest) -> None:
        self._connection, self._writing, self._progress, self._rest = connection, writing, progress, rest
        self._indexes = indexes(connection.engine)
        counters = read_counters(connection)
        self._end = counters["content"], counters["position"]
        self._size = _FIRST

    def run(self) -> int:
        began = self._look()
        steps: Sequence[Callable[[], bool]] = (self._messages_step, self._calls_step)
        for step in steps:
            self._size, more = _FIRST, True
            while more:
                try:
                    more = step()
                except _Disturbed:
                    continue
                done = self._look()
                self._progress(done.content + done.position, max(sum(self._end), done.content + done.position))
        done = self._look()
        return done.content + done.position - began.content - began.position

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
        self._add(self._indexes.messages, rows, here._replace(content=last))
        return last < end

    def _calls_step(self) -> bool:
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
        self._add(self._indexes.calls, _call_rows(self._connection, found), here._replace(position=last))
        return last < end

    def _add(self, to: Index, rows: Sequence[tuple[int, str]], reached: Place) -> None:
        with self._writing(self._connection):
            began = time.monotonic()
            if (place(self._connection), read_counters(self._connection)["epoch"]) != (self._place, self._epoch):
                raise _Disturbed
            to.add(self._connection, rows)
            _save(self._connection, reached)
        took = time.monotonic() - began
        if took > _STEP:
            self._size = max(1, self._size // 2)
        elif took < _STEP / 3:
            self._size = min(2 * self._size, _MOST)
        to.tend(self._connection, self._writing)


# What is taken out of the store. Within the transaction that does it, and before it does.


def forget_contents(connection: Connection, contents: Collection[int]) -> None:
    """Before *contents* are deleted: what was indexed of them is known from themselves alone."""
    found = place(connection)
    if found is None or not _is_removable(connection, found):
        return
    gone = [content_id for content_id in contents if content_id <= found.content]
    for some in _chunks(gone):
        indexes(connection.engine).messages.remove(connection, some, partial(_message_rows, connection, some))


def forget_events(connection: Connection, positions: Collection[int]) -> None:
    """Before events lose their content, or are deleted."""
    found = place(connection)
    if found is None or not _is_removable(connection, found):
        return
    gone = [position for position in positions if position <= found.position]
    for some in _chunks(gone):
        indexes(connection.engine).calls.remove(connection, some, partial(_call_rows_of, connection, some))


def _is_removable(connection: Connection, found: Place) -> bool:
    """Whether single entries can be removed. FTS5 has to be told their words, and the same ones; where nobody knows
    them any more the indexes are made anew."""
    if found.rules != _OUTDATED and connection.engine == "sqlite" and (found.rules, found.unicode) != (RULES, UNICODE):
        outdate(connection)
        return False
    return found.rules != _OUTDATED


def scrub(connection: Connection, writing: Writing) -> None:
    """After an erasure: leave nothing in the files of what was forgotten. Outside of transactions."""
    found = place(connection)
    if found is None:
        return
    if found.rules == _OUTDATED:
        _make_anew(connection, writing, found)
        return
    for one in indexes(connection.engine):
        one.settle(connection, writing)


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
    """The messages of events.

    Args:
        events: Of each the position and hub_events.content.
    """
    manifests = [(position, orjson.loads(content)) for position, content in events]
    found = []
    for position, manifest in manifests:
        messages = manifest.get("messages")
        if isinstance(messages, list):
            found.append((position, list(ids_in({"messages": messages}))))
    return found


def _message_rows(connection: Connection, contents: Sequence[int]) -> Iterator[tuple[int, str]]:
    """What is indexed of those of *contents* that are messages."""
    messages = {content_id for (content_id,) in connection.lookup(_MESSAGES, contents, no_rest)}
    for content_id, message in bodies(connection, [one for one in contents if one in messages]):
        if words := words_of(message):
            yield content_id, " ".join(words)


def _call_rows(connection: Connection, events: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """What is indexed of events."""
    return [(position, " ".join(map(str, dict.fromkeys(ids)))) for position, ids in carried(connection, events) if ids]


def _call_rows_of(connection: Connection, positions: Sequence[int]) -> list[tuple[int, str]]:
    rows = connection.execute(
        f"SELECT position, content FROM hub_events WHERE position IN {marks(len(positions))} AND type IN {marks(2)}"
        " AND content IS NOT NULL",
        (*positions, *CARRIERS),
    ).fetchall()
    return _call_rows(connection, rows)


def _within(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """The first ids whose sizes fit into memory together; one at the least."""
    some, total = list[int](), 0
    for content_id, size in sizes:
        total += size
        if some and total > _MOST_BYTES:
            break
        some.append(content_id)
    return some


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
