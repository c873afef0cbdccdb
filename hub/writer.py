"""Writes what happened to calls: frames of cleaned events, into the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import uuid_utils

from hub.attempts import attempt_of, last_attempt_of, names_of
from hub.bus import EventBus
from hub.calls import Call
from hub.content import Cleaner, Marks, truncate
from hub.credentials import Mask
from hub.events import Data, EventRecord, FrameEvent, decode_frame, encode_frame
from hub.facts import (
    REQUEST_NESTED,
    REQUEST_TEXTS,
    RESPONSE_NESTED,
    RESPONSE_TEXTS,
    Capture,
    kinds,
    request_data,
    response_data,
    tells_more,
    tool_names,
    weigh,
    without_content,
)
from hub.harmless import log
from hub.log import Appended, Log, Pressure, Priority, Stream
from hub.messages import summarise
from hub.outcomes import AttemptFacts, Outcome, ResponseFacts
from hub.tracing_context import Minted

MAX_ERROR_TEXT = 8_192
MAX_CUT_DATA = 65_536
"""Bytes that stay of an event's data where they alone are more than the log takes."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Both clocks in nanoseconds: `wall` is UTC Unix time, `monotonic` is for durations."""

    wall: Callable[[], int] = time.time_ns
    monotonic: Callable[[], int] = time.perf_counter_ns


def new_id() -> str:
    """A UUIDv7 as text."""
    return str(uuid_utils.uuid7())


class Tracing(Protocol):
    """Gives calls their spans' ids, and makes the spans of those who want them live."""

    @property
    def live(self) -> bool:
        """Whether `observe` is to be told of the events of calls."""
        ...

    def begin(self, request: Mapping[str, Any]) -> Minted: ...

    def observe(self, records: Sequence[EventRecord]) -> None: ...


