"""A batch of events on its way into the log: what can be done before the database is locked, and what must wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any

import orjson

from hub.events import EventRecord
from hub.polite import Rest
from storage.bodies import Outline, Piece, hashes_in, make_ready, take_apart

EVENT_COLUMNS = (
    "position", "event_id", "stream_id", "version", "call_id", "type", "schema_version", "level", "occurred_ns",
    "recorded_ns", "project", "environment", "service", "session_id", "user_id", "tags", "trace_id", "span_id",
    "parent_span_id", "trace_flags", "tracestate", "parent_is_remote", "causation_id", "producer", "producer_seq",
    "data", "content",
)  # fmt: skip


class Batch:
    """Events on their way into the log. `outline_of` and `pieces` have their content."""

    def __init__(self, records: Sequence[EventRecord]) -> None:
        self.duplicates = 0
        self.conflicts: list[EventRecord] = []
        self._given = records
        places: dict[tuple[str, int], EventRecord] = {}
        for record in records:
            places.setdefault(_place(record), record)
        self.records: list[EventRecord] = list(places.values())
        """Those that may have to be written: no two have the same place."""
        self._outlines: dict[tuple[str, int], Outline] = {}
        """By place: ids are the producers' word."""
        self.pieces: dict[bytes, Piece] = {}
        self._thinned = False
        """Pieces are left over that no event wants."""

    def take_content_apart(self, keys: Mapping[str, bytes], known: Container[bytes], rest: Rest) -> None:
        """Hash the content of all events, and prepare the pieces whose hashes are not *known*."""
        for record in self.records:
            content = record["content"]
            if content is not None:
                project = record["project"]
                self._outlines[_place(record)] = take_apart(content, project, keys[project], self.pieces, rest)
        make_ready((piece for piece in self.pieces.values() if piece.hash not in known), rest)

    def settle(self, known: Iterable[tuple[str, int, str]]) -> None:
        """Decide which events are new, given those that hold a place already: (stream, version, event id)."""
        holders = {(stream, version): event_id for stream, version, event_id in known}
        self._thinned = bool(holders)
        self.records = []
        for record in self._given:
            place = _place(record)
            holder = holders.get(place)
            if holder is None:
                holders[place] = record["id"]
                self.records.append(record)
            elif holder == record["id"]:
                self.duplicates += 1
            else:
                self.conflicts.append(record)

    def leave_out(self, unwanted: Callable[[EventRecord], bool]) -> list[EventRecord]:
        """Leave out the events that are *unwanted*. Returns: them."""
        gone = [record for record in self.records if unwanted(record)]
        if gone:
            self._thinned = True
            self.records = [record for record in self.records if not unwanted(record)]
        return gone

    def ranges(self) -> list[tuple[str, int, int]]:
        """Each stream with the lowest and highest version in the batch."""
        found: dict[str, tuple[int, int]] = {}
        for record in self.records:
            stream, version = record["stream_id"], record["version"]
            low, high = found.get(stream, (version, version))
            found[stream] = (min(low, version), max(high, version))
        return [(stream, low, high) for stream, (low, high) in found.items()]

    def outline_of(self, record: EventRecord) -> Outline | None:
        """The content of *record*, if it has any."""
        return self._outlines.get(_place(record))

    def forget_content(self, record: EventRecord) -> None:
        """*record* is written without its content."""
        if self._outlines.pop(_place(record), None) is not None:
            self._thinned = True

    def wanted_pieces(self) -> Collection[Piece]:
        """The pieces of those events that are still to be written."""
        if not self._thinned:
            return self.pieces.values()
        outlines = (self.outline_of(record) or {} for record in self.records)
        return {digest: self.pieces[digest] for outline in outlines for digest in hashes_in(outline)}.values()


def _place(record: EventRecord) -> tuple[str, int]:
    return record["stream_id"], record["version"]


def event_row(record: EventRecord, position: int, recorded_ns: int, manifest: str | None) -> tuple[Any, ...]:
    """The record's row of hub_events."""
    tags, remote = record["tags"], record["parent_is_remote"]
    return (
        position, record["id"], record["stream_id"], record["version"], record["call_id"], record["type"],
        record["schema_version"], record["level"], record["occurred_at"], recorded_ns, record["project"],
        record["environment"], record["service"], record["session_id"], record["user_id"],
        None if tags is None else orjson.dumps(tags).decode(), record["trace_id"], record["span_id"],
        record["parent_span_id"], record["trace_flags"], record["tracestate"],
        None if remote is None else int(remote), record["causation_id"], record["producer"], record["producer_seq"],
        orjson.dumps(record["data"]).decode(), manifest,
    )  # fmt: skip


def event_record(row: Sequence[Any]) -> tuple[int, EventRecord, dict[str, Any] | None]:
    """A row of hub_events, in the order of EVENT_COLUMNS, as position, record without content, and manifest."""
    (
        position, event_id, stream_id, version, call_id, kind, schema_version, level, occurred_ns, _recorded, project,
        environment, service, session_id, user_id, tags, trace_id, span_id, parent_span_id, trace_flags, tracestate,
        remote, causation_id, producer, producer_seq, data, content,
    ) = row  # fmt: skip
    record: EventRecord = {
        "id": event_id,
        "type": kind,
        "schema_version": schema_version,
        "stream_id": stream_id,
        "version": version,
        "call_id": call_id,
        "occurred_at": occurred_ns,
        "level": level,
        "project": project,
        "environment": environment,
        "service": service,
        "session_id": session_id,
        "user_id": user_id,
        "tags": None if tags is None else orjson.loads(tags),
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_span_id": parent_span_id,
        "trace_flags": trace_flags,
        "tracestate": tracestate,
        "parent_is_remote": None if remote is None else bool(remote),
        "causation_id": causation_id,
        "producer": producer,
        "producer_seq": producer_seq,
        "data": orjson.loads(data),
        "content": None,
    }
    return position, record, None if content is None else orjson.loads(content)
