"""Replay of a request: read it, decide what leaves for where, send it, judge what left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hub import runtime
from hub.errors import ReplayImpossible
from hub.reader import Reader, StoredCall, open_reader
from hub.recorder import default
from hub.replays.original import read
from hub.replays.plan import Plan, plan
from hub.replays.sending import Replay, send
from hub.replays.targets import resolve
from hub.writer import new_id

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Plan", "Replay", "areplay", "prepare", "replay", "send"]

FLUSH_SECONDS = 5.0


def replay(
    call: str | StoredCall,
    using: Any = None,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    db_url: str | None = None,
    hub: Hub | None = None,
) -> Replay:
    """See `hub.replay`."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(areplay(call, using, model=model, params=params, db_url=db_url, hub=hub))
    shown = call if isinstance(call, str) else call.id
    raise ReplayImpossible(shown, "hub.replay waits, and an event loop runs here", "await hub.areplay(...) instead")


async def areplay(
    call: str | StoredCall,
    using: Any = None,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    db_url: str | None = None,
    hub: Hub | None = None,
) -> Replay:
    """See `hub.areplay`."""
    stored = await asyncio.to_thread(_stored, call, db_url, hub)
    made = prepare(stored, using, model=model, params=params, hub=hub)
    try:
        return await send(made)
    finally:
        if made.recorder is not None:
            await asyncio.to_thread(_flush, hub)


def prepare(
    stored: StoredCall,
    using: Any = None,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    hub: Hub | None = None,
) -> Plan:
    """What `areplay` would send where; nothing leaves. Raises: StoreError, ReplayImpossible"""
    recorder = default() if hub is None else None if hub.closed else hub.recorder
    try:
        original = read(stored)
        target = resolve(using, original)
        return plan(original, target, model=model, params=params or {}, recorder=recorder, hub=hub, run=new_id())
    except RecursionError as error:
        raise ReplayImpossible(
            stored.id, "its request is nested deeper than it can be read", "make the call again with a flatter one"
        ) from error


def _stored(call: str | StoredCall, db_url: str | None, hub: Hub | None) -> StoredCall:
    """The call, with what this process has not written yet brought in first."""
    if isinstance(call, StoredCall):
        return call
    _flush(hub)
    return (open_reader(db_url) if db_url is not None or hub is None else Reader(hub.settings)).call(call)


def _flush(hub: Hub | None) -> None:
    if hub is not None:
        hub.flush(FLUSH_SECONDS)
    else:
        runtime.flush_default(FLUSH_SECONDS)
