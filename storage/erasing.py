"""Erasure: the one rewrite of events that is permitted.

First the tombstone: from then on what it covers is stripped when it comes. Then the events that are there, a few calls
in each transaction; then the content that nothing refers to any more; then the files. Killed anywhere, the tombstone
stands, and the same erasure asked for again finishes the work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from hub.events import Data
from hub.ids import id_ms
from hub.polite import no_rest
from hub.store import Erasure, ErasureReport
from storage.append import read_counters
from storage.engine import Connection, marks
from storage.price_tables import read_prices
from storage.projections import CALL_TYPES, OF_CONTENT, OF_LABELS
from storage.projector import Entry, Projector
from storage.reading import COLUMNS, with_content
from storage.search import forget_events
from storage.sweeping import sweep, would_sweep
from storage.tombstones import (
    CONFLICT,
    begun_at,
    begun_ns,
    bury,
    column_of,
    just_after,
    predicate,
    subjects,
    tombstone_hash,
    value_of,
    without_contributed,
)
from storage.upkeep import REDACTIONS, REMOVALS, Upkeep, lowest, pieces

DAY_MS = 86_400_000
_LAST_DAY = 2_932_896
_WINDOW = 20_000
_CONFLICTS = 100
_OF_CALLS = "project = ? AND call_id IN"
"""What another project noted of a call is no part of it."""
_HAS_LABELS = "content IS NOT NULL OR session_id IS NOT NULL OR user_id IS NOT NULL OR tags IS NOT NULL"


@dataclass
class _Target:
    """What an erasure is about."""

    calls: set[str] = field(default_factory=set)
    """Everything that is about them."""
    positions: set[int] = field(default_factory=set)
    """Events that are about no call, or that another project noted."""
    days: set[int] = field(default_factory=set)
    """See `Done`."""
    events: int = 0


class _Found(NamedTuple):
    """An event, as far as erasing it goes."""

    position: int
    stream_id: str
    type: str
    call_id: str | None
    has_labels: bool
    name: str | None
    """Of the call, session or user that it has, of the kind that is erased."""
    data: Data

    @property
    def bare(self) -> Data:
        return without_contributed(self.type, self.data)


class Done(NamedTuple):
    """What an erasure did."""

    report: ErasureReport
    days: Collection[int]
    """Since 1970, of the streams whose events were rewritten."""
    steps: int
    """Transactions that rewrote some."""


def erase(upkeep: Upkeep, what: Erasure, key: bytes) -> Done:
    """See `EventStore.erase`; all but scrubbing the files.

    Args:
        key: The project's.
    Raises: ValueError: *what* names none of call, session and user, or several.
    """
    work = _Erasing(upkeep, what, key)
    work.bury()
    while work.find():
        work.bury()
    work.redact()
    target = work.target
    report = ErasureReport(len(target.calls), sweep(upkeep).contents, target.events, work.notes())
    return Done(report, target.days, work.steps)


def would_erase(upkeep: Upkeep, what: Erasure) -> ErasureReport:
    """What `erase` would report. Nothing is changed."""
    work = _Erasing(upkeep, what, b"")
    work.find()
    target = work.target
    for some in pieces(sorted(target.calls)):
        found = upkeep.connection.execute(
            f"SELECT position FROM hub_events WHERE {_OF_CALLS} {marks(len(some))}", (what.project, *some)
        )
        target.positions.update(position for (position,) in found)
    contents = would_sweep(upkeep, lambda at, *_: at in target.positions).contents if target.positions else 0
    return ErasureReport(len(target.calls), contents, len(target.positions), work.notes())


class _Erasing:
    def __init__(self, upkeep: Upkeep, what: Erasure, key: bytes) -> None:
        self._upkeep, self._connection, self._key = upkeep, upkeep.connection, key
        self._project, (self._kind, self._value) = what.project, predicate(what)
        self._takes_all = what.before_ns is None
        self._before_ns = upkeep.wall() if what.before_ns is None else what.before_ns
        self._place = lowest(self._connection, "hub_events", "position") - 1
        """In the log, up to which was looked."""
        self.target = _Target()
        self.steps = 0

    def bury(self) -> None:
        """Leave the tombstone."""
        with self._upkeep.step():
            self._bury(self._kind, [self._value])
            self._upkeep.count()

    def _bury(self, kind: str, values: Collection[str]) -> None:
        now = self._upkeep.wall()
        bury(
            self._connection,
            [
                (self._project, kind, tombstone_hash(value, self._key, kind), self._before_ns, now)
                for value in sorted(values)
            ],
        )

    # Finding. What comes behind the tombstone is stripped, so nothing has to be looked at again.

    def find(self) -> bool:
        """Look at what came since the last time. Returns: Whether some of it began too late for the tombstone, so that
        what came meanwhile may have passed it."""
        self._upkeep.phase("Looking for what is to be erased")
        before_ns, end = self._before_ns, read_counters(self._connection)["position"]
        if self._kind == "call":
            self._take_in(self._find("", ()))
        else:
            for start in range(self._place, end, _WINDOW):
                self._take_in(self._find("AND position > ? AND position <= ?", (start, start + _WINDOW)))
                self._upkeep.told(min(start + _WINDOW, end), end)
        self._find_carried(end)
        self._place = end
        return self._before_ns > before_ns

    def _find(self, where: str, values: Sequence[int]) -> list[Any]:
        return self._connection.execute(
            "SELECT position, call_id, occurred_ns FROM hub_events"
            f" WHERE project = ? AND {column_of(self._kind)} = ? {where}",
            (self._project, self._value, *values),
        ).fetchall()

    def _take_in(self, rows: Sequence[Any]) -> None:
        for position, call_id, occurred_ns in rows:
            if self._reaches(begun_at(call_id, occurred_ns)):
                self._add(position, call_id)

    def _reaches(self, begun_ns: int) -> bool:
        """Whether the time allows it: clocks and files may tell of the future."""
        if self._takes_all:
            self._before_ns = max(self._before_ns, just_after(begun_ns))
        return begun_ns < self._before_ns

    def _add(self, position: int, call_id: str | None) -> None:
        if call_id is None:
            self.target.positions.add(position)
        else:
            self.target.calls.add(call_id)

    def _find_carried(self, end: int) -> None:
        """Events that lost their place, whole in the content of the hub:conflict that tells of each."""
        position = self._place
        while position < end:
            rows = self._connection.execute(
                f"SELECT {COLUMNS} FROM hub_events WHERE type = ? AND position > ? ORDER BY position LIMIT ?",
                (CONFLICT, position, _CONFLICTS),
            ).fetchall()
            for one in with_content(self._connection, rows):
                if any(self._is_meant(carried) for carried in subjects(one.record)):
                    self._add(one.position, one.record["call_id"])
                    if one.record["project"] != self._project:
                        self.target.positions.add(one.position)
            position = rows[-1][0] if len(rows) == _CONFLICTS else end

    def _is_meant(self, carried: Any) -> bool:
        return (
            carried["project"] == self._project
            and value_of(carried, self._kind) == self._value
            and self._reaches(begun_ns(carried))
        )

    def notes(self) -> tuple[str, ...]:
        """What shares its content with what was erased, on purpose."""
        if self._kind != "call":
            return ()
        (count,) = self._connection.execute(
            "SELECT count(*) FROM hub_calls WHERE replay_of = ?", (self._value,)
        ).fetchone()
        replays = f"{count:,} replays of the call keep what they share with it; hub calls --where"
        return (f"{replays} \"replay_of = '{self._value}'\" lists them",) if count else ()

    # Redacting.

    def redact(self) -> None:
        target, upkeep = self.target, self._upkeep
        upkeep.phase("Erasing")
        total = len(target.calls) + len(target.positions)
        done = 0
        for some in pieces(sorted(target.calls), upkeep):
            self._redact(f"{_OF_CALLS} {marks(len(some))}", (self._project, *some), some)
            upkeep.told(done := done + len(some), total)
        for places in pieces(sorted(target.positions), upkeep):
            self._redact(f"position IN {marks(len(places))}", places)
            upkeep.told(done := done + len(places), total)

    def _redact(self, where: str, values: Sequence[Any], calls: Sequence[str] = ()) -> None:
        connection = self._connection
        with self._upkeep.step():
            rows = connection.execute(
                f"SELECT position, stream_id, type, call_id, {_HAS_LABELS}, {column_of(self._kind)}, data"
                f" FROM hub_events WHERE {where}",
                values,
            ).fetchall()
            found = [_Found._make((*row[:-1], orjson.loads(row[-1]))) for row in rows]
            left = [one for one in found if one.has_labels or one.data != one.bare]
            self._bury("call", unnamed := self._unnamed(calls, found))
            if left:
                self._strip(left)
                self._upkeep.count(REMOVALS, REDACTIONS)
                facts = {"kind": self._kind, "calls": len({one.call_id for one in left} - {None}), "events": len(left)}
                self._upkeep.tell("hub:redacted", self._project, facts)
            elif unnamed:
                self._upkeep.count()
        self.steps += bool(left)
        self.target.events += len(found)
        self.target.days.update(day_of(one.stream_id) for one in left)

    def _unnamed(self, calls: Sequence[str], found: Sequence[_Found]) -> set[str]:
        """Those of *calls* of which something may come that has not the name of what is erased: they go on, or not all
        of their events have it."""
        ended = {one.call_id for one in found if one.type == "llm:response"}
        named_otherwise = {one.call_id for one in found if one.name != self._value}
        return {call_id for call_id in calls if call_id in named_otherwise or call_id not in ended}

    def _strip(self, found: Sequence[_Found]) -> None:
        connection = self._connection
        forget_events(connection, [one.position for one in found])
        connection.executemany(
            "UPDATE hub_events SET session_id = NULL, user_id = NULL, tags = NULL, content = NULL"
            " WHERE position = ? AND stream_id = ?",
            [(one.position, one.stream_id) for one in found],
        )
        connection.executemany(
            "UPDATE hub_events SET data = ? WHERE position = ? AND stream_id = ?",
            [(orjson.dumps(one.bare).decode(), one.position, one.stream_id) for one in found if one.bare != one.data],
        )
        calls = sorted({one.call_id for one in found if one.type in CALL_TYPES and one.call_id is not None})
        for some in pieces(calls):
            empty_calls(connection, f"call_id IN {marks(len(some))}", some, but_for={**OF_CONTENT, **OF_LABELS})


def empty_calls(
    connection: Connection, where: str, values: Sequence[Any], *, but_for: Mapping[str, Any] = OF_CONTENT
) -> None:
    """Make the rows of calls what they are when the content of all their events is gone, or, with OF_LABELS, all that
    erasure takes.

    Args:
        where: A condition on call_id.
    """
    unsure = connection.execute(
        f"SELECT call_id FROM hub_calls WHERE {where} AND capture IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM hub_events e WHERE e.call_id = hub_calls.call_id AND e.type = 'llm:request'"
        """ AND e.data LIKE '%"capture":"%')""",
        values,
    ).fetchall()
    assignments = ", ".join(f"{column} = ?" for column in but_for)
    connection.execute(f"UPDATE hub_calls SET {assignments} WHERE {where}", (*but_for.values(), *values))
    connection.execute(f"DELETE FROM hub_tool_calls WHERE {where}", values)
    _fold_again(connection, [call_id for (call_id,) in unsure])


def _fold_again(connection: Connection, calls: Sequence[str]) -> None:
    """Make the rows of *calls* from what their events still say: what content there was told of them cannot be told
    apart from what the events themselves say."""
    book = read_prices(connection)
    for some in pieces(calls):
        projector = Projector(connection, book, no_rest, first_results={})
        projector.begin_again(some)
        connection.execute(f"DELETE FROM hub_attempts WHERE call_id IN {marks(len(some))}", some)
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE call_id IN {marks(len(some))} ORDER BY position", some
        ).fetchall()
        for one in with_content(connection, rows):
            projector.fold(Entry(one.position, one.record, ()))
        projector.write()


def day_of(stream_id: str) -> int:
    """The day since 1970 that the id of a stream tells; the last of the year 9999 for those that tell later ones."""
    return min((id_ms(stream_id) or 0) // DAY_MS, _LAST_DAY)
