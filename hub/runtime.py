"""Hub: puts the parts together, and keeps them right over fork and exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from hub import __version__
from hub.bus import EventBus
from hub.config import Settings, load
from hub.content import Cleaner
from hub.delivery import backoff
from hub.emitting import emit_to
from hub.errors import HubError
from hub.events import Constants, Event
from hub.extractors.requests import allowed
from hub.forking import undivided
from hub.harmless import log
from hub.manual import ManualCall
from hub.metric_sink import SpoolGauge
from hub.pipeline import Pipeline, Sink
from hub.recorder import Recorder
from hub.recovery import recover
from hub.spool import Spool
from hub.store import EventStore
from hub.store_sink import StoreSink
from hub.telemetry import Tracing
from hub.traced import TraceOptions, traced
from hub.writer import Clock, new_id
from storage import open_store

E = TypeVar("E", bound=Event)
T = TypeVar("T")

LONGEST_RECOVERY_WAIT = 60.0
EXIT_SECONDS = 2.0
INTERPRETERS_SHARE = 0.4
"""Of them: the time from the last exit handler to the end of the process, on a busy machine."""


class Hub:
    """A recorder, its spool and its sinks. The module's functions act on one that starts by itself; make your own for
    tests, or for programs that want two.

    Args:
        settings: As `hub.config.load` gives them; None loads them with *overrides* on top.
        redact: Called with every text before it is kept; must be pure.
        store: Where calls go instead of the settings' db_url. It is closed with the hub.
        sinks: Further ones beside the store and OpenTelemetry.
    Raises: ConfigError: A setting cannot be used.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        redact: Callable[[str], str] | None = None,
        store: EventStore | None = None,
        sinks: Sequence[Sink] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] = new_id,
        **overrides: Any,
    ) -> None:
        self.settings = settings or load(overrides, os.environ, Path.cwd())
        self.bus = EventBus()
        self._given_store, self._extra_sinks = store, tuple(sinks)
        self._clock, self._new_id = clock or Clock(), new_id
        self._cleaner = Cleaner(
            redact=redact,
            patterns=self.settings.redact_patterns,
            max_body_bytes=self.settings.max_body_bytes,
        )
        self._lock = threading.RLock()
        self._reviving = False
        self._pid = os.getpid()
        self._closed = False
        self._ended = threading.Event()
        self.spool: Spool
        self.pipeline: Pipeline
        self.recorder: Recorder | None = None
        if not self.settings.disabled:
            with undivided():
                self._start()
            _live.add(self)

    def _start(self) -> None:
        settings = self.settings
        self._pid = os.getpid()
        constants: Constants = {
            "project": settings.project,
            "environment": settings.environment,
            "service": settings.service,
            "producer": self._new_id(),
        }
        self._tracing = Tracing(settings.otel, os.environ, clean=self._cleaner.clean, names=settings.otel_names)
        gauge = SpoolGauge(lambda: self.spool.counters(), lambda: self.spool.waiting_bytes)
        store = StoreSink(self._open_store, constants["producer"])
        metrics = self._tracing.metric_sinks(gauge, settings.prometheus)
        spans = self._tracing.sinks(*metrics)
        sinks: list[Sink] = [store, *(spans or metrics), *self._tracing.log_sinks(), *self._extra_sinks]
        self.spool = Spool.create(
            settings.spool_root,
            constants=constants,
            durability=settings.durability,
            max_bytes=int(settings.spool_bytes),
            max_frame_bytes=int(settings.max_body_bytes) + (1 << 20),
            durable_timeout=settings.durable_timeout,
            sinks=[sink.name for sink in sinks],
        )
        if self.recorder is None:
            self.recorder = Recorder(
                self.spool,
                bus=self.bus,
                cleaner=self._cleaner,
                tracing=self._tracing,
                capture=settings.capture,
                sample_rate=settings.sample_rate,
                clock=self._clock,
                new_id=self._new_id,
            )
        else:
            self.recorder.log, self.recorder.tracing = self.spool, self._tracing
        self.recorder.durable = settings.durability == "durable"
        self.recorder.emit_own("hub:started", self._started_facts())
        self.pipeline = Pipeline(
            self.spool, sinks, emit_hub_event=self.recorder.emit_own, left_open=lambda: store.left_open
        )
        self.pipeline.start()

    def _open_store(self) -> EventStore:
        """Called by the store's thread, which alone can afford the imports."""
        if self._given_store is not None:
            return self._given_store
        path = self.settings.sqlite_path
        new = path is not None and not path.exists()
        with undivided():
            store = open_store(self.settings.db_url, prices=self.settings.price_list)
        if new:
            _say(first_words(self.settings))
        threading.Thread(target=self._recover, name="hub-recovery", daemon=True).start()
        return store

    def _recover(self) -> None:
        """Bring in what ended processes left, beside the store's own thread: it may take long. What has to wait, as the
        store is in trouble, is tried again."""
        if self.recorder is None:
            return
        store, ended, failures = open_store(self.settings.db_url, prices=self.settings.price_list), self._ended, 0
        try:
            while recover(self.settings.spool_root, store, stop=ended.is_set).waiting:
                failures += 1
                if ended.wait(backoff(failures, longest=LONGEST_RECOVERY_WAIT)):
                    break
        except Exception as error:
            self.recorder.trouble("recovery", error)
        finally:
            store.close()

    def _started_facts(self) -> dict[str, Any]:
        settings = self.settings
        facts = self._tracing.started_facts(settings.service, settings.environment, __version__)
        return {**facts, "pid": os.getpid(), "capture": settings.capture, "durability": settings.durability}

    # What programs call.

    @overload
    def traced(self, target: T, **options: Unpack[TraceOptions]) -> T: ...
    @overload
    def traced(self, target: None = None, **options: Unpack[TraceOptions]) -> Callable[[T], T]: ...
    def traced(self, target: Any = None, **options: Any) -> Any:
        """As `hub.traced`, recorded by this hub."""
        return traced(target, hub=self, **options)

    def call(self, **facts: Any) -> ManualCall:
        """As `hub.call`."""
        return ManualCall(self.recorder, {**facts, "params": allowed(facts.get("params"))})

    @property
    def closed(self) -> bool:
        """Whether `shutdown` was called."""
        return self._closed

    def emit(self, event: Event | str, /, **fields: Any) -> None:
        """As `hub.emit`."""
        emit_to(self.recorder, event, fields)

    def subscribe(self, what: type[E] | str, handler: Callable[[E], None]) -> Callable[[], None]:
        """As `hub.subscribe`."""
        return self.bus.subscribe(what, handler)

    def flush(self, timeout: float = 5.0) -> int:
        """As `hub.flush`."""
        recorder = self.recorder
        if recorder is None or self._closed or recorder.revive is not None:  # the last: a child that has not emitted
            return 0
        return self.pipeline.flush(timeout)

    def shutdown(self, timeout: float = EXIT_SECONDS) -> None:
        """As `hub.shutdown`. Harmless when repeated."""
        with self._lock:
            if self._closed or self.recorder is None:
                return
            self._closed = True
        self._ended.set()
        _live.discard(self)
        if self._pid == os.getpid():
            self.pipeline.stop(timeout)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()

    # Fork.

    def after_fork_in_child(self) -> None:
        """Let go of the parent's spool at once; a spool of the child's own is made at its first call."""
        if self.recorder is None:
            return
        self._lock, self._reviving = threading.RLock(), False
        self._ended = threading.Event()
        self.spool.after_fork_in_child()
        self.bus.after_fork_in_child()
        self.recorder.after_fork_in_child(self._revive)

    def _revive(self) -> None:
        """Start anew in a child. Other threads wait for it: what they append to the parent's spool would be lost."""
        with self._lock:
            recorder = self.recorder
            if recorder is None or recorder.revive is None or self._reviving:
                return
            self._reviving = True
            try:
                if not self._closed:
                    with undivided():
                        self._start()
            finally:
                recorder.revive, self._reviving = None, False


