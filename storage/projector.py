"""Writes the projections of a batch of events. Live appends and the rebuild both come through here.

It works on whatever tables its connection finds under the projections' names: the rebuild gives it temporary ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hub.events import EventRecord
from hub.messages import Part
from hub.polite import Rest
from hub.pricing import PriceBook
from storage.bodies import Shape
from storage.engine import Connection, Insert, Lookup, RangeLookup
from storage.key_texts import key_text
from storage.projections import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    CALL_TYPES,
    Attempt,
    Row,
    fold,
    instant,
    models_of_attempt,
    new_call,
    price,
    price_attempt,
    price_by_attempts,
    priced_models,
    read_attempt,
    read_last_attempt,
    repeated,
)
from storage.rollups import Rollups

PART_COLUMNS = ("content_id", "part", "role", "type", "name", "tool_call_id", "path", "bytes")
_REMEMBERED_RESULTS = 20_000

_INSERT_CALLS = Insert("hub_calls", CALL_COLUMNS)
_WRITE_CALLS = Insert(
    "hub_calls",
    CALL_COLUMNS,
    conflict="ON CONFLICT (call_id) DO UPDATE SET "
    + ",".join(f"{column}=excluded.{column}" for column in CALL_COLUMNS[1:]),
)
_INSERT_PARTS = Insert("hub_parts", PART_COLUMNS, conflict="ON CONFLICT DO NOTHING")
_INSERT_ATTEMPTS = Insert("hub_attempts", ATTEMPT_COLUMNS)
_INSERT_TOOL_CALLS = Insert("hub_tool_calls", ("call_id", "position", "content_id", "part"))
_INSERT_TOOL_RESULTS = Insert(
    "hub_tool_results",
    ("tool_call_id", "project", "session", "content_id", "part", "call_id"),
    conflict="ON CONFLICT (tool_call_id, project, session, content_id, part)"
    " DO UPDATE SET call_id = excluded.call_id WHERE excluded.call_id < hub_tool_results.call_id",
)
_LOAD_CALLS = Lookup(f"SELECT {','.join(CALL_COLUMNS)} FROM hub_calls WHERE call_id {{}}")
_LOAD_ATTEMPTS = Lookup(
    "SELECT call_id, is_last IS NOT NULL, coalesce(input_tokens, 0) + coalesce(output_tokens, 0) > 0, cost_nanos"
    " FROM hub_attempts WHERE call_id {}"
)
_SAME_RESPONSE = RangeLookup(
    "WITH wanted(response, since) AS ({}) SELECT response_id, call_id, producer, source, started_ns, ended_ns,"
    " counted FROM wanted CROSS JOIN hub_calls WHERE response_id = wanted.response AND ended_ns >= wanted.since",
    ("text", "bigint"),
)
"""Calls that may overlap one begun at *since*. Some servers give all answers one id: never look at all of them."""
_SAME_RESPONSE_KEYS = ("response_id", "call_id", "producer", "source", "started_ns", "ended_ns", "counted")


class Entry(NamedTuple):
    """An event with its place in the log and what became of its messages."""

    position: int
    record: EventRecord
    messages: Sequence[tuple[int, Shape]]
    """Of each message the content's id and what it is made of."""


ResultKey = tuple[str, str, str, int, int]


