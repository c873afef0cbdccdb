"""Records from outside, before they come near a store: complete, of the right types, and fit to keep.

Their texts pass the sanitiser of emitted events. Nothing is redacted: that was done when they were recorded, and doing
it again would change what an export is to bring back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from hub.content import Cleaner
from hub.errors import InvalidEvent
from hub.events import Data, EventRecord, check_type
from hub.pricing import PriceRow
from storage.tombstones import CONFLICT

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]+")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_LATEST_NS = 2**62
"""In the year 2116. Prices start behind the newest call: a later one would leave them no room in 64 bits."""
_LONGEST_LABEL = 1_000
_MOST_CARDS = 1_000
_LARGEST_RATE = Decimal(10**15)


class Unfit(ValueError):
    """A record that cannot be taken. The message says why."""


class Checker:
    """Makes events of what was found in a file."""

    def __init__(self, longest: int) -> None:
        """*longest*: bytes of a whole record, none of which is cut off."""
        self._cleaner = Cleaner(enabled=False, max_body_bytes=4 * longest)  # as held in memory
        self.changed = 0
        """Events with a value that no store takes; it was replaced, and the event says so."""

    def event(self, value: Any) -> EventRecord:
        """The event that *value* is. Raises: Unfit"""
        record = _fitting(value)
        if record["type"] == CONFLICT and "original" in (record["content"] or {}):
            try:
                _fitting(record["content"]["original"])
            except Unfit as error:
                raise Unfit(f"the event that it carries is none: {error}") from None
        return self._cleaned(record)

    def _cleaned(self, record: dict[str, Any]) -> EventRecord:
        marks: dict[str, int] = {}
        for key in ("environment", "service", "project", "session_id", "user_id", "tags", "producer", "tracestate"):
            if record[key] is not None:
                record[key] = self._clean(record[key], marks)
        record["data"] = self._clean(record["data"], marks)
        record["content"] = self._clean_content(record["content"], marks)
        if marks:
            self.changed += 1
            before = record["data"].get("sanitised")
            for reason, count in before.items() if isinstance(before, dict) else ():
                marks[reason] = marks.get(reason, 0) + count if isinstance(count, int) else marks.get(reason, 0)
            record["data"] = {**record["data"], "sanitised": marks}
        return cast(EventRecord, record)

    def _clean_content(self, content: Data | None, marks: dict[str, int]) -> Data | None:
        """Each piece for itself, as when it was emitted; of an event within, a conflict's, likewise."""
        if content is None:
            return None
        cleaned: Data = {}
        for key, value in content.items():
            if key == "original" and isinstance(value, dict) and isinstance(value.get("content"), dict):
                inner = {name: self._clean(each, marks) for name, each in value.items() if name != "content"}
                value = {**value, **inner, "content": self._clean_content(value["content"], marks)}
            else:
                value = self._clean(value, marks)
            cleaned[self._clean(key, marks)] = value
        return cleaned

    def _clean(self, value: Any, marks: dict[str, int]) -> Any:
        cleaned, changes = self._cleaner.clean(value)
        for reason, count in changes.sanitised.items() if changes is not None else ():
            marks[reason] = marks.get(reason, 0) + count
        return cleaned


def _fitting(value: Any) -> dict[str, Any]:
    """The keys of an event. Raises: Unfit"""
    if not isinstance(value, dict):
        raise Unfit("it is no event: no JSON object")
    record: dict[str, Any] = {}
    for key, (is_fit, words) in _FIELDS.items():
        given = value.get(key)
        if not is_fit(given):
            if key in value or key not in _DEFAULTS:
                raise Unfit(f"{key} {words}" if key in value else f"{key} is missing")
            given = _DEFAULTS[key]
        record[key] = given
    return record


def price_rows(value: Any) -> list[PriceRow]:
    """The price cards of one provider's model, the oldest first. Raises: Unfit"""
    if not isinstance(value, dict) or not isinstance(cards := value.get("cards"), list):
        raise Unfit("its price cards are not as the hub writes them")
    provider, model = value.get("provider"), value.get("model")
    if not (_is_label(provider) and _is_label(model) and model and 0 < len(cards) <= _MOST_CARDS):
        raise Unfit("its price cards are not as the hub writes them")
    rows = [_price_row(str(provider), str(model), card) for card in cards]
    rows.sort(key=lambda row: row.effective_ns)
    if len({row.effective_ns for row in rows}) < len(rows):
        raise Unfit(f"two price cards of {model} begin at the same time")
    return rows


