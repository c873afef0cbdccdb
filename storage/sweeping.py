"""Content that no event refers to any more is deleted, whoever took the references away.

Nothing counts references: they are looked through while others write, and what came meanwhile is looked through again
within each transaction that deletes. Writers that remember a content drop it, because the epoch moves on. A sweep that
is killed is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import orjson

from hub.polite import no_rest
from storage.append import read_counters
from storage.engine import Lookup, marks
from storage.search import forget_contents
from storage.sequences import ids_beside_sequences, load_sequences, sequences_in
from storage.upkeep import REMOVALS, SWEPT, Upkeep, lowest, pieces

Skipped = Callable[[int, str | None, int], bool]
"""Whether an event counts as gone already, from its position, call and time in UTC Unix ns."""

_WINDOW = 5_000
_PAGE = 2_000
_MOST_BYTES = 4 << 20
"""Of content in one step: every page that is freed is overwritten with zeros."""
_USED, _ORPHANED = 1, 2

_RESULTS = (
    "SELECT r.tool_call_id, r.project, r.session, r.content_id, r.part, r.call_id,"
    " c.call_id IS NULL OR c.input_parts = 0"
    " FROM hub_tool_results r LEFT JOIN hub_calls c ON c.call_id = r.call_id"
    " WHERE (r.tool_call_id, r.project, r.session, r.content_id, r.part) > (?, ?, ?, ?, ?)"
    " ORDER BY 1, 2, 3, 4, 5 LIMIT ?"
)
"""Tool results, each with whether the call that was the first to carry it carries it no more."""
_CALLS = Lookup("SELECT call_id FROM hub_calls WHERE call_id {}")
_THE_RESULT = "tool_call_id = ? AND project = ? AND session = ? AND content_id = ? AND part = ? AND call_id = ?"


class Swept(NamedTuple):
    """What a sweep deleted, or would."""

    contents: int = 0
    content_bytes: int = 0


def sweep(upkeep: Upkeep) -> Swept:
    """Delete what nothing refers to; nothing is done when nothing was taken away since the last sweep."""
    counters = read_counters(upkeep.connection)
    removals = counters.get(REMOVALS, 0)
    if removals <= counters.get(SWEPT, 0):
        return Swept()
    swept = _Sweep(upkeep).run()
    upkeep.settle(SWEPT, removals)
    return swept


def would_sweep(upkeep: Upkeep, skipped: Skipped) -> Swept:
    """What a sweep would delete if events that are *skipped* were gone."""
    return _Sweep(upkeep, skipped).count()


class _Sweep:
    def __init__(self, upkeep: Upkeep, skipped: Skipped | None = None) -> None:
        self._upkeep, self._connection, self._skipped = upkeep, upkeep.connection, skipped
        self._first = lowest(self._connection, "hub_contents", "id")
        self._place = lowest(self._connection, "hub_events", "position") - 1
        counters = read_counters(self._connection)
        self._last, self._last_sequence = counters["content"], counters["sequence"]
        self._flags = bytearray(max(0, self._last - self._first + 1))
        self._sequences: set[int] = set()
        """Those that an event refers to. What they refer to is marked."""
        self._orphaned_in: dict[int, list[int]] = {}
        """Of those that have some, the contents with tool results that lost the call that carried them."""
        self._carriers: dict[tuple[int, str], str] = {}
        """By content and session the first call that carries a tool result there; only where it is asked."""

    def run(self) -> Swept:
        for row in self._orphans():
            if self._first <= row[3] <= self._last:
                self._flags[row[3] - self._first] |= _ORPHANED
        self._look()
        self._settle_results()
        return self._delete()

    def count(self) -> Swept:
        self._look()
        contents = size = 0
        for page in self._unused():
            contents, size = contents + len(page), size + sum(one_size for _, one_size in page)
        return Swept(contents, size)

    # What is used.

    def _look(self) -> None:
        self._upkeep.phase("Looking for what is still referred to")
        while self._place < (end := read_counters(self._connection)["position"]):
            self._take_in(min(self._place + _WINDOW, end))
            self._upkeep.told(self._place, end)

    def _catch_up(self) -> None:
        """Within a step: take in what was written since."""
        self._take_in(read_counters(self._connection)["position"])

    def _take_in(self, end: int) -> None:
        rows = self._connection.execute(
            "SELECT position, call_id, occurred_ns, type, session_id, content FROM hub_events"
            " WHERE position > ? AND position <= ? AND content IS NOT NULL",
            (self._place, end),
        )
        found = [
            (row, orjson.loads(row[5]))
            for row in rows.fetchall()
            if self._skipped is None or not self._skipped(row[0], row[1], row[2])
        ]
        self._take_in_sequences({one for _, manifest in found for one in sequences_in(manifest)})
        carrying: list[tuple[str, str, list[int]]] = []
        for (_, call_id, _, event_type, session, _), manifest in found:
            orphaned = self._mark(ids_beside_sequences(manifest))
            for sequence_id in sequences_in(manifest):
                orphaned += self._orphaned_in.get(sequence_id, ())
            if orphaned and event_type == "llm:request:debug" and call_id is not None:
                carrying.append((call_id, session or "", orphaned))
        self._note_carriers(carrying)
        self._place = max(self._place, end)

    def _take_in_sequences(self, named: Set[int]) -> None:
        """Each only once: requests have most of them in common."""
        new = named - self._sequences
        for sequence_id, places in load_sequences(self._connection, new):
            if orphaned := self._mark(content_id for content_id, _ in places):
                self._orphaned_in[sequence_id] = orphaned
        self._sequences |= new

    def _mark(self, ids: Iterable[int]) -> list[int]:
        """Returns: Those of *ids* with tool results that lost the call that carried them."""
        flags, first, orphaned = self._flags, self._first, list[int]()
        for content_id in ids:
            place = content_id - first
            if 0 <= place < len(flags):
                flags[place] |= _USED
                if flags[place] & _ORPHANED:
                    orphaned.append(content_id)
        return orphaned

    def _note_carriers(self, carrying: Sequence[tuple[str, str, list[int]]]) -> None:
        """Of calls that have a row: one that has none was pruned, and its events are still to go."""
        there = {
            call_id for (call_id,) in self._connection.lookup(_CALLS, {call_id for call_id, _, _ in carrying}, no_rest)
        }
        for call_id, session, contents in carrying:
            if call_id in there:
                for content_id in contents:
                    key = content_id, session
                    self._carriers[key] = min(self._carriers.get(key, call_id), call_id)

    def _is_used(self, content_id: int) -> bool:
        place = content_id - self._first
        return place >= len(self._flags) or bool(self._flags[place] & _USED)

    # Tool results.

    def _orphans(self) -> Iterator[Sequence[Any]]:
        key: Sequence[Any] = ("", "", "", 0, 0)
        while True:
            rows = self._connection.execute(_RESULTS, (*key, _PAGE)).fetchall()
            yield from (row[:6] for row in rows if row[6])
            if len(rows) < _PAGE:
                return
            key = rows[-1][:5]

    def _settle_results(self) -> None:
        """Tool results whose call is gone are from now on the next call's that carries them, or nobody's."""
        self._upkeep.phase("Settling tool results")
        left: list[Sequence[Any]] = []
        done = 0
        for row in self._orphans():
            left.append(row)
            if len(left) >= self._upkeep.size:
                self._settle(left)
                self._upkeep.told(done := done + len(left), done)
                left.clear()
        if left:
            self._settle(left)

    def _settle(self, rows: Sequence[Sequence[Any]]) -> None:
        with self._upkeep.step():
            self._catch_up()
            heirs = [(self._carriers.get((row[3], row[2])), row) for row in rows]
            self._connection.executemany(
                f"UPDATE hub_tool_results SET call_id = ? WHERE {_THE_RESULT}",
                [(heir, *row) for heir, row in heirs if heir is not None],
            )
            self._connection.executemany(
                f"DELETE FROM hub_tool_results WHERE {_THE_RESULT}", [row for heir, row in heirs if heir is None]
            )
            self._upkeep.count()

    # Contents.

    def _unused(self) -> Iterator[list[tuple[int, int]]]:
        """Pages of ids and sizes of contents that no event refers to."""
        after = self._first - 1
        while True:
            rows = self._connection.execute(
                "SELECT id, bytes FROM hub_contents WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (after, self._last, _PAGE),
            ).fetchall()
            yield [(content_id, size) for content_id, size in rows if not self._is_used(content_id)]
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _delete(self) -> Swept:
        self._upkeep.phase("Deleting what nothing refers to")
        contents = size = 0
        for page in self._unused():
            while page:
                some = self._some_of(page)
                del page[: len(some)]
                gone = self._delete_some(some)
                contents, size = contents + gone.contents, size + gone.content_bytes
                self._upkeep.told(some[-1][0] - self._first + 1, len(self._flags))
        self._delete_sequences()
        return Swept(contents, size)

    def _delete_sequences(self) -> None:
        rows = self._connection.execute("SELECT id FROM hub_sequences WHERE id <= ?", (self._last_sequence,)).fetchall()
        for some in pieces(
            [sequence_id for (sequence_id,) in rows if sequence_id not in self._sequences], self._upkeep
        ):
            with self._upkeep.step():
                self._catch_up()
                dead = [sequence_id for sequence_id in some if sequence_id not in self._sequences]
                if dead:
                    self._connection.execute(f"DELETE FROM hub_sequences WHERE id IN {marks(len(dead))}", dead)
                    self._upkeep.count()

    def _some_of(self, page: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        some, size = list[tuple[int, int]](), 0
        for one in page[: self._upkeep.size]:
            size += one[1]
            if some and size > _MOST_BYTES:
                break
            some.append(one)
        return some

    def _delete_some(self, some: Sequence[tuple[int, int]]) -> Swept:
        with self._upkeep.step():
            self._catch_up()
            dead = {content_id: size for content_id, size in some if not self._is_used(content_id)}
            ids = list(dead)
            forget_contents(self._connection, ids)
            for table, column in (("hub_parts", "content_id"), ("hub_contents", "id")):
                for some_ids in pieces(ids):
                    self._connection.execute(f"DELETE FROM {table} WHERE {column} IN {marks(len(some_ids))}", some_ids)
            self._upkeep.count()
        return Swept(len(dead), sum(dead.values()))
