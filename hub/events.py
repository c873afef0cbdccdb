"""Events: what they look like to people (frozen classes) and to machines (plain dicts), and the way between the two.

An `EventRecord` is a plain dict and is what moves between spool, sinks and store. An `Event` is a frozen pydantic
object with the payload as its fields and is built only for those who read or subscribe. A frame is the spool's unit:
the events of one stream that are appended together, their envelope written once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, TypedDict, TypeVar, get_args
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from hub.errors import InvalidEvent
from hub.harmless import log

Data = dict[str, Any]
"""What JSON can hold, under string keys."""

Upcaster = Callable[[Data], Data]
"""Takes a payload of one schema version and gives the next version's. Must not change its argument."""


class EventRecord(TypedDict):
    """An event as a plain dict: envelope, data and content. Every key is always there; ids are lowercase text."""

    id: str
    type: str
    schema_version: int
    stream_id: str
    version: int
    call_id: str | None
    occurred_at: int
    level: str
    project: str
    environment: str | None
    service: str
    session_id: str | None
    user_id: str | None
    tags: dict[str, str] | None
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    trace_flags: int | None
    tracestate: str | None
    parent_is_remote: bool | None
    causation_id: str | None
    producer: str
    producer_seq: int
    data: Data
    content: Data | None


class Constants(TypedDict):
    """The part of the envelope that never changes within one producer."""

    project: str
    environment: str | None
    service: str
    producer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Everything about an event but its payload."""

    id: UUID
    type: str
    schema_version: int
    stream_id: UUID
    version: int
    """In the stream, from 1, no gaps."""
    call_id: UUID | None
    occurred_at: int
    """UTC Unix nanoseconds by the wall clock: neither for durations nor for order."""
    level: str
    project: str
    environment: str | None
    service: str
    session_id: str | None
    user_id: str | None
    tags: Mapping[str, str] | None
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    trace_flags: int | None
    tracestate: str | None
    parent_is_remote: bool | None
    causation_id: UUID | None
    producer: str
    producer_seq: int


_TYPE = re.compile(r"[A-Za-z][\w.-]*:[\w.-]+(:[\w.-]+)?")
_RESERVED = ("llm:", "hub:", "otel:")
SPAN_EVENT = "otel:span"
"""A span that was received and is no call."""

_classes: dict[str, type[Event]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}


class Event(BaseModel):
    """A fact, with its payload as fields. Subclass it to contribute an event of your own:

        class RateLimited(hub.Event, type="acme:rate_limit"):
            retry_after_ms: float

    `type` is `family:name` or `family:name:level`; the families `llm` and `hub` are taken. A change that old payloads
    do not survive needs a higher `schema_version` and an `upcaster`. Of a type nobody registered, reading gives a plain
    `Event` whose attributes are the payload's keys.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=(), defer_build=True)

    event_type: ClassVar[str] = ""
    event_schema_version: ClassVar[int] = 1

    _envelope: Envelope | None = PrivateAttr(default=None)
    _content: Data | None = PrivateAttr(default=None)

    def __init_subclass__(cls, *, type: str = "", schema_version: int = 1, **config: Any) -> None:
        super().__init_subclass__(**config)
        if type:
            cls.event_type, cls.event_schema_version = type, schema_version

    @classmethod
    def __pydantic_init_subclass__(cls, *, type: str = "", schema_version: int = 1, **_config: Any) -> None:
        if type:
            _register(cls, type)

    @property
    def envelope(self) -> Envelope:
        """Ids, time and place of the event. An event has none before it was emitted: AttributeError."""
        if self._envelope is None:
            raise AttributeError("the event has no envelope: it was not emitted yet")
        return self._envelope

    @property
    def content(self) -> Data | None:
        """Text kept apart so that it can be erased; None where there is none, or it was erased."""
        return self._content


def _register(cls: type[Event], event_type: str) -> None:
    own = cls.__module__ == __name__
    check_type(event_type, own=own)
    known = _classes.get(event_type)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InvalidEvent(
            event_type,
            f"registered by {known.__module__}.{known.__qualname__} already; give {cls.__qualname__} another type",
        )
    _classes[event_type] = cls


