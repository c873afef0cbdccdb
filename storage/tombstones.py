"""What was erased or pruned stays so: events that arrive later are stripped, or refused, before they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from hub.events import Data, EventRecord, LLMRequest, LLMResponse
from hub.ids import id_bound, id_ms
from hub.outcomes import AttemptFacts
from hub.store import Erasure
from storage.bodies import keyed_hash
from storage.engine import Connection

CONFLICT = "hub:conflict"
ENVELOPE = EventRecord.__required_keys__
_LAST_NS = 2**63 - 1
_COLUMNS = {"call": "call_id", "session": "session_id", "user": "user_id"}

CALLS, BODIES = "calls", "bodies"
"""The kinds of tombstones that speak of a whole project, and have no hash: what pruning took."""

_MARKS = frozenset({"redacted", "sanitised", "shed"})
_OF_ATTEMPTS = _MARKS | AttemptFacts.__annotations__.keys() | {"attempt"}
_OF_CONTENT = _MARKS | {"bytes", "kinds", "tool_names"}
_OF_REPLAYS = frozenset({"replay_of", "replay_run", "replay_of_trace_id", "replay_of_span_id"})
_KEPT: Mapping[str, frozenset[str]] = {
    "llm:request": _MARKS | _OF_REPLAYS | LLMRequest.model_fields.keys() | {"source", "capture", "unkept"},
    "llm:request:debug": _OF_CONTENT,
    "llm:response": _MARKS | LLMResponse.model_fields.keys() | {"last_attempt"},
    "llm:response:debug": _OF_CONTENT,
    "provider:retry": _OF_ATTEMPTS,
    "provider:attempt": _OF_ATTEMPTS,
}
"""What the hub itself says of a call, by the events' types; whatever else stands there somebody contributed."""


class Tombstones:
    """The tombstones of one store: (project, kind, hash, before)."""

    def __init__(self, rows: Iterable[tuple[str, str, bytes, int]], keys: Mapping[str, bytes]) -> None:
        self._keys = keys
        self._before: dict[str, dict[str, dict[bytes, int]]] = {}
        self._pruned: dict[str, dict[str, int]] = {CALLS: {}, BODIES: {}}
        for project, kind, digest, before_ns in rows:
            if kind in self._pruned:
                self._pruned[kind][project] = before_ns
            else:
                self._before.setdefault(project, {}).setdefault(kind, {})[digest] = before_ns
        self.is_empty = not self._before and not any(self._pruned.values())
        self._gone = {project: id_bound(before_ns) for project, before_ns in self._pruned[CALLS].items()}

    def expired(self, record: EventRecord) -> bool:
        """Whether *record* is about a call that was pruned, or might have been: the hourly sums have it already."""
        bound, call_id = self._gone.get(record["project"]), record["call_id"]
        return bound is not None and call_id is not None and call_id < bound

    def bodiless(self, record: EventRecord) -> bool:
        """Whether the content of what *record* is about was pruned."""
        before_ns, call_id = self._pruned[BODIES].get(record["project"]), record["call_id"]
        if before_ns is None or record["content"] is None:
            return False
        return record["occurred_at"] < before_ns if call_id is None else call_id < id_bound(before_ns)

    def cover(self, record: EventRecord) -> bool:
        """Whether what *record* is about was erased."""
        if record["type"] == CONFLICT:
            return any(self._covers(one) for one in subjects(record))
        return self._covers(record)

    def _covers(self, record: EventRecord) -> bool:
        kinds = self._before.get(record["project"])
        if not kinds:
            return False
        key = self._keys[record["project"]]
        for kind, hashes in kinds.items():
            value = value_of(record, kind)
            if value is not None:
                before = hashes.get(tombstone_hash(value, key, kind))
                if before is not None and begun_ns(record) < before:
                    return True
        return False


def bury(connection: Connection, rows: Iterable[tuple[str, str, bytes, int, int]]) -> None:
    """Leave tombstones: (project, kind, hash, before, when made). One that is there may only come to cover more."""
    connection.executemany(
        "INSERT INTO hub_tombstones (project, kind, hash, before_ns, created_ns) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (project, kind, hash) DO UPDATE SET before_ns = excluded.before_ns"
        " WHERE excluded.before_ns > hub_tombstones.before_ns",
        rows,
    )


def subjects(record: EventRecord) -> Iterator[EventRecord]:
    """*record*, and of a hub:conflict the event that it carries."""
    yield record
    original = (record["content"] or {}).get("original") if record["type"] == CONFLICT else None
    if isinstance(original, dict) and original.keys() >= ENVELOPE and _can_be_looked_at(original):
        yield cast(EventRecord, original)


def _can_be_looked_at(original: Mapping[str, Any]) -> bool:
    """A file may say anything."""
    names = (original[key] for key in ("call_id", "session_id", "user_id"))
    return (
        isinstance(original["project"], str)
        and type(original["occurred_at"]) is int
        and all(name is None or isinstance(name, str) for name in names)
    )


def value_of(record: EventRecord, kind: str) -> str | None:
    """What tombstones of *kind* look at."""
    if kind == "call":
        return record["call_id"]
    return record["session_id"] if kind == "session" else record["user_id"]


def tombstone_hash(value: str, key: bytes, kind: str) -> bytes:
    """What a tombstone keeps of an id."""
    return keyed_hash(value.encode(), key, kind.encode())


def predicate(what: Erasure) -> tuple[str, str]:
    """Kind and value of *what*.

    Raises: ValueError: It names none of call, session and user, or several.
    """
    named = [
        (kind, str(value))
        for kind, value in (("call", what.call_id), ("session", what.session_id), ("user", what.user_id))
        if value is not None
    ]
    if len(named) != 1:
        raise ValueError("an erasure names exactly one of call_id, session_id and user_id")
    return named[0]


def column_of(kind: str) -> str:
    """The column of hub_calls and hub_events that tombstones of *kind* speak of."""
    return _COLUMNS[kind]


def begun_ns(record: EventRecord) -> int:
    """When the call that *record* is about began; of what is about no call, when it happened."""
    return begun_at(record["call_id"], record["occurred_at"])


def begun_at(call_id: str | None, occurred_ns: int) -> int:
    """`begun_ns` of an event; before the end of the time that a tombstone can speak of."""
    begun = None if call_id is None else call_begun_ns(call_id)
    return min(occurred_ns if begun is None else begun, _LAST_NS - 1)


def just_after(ns: int) -> int:
    """The bound of a tombstone that covers what began then."""
    return min(ns + 1, _LAST_NS)


def call_begun_ns(call_id: str) -> int | None:
    """The time in a call's id, so that every event of a call has the same answer. None if it is no UUIDv7."""
    ms = id_ms(call_id) if call_id[14:15] == "7" else None
    return None if ms is None else ms * 10**6


def without_contributed(event_type: str, data: Data) -> Data:
    """What erasure leaves of an event's payload: nothing of contributed events, nor of what was added to the hub's."""
    if event_type.startswith("hub:"):
        return data
    kept = _KEPT.get(event_type, frozenset())
    return {key: value for key, value in data.items() if key in kept}


def without_content(record: EventRecord) -> EventRecord:
    """*record* without what pruning of bodies takes."""
    bare = record.copy()
    bare["content"] = None
    return bare


def stripped(record: EventRecord) -> EventRecord:
    """*record* without what erasure takes."""
    bare = record.copy()
    bare["session_id"] = bare["user_id"] = bare["tags"] = bare["content"] = None
    bare["data"] = without_contributed(record["type"], record["data"])
    return bare
