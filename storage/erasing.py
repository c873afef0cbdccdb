"""Erasure: the one rewrite of events that is permitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub.polite import no_rest
from hub.store import Erasure, ErasureReport
from storage.append import read_counters, read_prices, write_counters
from storage.bodies import ids_in
from storage.engine import Connection
from storage.projector import Entry, Projector
from storage.reading import COLUMNS, with_content
from storage.search import forget_contents, forget_events
from storage.tombstones import (
    CONFLICT,
    begun_ns,
    call_begun_ns,
    column_of,
    has_erasable_data,
    predicate,
    subjects,
    tombstone_hash,
    value_of,
)

_CHUNK = 200
ResultRow = tuple[str, str, str, int, int]


@dataclass
class _Target:
    """What an erasure is about."""

    calls: set[str] = field(default_factory=set)
    events: dict[int, str] = field(default_factory=dict)
    """Position to type."""


def erase(connection: Connection, what: Erasure, key: bytes, now: int) -> ErasureReport:
    """See `EventStore.erase`. Within a transaction.

    Raises: ValueError: *what* names none of call, session and user, or several.
    """
    kind, value = predicate(what)
    connection.execute(
        "INSERT INTO hub_tombstones (project, kind, hash, before_ns, created_ns) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (project, kind, hash) DO UPDATE SET before_ns = excluded.before_ns"
        " WHERE excluded.before_ns > hub_tombstones.before_ns",
        (what.project, kind, tombstone_hash(value, key, kind), what.before_ns, now),
    )
    target = _find(connection, what, kind, value)
    dead = _erase_events(connection, what.project, target)
    _fold_again(connection, target.calls)
    counters = read_counters(connection)
    write_counters(connection, {"epoch": counters["epoch"] + 1, "erasures": counters.get("erasures", 0) + 1})
    return ErasureReport(len(target.calls), dead, len(target.events))


def _find(connection: Connection, what: Erasure, kind: str, value: str) -> _Target:
    target = _Target()
    rows = connection.execute(
        f"SELECT position, type, call_id, occurred_ns FROM hub_events WHERE project = ? AND {column_of(kind)} = ?",
        (what.project, value),
    )
    for position, event_type, call_id, occurred_ns in rows:
        begun = None if call_id is None else call_begun_ns(call_id)
        if (occurred_ns if begun is None else begun) < what.before_ns:
            target.events[position] = event_type
            if call_id is not None:
                target.calls.add(call_id)
    _find_carried(connection, what, kind, value, target)
    for chunk in _chunks(sorted(target.calls)):
        target.events.update(
            connection.execute(f"SELECT position, type FROM hub_events WHERE call_id IN ({_marks(chunk)})", chunk)
        )
    return target


def _find_carried(connection: Connection, what: Erasure, kind: str, value: str, target: _Target) -> None:
    """Events that lost their place, whole in the content of the hub:conflict that tells of each."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM hub_events WHERE type = ? AND project = ? AND content IS NOT NULL",
        (CONFLICT, what.project),
    )
    for one in with_content(connection, rows):
        for carried in subjects(one.record):
            if value_of(carried, kind) == value and begun_ns(carried) < what.before_ns:
                target.events[one.position] = CONFLICT
                if one.record["call_id"] is not None:
                    target.calls.add(one.record["call_id"])


def _erase_events(connection: Connection, project: str, target: _Target) -> int:
    """Returns: How many contents were deleted."""
    candidates: set[int] = set()
    for chunk in _chunks(list(target.events)):
        rows = connection.execute(
            f"SELECT content FROM hub_events WHERE content IS NOT NULL AND position IN ({_marks(chunk)})", chunk
        )
        for (content,) in rows:
            candidates.update(ids_in(orjson.loads(content)))
    forget_events(connection, target.events)
    connection.executemany(
        "UPDATE hub_events SET session_id = NULL, user_id = NULL, tags = NULL, content = NULL WHERE position = ?",
        ((position,) for position in target.events),
    )
    connection.executemany(
        "UPDATE hub_events SET data = '{}' WHERE position = ?",
        ((position,) for position, event_type in target.events.items() if has_erasable_data(event_type)),
    )
    results = _take_results(connection, target.calls)
    dead = _settle_survivors(connection, project, candidates, results)
    forget_contents(connection, dead)
    for table, column in (("hub_contents", "id"), ("hub_parts", "content_id"), ("hub_tool_results", "content_id")):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((content_id,) for content_id in dead))
    return len(dead)


def _take_results(connection: Connection, calls: set[str]) -> dict[int, list[ResultRow]]:
    """Take out the tool results that an erased call was the first to carry, by content."""
    taken: dict[int, list[ResultRow]] = {}
    for chunk in _chunks(sorted(calls)):
        where = f"FROM hub_tool_results WHERE call_id IN ({_marks(chunk)})"
        for row in connection.execute(f"SELECT tool_call_id, project, session, content_id, part {where}", chunk):
            taken.setdefault(row[3], []).append(row)
        connection.execute(f"DELETE {where}", chunk)
    return taken


def _settle_survivors(
    connection: Connection, project: str, candidates: set[int], results: dict[int, list[ResultRow]]
) -> set[int]:
    """Look through all other events of the project. Returns: The candidates that none of them refers to."""
    dead = set(candidates)
    if not candidates:
        return dead
    rows = connection.execute(
        "SELECT call_id, session_id, type, content FROM hub_events WHERE project = ? AND content IS NOT NULL",
        (project,),
    )
    carriers: dict[ResultRow, str] = {}
    for call_id, session, event_type, content in rows:
        used = candidates.intersection(ids_in(orjson.loads(content)))
        dead -= used
        if event_type != "llm:request:debug" or call_id is None:
            continue
        for result in (one for content_id in used for one in results.get(content_id, ())):
            if result[2] == (session or ""):
                carriers[result] = min(carriers.get(result, call_id), call_id)
    connection.executemany(
        "INSERT INTO hub_tool_results (tool_call_id, project, session, content_id, part, call_id)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(*result, call_id) for result, call_id in carriers.items()],
    )
    return dead


def _fold_again(connection: Connection, calls: set[str]) -> None:
    """Make the rows of *calls* from what their events still say."""
    book = read_prices(connection)
    for chunk in _chunks(sorted(calls)):
        projector = Projector(connection, book, no_rest, first_results={})
        projector.begin_again(chunk)
        for table in ("hub_attempts", "hub_tool_calls"):
            connection.execute(f"DELETE FROM {table} WHERE call_id IN ({_marks(chunk)})", chunk)
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE call_id IN ({_marks(chunk)}) ORDER BY position", chunk
        ).fetchall()
        for one in with_content(connection, rows):
            projector.fold(Entry(one.position, one.record, ()))
        projector.write()


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
