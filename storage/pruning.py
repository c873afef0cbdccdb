"""Pruning: what is too old goes. Two clocks: one for content, one for events and calls. The hourly sums stay.

First the calls: each step moves what some of them add up to from the live columns of the hourly tables to those of
calls that are no more, takes their rows out, and leaves a tombstone for their projects. What is about a call begun
before that and comes again is refused; what of it is still there while the call has no row is passed over by a rebuild.
So at every moment a call is counted once. Their events go next, then the content that nothing refers to any more.
Killed anywhere, it is finished by the next pruning.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from hub.polite import no_rest
from hub.store import PruneReport
from storage.engine import Connection
from storage.erasing import fold_again
from storage.projections import CALL_COLUMNS, Row, instant
from storage.rollups import Rollups
from storage.sweeping import sweep, would_sweep
from storage.tombstones import BODIES, CALLS, id_bound, id_ms
from storage.upkeep import REMOVALS, Upkeep

PRUNED = "pruned"
"""Counter: steps that took calls."""

DropWhole = Callable[[Connection, int], tuple[int, Sequence[str]]]
"""Drops the pieces of the log in which all is older than a UTC Unix time in ns. Returns: how many events they had, and
notes for `PruneReport`."""

_MS = 10**6
_MINTED_LATER_NS = 60 * 10**9
"""By which the time in a call's id may be behind its beginning."""

_NO_CALL = "NOT EXISTS (SELECT 1 FROM hub_calls c WHERE c.call_id = hub_events.call_id)"


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


