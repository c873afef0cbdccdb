"""Events from a file into a store: checked one by one, written in batches, told of one by one where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hub.delivery import Splitter, is_outage
from hub.errors import FileRefused
from hub.events import EventRecord
from hub.pricing import PriceRow
from hub.store import Advance, AppendResult
from hub.transfer.checking import Checker, Unfit, price_rows
from hub.transfer.found import END, FORMAT, HEADER, PRICES, Broken, Found, Source
from storage.adopting import Adopted

_BATCH_EVENTS, _BATCH_BYTES = 500, 8 << 20
_TELL_EVERY = 100

Complain = Callable[[str, str], None]
"""Told of what was left out: where in the file, and why."""


class Store(Protocol):
    """What an import asks of a store."""

    def append(self, events: Sequence[EventRecord]) -> AppendResult: ...

    def adopt_prices(self, rows: Sequence[PriceRow]) -> Adopted: ...


@dataclass(slots=True)
class Imported:
    """What became of a file's records."""

    events: int = 0
    """Those that could be read."""
    new: int = 0
    duplicates: int = 0
    """Were in the store before."""
    conflicts: int = 0
    """Their place has another event. Left out."""
    expired: int = 0
    """About calls that were pruned here, or may have been. Left out."""
    broken: int = 0
    """Could not be read or kept. Left out."""
    cut_off: bool = False
    """It lacks events that it had when it was written."""
    changed: int = 0
    """Had a value that no store takes, and were kept without it."""
    calls: int = 0
    price_cards: int = 0
    """Taken in."""
    other_prices: int = 0
    """Cards left out because the store has others for their time."""

    @property
    def is_whole(self) -> bool:
        """Everything in the file is in the store now."""
        return not (self.conflicts or self.expired or self.broken or self.cut_off)


def import_events(source: Source, store: Store, *, longest: int, complain: Complain, advance: Advance) -> Imported:
    """Bring what *source* gives into *store*. Done again it changes nothing.

    Args:
        longest: Bytes of one record.
    Raises:
        StoreError: What was written until then stays. Import the file again.
        FileRefused: It was written by a newer version.
    """
    work = _Import(store, Checker(longest), complain)
    for number, found in enumerate(source):
        work.take(found)
        if number % _TELL_EVERY == 0:
            advance(source.done, source.total)
    return work.end()


class _Import:
    def __init__(self, store: Store, checker: Checker, complain: Complain) -> None:
        self._store, self._checker, self._complain = store, checker, complain
        self._done = Imported()
        self._batch: list[EventRecord] = []
        self._places: list[str] = []
        self._bytes = 0
        self._healthy = False
        self._seen: int | None = None
        """Records since an export began that says where it ends."""

    def take(self, found: Found | Broken) -> None:
        try:
            if isinstance(found, Broken):
                self._count()
                raise Unfit(found.reason)
            self._take(found)
        except Unfit as error:
            self._done.broken += 1
            self._complain(found.place, str(error))

    def _take(self, found: Found) -> None:
        value = found.value
        if isinstance(value, dict) and len(value) == 1 and not value.keys().isdisjoint((HEADER, PRICES, END)):
            self._take_note(*value.popitem(), found.place)
            return
        self._count()
        record = self._checker.event(value)
        self._done.events += 1
        self._done.calls += record["version"] == 1 and record["call_id"] == record["stream_id"]
        self._batch.append(record)
        self._places.append(found.place)
        self._bytes += found.size
        if len(self._batch) >= _BATCH_EVENTS or self._bytes >= _BATCH_BYTES:
            self._write()

    def _count(self) -> None:
        if self._seen is not None:
            self._seen += 1

    def _take_note(self, key: str, told: Any, place: str) -> None:
        if key == PRICES:
            done = self._store.adopt_prices(price_rows(told))
            self._done.price_cards += done.added
            self._done.other_prices += done.differing
        elif key == HEADER:
            self._begin(told, place)
        else:
            self._finish(told, place)

    def _begin(self, told: Any, place: str) -> None:
        version = told.get("format") if isinstance(told, dict) else None
        if type(version) is not int or version < 1:
            raise Unfit("it does not say which format of an export this is")
        if version > FORMAT:
            raise FileRefused(place, f"an export of format {version}, written by a newer hub", "upgrade llm-hub")
        if self._seen is not None:
            self._cut_off(place, "an export begins before the one before it ends")
        self._seen = 0

    def _finish(self, told: Any, place: str) -> None:
        written = told.get("events") if isinstance(told, dict) else None
        if self._seen is not None and written != self._seen:
            self._cut_off(place, f"of {written} events that were exported {self._seen} are here")
        self._seen = None

    def _cut_off(self, place: str, why: str) -> None:
        self._done.cut_off = True
        self._complain(place, why)

    def _write(self) -> None:
        batch, places = self._batch, dict(zip((record["id"] for record in self._batch), self._places, strict=True))
        self._batch, self._places, self._bytes = [], [], 0
        try:
            conflicts, rejected = self._append(batch), list[EventRecord]()
        except Exception as error:
            if is_outage(error):
                raise
            delivered = Splitter(self._append, healthy=self._healthy).deliver(batch)
            conflicts, rejected = delivered.conflicts, delivered.rejected
        self._healthy = True
        for record in conflicts:
            self._done.conflicts += 1
            holder = f"version {record['version']} of stream {record['stream_id']}"
            self._complain(places[record["id"]], f"{holder} is another event in this store")
        for record in rejected:
            self._done.broken += 1
            self._complain(places[record["id"]], "the store does not take it")

    def _append(self, records: Sequence[EventRecord]) -> list[EventRecord]:
        result = self._store.append(records)
        self._done.new += result.new
        self._done.duplicates += result.duplicates
        self._done.expired += result.expired
        return list(result.conflicts)

    def end(self) -> Imported:
        self._write()
        if self._seen is not None:
            self._cut_off("the end", "the file is cut off: what follows here is missing")
        self._done.changed = self._checker.changed
        return self._done
