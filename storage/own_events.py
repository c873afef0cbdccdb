"""Facts that a store tells itself, in the transaction that makes them true."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast
from uuid import UUID

import orjson

from hub.events import ENVELOPE_DEFAULTS, Data, EventRecord

SERVICE = "llm-hub"
EXPIRED = "expired"
"""Why hub:dropped says that the store took no events: their calls were pruned, or might have been."""
_MOST_RANGES = 32


def own_event(event_type: str, project: str, data: Data, now: int) -> EventRecord:
    """An event of the store's own, alone in its stream, whose id stands for its producer too. *now*: UTC Unix ns."""
    return _event(event_type, project, data, now, new_id(now), new_id(now))


def expired_told(project: str, producer: str, seqs: Sequence[int], now: int) -> EventRecord:
    """The hub:dropped event that tells of a producer's events that were refused, by their sequence numbers. Its ids
    follow from them: of the same events refused again it tells nothing new."""
    facts = {"reason": EXPIRED, "count": len(seqs), "sink": "store", "producer": producer}
    data = {**facts, "producer_seqs": _ranges(seqs)}
    digest = blake2b(orjson.dumps([project, data]), digest_size=32).digest()
    return _event("hub:dropped", project, data, now, _timeless_id(digest[:16]), _timeless_id(digest[16:]))


def _event(event_type: str, project: str, data: Data, now: int, stream_id: str, event_id: str) -> EventRecord:
    record: dict[str, Any] = {
        **ENVELOPE_DEFAULTS,
        "id": event_id,
        "type": event_type,
        "schema_version": 1,
        "stream_id": stream_id,
        "version": 1,
        "call_id": None,
        "occurred_at": now,
        "level": "info",
        "project": project,
        "environment": None,
        "service": SERVICE,
        "producer": stream_id,
        "producer_seq": 1,
        "data": data,
        "content": None,
    }
    return cast(EventRecord, record)


def _timeless_id(digest: bytes) -> str:
    """A UUIDv8 that begins as those of 1970 do: PostgreSQL keeps no month for it."""
    return str(UUID(int=8 << 76 | 2 << 62 | int.from_bytes(digest) & ((1 << 62) - 1)))


def _ranges(seqs: Sequence[int]) -> list[list[int]]:
    """From first to last of each run of numbers; the last one spans what is too much."""
    found: list[list[int]] = []
    for seq in sorted(seqs):
        if found and (seq <= found[-1][1] + 1 or len(found) == _MOST_RANGES):
            found[-1][1] = max(seq, found[-1][1])
        else:
            found.append([seq, seq])
    return found


def new_id(now: int) -> str:
    """A UUIDv7 of the time *now*."""
    random = secrets.randbits(74)
    return str(UUID(int=(now // 10**6) << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1))