def check_type(event_type: str, *, own: bool = False) -> None:
    """Refuse a type that is not `family:name[:level]`, or is in a family of the hub's.

    Raises: InvalidEvent
    """
    if not _TYPE.fullmatch(event_type):
        raise InvalidEvent(event_type, "a type is family:name or family:name:level, of letters, digits and . _ -")
    if not own and event_type.startswith(_RESERVED):
        raise InvalidEvent(event_type, "the families llm, hub and otel are the hub's own; choose another")


def registered(event_type: str) -> type[Event] | None:
    """The class contributed for *event_type*, or None."""
    return _classes.get(event_type)


_U = TypeVar("_U", bound=Upcaster)


def upcaster(event_type: str, *, from_version: int) -> Callable[[_U], _U]:
    """Decorate a pure function that turns a payload of *from_version* into one of the next version."""

    def register(function: _U) -> _U:
        _upcasters[event_type, from_version] = function
        return function

    return register


def upcast(record: EventRecord) -> EventRecord:
    """*record* with its payload in the newest version that upcasters lead to. Itself when there is nothing to do.

    One that fails leads no further: reading history never fails.
    """
    if not _upcasters:
        return record
    data, version = record["data"], record["schema_version"]
    while (step := _upcasters.get((record["type"], version))) is not None:
        try:
            data, version = step(data), version + 1
        except Exception as error:
            log.warning("hub: upcasting %s from version %d failed: %s", record["type"], version, type(error).__name__)
            break
    if version == record["schema_version"]:
        return record
    newer = record.copy()
    newer["data"], newer["schema_version"] = data, version
    return newer


class Usage(BaseModel):
    """Tokens, inclusive: input contains cached and cache-written ones, output contains reasoning. None is unknown."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class LLMRequest(Event, type="llm:request"):
    """A call leaves for a model."""

    provider: str | None = None
    model: str | None = None
    """The model asked for."""
    operation: str = "chat"
    message_count: int | None = None
    has_system: bool | None = None
    tool_count: int | None = None
    stream: bool = False
    params: dict[str, Any] = {}
    tier: str | None = None
    server_address: str | None = None
    from_config: tuple[str, ...] = ()
    """Names of the values that came from the provider's configuration, not from the caller."""


class LLMRequestDebug(Event, type="llm:request:debug"):
    """What was sent. The text is in `content`: a summary, and with capture=full the messages, tools and wire body."""


class LLMResponse(Event, type="llm:response"):
    """A call has ended, one way or another."""

    status: str
    """ok, error, cancelled, abandoned or lost."""
    model: str | None = None
    """The model that served."""
    duration_ms: float | None = None
    ttft_ms: float | None = None
    """From request to first chunk; None when the call did not stream."""
    usage: Usage | None = None
    finish_reasons: tuple[str, ...] | None = None
    reported_cost_usd: str | None = None
    """A decimal number, as the provider or a middleware gave it."""
    cost_reporter: str | None = None
    response_id: str | None = None
    status_code: int | None = None
    attempts: int | None = None
    chunk_count: int | None = None
    continuation_count: int | None = None
    response_cached: bool | None = None
    error_type: str | None = None
    retryable: bool | None = None
    retry_after_ms: float | None = None


class LLMResponseDebug(Event, type="llm:response:debug"):
    """What came back. The text is in `content`."""


class ProviderRetry(Event, type="provider:retry"):
    """An attempt within a call failed and another follows. `occurred_at` is when it failed."""

    attempt: int | None = None
    """From 1."""
    max_retries: int | None = None
    delay_ms: float | None = None
    """From the failure to the next attempt."""
    error_type: str | None = None
    status_code: int | None = None


def decode(record: EventRecord) -> Event:
    """*record* as an object of its registered class, upcast first.

    A payload that its class does not take any more (written by another version of a contributor's code) is given as a
    plain `Event`: reading history never fails.
    """
    record = upcast(record)
    cls = _classes.get(record["type"], Event)
    try:
        event = cls.model_validate(record["data"])
    except ValidationError:
        event = Event.model_validate(record["data"])
    return _dress(event, record)


