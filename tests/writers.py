"""Many writers on one database and a reader that follows the log meanwhile, for tests and benchmarks.

Each process has one store object, as a program has; its threads take turns at it. A writer is a thread: a producer with
calls that overlap, cut into batches without regard to where a call begins. All begin at once and none waits for
anything but the store.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from hub.errors import StoreUnavailable
from hub.events import EventRecord
from hub.polite import rest
from hub.store import Cursor, EventStore
from storage import open_store
from storage.sqlite import SQLiteStore
from tests.factories import Factory

PATIENCE = 1_200.0
"""Seconds after which something hangs."""
_CALL = 4


@dataclass(frozen=True)
class Load:
    """Who writes how much."""

    processes: int = 8
    threads: int = 8
    events: int = 2_000
    """Of each writer, a multiple of four."""
    batch: int = 4
    pause: float = 0.0
    """Seconds, at most, that a writer now and then stands still in the midst of a batch, its transaction open."""

    @property
    def total(self) -> int:
        return self.processes * self.threads * self.events


@dataclass
class Written:
    """What one writer did."""

    rate: float
    """Events a second, from the common start to its own end."""
    appends: list[float]
    """Seconds that each batch took, from handing it over until it was safe."""
    refused: int
    """Times that the store was too busy to take a batch, which was handed over again."""


@dataclass
class Seen:
    """What a reader was given."""

    events: int = 0
    doubled: int = 0
    misplaced: int = 0
    """Events before an earlier one of their stream, or behind a gap."""
    versions: dict[str, int] = field(default_factory=dict)
    """The last version of each stream."""

    def take(self, records: Sequence[EventRecord]) -> None:
        for record in records:
            last, version = self.versions.get(record["stream_id"], 0), record["version"]
            self.events += 1
            self.doubled += version <= last
            self.misplaced += version > last + 1
            self.versions[record["stream_id"]] = max(last, version)

    def missed(self, load: Load) -> int:
        return load.total - sum(self.versions.values())

    def is_exact(self, load: Load) -> bool:
        """Every event once, each stream in order and whole."""
        whole = set(self.versions.values()) == {_CALL}
        return (self.events, self.doubled, self.misplaced, self.missed(load), whole) == (load.total, 0, 0, 0, True)


@dataclass
class Outcome:
    """What came of a load."""

    seconds: float
    writers: list[Written]
    tailed: Seen
    """By the reader that followed meanwhile."""
    stored: Seen
    """Read at the end, from the start."""

    @property
    def appends(self) -> list[float]:
        return [took for writer in self.writers for took in writer.appends]

    @property
    def fairness(self) -> float:
        """The slowest writer's rate, of the fastest one's."""
        rates = [writer.rate for writer in self.writers]
        return min(rates) / max(rates)


def run(url: str, load: Load) -> Outcome:
    """Put *load* on the empty store at *url*."""
    context = multiprocessing.get_context("forkserver")  # what all of them import is imported once
    context.set_forkserver_preload([__name__])
    begin, ended, results = context.Barrier(load.processes + 2), context.Event(), context.Queue()
    processes = [
        context.Process(target=_write, args=(url, load, number, begin, results)) for number in range(load.processes)
    ]
    processes.append(context.Process(target=_tail, args=(url, begin, ended, results)))
    for process in processes:
        process.start()
    try:
        begin.wait(PATIENCE)
        began = time.perf_counter()
        writers = [one for _ in range(load.processes) for one in results.get(timeout=PATIENCE)]
        seconds = time.perf_counter() - began
        ended.set()
        tailed = results.get(timeout=PATIENCE)
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            process.kill()
    stored = Seen()
    store = open_store(url)
    for records in pages(store):
        stored.take(records)
    store.close()
    return Outcome(seconds, writers, tailed, stored)


def pages(store: EventStore) -> Iterator[tuple[EventRecord, ...]]:
    """The log from its start to its end."""
    page = store.read_all()
    while page.events:
        yield page.events
        page = store.read_all(page.next)


def _write(url: str, load: Load, process: int, begin: Barrier, results: Any) -> None:
    store = open_store(url, rest=Pauses(load.pause, process) if load.pause else rest)
    store.checkpoint("opened")
    _warm_up()
    work = [_batches(Factory(f"w{process}.{thread}"), load) for thread in range(load.threads)]
    begin.wait(PATIENCE)
    began, written = time.perf_counter(), list[Written]()
    threads = [threading.Thread(target=_append, args=(store, batches, began, written)) for batches in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    results.put(written)


def _warm_up() -> None:
    """Have prices and all else loaded that a first append loads."""
    with tempfile.TemporaryDirectory() as folder, closing(SQLiteStore(Path(folder) / "calls.db")) as store:
        store.append(Factory().call())


class Pauses:
    """What a store calls between the steps of its work: it stands still at one of thirty, for up to *longest* seconds.
    A small batch has about as many steps, most of them in its transaction."""

    def __init__(self, longest: float, seed: int) -> None:
        self._longest, self._chance = longest, random.Random(seed)

    def __call__(self) -> None:
        if self._chance.random() < 1 / 30:
            time.sleep(self._chance.random() * self._longest)


def _batches(factory: Factory, load: Load) -> list[list[EventRecord]]:
    """Calls of which each begins before the one before it has ended."""
    records: list[EventRecord] = []
    ending: list[EventRecord] = []
    for _ in range(load.events // _CALL):
        call = factory.call()
        records += call[:2] + ending
        ending = call[2:]
    records += ending
    return [records[start : start + load.batch] for start in range(0, len(records), load.batch)]


def _append(store: EventStore, batches: list[list[EventRecord]], began: float, written: list[Written]) -> None:
    appends, refused = list[float](), 0
    for batch in batches:
        started = time.perf_counter()
        while True:
            try:
                store.append(batch)
                break
            except StoreUnavailable:
                refused += 1
        appends.append(time.perf_counter() - started)
    events = sum(map(len, batches))
    written.append(Written(events / (time.perf_counter() - began), appends, refused))


def _tail(url: str, begin: Barrier, ended: Event, results: Any) -> None:
    store, seen, cursor = open_store(url), Seen(), None
    begin.wait(PATIENCE)
    while True:
        was_last = ended.is_set()
        cursor, records = _next(store, cursor)
        seen.take(records)
        if not records:
            if was_last:
                break
            time.sleep(0.005)
    store.close()
    results.put(seen)


def _next(store: EventStore, cursor: Cursor | None) -> tuple[Cursor | None, tuple[EventRecord, ...]]:
    page = store.read_all(cursor)
    return page.next, page.events