def _price_row(provider: str, model: str, found: Any) -> PriceRow:
    if not isinstance(found, dict):
        raise Unfit(f"a price card of {model} is no JSON object")
    begins, source, version, card = (found.get(key) for key in ("effective_ns", "source", "version", "card"))
    if not (isinstance(begins, int) and _is_int(begins, _LATEST_NS) and _is_label(source) and _is_label(version)):
        raise Unfit(f"a price card of {model} does not say when it begins and where it is from")
    if card is not None and not (isinstance(card, list) and all(map(_is_offer, card))):
        raise Unfit(f"a price card of {model} has rates that cannot be computed with")
    return PriceRow(provider, model, begins, str(source), str(version), card)


def _is_offer(offer: Any) -> bool:
    """See hub.pricing: a card that cannot be computed with would fail every batch that needs it."""
    if not isinstance(offer, dict) or not isinstance(offer.get("rates"), dict):
        return False
    between = offer.get("between")
    seconds = between is None or (
        isinstance(between, list) and len(between) == 2 and all(_is_int(each, 86_400) for each in between)
    )
    return seconds and _is_int(offer.get("from", 0), _INT64) and all(map(_is_rate, offer["rates"].values()))


def _is_rate(rate: Any) -> bool:
    if isinstance(rate, dict):
        tiers = rate.get("tiers")
        return (
            _is_amount(rate.get("base"))
            and isinstance(tiers, list)
            and all(
                isinstance(tier, list) and len(tier) == 2 and _is_int(tier[0], _INT64) and _is_amount(tier[1])
                for tier in tiers
            )
        )
    return _is_amount(rate)


def _is_amount(text: Any) -> bool:
    if not isinstance(text, str) or len(text) > 64:
        return False
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return False
    exponent = amount.as_tuple().exponent
    return amount.is_finite() and 0 <= amount <= _LARGEST_RATE and isinstance(exponent, int) and exponent > -40


def _is_int(value: Any, most: int) -> bool:
    return type(value) is int and -most <= value <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_label(value: Any) -> bool:
    """A text that a store takes as it is, and that may be a column with an index."""
    return isinstance(value, str) and len(value) <= _LONGEST_LABEL and "\0" not in value and _encodes(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_type(value: Any) -> bool:
    if not _is_label(value):
        return False
    try:
        check_type(value, own=True)
    except InvalidEvent:
        return False
    return True


def _is_tags(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(each, str) for each in value.values()))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_timed_id(value: Any) -> bool:
    """Months, and what is too old, go by the time in it."""
    return _is_id(value) and value[14] == "7"


def _count(most: int, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _hex(digits: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) == digits and _HEX.fullmatch(value) is not None


def _or_none(is_fit: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_fit(value)


_UUID, _UUID7 = "is no UUID in lower case", "is no UUIDv7 in lower case"
_TEXT = "is no text"
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, _UUID),
    "type": (_is_type, "is no type of an event: family:name or family:name:level"),
    "schema_version": (_count(_INT32, 1), "is no whole number from 1"),
    "stream_id": (_is_timed_id, _UUID7),
    "version": (_count(_INT32, 1), "is no whole number from 1"),
    "call_id": (_or_none(_is_timed_id), _UUID7),
    "occurred_at": (lambda value: _is_int(value, _LATEST_NS), "is no time in nanoseconds, or beyond the year 2116"),
    "level": (lambda value: value in ("info", "debug"), "is neither info nor debug"),
    "project": (_is_text, _TEXT),
    "environment": (_or_none(_is_text), _TEXT),
    "service": (_is_text, _TEXT),
    "session_id": (_or_none(_is_text), _TEXT),
    "user_id": (_or_none(_is_text), _TEXT),
    "tags": (_is_tags, "are no texts by name"),
    "trace_id": (_or_none(_hex(32)), "is not made of 32 hexadecimal digits"),
    "span_id": (_or_none(_hex(16)), "is not made of 16 hexadecimal digits"),
    "parent_span_id": (_or_none(_hex(16)), "is not made of 16 hexadecimal digits"),
    "trace_flags": (_or_none(_count(_INT32)), "is no small whole number"),
    "tracestate": (_or_none(_is_text), _TEXT),
    "parent_is_remote": (_or_none(lambda value: isinstance(value, bool)), "is neither true nor false"),
    "causation_id": (_or_none(_is_id), _UUID),
    "producer": (_is_text, _TEXT),
    "producer_seq": (_count(_INT64), "is no whole number"),
    "data": (_is_object, "is no JSON object"),
    "content": (_or_none(_is_object), "is neither a JSON object nor null"),
}
_DEFAULTS: Mapping[str, Any] = {"schema_version": 1, "level": "info"}
