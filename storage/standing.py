"""What `hub doctor` asks of a store about retention and erasures, without changing it."""

from __future__ import annotations

from dataclasses import dataclass

from hub.ids import id_bound
from storage.append import read_counters
from storage.engine import Connection
from storage.tombstones import BODIES, CALLS
from storage.upkeep import REDACTIONS, SCRUBBED, is_unswept


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a store stands."""

    tombstones: int
    """Calls, sessions and users that were erased."""
    unswept: bool
    """Content that nothing refers to any more is still to be deleted: an erasure or a pruning was interrupted."""
    unscrubbed: bool
    """Copies of what was erased may be left in unused parts of the files."""
    old_bodies: bool
    """There may be content of calls begun before the time asked for."""
    old_calls: int
    """Calls begun before the time asked for."""
    out_of_the_log: tuple[str, ...]
    """Tables of months that an interrupted pruning took out of the log, and did not come to drop."""


def standing(connection: Connection, *, bodies_before_ns: int | None, calls_before_ns: int | None) -> Standing:
    """Look at a store. Times in UTC Unix nanoseconds; None: nothing is too old."""
    counters = read_counters(connection)
    (tombstones,) = connection.execute(
        "SELECT count(*) FROM hub_tombstones WHERE kind NOT IN (?, ?)", (BODIES, CALLS)
    ).fetchone()
    return Standing(
        tombstones=tombstones,
        unswept=is_unswept(connection),
        unscrubbed=counters.get(REDACTIONS, 0) > counters.get(SCRUBBED, 0),
        old_bodies=_has_old_bodies(connection, bodies_before_ns or 0),
        old_calls=_calls(connection, calls_before_ns or 0),
        out_of_the_log=_out_of_the_log(connection),
    )


def _out_of_the_log(connection: Connection) -> tuple[str, ...]:
    if connection.engine != "postgresql":
        return ()
    from storage.postgres_connection import PostgresConnection  # needs the extra
    from storage.postgres_pruning import out_of_the_log

    assert isinstance(connection, PostgresConnection)
    return tuple(out_of_the_log(connection))


def _has_old_bodies(connection: Connection, before_ns: int) -> bool:
    """Whether calls began before that and behind what was pruned."""
    pruned = dict(connection.execute("SELECT project, before_ns FROM hub_tombstones WHERE kind = ?", (BODIES,)))
    projects = connection.execute("SELECT project FROM hub_keys").fetchall()
    done_ns = min((pruned.get(project, 0) for (project,) in projects), default=0)
    found = connection.execute(
        "SELECT 1 FROM hub_events WHERE call_id >= ? AND call_id < ? AND content IS NOT NULL LIMIT 1",
        (id_bound(done_ns), id_bound(before_ns)),
    )
    return found.fetchone() is not None


def _calls(connection: Connection, before_ns: int) -> int:
    (found,) = connection.execute("SELECT count(*) FROM hub_calls WHERE call_id < ?", (id_bound(before_ns),)).fetchone()
    return int(found)