def _bury(connection: Connection, kind: str, projects: Collection[str], before_ns: int, now: int) -> None:
    connection.executemany(
        "INSERT INTO hub_tombstones (project, kind, hash, before_ns, created_ns) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (project, kind, hash) DO UPDATE SET before_ns = excluded.before_ns"
        " WHERE excluded.before_ns > hub_tombstones.before_ns",
        [(project, kind, b"", before_ns, now) for project in sorted(projects)],
    )


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
                taken = [row for row in rows if row["call_id"] not in self._waiting(rows)]
                self._move(taken)
            full = len(rows) == size
            last, done = rows[-1]["call_id"] if rows else last, done + len(taken)
            self._upkeep.told(before + done, total)
        return done

    def _oldest(self, after: str, size: int) -> list[Row]:
        found = self._connection.execute(
            f"SELECT {','.join(CALL_COLUMNS)} FROM hub_calls WHERE call_id > ? AND call_id < ?"
            " ORDER BY call_id LIMIT ?",
            (after, self._end, size),
        )
        rows = [dict(zip(CALL_COLUMNS, one, strict=True)) for one in found]
        for row in rows:
            if row["started_at"] is not None:  # engines differ in what an instant is
                row["started_at"] = instant(row["started_ns"])
        return rows

    def _waiting(self, rows: Sequence[Row]) -> set[str]:
        """Those of *rows* that are why a later call does not count (see `projections.repeated`): were they gone before
        it, it would."""
        count = [row for row in rows if row["counted"] == 1 and row["response_id"] and row["ended_ns"] is not None]
        if not count:
            return set()
        until = id_bound(max(row["ended_ns"] for row in count) + _MINTED_LATER_NS)
        later: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
        for response, producer, source, started_ns in self._connection.execute(
            "SELECT response_id, producer, source, started_ns FROM hub_calls"
            " WHERE counted = 0 AND call_id > ? AND call_id < ?",
            (rows[-1]["call_id"], until),
        ):
            later.setdefault((response, producer), []).append((source, started_ns or 0))
        return {
            row["call_id"]
            for row in count
            for source, started_ns in later.get((row["response_id"], row["producer"]), ())
            if source != row["source"] and started_ns <= row["ended_ns"]
        }

    def _move(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        live, kept = Rollups(), Rollups("kept_")
        for row in rows:
            live.add(row, -1)
            kept.add(row)
        kept.write(self._connection, no_rest)
        live.write(self._connection, no_rest)
        gone = [(row["call_id"],) for row in rows]
        for table in ("hub_calls", "hub_attempts", "hub_tool_calls"):
            self._connection.executemany(f"DELETE FROM {table} WHERE call_id = ?", gone)
        _bury(self._connection, CALLS, {row["project"] for row in rows}, self._before_ns, self._upkeep.wall())
        self._upkeep.count(REMOVALS, PRUNED)


class _Events:
    """Takes the events about calls begun before, which have gone, and those about no call that happened before."""

    def __init__(self, upkeep: Upkeep, before_ns: int) -> None:
        self._upkeep, self._connection, self._before_ns = upkeep, upkeep.connection, before_ns

    def run(self, drop_whole: DropWhole) -> tuple[int, Sequence[str]]:
        """Returns: How many, and notes."""
        upkeep = self._upkeep
        upkeep.phase("Pruning events")
        total = _count(self._connection, 0, self._before_ns)
        done, notes = drop_whole(self._connection, self._before_ns)
        if done:
            with upkeep.step():
                upkeep.count(REMOVALS, PRUNED)
        for rows in itertools.chain(self._about_calls(), self._about_none()):
            with upkeep.step():
                self._connection.executemany(
                    f"DELETE FROM hub_events WHERE position = ? AND stream_id = ? AND (call_id IS NULL OR {_NO_CALL})",
                    [row[:2] for row in rows],
                )
                upkeep.count(REMOVALS, PRUNED)
            upkeep.told(done := done + len(rows), total)
        return done, notes

    def _about_calls(self) -> Iterator[list[Any]]:
        call_id, position = "", 0
        while rows := self._connection.execute(
            "SELECT position, stream_id, call_id FROM hub_events WHERE call_id < ? AND (call_id, position) > (?, ?)"
            f" AND {_NO_CALL} ORDER BY call_id, position LIMIT ?",
            (id_bound(self._before_ns), call_id, position, self._upkeep.size),
        ).fetchall():
            yield rows
            position, _, call_id = rows[-1]

    def _about_none(self) -> Iterator[list[Any]]:
        position = 0
        while rows := self._connection.execute(
            "SELECT position, stream_id FROM hub_events WHERE call_id IS NULL AND occurred_ns < ? AND position > ?"
            " ORDER BY position LIMIT ?",
            (self._before_ns, position, self._upkeep.size),
        ).fetchall():
            yield rows
            position, _ = rows[-1]


class _Bodies:
    """Takes the content of events, call after call."""

    def __init__(self, upkeep: Upkeep, before_ns: int) -> None:
        self._upkeep, self._connection = upkeep, upkeep.connection
        self._before_ns = before_ns // _MS * _MS
        self._projects = {project for (project,) in self._connection.execute("SELECT project FROM hub_keys")}

    def run(self) -> int:
        """Returns: How many events lost their content."""
        upkeep = self._upkeep
        upkeep.phase("Pruning bodies")
        start_ns = self._done_before_ns()
        total, done = _count(self._connection, start_ns, self._before_ns, "AND content IS NOT NULL"), 0
        low, end = id_bound(start_ns), id_bound(self._before_ns)
        while low < end:
            high_ns = self._next_ns(low)
            done += self._empty(low, id_bound(high_ns), high_ns)
            low = id_bound(high_ns)
            upkeep.told(done, total)
        return done + self._empty_those_of_no_call()

    def _done_before_ns(self) -> int:
        """No call begun before has content left."""
        found = dict(
            self._connection.execute("SELECT project, before_ns FROM hub_tombstones WHERE kind = ?", (BODIES,))
        )
        return min((found.get(project, 0) for project in self._projects), default=0)

    def _next_ns(self, low: str) -> int:
        """Up to where a step may go from *low*."""
        row = self._connection.execute(
            "SELECT call_id FROM hub_events WHERE call_id >= ? AND call_id < ? AND content IS NOT NULL"
            " ORDER BY call_id LIMIT 1 OFFSET ?",
            (low, id_bound(self._before_ns), 2 * self._upkeep.size),
        ).fetchone()
        return self._before_ns if row is None else (id_ms(row[0]) + 1) * _MS

    def _empty(self, low: str, high: str, high_ns: int) -> int:
        with self._upkeep.step():
            found = self._connection.execute(
                "SELECT position, stream_id, call_id FROM hub_events"
                " WHERE call_id >= ? AND call_id < ? AND content IS NOT NULL",
                (low, high),
            ).fetchall()
            self._empty_events([row[:2] for row in found])
            fold_again(self._connection, sorted({call_id for _, _, call_id in found}))
            _bury(self._connection, BODIES, self._projects, high_ns, self._upkeep.wall())
            self._upkeep.count(REMOVALS)
        return len(found)

    def _empty_those_of_no_call(self) -> int:
        done, after = 0, 0
        while rows := self._connection.execute(
            "SELECT position, stream_id FROM hub_events WHERE call_id IS NULL AND content IS NOT NULL"
            " AND occurred_ns < ? AND position > ? ORDER BY position LIMIT ?",
            (self._before_ns, after, self._upkeep.size),
        ).fetchall():
            with self._upkeep.step():
                self._empty_events(rows)
                self._upkeep.count(REMOVALS)
            done, after = done + len(rows), rows[-1][0]
        return done

    def _empty_events(self, found: Sequence[Any]) -> None:
        self._connection.executemany("UPDATE hub_events SET content = NULL WHERE position = ? AND stream_id = ?", found)
