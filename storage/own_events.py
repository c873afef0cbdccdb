"""Facts that a store tells itself, in the transaction that makes them true."""

from __future__ import annotations

import secrets
from typing import Any, cast
from uuid import UUID

from hub.events import ENVELOPE_DEFAULTS, Data, EventRecord

SERVICE = "llm-hub"


def own_event(event_type: str, project: str, data: Data, now: int) -> EventRecord:
    """An event of the store's own, alone in its stream, whose id stands for its producer too. *now*: UTC Unix ns."""
    stream_id = new_id(now)
    record: dict[str, Any] = {
        **ENVELOPE_DEFAULTS,
        "id": new_id(now),
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


def new_id(now: int) -> str:
    """A UUIDv7 of the time *now*."""
    random = secrets.randbits(74)
    return str(UUID(int=(now // 10**6) << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1))
