"""A store with something of everything, the same at every run and on every engine: what canonical queries are asked of.

Nothing here asks the machine for time, chance or prices. `EVENTS` is what was appended, for tests that work out an
answer from the events themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hub.events import Data, EventRecord
from hub.price_list import PriceList, Prices
from hub.reader import Reader, open_reader
from hub.store import Erasure
from storage.postgres import PostgresStore
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.factories import SECOND, START, Factory
from tests.postgres_kit import migrate
from tests.postgres_shared import fresh_database, server_url

RATES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000), "claude-sonnet-4-5": (3_000, 15_000)}
"""Nano-dollars a token, of input and output."""

MODELS = (
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    ("anthropic", "claude-sonnet-4-5", None),
    ("acme", "Ärger-1", "Ärger-1"),
    ("acme", "acme_1%", "acme_1%"),
    ("Acme", "zeta", "zeta-small"),
)
"""Provider, model asked for, model that served."""

ERASED_SESSION, ERASED_CALLS = "chat-forgotten", 2
TEXTS = (
    "Which kettle whistles?",
    "Kettle or KETTLE, 50% off_now?",
    "Où est l'été à Zürich? ΑΒΓ αβγ",
    "漢字 and 🫖, in one line\nand another",
    "'quoted' \"twice\" \\ back",
    "",
)


class _Listed(PriceList):
    """A price list that no release of another package changes."""

    source = "list"

    @cached_property
    def version(self) -> str:
        return "list 1"

    def load(self) -> None:
        return

    def card(self, provider: str | None, model: str) -> list[dict[str, Any]] | None:
        rates = RATES.get(model)
        return None if rates is None else [{"rates": {"input": str(rates[0]), "output": str(rates[1])}}]


OPTIONS: dict[str, Any] = {
    "wall": lambda: START + 10**6 * SECOND + 123_456_789,
    "new_key": lambda: b"canonical-key-of-a-project-12345",
    "prices": Prices(listed=_Listed()),
}
"""For the store's constructor."""


ENGINES = ("sqlite", "postgresql")


@contextmanager
def filled(engine: str, folder: Path) -> Iterator[Reader]:
    """Who reads such a store on *engine*, made in *folder* where it is a file."""
    with ExitStack() as stack:
        if engine == "sqlite":
            url = str(folder / "calls.db")
            store: SqlStore = SQLiteStore(Path(url), **OPTIONS)
        else:
            url = stack.enter_context(fresh_database(server_url()))
            migrate(url)
            store = PostgresStore(url, **OPTIONS)
        fill(store)
        store.close()
        if engine == "postgresql":
            migrate(url)  # makes the views of contributed events
        yield stack.enter_context(open_reader(url))


def fill(store: SqlStore) -> None:
    """Append `EVENTS` in batches, erase a session, and write the rows that no event makes yet."""
    events = EVENTS()
    for start in range(0, len(events), 97):
        store.append(events[start : start + 97])
    store.append(events[:50])  # again
    store.erase(Erasure(project="shop", before_ns=2**62, session_id=ERASED_SESSION))
    with store._using() as connection, store._writing(connection):
        connection.execute("DELETE FROM hub_events WHERE type = 'hub:redacted'")  # its ids are chance
        marks = ", ".join("?" for _ in _MODEL_ROWS[0])
        connection.executemany(f"INSERT INTO hub_models VALUES ({marks})", _MODEL_ROWS)


@cache
def EVENTS() -> list[EventRecord]:
    """All events, in the order of the log."""
    factory = Factory("p1", seed=4)
    usual = [record for number in range(120) for record in _usual(factory, number)]
    factory.now = START + 20 * 86_400 * SECOND
    return usual + [record for make in _SPECIAL for record in make(factory)]


