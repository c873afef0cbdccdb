"""What processes that ended left in their spools is brought into the store, under their own events' identities.

Everything may be done twice: a recovery that is itself killed is finished by the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import uuid_utils

from hub.delivery import Delivered, Splitter, is_outage
from hub.errors import HubError
from hub.events import ENVELOPE_DEFAULTS, Constants, Data, EventRecord, decode_frame
from hub.ids import uuid7_from
from hub.pipeline import MAX_BYTES, MAX_EVENTS, conflict_data
from hub.polite import Rest, rest
from hub.spool import STORE
from hub.spool.control import (
    EMITTED,
    EMITTED_BEFORE_CLOSING,
    OPEN_AT_DEATH,
    PASSED_AT_DEATH,
    PASSED_BEFORE_CLOSING,
    REPORTED_RECOVERY,
    Control,
    Reason,
    SinkState,
)
from hub.spool.folder import discard, folders, let_go, sweep, take_lock
from hub.spool.segments import DATA, Frame, scan, segment_files
from hub.store import EventStore, OpenCall

_LOST: Data = {
    "model": None,
    "status": "lost",
    "duration_ms": None,
    "ttft_ms": None,
    "usage": None,
    "finish_reasons": None,
    "reported_cost_usd": None,
    "cost_reporter": None,
    "response_id": None,
    "status_code": None,
    "attempts": None,
    "chunk_count": None,
    "continuation_count": None,
    "response_cached": None,
    "error_type": None,
    "retryable": None,
    "retry_after_ms": None,
}


@dataclass(frozen=True, slots=True)
class Recovered:
    """A spool that was brought into the store and deleted."""

    folder: Path
    producer: str
    events: int
    lost_calls: int
    """Calls that were open and are closed now, with status lost."""
    dropped: int
    """Events that its counters know of and that were nowhere to be found."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A spool of an ended process that could not be recovered now."""

    folder: Path
    reason: str


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a recovery found."""

    recovered: tuple[Recovered, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    alive: int = 0
    """Spools whose process lives, or that another process is recovering."""

    @property
    def events(self) -> int:
        return sum(spool.events for spool in self.recovered)

    @property
    def lost_calls(self) -> int:
        return sum(spool.lost_calls for spool in self.recovered)


def recover(
    root: Path,
    store: EventStore,
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.time_ns,
    new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
    rest: Rest = rest,
) -> RecoveryReport:
    """Bring the spools of ended processes under *root* into *store*.

    Spools of living processes are left alone, and so are those that another process is recovering. Nothing is raised
    for a spool that cannot be read or written: it waits, and the report says why.

    What is to be told of a spool (hub:recovered, hub:dropped, hub:conflict) goes straight to the store, in streams of
    the recovery's own: in the spool of a caller that is killed in its turn it might be lost.

    Args:
        stop: Asked between batches; True leaves the rest for the next recovery.
        clock: UTC Unix ns.
    """
    recovered: list[Recovered] = []
    waiting: list[Waiting] = []
    alive = 0
    try:
        found = folders(root)
        sweep(root)
    except OSError as error:
        return RecoveryReport(waiting=(Waiting(root, f"cannot be read ({type(error).__name__})"),))
    for folder in found:
        try:
            lock = _take(folder)
            if lock is None:
                alive += folder.exists()
                continue
            try:
                done = _Takeover(folder, store, stop, clock, new_id, rest).run()
            finally:
                let_go(lock)
            recovered.append(done)
        except _Later as later:
            waiting.append(Waiting(folder, str(later)))
        except HubError as error:
            waiting.append(Waiting(folder, str(error)))
        except Exception as error:
            waiting.append(Waiting(folder, type(error).__name__))
    return RecoveryReport(tuple(recovered), tuple(waiting), alive)


class _Later(Exception):
    """Not now. The message says why."""


def _take(folder: Path) -> int | None:
    try:
        lock = take_lock(folder)
    except PermissionError:
        raise _Later("it belongs to another user, or is read-only") from None
    except OSError as error:
        raise _Later(f"its lock cannot be taken ({os.strerror(error.errno or 0)})") from None
    if lock is not None and not (os.access(folder, os.W_OK) and os.access(folder.parent, os.W_OK)):
        let_go(lock)
        raise _Later("its folder is read-only")
    return lock


class _Takeover:
    """Recovers one spool whose lock is held."""

    def __init__(
        self,
        folder: Path,
        store: EventStore,
        stop: Callable[[], bool],
        clock: Callable[[], int],
        new_id: Callable[[], str],
        rest: Rest,
    ) -> None:
        self._folder = folder
        self._store = store
        self._stop = stop
        self._clock, self._new_id = clock, new_id
        self._rest = rest
        self._control = Control.open(folder, write=True)
        self._constants: Constants = self._control.meta["constants"]
        self._conflicts = _Facts(self._constants, new_id())
        self._healthy = False

    def run(self) -> Recovered:
        try:
            self._remember(PASSED_AT_DEATH, self._control.sink(STORE).passed)
            events = self._bring_in()
            lost = self._close_calls()
            dropped = self._settle()
            self._report()
            discard(self._folder)
        finally:
            self._control.close()
        return Recovered(self._folder, self._constants["producer"], events, lost, dropped)

    def _remember(self, word: int, value: int) -> int:
        """What *value* was when a takeover of this spool first asked."""
        words = self._control.words
        if not words[word]:
            words[word] = value + 1
        return words[word] - 1

    # Events.

    def _bring_in(self) -> int:
        events = 0
        for records, state, last_seq in self._batches():
            if self._stop():
                raise _Later("the recovery was interrupted")
            delivered = self._write(records)
            for record in delivered.conflicts:
                if record["type"] != "hub:conflict":
                    content = {"original": dict(record)}
                    facts = self._conflicts
                    event = facts.event("hub:conflict", conflict_data(record), id=self._new_id(), at=self._clock())
                    event["call_id"], event["content"] = record["call_id"], content
                    self._store.append([event])
            dropped = list(self._control.sink(STORE).dropped)
            dropped[Reason.CONFLICT] += len(delivered.conflicts)
            dropped[Reason.REJECTED] += len(delivered.rejected)
            words = self._control.words
            words[EMITTED] = max(words[EMITTED], last_seq)
            self._control.move(STORE, replace(state, dropped=tuple(dropped)))
            events += len(records)
        return events

    def _batches(self) -> Iterator[tuple[list[EventRecord], SinkState, int]]:
        """Batches, where the cursor is behind each, and the last sequence number in it."""
        start = self._control.sink(STORE)
        records: list[EventRecord] = []
        state, size, last_seq = start, 0, 0
        for ordinal, frame in self._frames(start):
            more = self._decode(frame)
            if records and (len(records) + len(more) > MAX_EVENTS or size + len(frame.body) > MAX_BYTES):
                yield records, state, last_seq
                records, size = [], 0
            records += more
            size += len(frame.body)
            last_seq = frame.first_seq + frame.count - 1
            state = SinkState(ordinal, frame.end, state.passed + len(more))
            self._rest()
        if records:
            yield records, state, last_seq

    def _frames(self, start: SinkState) -> Iterator[tuple[int, Frame]]:
        for segment in segment_files(self._folder):
            if segment.ordinal >= start.ordinal:
                offset = start.offset if segment.ordinal == start.ordinal else DATA
                for frame in scan(segment.path, offset):
                    yield segment.ordinal, frame

    def _decode(self, frame: Frame) -> list[EventRecord]:
        try:
            return decode_frame(
                frame.body, first_seq=frame.first_seq, first_version=frame.first_version, constants=self._constants
            )
        except ValueError:
            return []  # its events will be missing in the count

    def _write(self, records: Sequence[EventRecord]) -> Delivered:
        try:
            delivered = Delivered(conflicts=list(self._append(records)))
        except Exception as error:
            if is_outage(error):
                raise
            delivered = Splitter(self._append, healthy=self._healthy).deliver(records)
        self._healthy = True
        return delivered

    def _append(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        return self._store.append(records).conflicts

    # Calls.

    def _close_calls(self) -> int:
        calls = self._store.open_calls(self._constants["producer"])
        closed = max(0, self._remember(OPEN_AT_DEATH, len(calls)) - len(calls))
        for start in range(0, len(calls), MAX_EVENTS):
            seq = self._count_closed(closed + start) + 1
            some, now = calls[start : start + MAX_EVENTS], self._clock()
            self._write([lost_response(call, occurred_at=now, producer_seq=seq + n) for n, call in enumerate(some)])
        self._count_closed(closed + len(calls))
        return len(calls)

    def _count_closed(self, count: int) -> int:
        """So many lost responses are in the store by now, those of a takeover that was killed too: what it wrote it
        may not have come to count. Gives the sequence number of the last."""
        emitted = self._remember(EMITTED_BEFORE_CLOSING, self._control.words[EMITTED]) + count
        state = self._control.sink(STORE)
        passed = self._remember(PASSED_BEFORE_CLOSING, state.passed) + count
        self._control.words[EMITTED] = emitted
        # A takeover that was killed after it had settled has passed everything already.
        self._control.move(STORE, replace(state, passed=max(state.passed, passed)))
        return emitted

    # Counts.

    def _settle(self) -> int:
        """What no sink will get any more is dropped. Gives the number of events the store will never have."""
        missing = 0
        admitted = self._control.words[EMITTED] - self._control.dropped_by_all
        for sink in self._control.sinks:
            state = self._control.sink(sink)
            left = max(0, admitted - state.passed)
            if left:
                dropped = list(state.dropped)
                dropped[Reason.PROCESS_DIED] += left
                self._control.move(sink, replace(state, passed=admitted, dropped=tuple(dropped)))
            if sink == STORE:
                missing = left
        return missing

    def _report(self) -> None:
        """Told once: a takeover that begins again after this one makes the same events with the same ids."""
        words, reports = self._control.words, self._control.reports()
        if words[REPORTED_RECOVERY]:
            return
        producer, facts = self._constants["producer"], self._facts()
        told: list[tuple[str, Data]] = [("hub:dropped", report) for report in reports]
        if reports or facts["events"] or facts["lost_calls"] or facts["dropped"]:
            told.append(("hub:recovered", facts))
        if calls := self._control.untold_unsampled:
            told.append(("hub:unsampled", {"calls": calls, "producer": producer}))
        own, now = _Facts(self._constants, derived_id(producer, "recovery")), self._clock()
        self._write(
            [
                own.event(event_type, data, id=derived_id(producer, f"recovery {number}"), at=now)
                for number, (event_type, data) in enumerate(told)
            ]
        )
        words[REPORTED_RECOVERY] = 1
        for report in reports:
            self._control.reported(report)

    def _facts(self) -> Data:
        words = self._control.words
        return {
            "producer": self._constants["producer"],
            "events": words[PASSED_BEFORE_CLOSING] - words[PASSED_AT_DEATH],
            "lost_calls": words[OPEN_AT_DEATH] - 1,
            "dropped": self._control.sink(STORE).dropped[Reason.PROCESS_DIED],
            "emitted": words[EMITTED],
        }


def lost_response(call: OpenCall, *, occurred_at: int, producer_seq: int) -> EventRecord:
    """The llm:response of a call whose process died. Its id follows from the call's: whoever writes it, it is one."""
    record = call.request.copy()
    record["id"] = derived_id(call.stream_id, "lost")
    record["type"] = "llm:response"
    record["schema_version"] = 1
    record["level"] = "info"
    record["version"] = call.version + 1
    record["occurred_at"] = occurred_at
    record["producer_seq"] = producer_seq
    record["causation_id"] = None
    record["data"] = dict(_LOST)
    record["content"] = None
    return record


def derived_id(call_id: str, purpose: str) -> str:
    """A UUIDv7 with the time of *call_id* and 74 bits that follow from it and *purpose*."""
    call = UUID(call_id)
    return uuid7_from(call.int >> 80, purpose.encode() + b":" + call.bytes)


class _Facts:
    """Makes events of the hub's own about a dead producer, in a stream that has an id for its producer too."""

    def __init__(self, constants: Constants, stream_id: str) -> None:
        self._constants: Constants = {**constants, "producer": stream_id}
        self._stream_id = stream_id
        self._version = 0

    def event(self, event_type: str, data: Data, *, id: str, at: int) -> EventRecord:
        """*at* is UTC Unix ns."""
        self._version += 1
        record: dict[str, Any] = {
            **ENVELOPE_DEFAULTS,
            **self._constants,
            "id": id,
            "type": event_type,
            "schema_version": 1,
            "stream_id": self._stream_id,
            "version": self._version,
            "call_id": None,
            "occurred_at": at,
            "level": "info",
            "producer_seq": self._version,
            "data": data,
            "content": None,
        }
        return cast(EventRecord, record)
