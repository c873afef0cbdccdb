"""Pruning: what is too old goes. Two clocks: one for content, one for events and calls. The hourly sums stay.

First the calls: each step moves what some of them add up to from the live columns of the hourly tables to those of
calls that are no more, takes their rows out, and leaves a tombstone for their projects. What is about a call begun
before that and comes again is refused; what of it is still there while the call has no row is passed over by a rebuild.
So at every moment a call is counted once. Their events go next, then the content that nothing refers to any more.
Killed anywhere, it is finished by the next pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from hub.ids import id_bound, id_ms
from hub.polite import no_rest
from hub.store import PruneReport
from storage import search
from storage.engine import Connection, marks
from storage.erasing import empty_calls
from storage.projections import CALL_COLUMNS, Row
from storage.rollups import Rollups
from storage.sweeping import sweep, would_sweep
from storage.tombstones import BODIES, CALLS, bury
from storage.upkeep import REMOVALS, Upkeep

PRUNED = "pruned"
"""Counter: steps that took calls."""

DropWhole = Callable[[Connection, int], tuple[int, Sequence[str]]]
"""Drops the pieces of the log in which all is older than a UTC Unix time in ns. Returns: how many events they had, and
notes for `PruneReport`."""

_MS = 10**6
_MINTED_LATER_NS = 60 * 10**9
"""By which the time in a call's id may be behind its beginning."""

_OF_NO_ROW = "NOT EXISTS (SELECT 1 FROM hub_calls c WHERE c.call_id = hub_events.call_id)"


def prune(
    upkeep: Upkeep, *, bodies_before_ns: int | None, calls_before_ns: int | None, drop_whole: DropWhole
) -> PruneReport:
    """See `SqlStore.prune`; all but tidying up the files."""
    calls = events = bodies = 0
    notes: Sequence[str] = ()
    if calls_before_ns is not None:
        calls = _Calls(upkeep, calls_before_ns).run()
        events, notes = _Events(upkeep, calls_before_ns).run(drop_whole)
    if bodies_before_ns is not None:
        bodies = _Bodies(upkeep, bodies_before_ns).run()
    return PruneReport(calls, events, bodies, *sweep(upkeep), notes=tuple(notes))


def would_prune(upkeep: Upkeep, *, bodies_before_ns: int | None, calls_before_ns: int | None) -> PruneReport:
    """What `prune` would report, but for calls that it leaves for others' sake. Nothing is changed."""
    connection, calls_ns, bodies_ns = upkeep.connection, calls_before_ns or 0, bodies_before_ns or 0
    (calls,) = connection.execute("SELECT count(*) FROM hub_calls WHERE call_id < ?", (id_bound(calls_ns),)).fetchone()
    events = _count(connection, 0, calls_ns)
    bodies = _count(connection, calls_ns, bodies_ns, "AND content IS NOT NULL")
    newest_ns = max(calls_ns, bodies_ns)
    bound = id_bound(newest_ns)

    def skipped(_position: int, call_id: str | None, occurred_ns: int) -> bool:
        return occurred_ns < newest_ns if call_id is None else call_id < bound

    return PruneReport(calls, events, bodies, *would_sweep(upkeep, skipped))


def _count(connection: Connection, from_ns: int, before_ns: int, where: str = "") -> int:
    """Events about calls begun, and about no call that happened, from one time to another."""
    count = "SELECT count(*) FROM hub_events WHERE "
    (about_calls,) = connection.execute(
        f"{count} call_id >= ? AND call_id < ? {where}", (id_bound(from_ns), id_bound(before_ns))
    ).fetchone()
    (about_none,) = connection.execute(
        f"{count} call_id IS NULL AND occurred_ns >= ? AND occurred_ns < ? {where}", (from_ns, before_ns)
    ).fetchone()
    return int(about_calls + about_none)


def is_pruned(connection: Connection) -> bool:
    """Whether calls were ever pruned, so that not all that is known follows from the events that are there."""
    return connection.execute("SELECT 1 FROM hub_counters WHERE name = ?", (PRUNED,)).fetchone() is not None