def _usual(factory: Factory, number: int) -> list[EventRecord]:
    """Call *number* of some ten days."""
    provider, asked, served = MODELS[(number + number // 6) % 6]
    factory.now = START + number * 7_919 * SECOND + number * 1_000_001
    failed, cancelled, abandoned = number % 17 == 3, number % 17 == 9, number % 23 == 7
    streamed = number % 3 == 0
    took = round(40 * 1.29 ** (number * 7 % 31), 3)
    usage: Data | None = {"input_tokens": 100 + 37 * number, "output_tokens": 10 + number * number % 500}
    if usage and number % 4 == 0:
        usage["cache_read_tokens"] = usage["input_tokens"] // 2
    if usage and number % 10 == 1:
        usage |= {"reasoning_tokens": 5, "cache_write_tokens": 0}
    if failed or number % 29 == 11:
        usage = None
    response: Data = {
        "model": None if failed else served,
        "status": "error" if failed else "cancelled" if cancelled else "abandoned" if abandoned else "ok",
        "ttft_ms": round(took / 4, 3) if streamed and not failed else None,
        "chunk_count": number if streamed else None,
        "usage": usage,
        "finish_reasons": ["length" if number % 8 == 5 else "stop"] if not failed else [],
        "error_type": ("rate_limit" if number % 2 else "Überlast") if failed else None,
        "status_code": 429 if failed else 200,
        "reported_cost_usd": "0.0123456789" if number % 31 == 30 else None,
        "cost_reporter": "provider" if number % 31 == 30 else None,
    }
    session = None if number % 5 == 0 else f"chat-{number % 7}"
    return factory.call(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{TEXTS[number % 6]} {number}"}][
            number % 2 :
        ],
        f"Answer {number}: {TEXTS[(number + 1) % 6]}",
        request={
            "provider": provider,
            "model": asked,
            "stream": streamed,
            "has_system": number % 2 == 0,
            "message_count": 2 - number % 2,
            "params": {"temperature": number % 10 / 10, "max_tokens": 100 * number} if number % 3 else {},
            "tier": ("large", "small", None)[number % 3],
            "source": ("traced", "transport", "amplifier", "otlp")[number % 4],
        },
        response=response,
        took_ms=took,
        error="the model said no: Überlast" if failed else None,
        session_id=session,
        user_id=f"u{number % 4}" if session else None,
        tags={"feature": ("search", "chat", "Suche")[number % 3], "n": number} if number % 4 else None,
        environment="test" if number % 11 else None,
        service="till" if number % 3 else "Kasse",
        project="shop" if number % 9 else "büro",
        parent_span_id=None if number % 2 else f"{number:016x}",
    )


def _tools(factory: Factory) -> list[EventRecord]:
    """An agent: tools asked for at once, one of them answered in the next call, arguments as text, as object, none."""
    factory.now += 60 * SECOND
    asks = {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}},
            {"id": "t2", "type": "function", "function": {"name": "order", "arguments": {"z": 1, "a": [True, None]}}},
            {"type": "function", "function": {"arguments": "7"}},
            {"type": "function", "function": {"name": "nothing"}},
        ],
    }
    user = {"role": "user", "content": "Weather?"}
    told = {"role": "tool", "tool_call_id": "t1", "content": "rain"}
    session: Data = {"session_id": "agent-1", "user_id": "u9"}
    one = factory.call([user], asks, tools=[{"type": "function"}], **session)
    factory.now += SECOND
    two = factory.call([user, asks, told], "It rains.", tools=[{"type": "function"}], **session)
    factory.now += SECOND
    return one + two + factory.call([user, asks, told, user], "Still.", **session)


def _shapes(factory: Factory) -> list[EventRecord]:
    """Content of every kind."""
    factory.now += 60 * SECOND
    messages: list[Any] = [
        "a bare text",
        {
            "role": "user",
            "name": "Zoë",
            "content": [{"type": "text", "text": "see é"}, {"type": "odd", "b": 1, "a": 2}],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "user", "content": [7, 1.5, [1, 2]]},
        {"role": "user", "content": "x" * 5_000},
    ]
    answer = {"role": "assistant", "reasoning_content": "hm", "content": None, "refusal": "No."}
    return factory.call(messages, answer, request={"has_system": False, "message_count": 5})


def _extremes(factory: Factory) -> list[EventRecord]:
    """What servers and clocks say that should not be so."""
    factory.now += 60 * SECOND
    most = 2**63 - 1
    found = factory.call(
        request={"message_count": -1, "tool_count": most, "provider": " ", "model": " ", "params": {"seed": -most - 1}},
        response={
            "usage": {"input_tokens": 10**12, "output_tokens": 0, "reasoning_tokens": -1, "cache_read_tokens": most},
            "reported_cost_usd": "-12.0000000005",
            "chunk_count": most,
            "attempts": 0,
            "continuation_count": -most - 1,
            "status_code": -1,
            "duration_ms": -0.5,
            "ttft_ms": 0.0,
            "finish_reasons": [""],
            "response_cached": False,
            "response_id": "",
        },
    )
    factory.now += SECOND
    found += factory.call(took_ms=5e6, response={"ttft_ms": 4_194_304.0, "duration_ms": 4_194_304.5, "model": None})
    factory.now += SECOND
    found += factory.call(response={"duration_ms": 1e12, "ttft_ms": 5e-324, "model": "x" * 300})
    early = factory.call(took_ms=0.001, response={"duration_ms": 0.001})
    late = factory.call(response={"usage": None})
    for call, at in ((early, 1), (late, most - 10**9)):
        for record in call:
            record["occurred_at"] = at
    return found + early + late


