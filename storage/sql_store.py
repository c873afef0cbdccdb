"""What event stores in SQL have in common: all but how a connection is made and how a writer waits for its turn."""

from __future__ import annotations

import functools
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from hub.events import EventRecord
from hub.polite import Rest, rest
from hub.price_list import Prices
from hub.pricing import PriceRow
from hub.store import (
    Advance,
    AppendResult,
    Content,
    ContentRef,
    Cursor,
    Erased,
    Erasure,
    ErasureReport,
    OpenCall,
    Page,
    Progress,
    PruneReport,
)
from storage import erasing, pruning, reading, rebuilding, search
from storage.adopting import Adopted, adopt
from storage.append import Append, Memory, read_counters, write_counters
from storage.batch import Batch
from storage.engine import Connection
from storage.repricing import Repriced, Repricing, Scope
from storage.turns import Turns
from storage.upkeep import REDACTIONS, REMOVALS, REWRITTEN, SCRUBBED, Scrubbed, Upkeep

_STREAM_PAGE = 256
_UNSCRUBBED = "unused parts of the store's files may hold copies of it until hub erase may write them anew"


def new_key() -> bytes:
    """A key for the hashes of a project."""
    return secrets.token_bytes(32)


class SqlStore(ABC):
    """An `EventStore` in a database. The database is opened by the first method that needs it."""

    url: str
    """Without password."""

    _out_of_reach: tuple[str, ...] = ()
    """Where there may be copies of what was erased that others have to see to."""

    def __init__(
        self,
        *,
        wall: Callable[[], int] = time.time_ns,
        new_key: Callable[[], bytes] = new_key,
        prices: Prices | None = None,
        rest: Rest = rest,
    ) -> None:
        """
        Args:
            wall: UTC Unix nanoseconds.
            prices: What models cost that this store has no price for yet; those of genai-prices if not given.
            rest: Called between steps of Python work, see hub.polite.
        """
        self._wall, self._new_key, self._rest = wall, new_key, rest
        self._prices = prices or Prices()
        self._lock = Turns()
        self._memory = Memory()

    @abstractmethod
    def _using(self) -> AbstractContextManager[Connection]:
        """The connection, for one thread at a time. What goes wrong is told as a StoreError, and nothing that was
        remembered is relied on any more."""

    @abstractmethod
    def _writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that no other writer's overlaps."""

    @abstractmethod
    def _beside(self, connection: Connection) -> AbstractContextManager[None]:
        """A transaction that changes nothing appends look at, and does not keep them waiting where the engine can do
        that."""

    @abstractmethod
    def _apart(self) -> AbstractContextManager[Connection]:
        """A connection of its own, for long work beside the writers. Errors as from `_using`."""

    @abstractmethod
    def _make_room(self, connection: Connection, records: Sequence[EventRecord]) -> None:
        """Within the transaction that will write *records*."""

    @abstractmethod
    def _tell(self, connection: Connection, position: int) -> None:
        """Within the transaction that wrote events up to *position*: let others know once it stands."""

    def _look_after(self, connection: Connection, position: int) -> None:
        """After events up to *position* were written, while others may write: what keeps the database fast."""
        return

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _rewrite(self, connection: Connection, days: Collection[int] | None) -> Scrubbed:
        """Write the files anew, so that nothing is left in them of what was deleted, and what it took is free again.

        Args:
            days: Since 1970, of the streams whose events were rewritten; None when nobody knows.
        """

    @abstractmethod
    def _tidy(self, connection: Connection) -> None:
        """After much was deleted: what costs nobody much time."""

    def _copies(self) -> Sequence[Path]:
        """Files in which we kept the store as it once was."""
        return ()

    def _foreign_copies(self) -> Sequence[Path]:
        """Files in which others seem to have kept it."""
        return ()

    def _gather(self, connection: Connection) -> Sequence[str]:
        """Put back into the log what somebody who was killed took out of it, so that it can be looked at. Returns: What
        it could not put back."""
        return ()

    def _drop_whole(self, connection: Connection, before_ns: int) -> tuple[int, Sequence[str]]:
        """See `pruning.DropWhole`."""
        return 0, ()

    # Writing.

    def append(self, events: Sequence[EventRecord]) -> AppendResult:
        if not events:
            return AppendResult(0)
        batch = Batch(events)
        with self._using() as connection:
            memory = self._memory
            self._make_keys(connection, {record["project"] for record in batch.records})
            batch.take_content_apart(memory.keys, memory.contents, self._rest)
            self._load_prices(connection, batch)
            make_room = functools.partial(self._make_room, connection)
            work = Append(connection, batch, memory, self._prices, self._wall(), self._rest, make_room)
            with self._writing(connection):
                new = work.run()
                if batch.records:
                    self._tell(connection, work.position)
            work.committed()
            if batch.records:
                self._look_after(connection, work.position)
        return AppendResult(new, batch.duplicates, tuple(batch.conflicts), work.expired)

    def adopt_prices(self, rows: Sequence[PriceRow]) -> Adopted:
        """Take the cards of one provider's model from another store, those that change no cost here. From now on this
        writer looks for no other cards of that model.

        Args:
            rows: In the order of their time.
        """
        memory = self._memory
        with self._using() as connection, self._writing(connection):
            counters = read_counters(connection)
            memory.refresh(connection, counters["epoch"])
            done = adopt(connection, memory.book, rows, self._wall())
            if done.added:
                counters["epoch"] += 1
                write_counters(connection, counters)
        memory.epoch = counters["epoch"]
        memory.settled_prices.add((rows[0].provider or None, rows[0].model))
        return done

    def erase(
        self, what: Erasure, *, dry_run: bool = False, rewrite: bool = True, progress: Progress | None = None
    ) -> ErasureReport:
        """See `EventStore.erase`. Others may go on writing meanwhile, but for the last step. Killed on the way, the
        tombstone stands, and the same again finishes.

        Args:
            dry_run: Only tell what would go.
            rewrite: Write the files anew in the end, so that no copy is left in their unused parts.
        Raises: StoreError
        """
        with self._upkeep(progress) as upkeep:
            if dry_run:
                report = erasing.would_erase(upkeep, what)
                copies = tuple(f"{copy} would be removed" for copy in self._copies())
                return replace(report, notes=report.notes + copies)
            apart = tuple(self._gather(upkeep.connection))
            done = erasing.erase(upkeep, what, self._key_of(what.project))
            search.scrub(upkeep.connection, self._writing, self._beside)  # no copy is left in the full-text index
            scrubbed = self._scrub(upkeep, done, rewrite=rewrite)
        notes = apart + done.report.notes + scrubbed.notes
        return replace(done.report, notes=notes, complete=scrubbed.complete and not apart)

    def _key_of(self, project: str) -> bytes:
        with self._using() as connection:
            self._make_keys(connection, {project})
            return self._memory.keys[project]

    def _scrub(self, upkeep: Upkeep, done: erasing.Done, *, rewrite: bool) -> Scrubbed:
        """Take what was erased, now and before, out of what lies beside the tables, unless that was done already. What
        was pruned may have been of the same people."""
        notes = []
        for copy in self._copies():
            copy.unlink(missing_ok=True)
            notes.append(f"{copy} was removed")
        foreign = [
            f"{copy} seems to be a copy of the store: delete it, or move it away" for copy in self._foreign_copies()
        ]
        notes += foreign
        counters = read_counters(upkeep.connection)
        removals = counters.get(REMOVALS, 0) - counters.get(REWRITTEN, 0)
        if not removals:
            return Scrubbed(tuple(notes), complete=not foreign)
        if not rewrite:
            self._tidy(upkeep.connection)
            return Scrubbed((*notes, _UNSCRUBBED), complete=False)
        scrubbed = self._write_anew(upkeep, done.days if removals == done.steps else None)
        return Scrubbed((*notes, *scrubbed.notes, *self._out_of_reach), scrubbed.complete and not foreign)

    def _write_anew(self, upkeep: Upkeep, days: Collection[int] | None) -> Scrubbed:
        """See `_rewrite`."""
        upkeep.phase("Writing the files anew")
        upkeep.told(0, 1)
        counters = read_counters(upkeep.connection)
        scrubbed = self._rewrite(upkeep.connection, days)
        if scrubbed.complete:
            upkeep.settle(REWRITTEN, counters.get(REMOVALS, 0))
            upkeep.settle(SCRUBBED, counters.get(REDACTIONS, 0))
        return scrubbed

    def prune(
        self,
        *,
        bodies_before_ns: int | None = None,
        calls_before_ns: int | None = None,
        dry_run: bool = False,
        shrink: bool = False,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Delete what is too old. What calls add up to in each hour stays. Others may go on writing meanwhile. Killed
        on the way, the next pruning finishes.

        Args:
            bodies_before_ns: Of calls begun before this UTC Unix time the content goes, unless newer calls share it.
            calls_before_ns: Calls begun before go, with their events; those that come again are refused.
            dry_run: Only tell what would go.
            shrink: Give the room back to the disk; writers wait meanwhile. Else new calls fill it.
        Raises: StoreError
        """
        bounds = {"bodies_before_ns": bodies_before_ns, "calls_before_ns": calls_before_ns}
        with self._upkeep(progress) as upkeep:
            if dry_run:
                return pruning.would_prune(upkeep, **bounds)
            apart = () if calls_before_ns is not None else self._gather(upkeep.connection)
            report = pruning.prune(upkeep, **bounds, drop_whole=self._drop_whole)
            report = replace(report, notes=(*apart, *report.notes))
            if not shrink:
                self._tidy(upkeep.connection)
                return report
            return replace(report, notes=report.notes + self._write_anew(upkeep, None).notes)

    @contextmanager
    def _upkeep(self, progress: Progress | None) -> Iterator[Upkeep]:
        with self._apart() as connection:
            yield Upkeep(
                connection,
                self._writing,
                self._make_room,
                self._tell,
                wall=self._wall,
                progress=progress or _silent,
            )

    def rebuild(self, progress: Advance | None = None) -> int:
        """Make all projections again from the events, then put them in the place of the old ones at once.

        Others may go on writing meanwhile; they wait only at the end. Killed on the way it has changed nothing.

        Args:
            progress: Told now and then how many of how many events are done.
        Returns: How many events were read.
        Raises: StoreError
        """
        return rebuilding.rebuild(self._apart, self._writing, progress or _silent, self._rest)

    def reprice(
        self, scope: Scope | None = None, *, dry_run: bool = False, progress: Advance | None = None
    ) -> Repriced:
        """Keep today's prices as new cards, and give the calls the costs that follow. What responses reported stays.

        Others go on writing meanwhile: it works in short steps. Stopped on the way it is finished by doing it again.

        Args:
            dry_run: Only tell what would change.
            progress: Told now and then how many of how many calls are done.
        Raises: StoreError
        """
        with self._apart() as connection:
            work = Repricing(connection, self._writing, scope or Scope(), self._rest)
            return work.run(self._prices, self._wall(), progress or _silent, dry_run=dry_run)

    # Search.

    def follow_search(self, progress: Advance | None = None, *, enable: bool = False) -> int:
        """Bring the full-text index up to what the store holds now, in short steps beside the writers. Killed on the
        way, the next one goes on where it stopped.

        Args:
            progress: Told now and then how much of how much is done.
            enable: Make the index if there is none.
        Returns: How many messages and events were looked at.
        Raises: SearchOff, StoreError
        """
        with self._apart() as connection:
            if enable:
                search.turn_on(connection, self._writing)
            return search.follow(connection, self._writing, self._beside, progress or _silent, self._rest)

    def drop_search(self) -> bool:
        """Drop the full-text index. Returns: Whether there was one."""
        with self._apart() as connection:
            return search.turn_off(connection, self._writing)

    def search_bytes(self) -> int:
        """What the full-text index takes. Raises: SearchOff"""
        with self._using() as connection:
            return search.size(connection)

    # Reading.

    def projects(self) -> Sequence[str]:
        """Those that ever had an event here."""
        with self._using() as connection:
            rows = connection.execute("SELECT project FROM hub_keys ORDER BY project").fetchall()
        return [project for (project,) in rows]

    def project_of(self, call_id: str) -> str | None:
        """Of a call that is here."""
        with self._using() as connection:
            row = connection.execute("SELECT project FROM hub_calls WHERE call_id = ?", (call_id,)).fetchone()
        return None if row is None else str(row[0])

    def read_stream(self, stream_id: UUID, *, after: int = 0) -> Iterator[EventRecord]:
        while True:
            with self._using() as connection:
                page = reading.stream_page(connection, str(stream_id), after, _STREAM_PAGE)
            yield from page
            if len(page) < _STREAM_PAGE:
                return
            after = page[-1]["version"]

    def read_all(self, after: Cursor | None = None, *, types: Collection[str] | None = None, limit: int = 1000) -> Page:
        with self._using() as connection:
            return reading.log_page(connection, after, types, limit)

    def content(self, refs: Sequence[ContentRef]) -> Mapping[ContentRef, Content | Erased]:
        with self._using() as connection:
            return reading.contents(connection, refs, read_counters(connection)["content"])

    def references(self, stream_id: UUID, version: int) -> tuple[ContentRef, ...]:
        """The pieces that an event's content is made of, for `content`; nothing for an unknown event."""
        with self._using() as connection:
            return reading.references(connection, str(stream_id), version)

    def checkpoint(self, name: str) -> Cursor | None:
        with self._using() as connection:
            row = connection.execute("SELECT reached FROM hub_checkpoints WHERE name = ?", (name,)).fetchone()
            return Cursor(row[0]) if row else None

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        with self._using() as connection:
            return reading.open_calls(connection, producer)

    def _make_keys(self, connection: Connection, projects: set[str]) -> None:
        missing = projects - self._memory.keys.keys()
        if not missing:
            return
        self._memory.keys.update(connection.execute("SELECT project, key FROM hub_keys"))
        missing -= self._memory.keys.keys()
        if missing:
            with self._writing(connection):
                connection.executemany(
                    "INSERT INTO hub_keys (project, key) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    [(project, self._new_key()) for project in missing],
                )
            self._memory.keys.update(connection.execute("SELECT project, key FROM hub_keys"))

    def _load_prices(self, connection: Connection, batch: Batch) -> None:
        """Load the price list before the database is locked, if the batch seems to need it."""
        if not any(record["data"].get("usage") for record in batch.records):
            return
        if self._memory.epoch < 0:
            self._memory.refresh(connection, read_counters(connection)["epoch"])
        named = {record["data"].get("model") for record in batch.records if record["type"].startswith("llm:re")}
        known = self._memory.book.models
        if self._prices.from_settings:
            known = {model for _, model in self._memory.checked_prices}
        if named - known - {None}:
            self._prices.load()


def _silent(*_told: object) -> None:
    return