class _Calls:
    """Takes the rows of calls, and adds them to what calls that are no more add up to."""

    def __init__(self, upkeep: Upkeep, before_ns: int) -> None:
        self._upkeep, self._connection, self._before_ns = upkeep, upkeep.connection, before_ns
        self._end = id_bound(before_ns)

    def run(self) -> int:
        """Returns: How many calls were taken."""
        self._upkeep.phase("Pruning calls")
        (total,) = self._connection.execute("SELECT count(*) FROM hub_calls WHERE call_id < ?", (self._end,)).fetchone()
        done = 0
        while taken := self._take_all(done, total):
            done += taken
        return done

    def _take_all(self, before: int, total: int) -> int:
        """All but those that have to wait for others to be taken."""
        last, done, full = "", 0, True
        while full:
            with self._upkeep.step():
                size = self._upkeep.size
                rows = self._oldest(last, size)
                waiting = self._waiting(last, rows)
                self._take(last, [row for row in rows if row["call_id"] not in waiting], waiting)
            full, done = len(rows) == size, done + len(rows) - len(waiting)
            last = rows[-1]["call_id"] if rows else last
            self._upkeep.told(before + done, total)
        return done

    def _oldest(self, after: str, size: int) -> list[Row]:
        found = self._connection.execute(
            f"SELECT {','.join(CALL_COLUMNS)} FROM hub_calls WHERE call_id > ? AND call_id < ?"
            " ORDER BY call_id LIMIT ?",
            (after, self._end, size),
        )
        return [dict(zip(CALL_COLUMNS, one, strict=True)) for one in found]

    def _waiting(self, after: str, rows: Sequence[Row]) -> set[str]:
        """Those of *rows* because of which others do not count (see `projections.repeated`): were they gone before
        those, they would."""
        ended: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            if row["response_id"] and row["ended_ns"] is not None:
                ended.setdefault((row["response_id"], row["producer"]), []).append(row)
        if not ended:
            return set()
        until = max(row["ended_ns"] for same in ended.values() for row in same) + _MINTED_LATER_NS
        staying: list[Mapping[str, Any]] = [
            dict(zip(_REPEATED, one, strict=True))
            for one in self._connection.execute(
                f"SELECT {','.join(_REPEATED)} FROM hub_calls"
                " WHERE counted = 0 AND (call_id <= ? OR (call_id > ? AND call_id < ?))",
                (after, rows[-1]["call_id"], id_bound(until)),
            )
        ]
        waiting: dict[str, Row] = {}
        while staying:
            causes = {
                row["call_id"]: row
                for one in staying
                for row in ended.get((one["response_id"], one["producer"]), ())
                if row["call_id"] not in waiting and _is_behind(one, row)
            }
            waiting.update(causes)
            staying = [row for row in causes.values() if row["counted"] == 0]
        return set(waiting)

    def _take(self, after: str, rows: Sequence[Row], but: Collection[str]) -> None:
        if not rows:
            return
        live, kept = Rollups(), Rollups("kept_")
        for row in rows:
            live.add(row, -1)
            kept.add(row)
        kept.write(self._connection, no_rest)
        live.write(self._connection, no_rest)
        where = "call_id > ? AND call_id <= ?" + (f" AND call_id NOT IN {marks(len(but))}" if but else "")
        for table in ("hub_calls", "hub_attempts", "hub_tool_calls"):
            self._connection.execute(f"DELETE FROM {table} WHERE {where}", (after, rows[-1]["call_id"], *but))
        now, projects = self._upkeep.wall(), sorted({row["project"] for row in rows})
        bury(self._connection, [(project, CALLS, b"", self._before_ns, now) for project in projects])
        self._upkeep.count(REMOVALS, PRUNED)


_REPEATED = ("response_id", "producer", "source", "started_ns")


def _is_behind(call: Mapping[str, Any], other: Row) -> bool:
    """Whether *call*, with the same answer, does not count because *other* was there first."""
    started_ns = call["started_ns"] or 0
    return call["source"] != other["source"] and bool((other["started_ns"] or 0) <= started_ns <= other["ended_ns"])


def _ranges_of_calls(upkeep: Upkeep, low: str, end: str, where: str) -> Iterator[tuple[str, str]]:
    """Ranges of calls, each from behind one to another, with so many events as a step may take that are *where*."""
    while low < end:
        row = upkeep.connection.execute(
            f"SELECT call_id FROM hub_events WHERE call_id > ? AND call_id < ? AND {where}"
            " ORDER BY call_id LIMIT 1 OFFSET ?",
            (low, end, upkeep.size - 1),
        ).fetchone()
        high = end if row is None else row[0]
        yield low, high
        low = high