def _on_the_hour(factory: Factory) -> list[EventRecord]:
    """The last nanosecond of an hour and the first of the next."""
    factory.now = (factory.now // (3_600 * SECOND) + 2) * 3_600 * SECOND
    last = factory.call(response={"usage": {"input_tokens": 1, "output_tokens": 1}}, took_ms=1.0)
    last[0]["occurred_at"] -= 1
    return last + factory.call(response={"usage": {"input_tokens": 0, "output_tokens": 0}}, took_ms=2.0)


def _unfinished(factory: Factory) -> list[EventRecord]:
    """Calls of which only one end is known."""
    factory.now += 60 * SECOND
    running = factory.call(session_id="chat-1", user_id="u1")[:2]
    lost = factory.call(error="gone", response={"status": "lost", "duration_ms": None, "usage": None, "model": None})
    lost[2]["content"] = None
    ended = factory.call(request={"source": "emitted"})[2:3]
    nameless = factory.call(request=dict.fromkeys(("provider", "model", "operation", "stream", "has_system")))[:1]
    nameless[0]["trace_id"] = nameless[0]["span_id"] = None
    alone = factory.call(response={"duration_ms": None, "model": None})[2:3]
    bare = factory.call(response={"model": None})[2:3]
    return running + lost + ended + nameless + alone + bare


def _repeated(factory: Factory) -> list[EventRecord]:
    """One call that two layers recorded, a replay, and an answer from a cache."""
    factory.now += 60 * SECOND
    told: Data = {"session_id": "chat-1", "user_id": "u1", "tags": {"feature": "chat"}}
    outer = factory.call(response={"response_id": "same"}, **told)
    inner = factory.call(request={"source": "transport"}, response={"response_id": "same"}, **told)
    for record in inner:
        record["occurred_at"] = outer[0]["occurred_at"] + 1_000_000
    again = factory.call(request={"source": "replay", "replay_of": outer[0]["stream_id"], "replay_run": "run-1"})
    cached = factory.call(
        response={"usage": {"input_tokens": 0, "output_tokens": 0}, "reported_cost_usd": "0", "cost_reporter": "cache"}
        | {"response_cached": True, "attempts": 0}
    )
    return outer + inner + again + cached


def _attempts(factory: Factory) -> list[EventRecord]:
    """A call that was tried three times, and one of a router whose attempts went to different models."""
    factory.now += 60 * SECOND

    def tried(call: list[EventRecord], told: list[Data]) -> list[EventRecord]:
        begun, ended, stream = call[:2], call[2:], call[0]["stream_id"]
        retries = [
            factory.event(
                "provider:retry", stream=stream, version=3 + n, at=begun[0]["occurred_at"] + n * SECOND, data=one
            )
            for n, one in enumerate(told)
        ]
        for number, record in enumerate(ended, len(told) + 3):
            record["version"] = number
        return begun + retries + ended

    twice = tried(
        factory.call(took_ms=9_000, response={"attempts": 3}),
        [
            {"attempt": 1, "max_retries": 2, "delay_ms": 500.0, "error_type": "rate_limit", "status_code": 429},
            {"attempt": 2, "delay_ms": 0.0, "error_type": "Überlast", "status_code": None},
        ],
    )
    last = {"provider": "openai", "model": "gpt-4o", "usage": {"input_tokens": 10, "output_tokens": 2}}
    routed = tried(
        factory.call(
            request={"provider": "router", "model": "any"},
            response={"attempts": 2, "model": "whatever", "last_attempt": {"duration_ms": 1_000.0, **last}},
            took_ms=4_000,
        ),
        [{"attempt": 1, "provider": "acme", "model": "acme_1%", "duration_ms": 250.5, "error_type": "timeout"}],
    )
    return twice + routed


def _capture(factory: Factory) -> list[EventRecord]:
    """Calls whose content was kept in part, not at all, or was erased."""
    factory.now += 60 * SECOND
    none = factory.call(request={"capture": "none"}, project="Zoo")
    summary = factory.call(request={"capture": "summary"}, project="Zoo")
    for record, text in ((summary[1], "what was asked"), (summary[3], "what was said")):
        record["content"] = {"summary": {"text": text, "bytes": 14}}
    gone = [
        record
        for number in range(ERASED_CALLS)
        for record in factory.call(
            [{"role": "user", "content": f"forget {number}"}],
            session_id=ERASED_SESSION,
            user_id="u-gone",
            tags={"feature": "search"},
        )
    ]
    return [none[0], none[2], *summary, *gone]


def _contributed(factory: Factory) -> list[EventRecord]:
    """Events of programs and of the hub, typed and bare."""
    factory.now += 60 * SECOND
    writer = factory.new_id()
    events: list[EventRecord] = []

    def tell(kind: str, data: Data, **fields: Any) -> None:
        factory.now += SECOND // 3
        fields.setdefault("call_id", None)
        events.append(factory.event(kind, stream=writer, version=len(events) + 1, data=data, **fields))

    limit = {"retry_after_ms": "real", "who": "text", "count": "integer", "hard": "boolean", "seen": "json"}
    tell("hub:schema", {"type": "acme:rate_limit", "schema_version": 1, "fields": limit})
    tell("hub:schema", {"type": "acme:rate_limit", "schema_version": 2, "fields": {**limit, "zone": "text"}})
    call = factory.call(response={"usage": {"input_tokens": 3, "output_tokens": 4}}, session_id="chat-1", user_id="u1")
    about = call[0]["stream_id"]
    full = {
        "retry_after_ms": 1_500.25,
        "who": "Zoë",
        "count": 2**53 + 1,
        "hard": True,
        "seen": {"b": [1, 2], "a": None},
    }
    tell("acme:rate_limit", full, call_id=about, session_id="chat-1", user_id="u1", trace_id="a" * 32)
    tell("acme:rate_limit", {"retry_after_ms": 0.0, "who": "", "count": -5, "hard": False, "seen": [], "zone": "Süd"})
    tell("acme:rate_limit", {}, causation_id=events[-1]["id"])
    tell("acme:rate_limit", {"retry_after_ms": 7.0, "zone": "north"}, schema_version=2, project="büro")
    tell("Plain:Event", {"anything": [1.5, "x", None], "ключ": "значение"}, call_id=about)
    tell("hub:dropped", {"sink": "store", "reason": "full", "count": 3})
    return events[:2] + call + events[2:]


def _received(factory: Factory) -> list[EventRecord]:
    """Spans that are no calls."""

    def span(
        trace: str,
        own: str,
        parent: str | None,
        data: Data,
        attributes: Data | None,
        at: int,
        session: str | None = None,
    ) -> EventRecord:
        ids = {"trace_id": trace * 32, "span_id": own * 16, "parent_span_id": parent and parent * 16}
        ids["session_id"] = session
        content = None if attributes is None else {"attributes": attributes}
        stream = factory.new_id()
        return factory.event(
            "otel:span", stream=stream, version=1, call_id=None, at=at, data=data, content=content, **ids
        )

    served: Data = {"name": "GET /été", "kind": "SERVER", "status": "OK", "duration_ms": 12.5}
    asked: Data = {"name": "query", "kind": "CLIENT", "status": "ERROR", "duration_ms": 0.0}
    return [
        span("a", "b", None, served, {"http.route": "/été", "long": "x" * 2_000}, START),
        span("a", "c", "b", asked, None, START + 1_234_567),
        span("d", "e", None, {"name": ""}, {}, START + 86_400 * SECOND),
        span("d", "f", "e", served, {"input.value": "of a guest"}, START, ERASED_SESSION),
    ]


_SPECIAL = (
    _tools,
    _shapes,
    _extremes,
    _on_the_hour,
    _unfinished,
    _repeated,
    _attempts,
    _capture,
    _contributed,
    _received,
)

_MODEL_ROWS: list[tuple[Any, ...]] = [
    (
        "openai",
        "gpt-4o-mini",
        "GPT-4o mini",
        128_000,
        16_384,
        150.0,
        600.0,
        75.0,
        None,
        "low",
        '["tools"]',
        '{"b":1}',
        START,
    ),
    ("openai", "gpt-4o", "GPT-4o", 128_000, 16_384, 2_500.0, 10_000.0, 1_250.0, 0.0, "high", None, None, START + 1),
    ("acme", "Ärger-1", None, None, None, None, None, None, None, None, None, None, None),
    ("", "zero", "", 0, 0, 0.0, 0.0, 0.0, 0.0, "", "[]", "{}", 0),
]
