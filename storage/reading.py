"""Events read back from a store, with their content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import orjson

from hub.events import EventRecord
from hub.polite import no_rest
from hub.store import Content, ContentRef, Cursor, Erased, OpenCall, Page
from storage.append import read_counters
from storage.batch import EVENT_COLUMNS, event_record
from storage.bodies import ids_in, put_together, unpack
from storage.engine import Connection, Lookup
from storage.event_views import NOT_CONTRIBUTED
from storage.sequences import expand
from storage.upkeep import REMOVALS

COLUMNS = ",".join(EVENT_COLUMNS)
_BODIES = Lookup("SELECT id, body, packed FROM hub_contents WHERE id {}")
_STREAMS = Lookup(f"SELECT {COLUMNS} FROM hub_events WHERE stream_id {{}}")
_WITHOUT_DEBUG = Lookup(_STREAMS.sql + " AND type NOT IN ('llm:request:debug','llm:response:debug')")
_COSTS = Lookup("SELECT call_id, cost_nanos FROM hub_calls WHERE cost_nanos IS NOT NULL AND call_id {}")
_MISSING = object()


@contextmanager
def one_moment(connection: Connection) -> Iterator[None]:
    """A transaction all of whose statements see the store as it is at the first one, so that what events name is there
    when it is looked for."""
    connection.execute("BEGIN" if connection.engine == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(Exception):  # the connection may be what failed
            connection.rollback()
        raise


def stream_page(connection: Connection, stream_id: str, after: int, limit: int) -> list[EventRecord]:
    """At most *limit* events of a stream."""
    with one_moment(connection):
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE stream_id = ? AND version > ? ORDER BY version LIMIT ?",
            (stream_id, after, limit),
        ).fetchall()
        return [one.record for one in with_content(connection, rows)]


def log_page(
    connection: Connection,
    after: Cursor | None,
    types: Collection[str] | None,
    limit: int,
    until: Cursor | None = None,
) -> Page:
    """See `EventStore.read_all`. *until*: what lies behind it is left out."""
    start = place(after)
    if limit < 1:
        return Page((), after)
    of_types = "" if types is None else f" AND type IN ({','.join('?' * len(types)) or 'NULL'})"
    with one_moment(connection):
        newest = _newest(connection)
        end = newest if until is None else min(newest, place(until))
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE position > ? AND position <= ?{of_types}"
            " ORDER BY position LIMIT ?",
            (start, end, *(types or ()), limit),
        ).fetchall()
        events = tuple(one.record for one in with_content(connection, rows))
    end = rows[-1][0] if len(rows) == limit else max(end, start)
    return Page(events, Cursor(str(end)) if end or after is not None else None)


class LogState(NamedTuple):
    """What tells whether a log that is read in several goes is still the same."""

    first: str | None
    """The id of its oldest event."""
    end: Cursor
    removals: int
    """How often something was erased or pruned."""


def log_state(connection: Connection) -> LogState:
    """How the log stands now."""
    with one_moment(connection):
        first = connection.execute("SELECT event_id FROM hub_events ORDER BY position LIMIT 1").fetchone()
        removals = read_counters(connection).get(REMOVALS, 0)
        return LogState(first and first[0], Cursor(str(_newest(connection))), removals)


def _newest(connection: Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(position), 0) FROM hub_events").fetchone()[0])


class EndedCalls(NamedTuple):
    """Calls by the place of their ends in the log."""

    streams: list[list[EventRecord]]
    """The events of each, in order."""
    cost_nanos: Mapping[str, int]
    """By call id, where it is known."""
    next: int
    """The place of the last end."""
    last: str | None
    """The id of the event that stands there; None where nothing was found."""


def ended_calls(connection: Connection, after: int, since_ns: int, limit: int, *, content: bool) -> EndedCalls:
    """At most *limit* of the calls whose ends stand behind place *after* and happened at *since_ns* or later.

    Args:
        content: With messages and bodies; else without the events that do nothing but carry them.
    """
    ends = connection.execute(
        "SELECT position, stream_id, event_id FROM hub_events"
        " WHERE position > ? AND type = 'llm:response' AND occurred_ns >= ? ORDER BY position LIMIT ?",
        (after, since_ns, limit),
    ).fetchall()
    if not ends:
        return EndedCalls([], {}, after, None)
    ids = dict.fromkeys(stream_id for _, stream_id, _ in ends)
    rows = list(connection.lookup(_STREAMS if content else _WITHOUT_DEBUG, list(ids), no_rest))
    if content:
        records = [one.record for one in with_content(connection, rows)]
    else:
        records = [record for _, record, _ in map(event_record, rows)]
    streams: dict[str, list[EventRecord]] = {stream_id: [] for stream_id in ids}
    for record in sorted(records, key=lambda record: record["version"]):
        streams[record["stream_id"]].append(record)
    costs = dict(connection.lookup(_COSTS, list(ids), no_rest))
    return EndedCalls(list(streams.values()), costs, ends[-1][0], ends[-1][2])


def started_facts(connection: Connection, after: int) -> list[tuple[int, str, Any]]:
    """Position, producer and data of each `hub:started` behind place *after*."""
    rows = connection.execute(
        f"SELECT position, producer, data FROM hub_events WHERE type = 'hub:started' AND type NOT IN {NOT_CONTRIBUTED}"
        " AND position > ? ORDER BY position",
        (after,),
    ).fetchall()
    return [(position, producer, orjson.loads(data)) for position, producer, data in rows]


def event_id_at(connection: Connection, position: int) -> str | None:
    """The id of the event that stands at a place of the log; None if none does."""
    row = connection.execute("SELECT event_id FROM hub_events WHERE position = ?", (position,)).fetchone()
    return row and str(row[0])


def place(cursor: Cursor | None) -> int:
    """The position a cursor stands for.

    Raises: ValueError: No store of ours gave it.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise ValueError(f"{cursor!r} is no cursor of this store")
    return int(cursor)


