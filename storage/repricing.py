"""Costs after prices have changed: the new cards are kept first, then calls are brought in line with the cards.

A cost follows from a call's events and the cards alone. So a reprice that was stopped is finished by the next one, a
second one finds nothing to do, and a rebuild after it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from hub.polite import Rest
from hub.price_list import Prices
from hub.pricing import PriceBook, PriceRow, holding_from, same_prices
from storage.append import read_counters, write_counters
from storage.batch import EVENT_COLUMNS, event_record
from storage.engine import Connection, Lookup
from storage.price_tables import keep, read_prices, told_prices
from storage.projections import Row, price
from storage.projector import Entry, Projector
from storage.rollups import Rollups

REPRICED = "repriced"
"""Counter: reprices that kept new cards, of calls that may have been folded into a rebuild already."""

_WINDOW = 500
"""Calls that are looked at, and at most written, in one go: some 20 ms of the database's lock."""
_MOST_NAMES = 500
_COSTS = ("cost_nanos", "cost_source", "price_version")
_COLUMNS = (
    "call_id", "project", "service", "provider", "request_model", "response_model", "status", "started_ns",
    "counted", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", *_COSTS,
)  # fmt: skip
_SELECT = f"SELECT {','.join(_COLUMNS)} FROM hub_calls c WHERE"
_SPENT = "(a.is_last = 1 OR coalesce(a.input_tokens, 0) + coalesce(a.output_tokens, 0) > 0)"
_LOAD = Lookup(f"{_SELECT} call_id {{}}")
_TRIED = Lookup(f"SELECT DISTINCT call_id FROM hub_attempts a WHERE {_SPENT} AND call_id {{}}")
_ATTEMPT_COSTS = Lookup("SELECT position, cost_nanos FROM hub_attempts WHERE call_id {}")
_EVENTS = Lookup(
    f"SELECT {','.join(EVENT_COLUMNS)} FROM hub_events"
    " WHERE type IN ('llm:request', 'llm:response', 'provider:retry', 'provider:attempt') AND call_id {}"
    " ORDER BY position"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to reprice, and by which prices."""

    since_ns: int = 0
    """Only calls begun from then on."""
    model: str | None = None
    """Only calls of this model, asked for or served: its name, or provider/model."""
    known_ns: int | None = None
    """By the cards that the store had then; None: by today's prices. What had no card then keeps those it has."""


class ModelCosts(NamedTuple):
    """What the calls of one model cost, in nano-dollars; None where no call's cost is known.

    Unpriced calls are those with token counts and without a cost."""

    provider: str | None
    model: str | None
    calls: int = 0
    cost_before: int | None = None
    cost_after: int | None = None
    unpriced_before: int = 0
    unpriced_after: int = 0

    @property
    def difference(self) -> int:
        """How much more it is now; what was unknown counts as nothing."""
        return (self.cost_after or 0) - (self.cost_before or 0)


class Repriced(NamedTuple):
    """What a reprice did, or would do."""

    models: list[ModelCosts]
    """The largest difference first. Calls that another layer recorded too are left out, as everywhere."""
    cards: int
    """New price cards."""
    calls: int
    """Calls whose cost changed, or where it came from."""


class Change(NamedTuple):
    """A call before and after, with the keys of _COLUMNS; only the costs differ."""

    before: Row
    after: Row


def write_costs(connection: Connection, changes: Sequence[Change], rest: Rest) -> None:
    """Give calls their new costs, and whatever is made of the costs of calls."""
    rollups = Rollups()
    for before, after in changes:
        rollups.add_costs(before, -1)
        rollups.add_costs(after)
    rollups.write(connection, rest)
    connection.executemany(
        "UPDATE hub_calls SET cost_nanos = ?, cost_source = ?, price_version = ? WHERE call_id = ?",
        [(*(after[name] for name in _COSTS), after["call_id"]) for _, after in changes],
    )


class Repricing:
    """One run. *connection* is its own; *writing* is a transaction that no other writer's overlaps."""

    def __init__(
        self,
        connection: Connection,
        writing: Callable[[Connection], AbstractContextManager[None]],
        scope: Scope,
        rest: Rest,
    ) -> None:
        self._connection, self._writing, self._scope, self._rest = connection, writing, scope, rest
        self._book, self._epoch = PriceBook(), -1
        self._covered: Collection[tuple[str, str]] = ()
        """Providers and models whose cards are looked at."""
        self._found: dict[tuple[str | None, str | None], ModelCosts] = {}

    def run(self, prices: Prices, now: int, progress: Callable[[int, int], None], *, dry_run: bool) -> Repriced:
        """See `SqlStore.reprice`."""
        connection = self._connection
        wanted = self._wanted(prices)
        if dry_run:
            self._book = read_prices(connection)
            new = self._new_cards(wanted)
            self._book.add(new)
        else:
            with self._writing(connection):
                self._refresh()
                new = self._new_cards(wanted)
                if new:
                    keep(connection, new, now)
                    repriced = read_counters(connection).get(REPRICED, 0)
                    write_counters(connection, {"epoch": self._epoch + 1, REPRICED: repriced + 1})
            self._refresh()
        calls = self._walk(progress, write=not dry_run)
        models = sorted(self._found.values(), key=lambda one: (-abs(one.difference), str(one.provider), str(one.model)))
        return Repriced(models, len(new), calls)

    # Cards.

    def _wanted(self, prices: Prices) -> list[list[PriceRow]]:
        """Of each model in scope the cards that it should have."""
        known, told = self._scope.known_ns, told_prices(self._connection)
        self._covered = set(self._pairs_in_scope())
        pairs = sorted(self._covered)
        if known is not None:
            then = read_prices(self._connection, known)
            return [then.cards(*pair) for pair in pairs]
        prices.load()
        return [prices.cards(pair[0] or None, pair[1], told.get(pair)) for pair in pairs]

    def _pairs_in_scope(self) -> Iterator[tuple[str, str]]:
        """A call goes by two names, and either's card may tell its cost."""
        pairs, model = read_prices(self._connection).pairs(), self._scope.model
        if model is None:
            yield from pairs
            return
        yield from (pair for pair in pairs if model in (pair[1], "/".join(pair)))
        found = self._connection.execute(
            "SELECT DISTINCT provider, request_model, response_model FROM hub_calls WHERE ? IN (request_model,"
            " response_model, provider || '/' || request_model, provider || '/' || response_model)",
            (model,),
        )
        for provider, *names in found.fetchall():
            yield from {(provider or "", name) for name in names} & set(pairs)

    def _new_cards(self, wanted: Iterable[Sequence[PriceRow]]) -> list[PriceRow]:
        new: list[PriceRow] = []
        for rows in filter(None, wanted):
            held = self._book.cards(rows[0].provider, rows[0].model)
            start = self._scope.since_ns if held else 0
            wanted_rows = holding_from(rows, start)
            if not same_prices(holding_from(held, start), wanted_rows):
                new += wanted_rows
        return new

    def _refresh(self) -> None:
        epoch = read_counters(self._connection)["epoch"]
        if epoch != self._epoch:
            self._book, self._epoch = read_prices(self._connection), epoch

    # Calls.

    def _walk(self, progress: Callable[[int, int], None], *, write: bool) -> int:
        connection = self._connection
        total, last = connection.execute("SELECT count(*), max(call_id) FROM hub_calls").fetchone()
        done = changed = 0
        end = ""
        while True:
            start = end
            count, end = connection.execute(
                "SELECT count(*), max(call_id) FROM (SELECT call_id FROM hub_calls WHERE call_id > ? AND call_id <= ?"
                " ORDER BY call_id LIMIT ?) AS next_calls",
                (start, last, _WINDOW),
            ).fetchone()
            if not count:
                return changed
            changed += self._window(start, end, write=write)
            done += count
            progress(done, max(done, total))

    def _window(self, start: str, end: str, *, write: bool) -> int:
        """Calls with ids above *start* up to *end*. Returns: How many changed."""
        condition, values = self._condition()
        rows = self._connection.execute(
            f"{_SELECT} call_id > ? AND call_id <= ? {condition}", (start, end, *values)
        ).fetchall()
        calls = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        changes, attempts = self._changes(calls)
        if write and (changes or attempts):
            self._write({change.after["call_id"] for change in changes} | {call_id for call_id, _, _ in attempts})
        after = {change.after["call_id"]: change.after for change in changes}
        for call in calls:
            self._note(call, after.get(call["call_id"], call))
        return len(changes)

    def _condition(self) -> tuple[str, list[Any]]:
        """Calls in scope; those with attempts of their own are always looked at, as these may be of other models."""
        sql, values, scope = "", list[Any](), self._scope
        if scope.since_ns:
            sql += (
                " AND (started_ns >= ? OR EXISTS (SELECT 1 FROM hub_attempts a WHERE a.call_id = c.call_id"
                " AND a.started_ns >= ?))"
            )
            values += [scope.since_ns] * 2
        if scope.model is not None and len(self._covered) <= _MOST_NAMES:
            names = [name for _, name in self._covered]
            marks = ",".join("?" * len(names)) or "NULL"
            sql += (
                f" AND (request_model IN ({marks}) OR response_model IN ({marks}) OR EXISTS"
                f" (SELECT 1 FROM hub_attempts a WHERE a.call_id = c.call_id AND {_SPENT}))"
            )
            values += names * 2
        return sql, values

    def _changes(self, calls: Collection[Row]) -> tuple[list[Change], list[tuple[str, int, int | None]]]:
        """What the cards make of *calls*: those that change, and attempts as call, position and cost."""
        ids = [call["call_id"] for call in calls]
        tried = {call_id for (call_id,) in self._connection.lookup(_TRIED, ids, self._rest)}
        projector = self._folded(tried)
        changes = []
        for call in calls:
            after = projector.row(call["call_id"])
            if call["call_id"] not in tried:
                after = call.copy()
                price(after, self._book)
            if after is not None and any(after[name] != call[name] for name in _COSTS):
                changes.append(Change(call, call | {name: after[name] for name in _COSTS}))
            self._rest()
        costs = dict(self._connection.lookup(_ATTEMPT_COSTS, tried, self._rest))
        attempts = [
            (row["call_id"], row["position"], row["cost_nanos"])
            for row in (one.row for one in projector.attempts)
            if row["position"] in costs and costs[row["position"]] != row["cost_nanos"]
        ]
        return changes, attempts

    def _folded(self, call_ids: Collection[str]) -> Projector:
        """Calls whose rows do not say what their attempts used, from their events."""
        projector = Projector(self._connection, self._book, self._rest, first_results={})
        for values in self._connection.lookup(_EVENTS, call_ids, self._rest):
            position, record, _ = event_record(values)
            projector.fold(Entry(position, record, ()))
        projector.price()
        return projector

    def _write(self, call_ids: Collection[str]) -> None:
        """Look again where no writer interferes, and write what is found then."""
        connection = self._connection
        with self._writing(connection):
            self._refresh()
            rows = connection.lookup(_LOAD, call_ids, self._rest)
            changes, attempts = self._changes([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
            write_costs(connection, changes, self._rest)
            connection.executemany(
                "UPDATE hub_attempts SET cost_nanos = ? WHERE position = ?",
                [(cost, position) for _, position, cost in attempts],
            )

    def _note(self, before: Row, after: Row) -> None:
        provider, model = before["provider"], before["request_model"] or before["response_model"]
        names = {(provider or "", before["request_model"]), (provider or "", before["response_model"])}
        in_scope = self._scope.model is None or not names.isdisjoint(self._covered)
        if not before["counted"] or not (in_scope or before is not after):
            return
        one = self._found.get((provider, model)) or ModelCosts(provider, model)
        self._found[provider, model] = one._replace(
            calls=one.calls + 1,
            cost_before=_sum(one.cost_before, before["cost_nanos"]),
            cost_after=_sum(one.cost_after, after["cost_nanos"]),
            unpriced_before=one.unpriced_before + _is_unpriced(before),
            unpriced_after=one.unpriced_after + _is_unpriced(after),
        )


def _sum(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more


def _is_unpriced(call: Row) -> bool:
    return call["cost_nanos"] is None and (call["input_tokens"] is not None or call["output_tokens"] is not None)
