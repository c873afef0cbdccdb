"""One day of the shop against the loopback server, observed by the hub, and one call of it sent again; then: has the
store what was served?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import hub
from hub.demo import own_providers, shop
from hub.demo.server import LoopbackServer
from hub.demo.switches import Switches

PROJECT = "kettle-and-co"

_SECONDS = {"gpt-4o-mini": 0.02, "gpt-4.1-mini": 0.03, "gpt-5-mini": 0.09, "gpt-5-nano": 0.04, "kettle-7b": 0.01}
"""A model's usual time to the first byte: a tenth of what one waits in earnest, so that the demo takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one side saw of the day."""

    calls: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How the day went."""

    base_url: str
    requests: int
    """What the server was sent, retries included."""
    seconds: float
    served: Seen
    """By the program's count of its calls and the server's of its tokens."""
    stored: Seen
    left: int
    """Events that were not in the store in time."""
    unsent: int | None
    """Events whose spans the OTLP endpoint has not taken; None where no endpoint is set."""
    replayed: hub.Replay
    """A call of the day, sent again at its end."""


def usual(number: int, model: str) -> Switches:
    """How the server treats request *number*: now and then slow, and sometimes too busy."""
    if number % 41 == 20 and model.startswith("gpt"):
        return Switches(fail=429, retry_ms=60)
    patience = 4.0 if number % 23 == 0 else 0.7 + number * 37 % 60 / 100
    return Switches(latency=_SECONDS.get(model, 0.005) * patience, delay=0.001)


def run(db_url: str) -> Day:
    """Live through the day, keeping its calls at *db_url*; the default hub is shut down afterwards.

    Raises: HubError: The store cannot be used.
    """
    observer = hub.init(db_url=db_url, project=PROJECT, environment="demo", disabled=False, sample_rate=1.0)
    try:
        with LoopbackServer(usual=usual) as server:
            began = time.time()
            calls = shop.a_day(server.base_url)
            seconds = time.time() - began
            hub.flush(20.0)
            replayed = hub.replay(_worth_asking_again(db_url), using=own_providers.our_provider(server.base_url))
            calls += 1
            served = server.served()
            left = hub.flush(20.0)
            otlp = observer.spool.counters().sinks.get("otlp")
    finally:
        hub.shutdown()
    return Day(
        base_url=server.base_url,
        requests=served.requests,
        seconds=seconds,
        served=Seen(calls=calls, input_tokens=served.input_tokens, output_tokens=served.output_tokens),
        stored=_stored(db_url, since=began),
        left=left,
        unsent=None if otlp is None else otlp.waiting,
        replayed=replayed,
    )


def _worth_asking_again(db_url: str) -> str:
    with hub.open(db_url) as store:
        return store.calls("session_id = 'opening-hours' and stream = 0 and attempts = 1", limit=1)[0].id


def _stored(db_url: str, since: float) -> Seen:
    with hub.open(db_url) as store:
        (row,) = store.sql(
            "select count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) from llm_calls "
            "where counted = 1 and status <> 'running' and project = ? and started_unix >= ?",
            (PROJECT, since - 0.001),
        ).rows
    calls, input_tokens, output_tokens = map(int, row)
    return Seen(calls=calls, input_tokens=input_tokens, output_tokens=output_tokens)
