"""Calls in which everything happens that projections have to get right."""

from __future__ import annotations

import random

from hub.events import EventRecord
from tests.factories import Factory


def story(seed: int, size: int = 12) -> list[EventRecord]:
    """Calls of all kinds by two producers: conversations with tools, retries, errors, layers, custom events."""
    chance = random.Random(seed)
    records: list[EventRecord] = []
    for producer in ("a", "b"):
        factory = Factory(producer, seed=seed)
        history: list[object] = [{"role": "system", "content": "be brief"}]
        for turn in range(size):
            session = chance.choice([None, "s1", "s2"])
            history.append({"role": "user", "content": f"turn {turn % 3}"})
            tool = {"id": f"call_{turn % 4}", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
            asks = {"role": "assistant", "content": None, "tool_calls": [tool]}
            answer = asks if chance.random() < 0.4 else {"role": "assistant", "content": factory.text(40)}
            failed = chance.random() < 0.2
            call = factory.call(
                history,
                answer,
                session_id=session,
                user_id=chance.choice([None, "u1"]),
                error="it broke" if failed else None,
                response={"status": "error", "usage": None} if failed else None,
                wire=chance.random() < 0.5,
                tools=[{"name": "look"}],
            )
            extra = call[0]["stream_id"]
            if chance.random() < 0.3:
                retry = {"attempt": 1, "delay_ms": 20.0, "usage": {"input_tokens": 3, "output_tokens": 1}}
                call.append(factory.event("provider:retry", stream=extra, version=7, data=retry))
            if chance.random() < 0.3:
                twin = factory.call(history, answer, request={"source": "transport"})
                twin[2]["data"]["response_id"] = call[2]["data"]["response_id"]
                twin[0]["occurred_at"] = call[0]["occurred_at"] + 1_000
                call += twin
            if chance.random() < 0.3:
                tried = {"provider": "azure", "model": "gpt-4o", "usage": {"input_tokens": 30, "output_tokens": 10}}
                call.insert(2, factory.event("provider:attempt", stream=extra, version=8, data={"attempt": 1, **tried}))
                last = {"provider": "openai", "model": "gpt-4o-mini", "usage": {"input_tokens": 9, "output_tokens": 2}}
                call[3]["data"].update(attempts=2, last_attempt=last)
            if chance.random() < 0.2:
                call.append(factory.event("acme:note", stream=extra, version=9, data={"text": "note", "n": turn}))
            history.append(answer)
            if answer is asks:
                history.append({"role": "tool", "tool_call_id": tool["id"], "content": f"result {turn % 2}"})
            records += call if chance.random() < 0.9 else call[:2]
    return records
