"""The threads between the spool and its sinks: one for each sink, and the keeper, which does the spool's slow work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from hub.delivery import TRIES_BEFORE_SPLIT, Delivered, Splitter, backoff, is_outage, place_of
from hub.events import Data, EventRecord
from hub.harmless import log
from hub.polite import politeness
from hub.spool import STORE, Spool
from hub.spool.cursor import Batch
from hub.spool.durability import Gate

MAX_EVENTS, MAX_BYTES = 500, 4 << 20
"""Of one batch. Twice as many go no faster, and hold the lock of the database's writers for 90 ms instead of 40."""
POLL = 0.04
LINGER = 0.05
LINGER_BELOW = 200
"""Events. A smaller batch waits LINGER seconds for company."""
KEEPER_POLL = 0.025
SYNC_EVERY = 0.5
REPORT_EVERY = 1.0
TRIES_AT_STOP = 3


class Sink(Protocol):
    """Somewhere events go. Called from one thread at a time; `name` is unique among the sinks of a hub.

    A sink to which each batch is dear may have `linger`: the seconds that a small one waits for company.
    """

    name: str

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Take *records*, oldest first; return once they are safe. Writing an event twice is harmless.

        Returns: Those whose place in their stream another event holds; usually none.
        Raises: HubError: None of *records* was taken; the same batch comes again. So it does after any other
            exception, at last in pieces: an event that the sink refuses while it takes others is dropped and counted.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Called once, by the thread that wrote."""
        ...


def conflict_data(record: EventRecord) -> Data:
    """What hub:conflict says of an event whose place was taken; the event itself is the content."""
    return {
        "event_id": record["id"],
        "type": record["type"],
        "stream_id": record["stream_id"],
        "version": record["version"],
        "producer": record["producer"],
        "producer_seq": record["producer_seq"],
    }


class EmitOwn(Protocol):
    """Appends an event of the hub's own to the producer's stream."""

    def __call__(
        self, event_type: str, data: Data, *, call_id: str | None = None, content: Data | None = None
    ) -> None: ...


class Pipeline:
    """Moves events from *spool* to *sinks* until it is stopped.

    Args:
        sinks: As many as the spool has cursors, by the same names.
        emit_hub_event: For hub:dropped, hub:conflict, hub:degraded and hub:unsampled.
        left_open: Asked at the end, when the sinks are closed: whether calls are open, for a recovery to close.
    """

    def __init__(
        self,
        spool: Spool,
        sinks: Sequence[Sink],
        emit_hub_event: EmitOwn,
        left_open: Callable[[], bool] = lambda: False,
    ) -> None:
        self._spool = spool
        self._emit, self._left_open = emit_hub_event, left_open
        self._reporting = threading.Lock()
        names = sorted(sink.name for sink in sinks)
        if names != sorted(spool.cursors):
            raise ValueError(f"the spool has cursors for {sorted(spool.cursors)}, not for {names}")
        self._workers = {sink.name: _SinkThread(spool, sink, emit_hub_event) for sink in sinks}
        self._gate = Gate()
        self._keeper = threading.Thread(target=self._keep, name="hub-keeper", daemon=True)
        self._stopping = False
        self._troubled: set[str] = set()

    def start(self) -> None:
        """Start the threads. They are daemons: an exit never waits for them."""
        self._spool.keeper_gate = self._gate.open
        self._keeper.start()
        for worker in self._workers.values():
            worker.thread.start()

    def wake(self) -> None:
        """Have everything that waits looked at now."""
        self._gate.open()
        for worker in self._workers.values():
            worker.gate.open()

    def flush(self, timeout: float) -> int:
        """Wait until what was emitted so far is in the store, and with the other sinks unless they fail.

        Returns: How many events are not in the store yet; 0 is all.
        """
        deadline = time.monotonic() + timeout
        self._run_notes()
        self._spool.write_deferred()
        target = self._spool.admitted
        self.wake()
        while True:
            waiting = [worker for worker in self._workers.values() if worker.passed < target]
            if not any(worker.name == STORE or not worker.failures for worker in waiting):
                break
            if time.monotonic() >= deadline or not self._keeper.is_alive():
                break
            for worker in waiting:
                if not worker.failures:
                    worker.gate.open()
            time.sleep(0.004)
        return max(0, target - self._workers[STORE].passed)

    def stop(self, timeout: float) -> None:
        """Deliver what can be delivered within *timeout* seconds in all, end the threads, close the spool.

        What is left stays on the disk for the next process. Harmless when repeated, and from an exit handler.
        """
        deadline = time.monotonic() + timeout
        if self._stopping:
            return
        self._stopping = True
        self._run_notes()
        self._spool.write_deferred()
        self._report()
        self.wake()
        others = [worker for worker in self._workers.values() if worker.name != STORE]
        for worker in others:
            worker.stop()
        for worker in others:
            worker.join(deadline - 0.4 * timeout)
        self._report()
        store = self._workers[STORE]
        store.stop()
        store.join(deadline - 0.05 * timeout)
        self._gate.open()
        self._join_keeper(deadline)
        if self._keeper.is_alive() or any(worker.thread.is_alive() for worker in self._workers.values()):
            return  # a thread that hangs may still use the spool; its lock goes with the process
        self._spool.close(keep=self._left_open())

    def _join_keeper(self, deadline: float) -> None:
        if self._keeper.ident is not None:
            self._keeper.join(max(0.0, deadline - time.monotonic()))

    # The keeper.

    def _keep(self) -> None:
        synced = reported = time.monotonic()
        while not self._stopping:
            self._gate.wait(KEEPER_POLL)
            self._guarded(self._run_notes)
            self._guarded(self._spool.housekeeping.tend)
            now = time.monotonic()
            if self._spool.durability != "memory" and now - synced >= SYNC_EVERY:
                synced = now
                self._guarded(self._spool.housekeeping.sync_files)
            if now - reported >= REPORT_EVERY:
                reported = now
                self._guarded(self._report)

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # a subscriber's SystemExit, which would end the keeper
            if not isinstance(error, Exception) and threading.current_thread() is not self._keeper:
                raise
            where = place_of(error)
            if where not in self._troubled:  # once for each place, or a full disk fills the log too
                self._troubled.add(where)
                log.warning("hub: the spool's keeper failed with %s at %s", type(error).__name__, where)

    def _run_notes(self) -> None:
        notes = self._spool.notes
        for _ in range(len(notes)):
            try:
                note = notes.popleft()
            except IndexError:
                return
            self._guarded(note)

    def _report(self) -> None:
        spool = self._spool
        if not self._reporting.acquire(timeout=0.1 if self._stopping else 0.0):  # by now the keeper's is nearly over
            return
        try:
            if not spool.room_for_report():
                return
            while spool.trouble:
                self._emit("hub:degraded", spool.trouble.pop(0))
            for drop in spool.take_drops():
                self._emit("hub:dropped", drop)
                spool.reported(drop)
            if self._stopping and (calls := spool.control.untold_unsampled):
                self._emit("hub:unsampled", {"calls": calls})
                spool.control.told_unsampled(calls)
        finally:
            self._reporting.release()


class _SinkThread:
    """Writes batches to one sink, each until it is safe."""

    def __init__(self, spool: Spool, sink: Sink, emit: EmitOwn) -> None:
        self.name = sink.name
        self.gate = Gate()
        self.failures = 0
        """In a row."""
        self._sink = sink
        self._emit = emit
        self._linger = float(getattr(sink, "linger", LINGER))
        self._enough = LINGER_BELOW if self._linger <= LINGER else MAX_EVENTS
        self._cursor = spool.reader(sink.name)
        self._refusals = 0
        self._stopping = False
        self._tries_left = TRIES_AT_STOP
        self.thread = threading.Thread(target=self._run, name=f"hub-{sink.name}", daemon=True)

    @property
    def passed(self) -> int:
        return self._cursor.state.passed

    def stop(self) -> None:
        """End when nothing waits, or when the sink keeps failing."""
        self._stopping = True
        self.gate.open()

    def join(self, deadline: float) -> None:
        if self.thread.ident is not None:
            self.thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while self._tries_left > 0 and self._step():
                pass
        finally:
            self._cursor.close()
            try:
                self._sink.close()
            except Exception as error:
                log.warning("hub: closing sink %s failed with %s", self.name, type(error).__name__)

    def _step(self) -> bool:
        """Deliver what is there; no batch is held while it waits for more. False: nothing more is to come."""
        batch = self._next()
        if batch is not None:
            self._deliver(batch)
        elif self.failures and not self._stopping:
            self.gate.wait(POLL)  # what failed was skipped meanwhile
        return batch is not None or not self._stopping

    def _next(self) -> Batch | None:
        waiting = self._cursor.waiting
        if waiting < self._enough and not self._stopping and not self.failures:
            hurried = self.gate.wait(self._linger if waiting else POLL)
            if not waiting and not hurried:
                return None
        politeness.behind = waiting > MAX_EVENTS
        try:
            return self._cursor.read_batch(MAX_EVENTS, MAX_BYTES)
        except (OSError, ValueError) as error:
            self._failed(error)
            return None

    def _deliver(self, batch: Batch) -> None:
        try:
            delivered = self._write(batch)
        except BaseException as error:
            self._failed(error)
            return
        for record in delivered.conflicts:
            self._conflict(record)
        self._cursor.commit(batch, rejected=len(delivered.rejected), conflicts=len(delivered.conflicts))
        if self.failures:
            log.info("hub: sink %s takes events again", self.name)
        self.failures = self._refusals = 0

    def _write(self, batch: Batch) -> Delivered:
        if not batch.records:
            return Delivered()
        if self._refusals >= TRIES_BEFORE_SPLIT:
            return Splitter(self._sink.write).deliver(batch.records)
        return Delivered(conflicts=list(self._sink.write(batch.records)))

    def _conflict(self, record: EventRecord) -> None:
        if record["type"] == "hub:conflict":
            return  # counted; one about it could conflict again
        data, content = conflict_data(record), {"original": dict(record)}
        try:
            self._emit("hub:conflict", data, call_id=record["call_id"], content=content)
        except BaseException as error:  # of a subscriber's; this thread is to go on
            log.warning("hub: telling of a conflict failed with %s at %s", type(error).__name__, place_of(error))

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self._refusals = 0 if is_outage(error) else self._refusals + 1
        if self.failures == 1:
            kind, place = type(error).__name__, place_of(error)
            log.warning("hub: sink %s failed with %s at %s; it is tried again until it works", self.name, kind, place)
        if self._stopping:
            self._tries_left -= 1
        self.gate.wait(backoff(1 if self._stopping else self.failures))
