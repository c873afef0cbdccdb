"""The metrics sink: measures calls as they end, from their events. Without the SDK, which its instruments bring."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider, get_meter_provider
from opentelemetry.metrics._internal import _ProxyMeterProvider

from hub.events import Data, EventRecord
from hub.harmless import log
from hub.polite import Rest, rest

if TYPE_CHECKING:
    from hub.spool.control import Accounting

MAX_OPEN = 16_384
"""Calls whose requests are remembered. The oldest go first: calls that nobody ever ends leave no others."""
MAX_MARKS = 4_096
_NOT_LIVE = ("otlp", "import")
_ASKED = ("operation", "provider", "model", "server_address")


def program_meters() -> MeterProvider | None:
    """The meter provider that the program has installed, if it has."""
    found = get_meter_provider()
    return None if isinstance(found, (_ProxyMeterProvider, NoOpMeterProvider)) else found


class Instruments(Protocol):
    """What takes the measures."""

    def record(self, asked: Data, answer: Data) -> None:
        """A call has ended: the data of its request and of its response."""
        ...

    def close(self) -> None:
        """Send what is there, and end soon."""
        ...


class Gauge(Protocol):
    """What the hub can say of itself at any time."""

    def accounting(self) -> Accounting | None:
        """None: there is nothing to count any more."""
        ...

    def waiting_bytes(self) -> int: ...

    def lags(self) -> Mapping[str, float]:
        """Seconds since the oldest event that each sink has not had yet; 0 for none."""
        ...


class SpoolGauge:
    """Reads a spool's counters.

    Args:
        counters: Raises ValueError once the spool is closed.
    """

    def __init__(self, counters: Callable[[], Accounting], waiting_bytes: Callable[[], int]) -> None:
        self._counters, self._waiting_bytes = counters, waiting_bytes
        self._marks: deque[tuple[int, int]] = deque(maxlen=MAX_MARKS)
        """How many events came before one, and when it occurred, UTC Unix ns."""

    def accounting(self) -> Accounting | None:
        try:
            return self._counters()
        except (ValueError, AttributeError):
            return None

    def waiting_bytes(self) -> int:
        try:
            return max(0, self._waiting_bytes())
        except (ValueError, AttributeError, KeyError):
            return 0

    def mark(self, sink: str, occurred_ns: int) -> None:
        """*sink* is about to take an event of that time."""
        if (accounting := self.accounting()) is not None:
            self._marks.append((_passed(accounting, sink), occurred_ns))

    def lags(self) -> Mapping[str, float]:
        accounting, now = self.accounting(), time.time_ns()
        if accounting is None:
            return {}
        return {name: self._lag(accounting, name, now) for name in accounting.sinks}

    def _lag(self, accounting: Accounting, sink: str, now: int) -> float:
        if not accounting.sinks[sink].waiting:
            return 0.0
        passed = _passed(accounting, sink)
        behind = [occurred for before, occurred in list(self._marks) if before <= passed]
        return max(0.0, (now - behind[-1]) / 1e9) if behind else 0.0


def _passed(accounting: Accounting, sink: str) -> int:
    everything = max(counts.stored + counts.waiting for counts in accounting.sinks.values())
    return everything - accounting.sinks[sink].waiting


class MetricSink:
    """Pairs responses with their requests and hands both to the instruments.

    Args:
        make: Makes them, in the sink's thread, from the data of `hub:started`.
        mark: Told the time of the oldest event that comes next.
        at_once: Make them at the start, and not with the first call that ends.
        within: The sink that shows its own events to this one, so that they are read from the spool once.
    """

    name = "metrics"
    linger = 0.5

    def __init__(
        self,
        make: Callable[[Mapping[str, Any]], Instruments | None],
        mark: Callable[[str, int], None] = lambda sink, occurred_ns: None,
        *,
        at_once: bool = False,
        within: str | None = None,
        rest: Rest = rest,
    ) -> None:
        self._sink, self._seen = within or self.name, 0
        self._make, self._mark, self._at_once, self._rest = make, mark, at_once, rest
        self._started: Mapping[str, Any] = {}
        self._made = False
        self._instruments: Instruments | None = None
        self._open: dict[str, Data] = {}

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Never fails: a measure that cannot be taken is none. Events seen before are passed over."""
        if records:
            self._mark(self._sink, records[0]["occurred_at"])
        for record in records:
            self._rest()
            if record["producer_seq"] <= self._seen:
                continue
            self._seen = record["producer_seq"]
            try:
                self._take(record)
            except Exception as error:
                log.warning("hub: a call could not be measured: %s", type(error).__name__)
        return ()

    def close(self) -> None:
        if self._instruments is not None:
            self._instruments.close()

    def _take(self, record: EventRecord) -> None:
        kind, stream_id = record["type"], record["stream_id"]
        if kind == "hub:started":
            self._started = record["data"]
            if self._at_once:
                self._ready()
        elif kind == "llm:request":
            self._remember(stream_id, record["data"])
        elif kind == "llm:response" and (asked := self._open.pop(stream_id, None)) is not None:
            instruments = self._ready()
            if instruments is not None:
                instruments.record(asked, record["data"])

    def _remember(self, stream_id: str, data: Data) -> None:
        if data.get("source") in _NOT_LIVE:
            return
        known = self._open.setdefault(stream_id, {})
        for name in _ASKED:
            if known.get(name) is None:
                known[name] = data.get(name)
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]

    def _ready(self) -> Instruments | None:
        if not self._made:
            self._made = True
            try:
                self._instruments = self._make(self._started)
            except Exception as error:
                log.warning("hub: there are no metrics: %s", str(error) or type(error).__name__)
        return self._instruments
