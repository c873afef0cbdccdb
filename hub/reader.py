"""The read side of a store: calls, one call, SQL, events."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hub.config import Settings, load
from hub.errors import AmbiguousId, NotFound, QueryRefused
from hub.events import Event, EventRecord, decode, upcast
from hub.ids import id_bound
from hub.pricing import PriceRow
from hub.store import Cursor, Page
from storage.price_tables import price_rows
from storage.query import Limits, Params, Result, Shadow
from storage.read_side import open_read_side
from storage.reading import (
    EndedCalls,
    LogState,
    ended_calls,
    event_id_at,
    log_page,
    log_state,
    started_facts,
    stream_page,
)
from storage.search_find import Found, Search, find

Where = str | Mapping[str, object]
"""SQL over the columns of llm_calls, or column to wanted value (None: the column is null)."""

_NEWEST = "ORDER BY started_at DESC, call_id DESC"
_PAGE = 500
_DAY_NS = 86_400 * 10**9
_REF = re.compile(r"@(?:last|-(\d{1,9}))")


def open_reader(db_url: str | None = None) -> Reader:
    """See `hub.open`."""
    runtime = sys.modules.get("hub.runtime")  # where it is not loaded, no hub runs
    running = None if db_url is not None or runtime is None else runtime.running_default()
    reader = Reader(load({"db_url": db_url}, os.environ, Path.cwd()) if running is None else running.settings)
    reader.schema()
    return reader


class Reader:
    """Reads one store and never writes to it. Every method raises StoreError when the store cannot be read.

    Args:
        isolated: Run SQL on a file in a process that can be killed. For commands: it forks.
    """

    def __init__(self, settings: Settings, *, isolated: bool = False) -> None:
        self.settings = settings
        self._store = open_read_side(settings.db_url, isolated=isolated)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection to a server; the next read makes another."""
        self._store.close()

    def is_missing(self) -> bool:
        """There is no store yet: nothing was ever traced into it."""
        return self._store.is_missing()

    def wait(self, seconds: float) -> None:
        """Pause between two looks at the store, see `storage.read_side.ReadSide.wait`."""
        self._store.wait(seconds)

    def schema(self) -> Shadow:
        """The views that can be read, each with its columns."""
        return self._store.views()

    def sql(self, query: str, params: Params = (), *, limits: Limits | None = None) -> Result:
        """Run one SELECT over the views.

        Args:
            params: Values for `?`, or by name for `:name`. Never put values into the text of *query*.
        Raises:
            QueryRefused: Not one reading statement over the views.
            QueryLimit: Stopped by the time or size limit. More rows than the limit are cut, and the result says so.
        """
        return self._store.sql(query, params, limits=limits)

    def search(
        self,
        words: str,
        *,
        model: str | None = None,
        role: str | None = None,
        since_ns: int | None = None,
        limit: int = 20,
        repeats: bool = False,
    ) -> Found:
        """Calls by words in one of their messages, newest first, as far as messages are indexed: `hub search` brings
        the index up to date.

        Args:
            words: Plain words, "a phrase", begin*.
            since_ns: Only calls begun from then on, UTC Unix ns.
            repeats: Also older calls that carry nothing but messages of the newer ones.
        Raises:
            SearchOff: There is no index.
            QueryRefused: There is no word to search for.
        """
        what = Search(words=words, model=model, role=role, since_ns=since_ns, limit=limit, repeats=repeats)
        return self._store.read(partial(find, what=what))

    def calls(self, where: Where | None = None, *, limit: int = 50, params: Params = ()) -> list[StoredCall]:
        """The newest calls, newest first.

        Args:
            params: Values for the placeholders in a *where* that is SQL.
        Raises: QueryRefused: *where* is no condition over the columns of llm_calls.
        """
        condition, values = self._condition(where, params)
        text = f"SELECT * FROM llm_calls {condition} {_NEWEST} LIMIT {max(0, int(limit))}"
        result = self._store.sql(text, values, limits=Limits(seconds=60.0, rows=max(1, limit)))
        return [StoredCall(self, row) for row in result.dicts()]

    def _condition(self, where: Where | None, params: Params) -> tuple[str, Params]:
        if where is None:
            return "", ()
        if isinstance(where, str):
            return f"WHERE (\n{where}\n)", params
        columns = self.schema()["llm_calls"]
        for name in where:
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=1)
                raise QueryRefused(
                    f"llm_calls has no column {name!r}", f"did you mean {near[0]}?" if near else ", ".join(columns)
                )
        terms = " AND ".join(f"{name} {'IS NULL' if value is None else '= ?'}" for name, value in where.items())
        values = tuple(value for value in where.values() if value is not None)
        return (f"WHERE {terms}" if terms else ""), values

    def call(self, wanted: str) -> StoredCall:
        """One call by its id, by the beginning of its id, or counted from the newest: @last, @-2.

        Raises:
            NotFound: There is none.
            AmbiguousId: Several begin like this.
        """
        return StoredCall(self, self._row(self.resolve(wanted)))

    def resolve(self, wanted: str) -> str:
        """The whole id of the call that *wanted* names. Raises: NotFound, AmbiguousId."""
        if match := _REF.fullmatch(wanted):
            back = int(match[1] or 1)
            if back < 1:
                raise NotFound("call", wanted, "@last or @-1 is the newest, @-2 the one before it")
            found = self._store.sql(f"SELECT call_id FROM llm_calls {_NEWEST} LIMIT 1 OFFSET ?", (back - 1,))
            if not found.rows:
                total = self._store.sql("SELECT count(*) AS calls FROM llm_calls").rows[0][0]
                raise NotFound("call", wanted, f"the store has {total} calls")
        else:
            prefix = _as_prefix(wanted)
            found = self._store.sql(
                "SELECT call_id FROM llm_calls WHERE call_id >= ? AND call_id < ? ORDER BY call_id LIMIT 5",
                (prefix, prefix + "~"),
            )
        ids = tuple(str(row[0]) for row in found.rows)
        if not ids:
            raise NotFound("call", wanted, "hub calls lists the newest ids")
        if len(ids) > 1 and ids[0] != wanted:
            raise AmbiguousId(wanted, ids)
        return ids[0]

    def _row(self, call_id: str) -> dict[str, Any]:
        return self._store.sql("SELECT * FROM llm_calls WHERE call_id = ?", (call_id,)).dicts()[0]

    def shortest_ids(self, ids: Sequence[str], *, least: int = 8) -> dict[str, str]:
        """Each id cut so short that it still names one call of the whole store; all cut to the same length."""
        length = least
        for start in range(0, len(ids), _PAGE):
            for own, other in self._neighbours(ids[start : start + _PAGE]):
                if other is not None:
                    same = next(
                        (at for at, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), len(own)
                    )
                    length = max(length, same + 1)
        return {own: own[:length].rstrip("-") for own in ids}

    def _neighbours(self, ids: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        marks = ", ".join("(?)" for _ in ids)
        found = self._store.sql(
            f"WITH shown(id) AS (VALUES {marks}) SELECT id, "
            "(SELECT call_id FROM llm_calls WHERE call_id > id ORDER BY call_id LIMIT 1) AS above, "
            "(SELECT call_id FROM llm_calls WHERE call_id < id ORDER BY call_id DESC LIMIT 1) AS below FROM shown",
            tuple(ids),
        )
        for own, above, below in found.rows:
            yield own, above
            yield own, below

    def events(self, *, after: int = 0, types: Sequence[str] | None = None) -> Iterator[Event]:
        """Events as typed objects with their content, in the order of the log; those of a class that nobody registered
        are plain `Event`s.

        Args:
            after: Begin behind this position (column `position` of llm_events).
        """
        return (decode(record) for record in self.records(after=after, types=types))

    def records(self, *, after: int = 0, types: Sequence[str] | None = None) -> Iterator[EventRecord]:
        """As `events`, as plain dicts."""
        return (upcast(record) for page in self.pages(Cursor(str(after)), types=types) for record in page.events)

    def pages(
        self, after: Cursor | None = None, *, types: Sequence[str] | None = None, until: Cursor | None = None
    ) -> Iterator[Page]:
        """The log in pages, events as they are stored: not upcast.

        Args:
            until: Leave out what lies behind.
        """
        while True:
            page = self._store.read(partial(log_page, after=after, types=types, limit=_PAGE, until=until))
            yield page
            if len(page.events) < _PAGE:
                return
            after = page.next

    def log_state(self) -> LogState:
        """Where the log ends now, and what tells it from another."""
        return self._store.read(log_state)

    def ended_calls(self, after: int, since_ns: int, *, content: bool) -> EndedCalls:
        """The next calls by the place of their ends in the log, see `storage.reading.ended_calls`."""
        return self._store.read(partial(ended_calls, after=after, since_ns=since_ns, limit=_PAGE, content=content))

    def started_facts(self, after: int) -> list[tuple[int, str, Any]]:
        """What producers said of themselves behind a place of the log: its position, the producer, the data."""
        return self._store.read(partial(started_facts, after=after))

    def event_id_at(self, position: int) -> str | None:
        """The id of the event at a place of the log."""
        return self._store.read(partial(event_id_at, position=position))

    def prices(self) -> list[PriceRow]:
        """The price cards that costs are computed by, of each model the oldest first."""
        return self._store.read(price_rows)

    def stream(self, call_id: str) -> list[EventRecord]:
        """The events of one call with their content, upcast, in order."""
        found: list[EventRecord] = []
        while True:
            after = found[-1]["version"] if found else 0
            page = self._store.read(partial(stream_page, stream_id=call_id, after=after, limit=_PAGE))
            found += map(upcast, page)
            if len(page) < _PAGE:
                return found

    def trace(self, trace_id: str, around_ns: int) -> list[dict[str, Any]]:
        """The calls and spans of a trace, by their start.

        Args:
            around_ns: UTC Unix ns. Calls begun more than a day before or after are left out.
        Returns: Of each span_id, parent_span_id, name, kind, service, started_at, duration_ms, status, and call_id,
            which is None of what is no call.
        """
        limits = Limits(rows=100_000, bytes=256 << 20)
        columns = "span_id, parent_span_id, service, started_at, duration_ms, status"
        spans = f"SELECT {columns}, kind, name, NULL AS call_id FROM llm_spans WHERE trace_id = ?"
        calls = (
            f"SELECT {columns}, 'CLIENT' AS kind, operation, request_model, call_id FROM llm_calls"
            " WHERE trace_id = ? AND call_id >= ? AND call_id < ?"
        )
        near = (id_bound(around_ns - _DAY_NS), id_bound(around_ns + _DAY_NS))
        found = self._store.sql(spans, (trace_id,), limits=limits).dicts()
        for row in self._store.sql(calls, (trace_id, *near), limits=limits).dicts():
            row["name"] = " ".join(filter(None, (row.pop("operation"), row.pop("request_model"))))
            found.append(row)
        return sorted(found, key=lambda row: str(row["started_at"]))

    def rows_of(self, view: str, call_id: str, order: str) -> list[dict[str, Any]]:
        """Rows of one of the public views that belong to a call."""
        limits = Limits(rows=100_000, bytes=256 << 20)
        text = f"SELECT * FROM {view} WHERE call_id = ? ORDER BY {order}"
        return self._store.sql(text, (call_id,), limits=limits).dicts()


class StoredCall(Mapping[str, Any]):
    """A call as the store has it: a mapping over the columns of llm_calls. What belongs to it is read on demand."""

    def __init__(self, reader: Reader, row: Mapping[str, Any]) -> None:
        self._reader = reader
        self.row = row

    def __getitem__(self, column: str) -> Any:
        return self.row[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        return f"<StoredCall {self.id} {self['provider']} {self['request_model']} {self['status']}>"

    @property
    def id(self) -> str:
        """The whole call_id."""
        return str(self.row["call_id"])

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """Rows of llm_messages, what was sent before what came back."""
        return self._reader.rows_of("llm_messages", self.id, "direction, position")

    @cached_property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Rows of llm_tool_calls."""
        return self._reader.rows_of("llm_tool_calls", self.id, "position")

    @cached_property
    def attempts(self) -> list[dict[str, Any]]:
        """Rows of llm_attempts."""
        return self._reader.rows_of("llm_attempts", self.id, "attempt")

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Rows of llm_events, without content."""
        return self._reader.rows_of("llm_events", self.id, "position")

    @cached_property
    def trace(self) -> list[dict[str, Any]]:
        """What is known of the trace around it, see `Reader.trace`; empty where it has none."""
        trace_id, began = self["trace_id"], self["started_unix"]
        return [] if trace_id is None or began is None else self._reader.trace(trace_id, round(began * 10**9))

    @property
    def request_text(self) -> str:
        """The text sent, message after message; empty when content was not kept, or erased."""
        return self._text("input")

    @property
    def response_text(self) -> str:
        """The text that came back."""
        return self._text("output")

    def _text(self, direction: str) -> str:
        texts = (m["content"] for m in self.messages if m["direction"] == direction and m["type"] == "text")
        return "\n\n".join(text for text in texts if text)

    @cached_property
    def content(self) -> list[EventRecord]:
        """The call's events, upcast, with their content as it was stored: wire bodies, whole messages, error texts."""
        return self._reader.stream(self.id)

    def as_json(self) -> dict[str, Any]:
        """Everything but the wire, with JSON columns as objects."""
        facts = {name: _parsed(value) if name in ("params", "tags") else value for name, value in self.row.items()}
        events = [{**event, "data": _parsed(event["data"])} for event in self.events]
        return {
            **facts,
            "messages": self.messages,
            "tool_calls": self.tool_calls,
            "attempts_made": self.attempts,
            "events": events,
        }


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _as_prefix(wanted: str) -> str:
    """The beginning of an id as ids are stored: lower case, with dashes."""
    digits = wanted.lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise NotFound("call", wanted, "an id is the beginning of a UUID, @last or @-2; hub calls lists the newest")
    groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(group for group in groups if group)
