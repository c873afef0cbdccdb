"""What durable mode promises of events that no wrapper waits for."""

from __future__ import annotations

import asyncio

from hub.emitting import emit_to
from hub.manual import ManualCall
from tests.calls_of import CountingSyncer, ListHub, durable_hub

FACTS = {"provider": "acme", "model": "acme-1"}


def waited(hub: ListHub) -> list[int]:
    """How many events there were at each wait for the disk."""
    assert isinstance(hub.log.syncer, CountingSyncer)
    return hub.log.syncer.counts


def test_an_emitted_event_is_on_the_disk_before_emit_returns() -> None:
    hub = durable_hub()
    emit_to(hub.recorder, "acme:paid", {})
    assert waited(hub) == [1]


def test_an_emit_on_a_running_loop_never_holds_it_up() -> None:
    hub = durable_hub()

    async def main() -> None:
        emit_to(hub.recorder, "acme:paid", {})

    asyncio.run(main())
    assert (len(hub.log.records), waited(hub)) == (1, [])


def test_a_call_recorded_by_hand_is_on_the_disk_when_its_block_is_left() -> None:
    hub = durable_hub()
    with ManualCall(hub.recorder, FACTS) as call:
        call.response("Fine.")
    assert waited(hub) == [2, 4]


def test_so_is_one_in_an_async_block() -> None:
    hub = durable_hub()

    async def main() -> None:
        async with ManualCall(hub.recorder, FACTS) as call:
            call.response("Fine.")

    asyncio.run(main())
    assert waited(hub) == [2, 4]