def _ranges_of_others(upkeep: Upkeep, before_ns: int, where: str) -> Iterator[tuple[int, int]]:
    """As `_ranges_of_calls`, of positions of events about no call that happened before."""
    low = 0
    while rows := upkeep.connection.execute(
        f"SELECT position FROM hub_events WHERE {_OTHERS} AND {where} ORDER BY position LIMIT ?",
        (before_ns, low, _LAST, upkeep.size),
    ).fetchall():
        yield low, rows[-1][0]
        low = rows[-1][0]


_OF_CALLS = "call_id > ? AND call_id <= ?"
_OTHERS = "call_id IS NULL AND occurred_ns < ? AND position > ? AND position <= ?"
_LAST = 2**62


class _Events:
    """Takes the events about calls begun before, which have gone, and those about no call that happened before."""

    def __init__(self, upkeep: Upkeep, before_ns: int) -> None:
        self._upkeep, self._connection, self._before_ns = upkeep, upkeep.connection, before_ns
        self._done = self._total = 0

    def run(self, drop_whole: DropWhole) -> tuple[int, Sequence[str]]:
        """Returns: How many, and notes."""
        upkeep = self._upkeep
        upkeep.phase("Pruning events")
        self._total = _count(self._connection, 0, self._before_ns)
        self._done, notes = drop_whole(self._connection, self._before_ns)
        if self._done:
            with upkeep.step():
                upkeep.count(REMOVALS, PRUNED)
        for calls in _ranges_of_calls(upkeep, "", id_bound(self._before_ns), _OF_NO_ROW):
            self._delete(f"{_OF_CALLS} AND {_OF_NO_ROW}", calls)
        for positions in _ranges_of_others(upkeep, self._before_ns, "true"):
            self._delete(_OTHERS, (self._before_ns, *positions))
        return self._done, notes

    def _delete(self, where: str, values: Sequence[Any]) -> None:
        connection = self._connection
        with self._upkeep.step():
            _forget(connection, where, values)
            gone = connection.execute(f"DELETE FROM hub_events WHERE {where} RETURNING 1", values).fetchall()
            if gone:
                self._upkeep.count(REMOVALS, PRUNED)
        self._done += len(gone)
        self._upkeep.told(self._done, self._total)


def _forget(connection: Connection, where: str, values: Sequence[Any]) -> None:
    """Take events out of the full-text index."""
    if search.place(connection) is not None:
        rows = connection.execute(f"SELECT position FROM hub_events WHERE {where} AND content IS NOT NULL", values)
        search.forget_events(connection, [position for (position,) in rows.fetchall()])


class _Bodies:
    """Takes the content of events, call after call."""

    def __init__(self, upkeep: Upkeep, before_ns: int) -> None:
        self._upkeep, self._connection, self._before_ns = upkeep, upkeep.connection, before_ns
        self._projects = {project for (project,) in self._connection.execute("SELECT project FROM hub_keys")}
        self._done = self._total = 0

    def run(self) -> int:
        """Returns: How many events lost their content."""
        upkeep = self._upkeep
        upkeep.phase("Pruning bodies")
        start_ns = self._done_before_ns()
        self._total = _count(self._connection, start_ns, self._before_ns, "AND content IS NOT NULL")
        for calls in _ranges_of_calls(upkeep, id_bound(start_ns), id_bound(self._before_ns), "content IS NOT NULL"):
            self._empty(_OF_CALLS, calls, calls_before_ns=min((id_ms(calls[1]) or 0) * _MS, self._before_ns))
        for positions in _ranges_of_others(upkeep, self._before_ns, "content IS NOT NULL"):
            self._empty(_OTHERS, (self._before_ns, *positions))
        return self._done

    def _done_before_ns(self) -> int:
        """No call begun before has content left."""
        found = dict(
            self._connection.execute("SELECT project, before_ns FROM hub_tombstones WHERE kind = ?", (BODIES,))
        )
        return min((found.get(project, 0) for project in self._projects), default=0)

    def _empty(self, where: str, values: Sequence[Any], *, calls_before_ns: int | None = None) -> None:
        connection = self._connection
        with self._upkeep.step():
            _forget(connection, where, values)
            emptied = connection.execute(
                f"UPDATE hub_events SET content = NULL WHERE {where} AND content IS NOT NULL RETURNING 1", values
            ).fetchall()
            if calls_before_ns is not None:
                empty_calls(connection, where, values)
                now = self._upkeep.wall()
                bury(connection, [(project, BODIES, b"", calls_before_ns, now) for project in sorted(self._projects)])
            self._upkeep.count(*([REMOVALS] if emptied else []))
        self._done += len(emptied)
        self._upkeep.told(self._done, self._total)
