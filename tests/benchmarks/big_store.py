"""A store of a million calls in minutes: some that the store wrote itself, copied with other ids and times."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hub.events import EventRecord
from hub.polite import no_rest
from storage.append import read_counters, write_counters
from storage.engine import Connection, Insert
from storage.projections import instant
from storage.sql_store import SqlStore
from tests.factories import Factory

BASE_CALLS = 10_000
DAY_MS = 86_400_000
MODELS = (
    "gpt-5-mini",
    "gpt-5",
    "gpt-4o-mini",
    "gpt-4.1",
    "o4-mini",
    "claude-opus-4-1",
    "claude-haiku-4-5",
    "gemini-2.5-pro",
)
_PAGE = 500


def base(days: int, end_ns: int, calls: int = BASE_CALLS) -> Iterator[list[EventRecord]]:
    """The events of *calls* calls, spread over as much of the last of *days* days before *end_ns* as copies leave."""
    rand = random.Random(7)
    factory = Factory("big", start=end_ns - 86_400 * 10**9)
    step_ms = DAY_MS / calls
    for number in range(calls):
        model = rand.choices(MODELS, weights=range(len(MODELS), 0, -1))[0]
        provider = "anthropic" if model.startswith("claude") else "google" if model.startswith("gemini") else "openai"
        factory.now = end_ns - 86_400 * 10**9 + int(number * step_ms * 10**6)
        took = rand.lognormvariate(6.5, 0.8)
        yield factory.call(
            [{"role": "user", "content": factory.text(120)}],
            factory.text(200),
            request={"provider": provider, "model": model, "params": {"temperature": rand.choice((0, 0.2, 1))}},
            response={
                "model": model,
                "duration_ms": took,
                "ttft_ms": took / 4,
                "status": "error" if number % 50 == 0 else "ok",
                "usage": {"input_tokens": rand.randrange(20, 5_000), "output_tokens": rand.randrange(1, 2_000)},
            },
            took_ms=1.0,
            session_id=f"chat-{number // 10}",
            user_id=f"user-{number % 500}",
        )


def fill(store: SqlStore, calls: int, days: int, end_ns: int, progress: Callable[[int], None]) -> None:
    """Fill an empty store with *calls* calls of the last *days* days."""
    copies = max(1, calls // BASE_CALLS)
    batch: list[EventRecord] = []
    ends: list[EventRecord] = []
    for events in base(days, end_ns, min(calls, BASE_CALLS)):
        batch += events
        ends = [*ends[:1], events[0]]
        if len(batch) >= 1_000:
            store.append(batch)
            batch = []
    if batch:
        store.append(batch)
    with store._apart() as connection:
        tables = [_Table(connection, *one) for one in _TABLES]
        for copy in range(1, copies):
            shift_ms = -copy * days * DAY_MS // copies
            with store._writing(connection):
                moved = [_moved(record["stream_id"], copy, shift_ms) for record in ends]
                store._make_room(connection, [{**ends[0], "stream_id": stream} for stream in moved])
                for table in tables:
                    table.copy(connection, copy, shift_ms)
            progress((copy + 1) * BASE_CALLS)
        with store._writing(connection):
            _add_up(connection, copies, days)
            counters = read_counters(connection)
            write_counters(connection, {name: counters[name] * copies for name in ("position", "content")})
        connection.execute("ANALYZE")


_EVENT_IDS = ("event_id", "stream_id", "call_id")
_TABLES: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], str]] = (
    # table, ids of calls and events, numbers that go on, nanoseconds, hash
    ("hub_events", _EVENT_IDS, ("position",), ("occurred_ns", "recorded_ns"), ""),
    ("hub_contents", (), ("id",), (), "hash"),
    ("hub_parts", (), ("content_id",), (), ""),
    ("hub_calls", ("call_id", "response_id"), (), ("started_ns", "ended_ns", "attempt_ns"), ""),
)


class _Table:
    """The rows of the base in one table."""

    def __init__(
        self,
        connection: Connection,
        table: str,
        ids: Sequence[str],
        numbers: Sequence[str],
        times: Sequence[str],
        digest: str,
    ) -> None:
        rows = connection.execute(f"SELECT * FROM {table} LIMIT 1")
        columns = [column[0] for column in rows.description]  # type: ignore[attr-defined]
        self._insert = Insert(table, tuple(columns))
        self._rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        self._at = {column: index for index, column in enumerate(columns)}
        self._ids, self._numbers, self._times, self._digest = ids, numbers, times, digest
        counters = read_counters(connection)
        self._strides = {"position": counters["position"], "id": counters["content"], "content_id": counters["content"]}

    def copy(self, connection: Connection, copy: int, shift_ms: int) -> None:
        at = self._at
        ids, times = ([at[name] for name in names] for names in (self._ids, self._times))
        content = at.get("content")
        for start in range(0, len(self._rows), _PAGE):
            flat: list[Any] = []
            for row in self._rows[start : start + _PAGE]:
                new = list(row)
                for index in ids:
                    if new[index] is not None:
                        new[index] = _moved(new[index], copy, shift_ms)
                for name in self._numbers:
                    new[at[name]] += copy * self._strides[name]
                for index in times:
                    if new[index] is not None:
                        new[index] += shift_ms * 10**6
                if self._digest:
                    new[at[self._digest]] = copy.to_bytes(4, "big") + new[at[self._digest]][4:]
                if content is not None and new[content] is not None:
                    new[content] = _renumbered(new[content], copy * self._strides["id"])
                if "started_at" in at:
                    new[at["started_at"]], new[at["ended_at"]] = (
                        None if new[at[name]] is None else instant(new[at[name]]) for name in ("started_ns", "ended_ns")
                    )
                flat += new
            connection.insert(self._insert, flat, no_rest)


def _moved(text: str, copy: int, shift_ms: int) -> str:
    """An id of another time; a response's id goes by its call's."""
    head, _, call = text.rpartition("chatcmpl-")
    ms = int(call[:8] + call[9:13], 16) + shift_ms
    digits = f"{ms:012x}"
    moved = f"{digits[:8]}-{digits[8:]}{call[13:24]}{copy:04x}{call[28:]}"
    return f"chatcmpl-{moved}" if text.startswith("chatcmpl-") else head + moved


def _renumbered(manifest: str, shift: int) -> str:
    import orjson

    kept = orjson.loads(manifest)
    kept["messages"] = [[content_id + shift, first] for content_id, first in kept["messages"]]
    return orjson.dumps(kept).decode()


def _add_up(connection: Connection, copies: int, days: int) -> None:
    """The hourly tables anew, from the calls."""
    from storage.rebuilding import ROLLUPS
    from storage.rollups import Rollups

    for table in ROLLUPS:
        connection.execute(f"DELETE FROM {table}")
    from storage.projections import CALL_COLUMNS

    rollups = Rollups()
    select = f"SELECT {','.join(CALL_COLUMNS)} FROM hub_calls WHERE call_id > ? ORDER BY call_id LIMIT {_PAGE}"
    last = ""
    while rows := connection.execute(select, (last,)).fetchall():
        for values in rows:
            row = dict(zip(CALL_COLUMNS, values, strict=True))
            row["started_at"] = instant(row["started_ns"])
            rollups.add(row)
        last = row["call_id"]
    rollups.write(connection, no_rest)
