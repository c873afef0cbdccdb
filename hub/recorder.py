"""Takes what tracers and programs tell, and has it written into the log. No I/O: others take it from there.

Nothing here raises into the program that is observed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.bus import EventBus
from hub.calls import Call, SilentCall, current_call
from hub.content import Cleaner
from hub.events import Data, Event, FrameEvent, fields_of, payload
from hub.facts import Capture
from hub.groups import GroupCall
from hub.log import Log, Priority, Stream
from hub.outcomes import RequestFacts
from hub.session import labels
from hub.tracing_context import Minted, attach_no_span, detach
from hub.tries import current_tries
from hub.writer import Clock, Tracing, Writer, new_id

DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The call that is sent again."""

    call_id: str
    trace_id: str | None = None
    span_id: str | None = None
    run: str | None = None
    """Names the replays made together."""

    def as_data(self) -> dict[str, str]:
        """What the request of its replay says of it."""
        told = {"replay_of": self.call_id, "replay_run": self.run}
        told |= {"replay_of_trace_id": self.trace_id, "replay_of_span_id": self.span_id}
        return {key: value for key, value in told.items() if value is not None}


class Recorder(Writer):
    """What tracers and programs tell, of one hub: calls that begin, and events of their own."""

    def __init__(
        self,
        log: Log,
        *,
        bus: EventBus,
        cleaner: Cleaner,
        tracing: Tracing,
        capture: Capture = "full",
        sample_rate: float = 1.0,
        clock: Clock | None = None,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        super().__init__(
            log, bus=bus, cleaner=cleaner, tracing=tracing, capture=capture, clock=clock or Clock(), new_id=new_id
        )
        self.durable = False
        """Whether callers wait for the disk: `sync` before a request leaves, and before a plain answer is returned."""
        self.revive: Callable[[], None] | None = None
        """Set in a forked child: makes the log it will write to, at its first call."""
        self._sample_below = int(sample_rate * (1 << 64))
        self._sampling = sample_rate < 1.0
        self._announced: set[str] = set()
        self._producer: tuple[Log | None, int, Stream] = (None, -1, Stream(""))
        self._producer_lock = threading.RLock()

    # What tracers call.

    def start(
        self,
        *,
        source: str,
        provider: str | None = None,
        model: str | None = None,
        operation: str = "chat",
        messages: Sequence[Any] | None = None,
        tools: Sequence[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        stream: bool = False,
        tier: str | None = None,
        server_address: str | None = None,
        from_config: Sequence[str] = (),
        causation_id: str | None = None,
        more: Mapping[str, Any] | None = None,
        defer: bool = False,
    ) -> Call:
        """A call to a model begins; within an open call of this context, a layer of that call.

        Args:
            messages: As the program has them; they are cleaned when the request is written.
            params: Allow-listed by the caller; never credentials.
            more: Further keys of the request's data; never text.
            defer: The request is written by `Call.sent`, not now.
        """
        facts: RequestFacts = {
            "source": source,
            "provider": provider,
            "model": model,
            "operation": operation,
            "messages": messages,
            "tools": tools,
            "params": params,
            "stream": stream,
            "tier": tier,
            "server_address": server_address,
            "from_config": from_config,
            "causation_id": causation_id,
            "more": more,
        }
        try:
            self._settle()
            call = self.begin(facts)
            if not defer:
                call.sent()
            return call
        except Exception as error:
            self.trouble("start", error)
            return SilentCall(self, facts)

    def group(self, *, replay: Replayed | None = None) -> Call:
        """A call about to begin of which the first inner one will tell everything: what is tried again, or sent again.
        Nothing is written when there is none.

        Args:
            replay: What is sent again. It is then a call of its own, in a trace of its own, wherever it is made.
        """
        try:
            self._settle()
            if replay is not None:
                return GroupCall(self, {"source": "replay", "replay": self._clean(replay.as_data())[0]}, None)
            outer = self.outer({})
            if outer is not None and not outer.recording:
                return outer.layer({})
            return GroupCall(self, {}, outer)
        except Exception as error:
            self.trouble("group", error)
            return SilentCall(self, {})

    def outer(self, begins: RequestFacts | None = None) -> Call | None:
        """The innermost open call or layer of this context: for a call that *begins* with these facts, or for what else
        is to be told of it."""
        call = current_call.get()
        while call is not None and not (call.recorder is self and call.open):
            call = call.parent
        if call is None and (tries := current_tries.get()) is not None:
            return tries.newest(self) if begins is None else tries.call_for(self, begins)
        return call

    def begin(self, facts: RequestFacts, kind: type[Call] = Call) -> Call:
        """A call, or a layer of the open one around it; not sent yet."""
        if current_call.get() is not None or current_tries.get() is not None:
            outer = self.outer(facts)
            if outer is not None and outer.takes_in(facts):
                return outer.layer(facts, kind)
        call = kind(self, facts)
        call.began_at = self.clock.wall()
        self.place(call)
        return call if call.recording else SilentCall(self, facts)

    def place(self, call: Call) -> None:
        """Give *call*, a root, its place: trace, stream and id. One that sampling leaves out is silent from now on."""
        facts = call.facts
        minted = self._in_a_new_trace(facts) if "replay" in facts else self.tracing.begin(facts)
        envelope = {**self._labels(), **minted.envelope}
        call.minted = minted
        if self._sampling and int(envelope["trace_id"][16:], 16) >= self._sample_below:
            call.recording = False
            self.log.count_unsampled()
            return
        call.otel_context = minted.context
        call.id = envelope["call_id"] = self.new_id()
        call.stream = Stream(call.id)
        call.envelope = envelope

    def _in_a_new_trace(self, facts: RequestFacts) -> Minted:
        token = attach_no_span()
        try:
            return self.tracing.begin({**facts, **(facts.get("replay") or {})})
        finally:
            detach(token)

    def emit(self, event: Event | str, fields: Mapping[str, Any]) -> None:
        """Write a contributed event: into the stream of the open call around the caller, else the producer's own."""
        call = self.outer()
        if isinstance(event, Event):
            event_type, data, version = event.event_type, payload(event), event.event_schema_version
        else:
            event_type, data, version = event, dict(fields), 1
        self._settle()
        if isinstance(event, Event) and event_type not in self._announced:
            self._announce(type(event))
        item: FrameEvent = {"id": self.new_id(), "type": event_type, "data": self._clean_data(data)}
        if version != 1:
            item["schema_version"] = version
        if event_type.endswith(":debug") and event_type.count(":") == 2:
            item["level"] = "debug"
        now = self.clock.wall()
        if call is not None and call.began:
            root = call.root
            self._append(root.log, root.stream, now, {**root.envelope, **self._labels()}, [item], Priority.EVENT)
        else:
            self._append(self.log, self.producer_stream(now), now, self._labels(), [item], Priority.EVENT)

    def emit_own(self, event_type: str, data: Data, *, call_id: str | None = None, content: Data | None = None) -> None:
        """Write a fact of the hub's own into the producer's stream."""
        now = self.clock.wall()
        envelope = {} if call_id is None else {"call_id": call_id}
        item: FrameEvent = {"id": self.new_id(), "type": event_type, "data": data, "content": content}
        self._append(self.log, self.producer_stream(now), now, envelope, [item], Priority.RESERVED)

    def producer_stream(self, now: int) -> Stream:
        """Where this process writes what belongs to no call of its own; a new one each UTC day."""
        log, day = self.log, now // DAY_NS
        of_log, of_day, stream = self._producer
        if of_log is log and of_day == day:
            return stream
        with self._producer_lock:  # a signal handler may enter in the middle, and then there are two: no harm
            of_log, of_day, stream = self._producer
            if of_log is not log or of_day != day:
                stream = Stream(self.new_id())
                self._producer = log, day, stream
            return stream

    def after_fork_in_child(self, revive: Callable[[], None]) -> None:
        """Take no lock that a thread of the parent's may have held; the first who records has *revive* called."""
        self._producer_lock = threading.RLock()
        self.revive = revive

    def defer(self, note: Callable[[], None]) -> None:
        """Have *note* run by the next emit or a thread of the hub's: for finalisers, which must take no lock."""
        self.log.notes.append(note)

    def _labels(self) -> Data:
        found = labels()
        return self._clean_labels(found) if found else {}

    def _clean_labels(self, found: Mapping[str, Any]) -> Data:
        return dict(self._clean(found)[0])

    def _announce(self, cls: type[Event]) -> None:
        """Tell the store the fields of a contributed class, once in each process, so that they become columns."""
        self._announced.add(cls.event_type)
        version = cls.event_schema_version
        self.emit_own("hub:schema", {"type": cls.event_type, "schema_version": version, "fields": fields_of(cls)})

    def sync(self) -> None:
        """Wait until what was appended so far is on the disk, no longer than HUB_DURABLE_TIMEOUT. Never raises."""
        try:
            self.log.syncer.wait()
        except Exception as error:
            self.trouble("waiting for the disk", error)

    async def async_sync(self) -> None:
        """`sync` off the running loop; beside another library's loop than asyncio's it waits inline. Raises nothing
        but the cancellation of its caller."""
        import asyncio  # 50 ms, and only durable mode needs it

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.sync()
            return
        try:
            await self.log.syncer.future(loop)
        except Exception as error:
            self.trouble("waiting for the disk", error)

    def _settle(self) -> None:
        if self.revive is not None:
            self.revive()
        notes = self.log.notes
        while notes:
            try:
                note = notes.popleft()
            except IndexError:
                return
            try:
                note()
            except Exception as error:
                self.trouble("what a finaliser left", error)


_hub: Callable[[], Recorder | None] | None = None


def set_default(find: Callable[[], Recorder | None]) -> None:
    """Say how to find the default hub's recorder. The runtime does, so that this module need not know it."""
    global _hub
    _hub = find


def default() -> Recorder | None:
    """The default hub's recorder, started if need be; None when recording is switched off."""
    return None if _hub is None else _hub()
