"""Events: classes, registry, records, frames, upcasting."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub import events
from hub.errors import InvalidEvent
from hub.events import Constants, Event, EventRecord, LLMResponse, decode, decode_frame, encode_frame

STREAM = "019b7000-0000-7000-8000-000000000001"
CONSTANTS: Constants = {"project": "shop", "environment": None, "service": "till", "producer": "p1"}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def registry_as_before() -> Iterator[None]:
    classes, upcasters = dict(events._classes), dict(events._upcasters)
    yield
    for known, before in ((events._classes, classes), (events._upcasters, upcasters)):
        known.clear()
        known.update(before)  # type: ignore[arg-type]


def record_of(event_type: str, data: dict[str, Any]) -> EventRecord:
    body = encode_frame(STREAM, 5, {}, [{"id": STREAM, "type": event_type, "data": data}])
    return decode_frame(body, first_seq=7, first_version=3, constants=CONSTANTS)[0]


def test_a_contributed_class_is_frozen_and_validated() -> None:
    class RateLimited(Event, type="acme:rate_limit"):
        retry_after_ms: float

    event = RateLimited(retry_after_ms=3000)
    with pytest.raises(ValidationError):
        event.retry_after_ms = 1
    with pytest.raises(ValidationError):
        RateLimited(retry_after_ms="soon")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="not emitted yet"):
        _ = event.envelope


def test_a_record_decodes_to_the_registered_class_with_its_envelope() -> None:
    class RateLimited(Event, type="acme:rate_limit"):
        retry_after_ms: float

    event = decode(record_of("acme:rate_limit", {"retry_after_ms": 3, "also": "kept"}))
    assert isinstance(event, RateLimited)
    assert event.retry_after_ms == 3.0
    assert (event.envelope.type, event.envelope.version, event.envelope.producer_seq) == ("acme:rate_limit", 3, 7)
    assert event.model_extra == {"also": "kept"}


def test_a_type_nobody_registered_decodes_to_a_plain_event() -> None:
    event = decode(record_of("other:thing", {"colour": "red"}))
    assert type(event) is Event
    assert event.model_extra == {"colour": "red"}


def test_a_payload_its_class_does_not_take_any_more_is_still_readable() -> None:
    event = decode(record_of("llm:response", {"duration_ms": "not a number"}))
    assert type(event) is Event
    assert not isinstance(event, LLMResponse)


@pytest.mark.parametrize("bad", ["noname", "a:b:c:d", "llm:mine", "hub:mine", ":x", "a b:c"])
def test_a_type_that_is_malformed_or_ours_is_refused(bad: str) -> None:
    with pytest.raises(InvalidEvent):
        type("Bad", (Event,), {}, type=bad)


def test_two_classes_cannot_share_a_type() -> None:
    class First(Event, type="acme:taken"):
        pass

    with pytest.raises(InvalidEvent, match="First"):

        class Second(Event, type="acme:taken"):
            pass


def test_older_payloads_are_upcast_step_by_step_and_the_record_stays_as_it_was() -> None:
    @events.upcaster("acme:price", from_version=1)
    def to_cents(data: dict[str, Any]) -> dict[str, Any]:
        return {"cents": int(data["euros"] * 100)}

    @events.upcaster("acme:price", from_version=2)
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "currency": "EUR"}

    old = record_of("acme:price", {"euros": 2.5})
    newer = events.upcast(old)
    assert (newer["data"], newer["schema_version"]) == ({"cents": 250, "currency": "EUR"}, 3)
    assert (old["data"], old["schema_version"]) == ({"euros": 2.5}, 1)
    assert events.upcast(newer) is newer


def test_an_upcaster_that_fails_leaves_the_version_before_it() -> None:
    events.upcaster("acme:price", from_version=1)(lambda data: {"cents": data["euros"] * 100})
    events.upcaster("acme:price", from_version=2)(lambda data: {"exact": data["no such key"]})
    newer = events.upcast(record_of("acme:price", {"euros": 2}))
    assert (newer["data"], newer["schema_version"]) == ({"cents": 200}, 2)


def test_the_fields_of_a_class_become_sql_kinds() -> None:
    class Order(Event, type="acme:order"):
        name: str
        count: int | None = None
        weight: float = 0.0
        paid: bool = False
        price: Decimal | None = None
        at: datetime | None = None
        lines: list[str]

    kinds = ["text", "integer", "real", "boolean", "text", "text", "json"]
    assert list(events.fields_of(Order).values()) == kinds


@given(data=st.dictionaries(st.text(), json_values, max_size=4), tags=st.dictionaries(st.text(), st.text(), max_size=2))
def test_a_frame_gives_back_its_events(data: dict[str, Any], tags: dict[str, str]) -> None:
    item: events.FrameEvent = {"id": STREAM, "type": "acme:x", "data": data}
    body = encode_frame(STREAM, 5, {"tags": tags}, [item, item])
    first, second = decode_frame(body, first_seq=7, first_version=3, constants=CONSTANTS)
    assert first["data"] == data
    assert (first["tags"], first["level"], first["content"]) == (tags, "info", None)
    assert (second["version"], second["producer_seq"]) == (4, 8)
    assert set(first) == set(EventRecord.__annotations__)


@given(st.binary(max_size=64))
def test_bytes_that_are_no_frame_are_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decode_frame(body, first_seq=1, first_version=1, constants=CONSTANTS)
