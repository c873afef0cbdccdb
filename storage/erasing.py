"""Erasure: the one rewrite of events that is permitted.

First the tombstone: from then on what it covers is stripped when it comes. Then the events that are there, a few calls
in each transaction; then the content that nothing refers to any more; then the files. Killed anywhere, the tombstone
stands, and the same erasure asked for again finishes the work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    begun_ns,
    bury,
    call_begun_ns,
    column_of,
    has_erasable_data,
    predicate,
    subjects,
    tombstone_hash,
    value_of,
)
from storage.upkeep import REDACTIONS, REMOVALS, Upkeep, lowest, pieces

DAY_MS = 86_400_000
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
    work = _Erasing(upkeep, what)
    work.bury(key)
    work.find()
    work.redact()
    target = work.target
    report = ErasureReport(len(target.calls), sweep(upkeep).contents, target.events, work.notes())
    return Done(report, target.days, work.steps)


def would_erase(upkeep: Upkeep, what: Erasure) -> ErasureReport:
    """What `erase` would report. Nothing is changed."""
    work = _Erasing(upkeep, what)
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
    def __init__(self, upkeep: Upkeep, what: Erasure) -> None:
        self._upkeep, self._connection, self._what = upkeep, upkeep.connection, what
        self._kind, self._value = predicate(what)
        self.target = _Target()
        self.steps = 0

    def bury(self, key: bytes) -> None:
        """Leave the tombstone."""
        what, digest = self._what, tombstone_hash(self._value, key, self._kind)
        with self._upkeep.step():
            bury(self._connection, [(what.project, self._kind, digest, what.before_ns, self._upkeep.wall())])
            self._upkeep.count()

    # Finding. What comes behind the tombstone is stripped, so nothing has to be looked at again.

    def find(self) -> None:
        self._upkeep.phase("Looking for what is to be erased")
        end = read_counters(self._connection)["position"]
        if self._kind == "call":
            self._take_in(self._find("", ()))
        else:
            for start in range(lowest(self._connection, "hub_events", "position") - 1, end, _WINDOW):
                self._take_in(self._find("AND position > ? AND position <= ?", (start, start + _WINDOW)))
                self._upkeep.told(min(start + _WINDOW, end), end)
        self._find_carried(end)

    def _find(self, where: str, values: Sequence[int]) -> list[Any]:
        return self._connection.execute(
            "SELECT position, call_id, occurred_ns FROM hub_events"
            f" WHERE project = ? AND {column_of(self._kind)} = ? {where}",
            (self._what.project, self._value, *values),
        ).fetchall()

    def _take_in(self, rows: Sequence[Any]) -> None:
        for position, call_id, occurred_ns in rows:
            begun = None if call_id is None else call_begun_ns(call_id)
            if (occurred_ns if begun is None else begun) < self._what.before_ns:
                self._add(position, call_id)

    def _add(self, position: int, call_id: str | None) -> None:
        if call_id is None:
            self.target.positions.add(position)
        else:
            self.target.calls.add(call_id)

    def _find_carried(self, end: int) -> None:
        """Events that lost their place, whole in the content of the hub:conflict that tells of each."""
        position = 0
        while position < end:
            rows = self._connection.execute(
                f"SELECT {COLUMNS} FROM hub_events WHERE type = ? AND position > ? ORDER BY position LIMIT ?",
                (CONFLICT, position, _CONFLICTS),
            ).fetchall()
            for one in with_content(self._connection, rows):
                if any(self._is_meant(carried) for carried in subjects(one.record)):
                    self._add(one.position, one.record["call_id"])
                    if one.record["project"] != self._what.project:
                        self.target.positions.add(one.position)
            position = rows[-1][0] if len(rows) == _CONFLICTS else end

    def _is_meant(self, carried: Any) -> bool:
        return (
            carried["project"] == self._what.project
            and value_of(carried, self._kind) == self._value
            and begun_ns(carried) < self._what.before_ns
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
            self._redact(f"{_OF_CALLS} {marks(len(some))}", (self._what.project, *some))
            upkeep.told(done := done + len(some), total)
        for places in pieces(sorted(target.positions), upkeep):
            self._redact(f"position IN {marks(len(places))}", places)
            upkeep.told(done := done + len(places), total)

    def _redact(self, where: str, values: Sequence[Any]) -> None:
        connection = self._connection
        with self._upkeep.step():
            found = connection.execute(
                f"SELECT position, stream_id, type, call_id, {_HAS_LABELS}, data FROM hub_events WHERE {where}", values
            ).fetchall()
            left = [row for row in found if row[4] or (has_erasable_data(row[2]) and row[5] != "{}")]
            if left:
                self._strip(left)
                self._upkeep.count(REMOVALS, REDACTIONS)
                calls = len({call_id for _, _, _, call_id, _, _ in left} - {None})
                facts = {"kind": self._kind, "calls": calls, "events": len(left)}
                self._upkeep.tell("hub:redacted", self._what.project, facts)
        self.steps += bool(left)
        self.target.events += len(found)
        self.target.days.update((id_ms(stream_id) or 0) // DAY_MS for _, stream_id, *_ in left)

    def _strip(self, rows: Sequence[Any]) -> None:
        connection = self._connection
        forget_events(connection, [position for position, *_ in rows])
        connection.executemany(
            "UPDATE hub_events SET session_id = NULL, user_id = NULL, tags = NULL, content = NULL"
            " WHERE position = ? AND stream_id = ?",
            [(position, stream_id) for position, stream_id, *_ in rows],
        )
        connection.executemany(
            "UPDATE hub_events SET data = '{}' WHERE position = ? AND stream_id = ?",
            [(position, stream_id) for position, stream_id, kind, *_ in rows if has_erasable_data(kind)],
        )
        calls = sorted({call_id for _, _, kind, call_id, *_ in rows if kind in CALL_TYPES and call_id is not None})
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