def _dress(event: Event, record: EventRecord) -> Event:
    fields: dict[str, Any] = {key: value for key, value in record.items() if key not in ("data", "content")}
    for key in ("id", "stream_id", "call_id", "causation_id"):
        if fields[key] is not None:
            fields[key] = UUID(fields[key])
    event._envelope = Envelope(**fields)
    event._content = record["content"]
    return event


def payload(event: Event) -> Data:
    """The fields of *event* as JSON data: what `emit` writes. Those of an event that pydantic can make no JSON of are
    given as they are, for the sanitiser."""
    try:
        return event.model_dump(mode="json")
    except Exception:
        return {**vars(event), **(event.model_extra or {})}


def fields_of(cls: type[Event]) -> dict[str, str]:
    """The payload's fields, each with what it is in SQL: text, integer, real, boolean or json."""
    return {name: _sql_kind(field.annotation) for name, field in cls.model_fields.items()}


def _sql_kind(annotation: Any) -> str:
    options = [one for one in get_args(annotation) if one is not type(None)]
    if type(None) in get_args(annotation) and len(options) == 1:
        return _sql_kind(options[0])
    if isinstance(annotation, type):
        for kind, name in _SQL_KINDS:
            if issubclass(annotation, kind):
                return name
    return "json"


_SQL_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "real"),
    (str, "text"),
    (UUID, "text"),
    (Decimal, "text"),
    (datetime, "text"),
    (date, "text"),
)
"""As pydantic writes them to JSON; a bool is an int, so it comes first."""


class FrameEvent(TypedDict, total=False):
    """One event within a frame. `type` and `data` are always there, and the first one's `id`, from which those of the
    others follow if they have none; level is info, schema_version 1 if not."""

    id: str
    type: str
    data: Data
    content: Data | None
    level: str
    schema_version: int


ENVELOPE_DEFAULTS: dict[str, Any] = dict.fromkeys(
    (
        "call_id",
        "session_id",
        "user_id",
        "tags",
        "trace_id",
        "span_id",
        "parent_span_id",
        "trace_flags",
        "tracestate",
        "parent_is_remote",
        "causation_id",
    )
)
"""The envelope's keys that a frame may leave out, with what they mean then."""


def encode_frame(stream_id: str, occurred_at: int, envelope: Mapping[str, Any], events: Sequence[FrameEvent]) -> bytes:
    """The body of a frame. *envelope* holds only such keys of ENVELOPE_DEFAULTS as have a value.

    Raises: TypeError: A value is not JSON data; clean it first.
    """
    return orjson.dumps({"s": stream_id, "t": occurred_at, "x": envelope, "e": events})


def decode_frame(body: bytes, *, first_seq: int, first_version: int, constants: Constants) -> list[EventRecord]:
    """The events of a frame, in order; sequence number and version count up from the first's.

    Raises: ValueError: *body* is not a frame.
    """
    try:
        frame = orjson.loads(body)
        shared = {**ENVELOPE_DEFAULTS, **constants, **frame["x"]}
        shared["stream_id"], shared["occurred_at"] = frame["s"], frame["t"]
        first_id = frame["e"][0]["id"]
        return [
            {  # type: ignore[typeddict-item]  # mypy cannot see through the shared part
                "id": first_id if place == 0 else _id_after(first_id, place),
                "type": "",
                "schema_version": 1,
                "level": "info",
                "content": None,
                **shared,
                **event,
                "version": first_version + place,
                "producer_seq": first_seq + place,
            }
            for place, event in enumerate(frame["e"])
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a frame: {type(error).__name__}") from error


def _id_after(first: str, place: int) -> str:
    """The id *place* behind *first*, in its random tail."""
    return f"{first[:-12]}{(int(first[-12:], 16) + place) & 0xFFFFFFFFFFFF:012x}"


__all__ = [
    "Constants",
    "Data",
    "Envelope",
    "Event",
    "EventRecord",
    "FrameEvent",
    "LLMRequest",
    "LLMRequestDebug",
    "LLMResponse",
    "LLMResponseDebug",
    "ProviderRetry",
    "Upcaster",
    "Usage",
    "check_type",
    "decode",
    "decode_frame",
    "encode_frame",
    "fields_of",
    "payload",
    "registered",
    "upcast",
    "upcaster",
]
