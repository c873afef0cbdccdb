"""All projections made again from the events.

They grow in temporary tables, which have the projections' own names and are found first under them, so the code that
writes them is the live one. A rebuild that is killed leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import orjson

from hub.messages import Part, parts
from hub.polite import Rest
from hub.pricing import PriceBook
from storage.append import LIVE, read_counters, read_tombstones, set_checkpoint
from storage.bodies import Shape, shape_of
from storage.engine import Connection, Lookup, marks
from storage.event_views import SCHEMA_EVENT, refill
from storage.price_tables import read_prices
from storage.projector import Entry, Projector, ResultKey, insert_parts
from storage.pruning import is_pruned
from storage.reading import COLUMNS, Stored, one_moment, with_content
from storage.repricing import REPRICED
from storage.rollups import COST_KEY, COST_MEASURES, COSTS, LATENCY, LATENCY_KEY, LATENCY_MEASURES
from storage.search import outdate
from storage.tombstones import Tombstones
from storage.upkeep import REMOVALS, is_unswept

TABLES = ("hub_calls", "hub_parts", "hub_attempts", "hub_tool_calls", "hub_tool_results")
ROLLUPS = {COSTS: (COST_KEY, COST_MEASURES), LATENCY: (LATENCY_KEY, LATENCY_MEASURES)}
_NEEDED_INDEXES = ("ix_hub_calls_response_id_ended_ns", "ix_hub_attempts_call_id")
_PAGE = 500
_REMEMBERED_SHAPES = 50_000


Writing = Callable[[Connection], AbstractContextManager[None]]


class _Disturbed(Exception):
    """Something was erased, pruned or repriced meanwhile: what was made so far may be as it was before."""


def rebuild(
    apart: Callable[[], AbstractContextManager[Connection]],
    writing: Writing,
    progress: Callable[[int, int], None],
    rest: Rest,
) -> int:
    """See `SqlStore.rebuild`.

    Args:
        apart: Opens a connection for the work beside the writers.
        writing: A transaction that no other writer's overlaps.
    """
    while True:
        with apart() as connection:
            try:
                return _Rebuild(connection, writing, progress, rest).run()
            except _Disturbed:
                continue


class _Rebuild:
    def __init__(
        self, connection: Connection, writing: Writing, progress: Callable[[int, int], None], rest: Rest
    ) -> None:
        self._connection, self._writing, self._progress, self._rest = connection, writing, progress, rest
        self._epoch, self._book, self._tombstones = -1, PriceBook(), Tombstones((), {})
        self._shapes: dict[int, Shape] = {}
        self._parts: list[tuple[int, Sequence[Part]]] = []
        """Of contents met for the first time, to be written with the page."""
        self._first_results: dict[ResultKey, str] = {}
        self._done = self._count = 0

    def run(self) -> int:
        connection = self._connection
        before = self._disturbances()
        self._make_tables()
        while self._free_page():
            if self._disturbances() != before:
                raise _Disturbed
            self._progress(self._count, self._total())
        with self._writing(connection):
            if self._disturbances() != before:
                raise _Disturbed
            while self._page():
                pass
            self._swap()
        self._progress(self._count, self._count)
        return self._count

    def _disturbances(self) -> tuple[int, int]:
        counters = read_counters(self._connection)
        return counters.get(REMOVALS, 0), counters.get(REPRICED, 0)

    def _total(self) -> int:
        return int(self._connection.execute("SELECT coalesce(max(position), 0) FROM hub_events").fetchone()[0])

    def _make_tables(self) -> None:
        connection, tables = self._connection, (*TABLES, *ROLLUPS)
        for statement in _temporary(connection, tables):
            connection.execute(statement)
        connection.execute("CREATE TEMPORARY TABLE rebuilt_manifests (position BIGINT PRIMARY KEY, content TEXT)")

    def _free_page(self) -> bool:
        """A page while others write. Returns: Whether it was full."""
        with one_moment(self._connection):
            return self._page() == _PAGE

    def _page(self) -> int:
        """Returns: How many events the page had."""
        connection = self._connection
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE position > ? ORDER BY position LIMIT ?", (self._done, _PAGE)
        ).fetchall()
        if not rows:
            return 0
        read = with_content(connection, rows)
        self._refresh()
        projector = Projector(connection, self._book, self._rest, first_results=self._first_results)
        projector.load(one.record["call_id"] for one in read if one.record["call_id"] is not None)
        pruned = self._pruned(read)
        for one in read:
            if one.record["call_id"] not in pruned:
                self._fold(projector, one)
            self._rest()
        insert_parts(connection, self._parts, self._rest)
        self._parts.clear()
        projector.write()
        projector.committed()
        self._done, self._count = read[-1].position, self._count + len(read)
        return len(read)

    def _pruned(self, read: Sequence[Stored]) -> set[str | None]:
        """Calls that were counted when they were pruned, while some of their events are still here."""
        old = {one.record["call_id"] for one in read if self._tombstones.expired(one.record)}
        kept, _ = _schemas(self._connection)
        there = Lookup(f"SELECT call_id FROM {kept}.hub_calls WHERE call_id {{}}")
        return old - {call_id for (call_id,) in self._connection.lookup(there, old, self._rest)}

    def _fold(self, projector: Projector, one: Stored) -> None:
        listed = one.manifest.get("messages") if one.manifest else None
        places = listed if isinstance(listed, list) else []
        messages = [(content_id, self._shape(content_id, one)) for content_id, _ in places]
        firsts = projector.fold(Entry(one.position, one.record, messages))
        if one.manifest and firsts != [first for _, first in places]:
            one.manifest["messages"] = [
                [content_id, first] for (content_id, _), first in zip(places, firsts, strict=True)
            ]
            self._connection.execute(
                "INSERT INTO rebuilt_manifests (position, content) VALUES (?, ?)",
                (one.position, orjson.dumps(one.manifest).decode()),
            )

    def _shape(self, content_id: int, one: Stored) -> Shape:
        shape = self._shapes.get(content_id)
        if shape is None:
            found = parts(one.bodies[content_id]) if content_id in one.bodies else []
            self._parts.append((content_id, found))
            if len(self._shapes) > _REMEMBERED_SHAPES:
                self._shapes.clear()
            shape = self._shapes[content_id] = shape_of(found)
        return shape

    def _refresh(self) -> None:
        connection = self._connection
        epoch = read_counters(connection)["epoch"]
        if epoch != self._epoch:
            self._epoch, self._book = epoch, read_prices(connection)
            self._tombstones = Tombstones(read_tombstones(connection), {})

    def _swap(self) -> None:
        connection = self._connection
        kept, made = _schemas(connection)
        if is_unswept(connection):  # what nothing refers to any more may come again, and is not taken apart anew then
            connection.execute(
                f"INSERT INTO {made}.hub_parts SELECT * FROM {kept}.hub_parts"
                f" WHERE content_id NOT IN (SELECT content_id FROM {made}.hub_parts)"
            )
        for table in TABLES:
            connection.execute(f"DELETE FROM {kept}.{table}")
            connection.execute(f"INSERT INTO {kept}.{table} SELECT * FROM {made}.{table}")
        for table, (key, measures) in ROLLUPS.items():
            connection.execute(f"DELETE FROM {kept}.{table} WHERE kept_calls = 0")
            connection.execute(f"UPDATE {kept}.{table} SET {','.join(f'{one} = 0' for one in measures)}")
            columns, sums = ",".join((*key, *measures)), ",".join(f"{one} = excluded.{one}" for one in measures)
            connection.execute(
                f"INSERT INTO {kept}.{table} ({columns}) SELECT {columns} FROM {made}.{table} WHERE true"
                f" ON CONFLICT ({','.join(key)}) DO UPDATE SET {sums}"
            )
        connection.execute(
            f"UPDATE {kept}.hub_events AS e SET content = r.content"
            " FROM rebuilt_manifests r WHERE r.position = e.position"
        )
        rows: Sequence[Any] = connection.execute(
            f"SELECT {COLUMNS} FROM hub_events WHERE type = ? ORDER BY position", (SCHEMA_EVENT,)
        ).fetchall()
        told = [one.record for one in with_content(connection, rows)]
        refill(connection, told, keep=is_pruned(connection))
        set_checkpoint(connection, LIVE, str(self._done))
        outdate(connection)


def _schemas(connection: Connection) -> tuple[str, str]:
    """Where the store's tables stand, and where temporary ones do, which are found first under the same names."""
    if connection.engine == "sqlite":
        return "main", "temp"
    (own,) = connection.execute("SELECT quote_ident(current_schema())").fetchone()
    return own, "pg_temp"


def _temporary(connection: Connection, tables: Sequence[str]) -> list[str]:
    """Statements that make empty tables like *tables*."""
    kept, _ = _schemas(connection)
    if connection.engine == "postgresql":
        return [f"CREATE TEMPORARY TABLE {table} (LIKE {kept}.{table} INCLUDING ALL)" for table in tables]
    connection.execute("PRAGMA temp_store = FILE")
    wanted, indexes = marks(len(tables)), marks(len(_NEEDED_INDEXES))
    made = connection.execute(
        f"SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name IN {wanted} OR name IN {indexes}"
        " ORDER BY type DESC",
        (*tables, *_NEEDED_INDEXES),
    )
    return [re.sub(r"^CREATE (TABLE|INDEX) ", r"CREATE \1 temp.", sql) for (sql,) in made.fetchall()]