class Writer:
    """Makes frames of what calls know when they leave, fail and end. Nothing here raises into the program."""

    def __init__(
        self,
        log: Log,
        *,
        bus: EventBus,
        cleaner: Cleaner,
        tracing: Tracing,
        capture: Capture,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self.log = log
        """Replaced in a forked child; calls keep the one they began with."""
        self.bus = bus
        self.cleaner = cleaner
        self.tracing = tracing
        self.capture = capture
        self.clock = clock
        self.new_id = new_id

    def trouble(self, where: str, error: BaseException) -> None:
        """Something of ours failed; the program goes on. Logged by type and place, never with its message."""
        log.warning("hub: %s failed with %s; the call went on, its record is incomplete", where, type(error).__name__)

    # What calls write.

    def write_request(self, call: Call) -> None:
        """llm:request and llm:request:debug; of an inner layer only what its outer layers did not know."""
        try:
            self._write_request(call)
        except Exception as error:
            self.trouble("recording a request", error)

    def _write_request(self, call: Call) -> None:
        facts, root = call.facts, call.root
        own = call is root or call is root.lead
        if not own and root.lead is not None:
            root.lead.sent()
        content, marks = self._request_content(call, own)
        data = self._clean_facts(request_data(facts, self.capture), REQUEST_TEXTS, REQUEST_NESTED)
        data.update(marks)
        if not own and not tells_more(data, content, root.facts):
            return
        events: list[FrameEvent] = [{"id": self.new_id(), "type": "llm:request", "data": data}]
        if self.capture != "none":
            tools = facts.get("tools")
            names = self._clean(tool_names(tools))[0] if tools else []
            debug, encoded = self._debug_event("llm:request:debug", content, names)
            events.append(debug)
            if own and call.raw_request is None:
                root.content_hash = hash(encoded)
        envelope = root.envelope
        if (cause := facts.get("causation_id")) is not None:
            envelope = {**envelope, "causation_id": cause}
        began = root.began_at if own else self.clock.wall()
        self._append(root.log, root.stream, began, envelope, events, Priority.ESSENTIAL)

    def _request_content(self, call: Call, own: bool) -> tuple[Data, Data]:
        """Content and marks."""
        messages, root = call.facts.get("messages"), call.root
        raw = call.facts.get("raw")
        if self.capture == "none" or (messages is None and call.raw_request is None and raw is None):
            return {}, {}
        if self.log.pressure >= Pressure.SHED_CONTENT:
            return {}, {"shed": {"reason": "spool_pressure", "bytes": weigh(messages)}}
        cleaned, marks = self._clean_messages(messages)
        tools = call.facts.get("tools")
        if tools is not None:
            tools, more = self._clean(tools)
            marks = _together(marks, more)
        if self.capture == "summary":
            return {"summary": summarise(cleaned or (), tools)}, marks
        content: Data = {}
        if cleaned is not None:
            content["messages"] = cleaned
        if tools is not None:
            content["tools"] = tools
        if own:
            root.content = content
        repeated = not own and root.content is not None and "messages" in root.content
        if repeated:
            content.pop("messages", None)
            content.pop("tools", None)
        if call.raw_request is not None and call.raw_request != root.newest_wire:
            root.newest_wire = call.raw_request
            content["wire"], more = self._wire(call.raw_request, self._as_written(root) if repeated else cleaned)
            marks = _together(marks, more)
        if raw is not None:
            content["raw"], more = self._clean(raw)
            marks = _together(marks, more)
        return content, marks

    def _as_written(self, root: Call) -> Any:
        """The messages that *root* wrote; None when the program has changed them since."""
        content = root.content or {}
        try:
            return content.get("messages") if hash(orjson.dumps(content)) == root.content_hash else None
        except TypeError:  # an object of the program's was put among them
            return None

    def _wire(self, raw: bytes, messages: Any) -> tuple[Data, Data]:
        """What of the request's bytes *messages*, which are stored, do not tell: all around them, or everything.
        Where those bytes cannot be made again, what is kept says so: `changed`."""
        around = [raw]
        if messages is not None:
            inner = orjson.dumps(messages)
            if (at := raw.find(inner)) >= 0:
                around = [raw[:at], raw[at + len(inner) :]]
        marks: Data = {}
        kept = []
        for piece in around:
            text, more = self._wire_text(piece)
            kept.append(text)
            marks = _together(marks, more)
        wire: Data = dict(zip(("head", "tail") if len(kept) == 2 else ("body",), kept, strict=True))
        if marks:
            wire["changed"] = True
        return wire, marks

    def _wire_text(self, raw: bytes) -> tuple[str, Data]:
        try:
            return self._clean(raw.decode())
        except UnicodeDecodeError:
            text, marks = self._clean(raw.decode("utf-8", "replace"))
            return text, _together(marks, {"sanitised": {"bytes": 1}})

    def write_attempt(self, call: Call, facts: AttemptFacts, error: str | None, failed_at: int | None) -> None:
        """provider:retry: an attempt of *call* that another follows."""
        try:
            if call.parent is not None:
                facts = {**names_of(call), **facts}
            self._write_attempt(call.root, "provider:retry", facts, error, failed_at or self.clock.wall())
        except Exception as trouble:
            self.trouble("recording an attempt", trouble)

    def write_layer_as_attempt(
        self, layer: Call, told: AttemptFacts, error: str | None, *, followed: bool = False
    ) -> None:
        """*layer* was an attempt of the call around it, and not the last.

        Args:
            told: What else is known of it, by those who try again.
            followed: The next one begins now.
        """
        try:
            outcome, facts = attempt_of(layer)
            facts, since, went_well = {**told, **facts}, 0, False
            if outcome is not None:
                since = self.clock.monotonic() - outcome.ended_ns
                went_well = outcome.status == "ok" and not told
                error = _said_by(outcome) or error
            if followed:
                facts["delay_ms"] = since / 1e6
            kind = "provider:attempt" if went_well else "provider:retry"
            self._write_attempt(layer.root, kind, facts, error, self.clock.wall() - since)
        except Exception as trouble:
            self.trouble("recording an attempt", trouble)

    def _write_attempt(self, root: Call, kind: str, facts: AttemptFacts, error: str | None, ended_at: int) -> None:
        root.failed_attempts += 1
        known: Data = {key: value for key, value in facts.items() if value is not None}
        mask = _mask_of(root)
        data = self._clean_data({"attempt": root.failed_attempts, **_unquoted(known, mask)})
        item: FrameEvent = {"id": self.new_id(), "type": kind, "data": data}
        if error and self.capture != "none":
            item["content"] = {"error": self._error_text(mask(error))}
        self._append(root.log, root.stream, ended_at, root.envelope, [item], Priority.EVENT)

    def write_response(self, call: Call) -> None:
        """llm:response and llm:response:debug of *call*, a root that has ended."""
        try:
            self._write_response(call)
        except Exception as error:
            self.trouble("recording a response", error)

    def _write_response(self, call: Call) -> None:
        outcome, mask = call.result(), _mask_of(call)
        data = _unquoted(response_data(call, outcome), mask)
        data = self._clean_facts(data, RESPONSE_TEXTS, RESPONSE_NESTED)
        if call.layers and data["attempts"] > call.failed_attempts and (last := last_attempt_of(call)) is not None:
            data["last_attempt"] = self._clean(_unquoted({**last}, mask))[0]
        response: FrameEvent = {"id": self.new_id(), "type": "llm:response", "data": data}
        call.response_event_id = response["id"]
        events = [response]
        if self.capture != "none":
            content, marks = self._response_content(outcome.facts, mask)
            data.update(marks)
            error = _said_by(outcome)
            if error:
                response["content"] = {"error": self._error_text(mask(error))}
            events.append(self._debug_event("llm:response:debug", content, [])[0])
        self._append(call.log, call.stream, self.clock.wall(), call.envelope, events, Priority.ESSENTIAL)
        call.content = None

    def _response_content(self, facts: ResponseFacts, mask: Mask) -> tuple[Data, Data]:
        """Content and marks."""
        messages, body, raw = facts.get("messages"), facts.get("body"), facts.get("raw")
        if messages is None and body is None and raw is None:
            return {}, {}
        if self.log.pressure >= Pressure.SHED_CONTENT:
            return {}, {"shed": {"reason": "spool_pressure", "bytes": weigh(messages)}}
        already = mask.found
        cleaned, marks = self._clean_messages(messages)
        cleaned = mask(cleaned)
        if self.capture == "summary":
            return {"summary": summarise(cleaned or ())}, _masked(marks, mask.found - already)
        content: Data = {}
        if messages is not None:
            content["messages"] = cleaned
        if body is not None and self._hides_secrets(facts, _masked(marks, mask.found - already)):
            marks = {**marks, "shed": {"reason": "secret_in_pieces", "bytes": len(body)}}
        elif body is not None:
            text, more = self._clean(mask(body))
            content["wire"], marks = {"body": text}, _together(marks, more)
        if raw is not None:
            cleaned, more = self._clean(raw)
            content["raw"], marks = mask(cleaned), _together(marks, more)
        return content, _masked(marks, mask.found - already)

    def _hides_secrets(self, facts: ResponseFacts, marks: Data) -> bool:
        """Whether the body is a stream with a secret cut into pieces, which nothing would find there."""
        pieces = facts.get("streamed")
        return pieces is not None and ("redacted" in marks or "redacted" in self._clean(pieces)[1])

    def _debug_event(self, event_type: str, content: Data, names: list[str]) -> tuple[FrameEvent, bytes]:
        """The event, and its content's bytes."""
        encoded = orjson.dumps(content)
        data: Data = {"bytes": len(encoded) if content else 0}
        if content.get("messages"):
            data["kinds"] = kinds(content["messages"])
        if names:
            data["tool_names"] = names
        event: FrameEvent = {"type": event_type, "level": "debug", "data": data}
        if content:
            event["content"] = orjson.Fragment(encoded)  # type: ignore[typeddict-item]  # encoded once, for its size
        return event, encoded

    def _append(
        self,
        target: Log,
        stream: Stream,
        now: int,
        envelope: Mapping[str, Any],
        events: list[FrameEvent],
        priority: Priority,
    ) -> None:
        try:
            body = encode_frame(stream.id, now, envelope, events)
        except TypeError:  # an extractor's number that JSON does not know, or a label that is no text
            for event in events:
                event["data"] = self._clean_data(event["data"])
            body = encode_frame(stream.id, now, self._clean(envelope)[0], events)
        if len(body) > target.max_frame_bytes:
            events = [without_content(event) for event in events]
            body = encode_frame(stream.id, now, envelope, events)
        if len(body) > target.max_frame_bytes:  # then it is the name of a model, or an event of the program's own
            events = [{**event, "data": self._cut(event["data"])} for event in events]
            body = encode_frame(stream.id, now, self._cut(envelope), events)
        placed = target.append(body, len(events), stream, priority)
        if self.bus.handlers or self.tracing.live:
            self._announce_live(target, body, placed)

    def _announce_live(self, target: Log, body: bytes, placed: Appended | None) -> None:
        """To live spans what happened, even if the log had no room for it; to subscribers what is kept."""
        first_seq, first_version = placed or (0, 0)
        records = decode_frame(body, first_seq=first_seq, first_version=first_version, constants=target.constants)
        if self.tracing.live:
            self.tracing.observe(records)
        if placed is not None:
            self.bus.publish(records)

    # Cleaning.

    def _clean(self, value: Any) -> tuple[Any, Data]:
        """*value* as JSON data without secrets, and what that changed as keys for an event's data."""
        cleaned, marks = self.cleaner.clean(value)
        return cleaned, _noted(marks)

    def _clean_messages(self, messages: Any) -> tuple[Any, Data]:
        if messages is None:
            return None, {}
        cleaned, marks = self.cleaner.messages(messages)
        return cleaned, _noted(marks)

    def _clean_data(self, data: Data) -> Data:
        cleaned, marks = self._clean(data)
        return {**cleaned, **marks}

    def _cut(self, data: Mapping[str, Any]) -> Data:
        cleaned, marks = self.cleaner.clean(data, max_bytes=MAX_CUT_DATA)
        return cleaned if marks is None else {**cleaned, **_together(cleaned, _noted(marks))}

    def _clean_facts(self, data: Data, texts: Sequence[str], nested: Sequence[str]) -> Data:
        cleaned, marks = self.cleaner.facts(data, texts, nested)
        return cleaned if marks is None else {**cleaned, **_noted(marks)}

    def _error_text(self, error: str) -> str:
        return truncate(self._clean(error)[0], MAX_ERROR_TEXT)


_NO_MASK = Mask()
_ANSWERED = ("model", "response_id", "error_type", "finish_reasons")
"""Where an event's data has an answer's own words."""


def _mask_of(root: Call) -> Mask:
    """Of the credentials that what is recorded of *root*'s answers may quote."""
    return Mask(list(root.sent_with.values())) if root.sent_with else _NO_MASK


def _unquoted(data: Data, mask: Mask) -> Data:
    return data if mask is _NO_MASK else {**data, **{key: mask(data[key]) for key in _ANSWERED if key in data}}


def _masked(marks: Data, count: int) -> Data:
    return _together(marks, {"redacted": count}) if count else marks


def _said_by(outcome: Outcome) -> str | None:
    """The text of the error it ended with."""
    return (outcome.error and outcome.error.text) or outcome.facts.get("error_message")


def _noted(marks: Marks | None) -> Data:
    """What cleaning changed, as keys for an event's data."""
    if marks is None:
        return {}
    noted: Data = {"sanitised": marks.sanitised} if marks.sanitised else {}
    return {**noted, "redacted": marks.redacted} if marks.redacted else noted


def _together(one: Data, other: Data) -> Data:
    """Two of what `_noted` gives, counted together."""
    if not other:
        return one
    reasons: Counter[str] = Counter(one.get("sanitised", {})) + Counter(other.get("sanitised", {}))
    return _noted(Marks(dict(reasons), one.get("redacted", 0) + other.get("redacted", 0)))