def first_words(settings: Settings) -> str:
    """What is said on stderr the first time a store is made: where it is, what is kept, how to change that."""
    kept = {
        "full": "prompts and answers in full",
        "summary": "previews of prompts and answers",
        "none": "no text of prompts and answers",
    }[settings.capture]
    return (
        f"hub: calls are kept in {settings.sqlite_path or settings.shown_db_url}, with {kept}; "
        "HUB_DB_URL, HUB_CAPTURE=none|summary|full and HUB_DISABLED=1 change that"
    )


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
        if sys.stderr is not None:
            print(line, file=sys.stderr)


_live: weakref.WeakSet[Hub] = weakref.WeakSet()
_default: Hub | None = None
_default_ended = False
_default_lock = threading.RLock()


def start_default(overrides: Mapping[str, Any], *, redact: Callable[[str], str] | None = None) -> Hub:
    """See `hub.init`."""
    global _default, _default_ended
    with _default_lock:
        if _default is not None:
            _default.shutdown()
        _default = Hub(redact=redact, **overrides)
        _default_ended = False
        return _default


def default_hub() -> Hub:
    """The default hub, started if need be.

    Raises: ConfigError: A setting cannot be used.
    """
    with _default_lock:
        return _default if _default is not None else start_default({})


def running_default() -> Hub | None:
    """The default hub, if it was ever started."""
    return _default


def default_recorder() -> Recorder | None:
    """The default hub's recorder; None when recording is off, has ended, or could not start."""
    hub = _default
    if hub is not None:
        return None if hub.closed else hub.recorder
    return None if _default_ended else _started_recorder()


def _started_recorder() -> Recorder | None:
    global _default_ended
    try:
        return default_hub().recorder
    except Exception as error:
        _default_ended = True
        log.warning("hub: nothing is recorded: %s", error if isinstance(error, HubError) else type(error).__name__)
        return None


def flush_default(timeout: float) -> int:
    """See `hub.flush`."""
    return 0 if _default is None else _default.flush(timeout)


def shutdown_default(timeout: float) -> None:
    """See `hub.shutdown`."""
    global _default, _default_ended
    with _default_lock:
        _default_ended = True
        if _default is not None:
            _default.shutdown(timeout)


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_SECONDS - INTERPRETERS_SHARE
    for hub in list(_live):
        hub.shutdown(max(0.0, deadline - time.monotonic()))
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        # Python dies of SIGINT, as shells want to see, only if that ended the last piece of source text it ran; the
        # imports and dataclasses of a store that was opened just now were pieces too.
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


def _after_fork_in_child() -> None:
    global _default_lock
    _default_lock = threading.RLock()
    for hub in list(_live):
        hub.after_fork_in_child()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