class Projector:
    """Folds entries and writes the rows, within a transaction of the caller's. One for each transaction."""

    def __init__(
        self, connection: Connection, book: PriceBook, rest: Rest, *, first_results: dict[ResultKey, str]
    ) -> None:
        """*first_results* is kept by the caller from one committed transaction to the next."""
        self._connection, self._book, self._rest = connection, book, rest
        self._rows: dict[str, Row] = {}
        self._loaded: set[str] = set()
        self._rollups = Rollups()
        self._attempts: list[Attempt] = []
        self._tool_calls: list[Any] = []
        self._results: dict[ResultKey, str] = {}
        self._first_results = first_results
        self._responses: dict[str, int] = {}
        """Response ids of the rows here, before and after folding, with the earliest start among them."""

    def load(self, call_ids: Iterable[str]) -> None:
        """Fetch the rows of calls that the log has heard of before."""
        for values in self._connection.lookup(_LOAD_CALLS, set(call_ids) - self._rows.keys(), self._rest):
            row = self._rows[values[0]] = dict(zip(CALL_COLUMNS, values, strict=True))
            self._loaded.add(values[0])
            for name in ("started", "ended"):  # engines differ in what an instant is
                if row[f"{name}_at"] is not None:
                    row[f"{name}_at"] = instant(row[f"{name}_ns"])
            self._rollups.add(row, -1)
            self._note_response(row)

    def begin_again(self, call_ids: Iterable[str]) -> None:
        """As `load`, but what is folded next makes the rows from nothing."""
        self.load(call_ids)
        self._rows.clear()

    def row(self, call_id: str) -> Row | None:
        """A call's row as far as it was loaded or folded."""
        return self._rows.get(call_id)

    def fold(self, entry: Entry) -> list[int]:
        """Take *entry* in. Returns: For each message the position of its first part within the call."""
        record = entry.record
        call_id, kind = record["call_id"], record["type"]
        if call_id is None or kind not in CALL_TYPES:
            return [0] * len(entry.messages)
        row = self._rows.get(call_id)
        if row is None:
            row = self._rows[call_id] = new_call(record)
        if kind.startswith("provider:"):
            self._attempts.append(read_attempt(row, record, entry.position))
        fold(row, record)
        if kind == "llm:response" and (last := read_last_attempt(row, record, entry.position)) is not None:
            self._attempts.append(last)
        if not entry.messages:
            return []
        return self._count_parts(row, kind == "llm:response:debug", entry.messages)

    def _count_parts(self, row: Row, output: bool, messages: Sequence[tuple[int, Shape]]) -> list[int]:
        column = "output_parts" if output else "input_parts"
        place, firsts = row[column], []
        for content_id, shape in messages:
            firsts.append(place)
            for number, part in shape.tools:
                if output and part.type == "tool_call":
                    self._tool_calls += (row["call_id"], place + number, content_id, number)
                elif not output and part.type == "tool_result" and part.tool_call_id is not None:
                    self._note_result(row, content_id, number, key_text(part.tool_call_id))
            place += shape.size
        row[column] = place
        return firsts

    def _note_result(self, row: Row, content_id: int, part: int, tool_call_id: str) -> None:
        key = (tool_call_id, row["project"], row["session_id"] or "", content_id, part)
        known = self._results.get(key) or self._first_results.get(key)
        if known is None or row["call_id"] < known:
            self._results[key] = row["call_id"]

    def priced_models(self) -> set[tuple[str | None, str]]:
        """Providers and models whose prices `write` will look for."""
        found = {(row["provider"], model) for row in self._rows.values() for model in priced_models(row)}
        return found | {(one.row["provider"], model) for one in self._attempts for model in models_of_attempt(one)}

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The attempts that were folded."""
        return self._attempts

    def price(self) -> None:
        """Set the costs of all rows."""
        for row in self._rows.values():
            price(row, self._book)
        for attempt in self._attempts:
            price_attempt(attempt, self._book)
        self._add_up_attempts()

    def write(self) -> None:
        """Write all rows that were folded."""
        self.price()
        self._settle_repeated()
        for row in self._rows.values():
            self._rollups.add(row)
        connection, rest = self._connection, self._rest
        for insert, known in ((_INSERT_CALLS, False), (_WRITE_CALLS, True)):
            rows = (row for call_id, row in self._rows.items() if (call_id in self._loaded) is known)
            connection.insert(insert, [value for row in rows for value in row.values()], rest)
        connection.insert(_INSERT_ATTEMPTS, [value for one in self._attempts for value in one.row.values()], rest)
        connection.insert(_INSERT_TOOL_CALLS, self._tool_calls, rest)
        connection.insert(_INSERT_TOOL_RESULTS, [v for k, call in self._results.items() for v in (*k, call)], rest)
        self._rollups.write(connection, rest)

    def _add_up_attempts(self) -> None:
        tried: dict[str, list[tuple[bool, bool, int | None]]] = {}
        for call_id, is_last, spent, cost in self._connection.lookup(_LOAD_ATTEMPTS, self._loaded, self._rest):
            tried.setdefault(call_id, []).append((bool(is_last), bool(spent), cost))
        for one in self._attempts:
            found = tried.setdefault(one.row["call_id"], [])
            found.append((bool(one.row["is_last"]), one.spent, one.row["cost_nanos"]))
        for call_id, attempts in tried.items():
            price_by_attempts(self._rows[call_id], attempts)

    def _note_response(self, row: Row) -> None:
        response, start = row["response_id"], row["started_ns"] or 0
        if response is not None:
            self._responses[response] = min(self._responses.get(response, start), start)

    def _settle_repeated(self) -> None:
        """Decide which of several records of one call counts, among those in the store and those folded."""
        for row in self._rows.values():
            self._note_response(row)
        groups: dict[str, dict[str, Mapping[str, Any]]] = {response: {} for response in self._responses}
        for row in self._rows.values():
            if row["response_id"] is not None:
                groups[row["response_id"]][row["call_id"]] = row
        for stored in self._same_response(list(self._responses.items())):
            groups[stored["response_id"]][stored["call_id"]] = stored
        for group in groups.values():
            self._settle_group(group.values())

    def _same_response(self, wanted: Sequence[tuple[str, int]]) -> Iterator[Mapping[str, Any]]:
        """Calls in the store, but for those that are here."""
        for values in self._connection.lookup_ranges(_SAME_RESPONSE, wanted, self._rest):
            stored = dict(zip(_SAME_RESPONSE_KEYS, values, strict=True))
            if stored["call_id"] not in self._rows:
                yield stored

    def _settle_group(self, group: Collection[Mapping[str, Any]]) -> None:
        again = repeated(group) if len(group) > 1 else ()
        for call in group:
            counted = 0 if call["call_id"] in again else 1
            if counted == call["counted"]:
                continue
            if (row := self._rows.get(call["call_id"])) is not None:
                row["counted"] = counted
            elif counted == 0 or not self._is_repeated_by_older(call, group):
                self.load([call["call_id"]])
                self._rows[call["call_id"]]["counted"] = counted

    def _is_repeated_by_older(self, call: Mapping[str, Any], group: Collection[Mapping[str, Any]]) -> bool:
        """Whether what makes *call* a repetition ended before anything that is touched here began."""
        since = call["started_ns"] or 0
        known = {one["call_id"]: one for one in (*group, *self._same_response([(call["response_id"], since)]))}
        return call["call_id"] in repeated(known.values())

    def committed(self) -> None:
        """The transaction stands: remember what need not be written again."""
        if len(self._first_results) + len(self._results) > _REMEMBERED_RESULTS:
            self._first_results.clear()
        self._first_results.update(self._results)


def insert_parts(connection: Connection, found: Iterable[tuple[int, Sequence[Part]]], rest: Rest) -> None:
    """Write the parts of new contents."""
    values: list[Any] = []
    for content_id, parts in found:
        for number, part in enumerate(parts):
            role, kind, name, called, path, size, _ = part
            tool_call_id = None if called is None else key_text(called)
            values += (content_id, number, role, kind, name, tool_call_id, connection.json_path(path), size)
    connection.insert(_INSERT_PARTS, values, rest)