class Stored(NamedTuple):
    """An event as it was read, with the pieces of its content."""

    position: int
    record: EventRecord
    manifest: dict[str, Any] | None
    bodies: Mapping[int, Any]
    """Of all events that were read together."""


def with_content(connection: Connection, rows: Iterable[Sequence[Any]]) -> list[Stored]:
    """Rows of hub_events, their content put together."""
    read = [event_record(row) for row in rows]
    expand(connection, (manifest for _, _, manifest in read if manifest))
    wanted = {content_id for _, _, manifest in read if manifest for content_id in ids_in(manifest)}
    bodies = load(connection, wanted)
    for _, record, manifest in read:
        if manifest is not None:
            record["content"] = put_together(manifest, lambda wanted_id: bodies.get(wanted_id, _MISSING), _MISSING)
    return [Stored(position, record, manifest, bodies) for position, record, manifest in read]


def load(connection: Connection, ids: Collection[int]) -> dict[int, Any]:
    """The contents that are still there, by id."""
    return {row[0]: unpack(row[1], row[2]) for row in connection.lookup(_BODIES, ids, no_rest)}


def contents(connection: Connection, refs: Sequence[ContentRef], last: int) -> Mapping[ContentRef, Content | Erased]:
    """See `EventStore.content`. *last*: the newest id that was ever given."""
    ids = {ref: int(ref) if ref.isascii() and ref.isdigit() else 0 for ref in refs}
    for ref, content_id in ids.items():
        if not 0 < content_id <= last:
            raise KeyError(ref)
    found = load(connection, set(ids.values()))
    return {ref: found.get(content_id, Erased()) for ref, content_id in ids.items()}


def references(connection: Connection, stream_id: str, version: int) -> tuple[ContentRef, ...]:
    """What an event's content is made of; nothing for an unknown event."""
    with one_moment(connection):
        row = connection.execute(
            "SELECT content FROM hub_events WHERE stream_id = ? AND version = ?", (stream_id, version)
        ).fetchone()
        if row is None or row[0] is None:
            return ()
        manifest = orjson.loads(row[0])
        expand(connection, [manifest])
    return tuple(ContentRef(str(content_id)) for content_id in ids_in(manifest))


def open_calls(connection: Connection, producer: str) -> list[OpenCall]:
    """See `EventStore.open_calls`."""
    with one_moment(connection):
        rows = connection.execute(
            f"SELECT {','.join('e.' + name for name in EVENT_COLUMNS)},"
            " (SELECT max(version) FROM hub_events l WHERE l.stream_id = e.stream_id)"
            " FROM hub_calls c JOIN hub_events e ON e.stream_id = c.call_id AND e.version = c.request_version"
            " WHERE c.status = 'running' AND c.producer = ? AND e.type = 'llm:request' ORDER BY c.call_id",
            (producer,),
        ).fetchall()
        requests = with_content(connection, [row[:-1] for row in rows])
    return [
        OpenCall(request.record["stream_id"], row[-1], request.record)
        for row, request in zip(rows, requests, strict=True)
    ]
