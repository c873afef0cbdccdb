"""OpenTelemetry's limits on spans, which the SDK leaves to whoever builds a span by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from hub.harmless import log

V = TypeVar("V", bound=str | bool | int | float | Sequence[str])

DEFAULT_COUNT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None is no limit. Lengths are in characters."""

    attributes: int | None = DEFAULT_COUNT
    value_length: int | None = None
    events: int | None = DEFAULT_COUNT
    event_attributes: int | None = DEFAULT_COUNT

    def cut(self, attributes: dict[str, V], count: int | None) -> tuple[dict[str, V], int]:
        """The first *count* of *attributes* with values no longer than allowed, and how many that leaves out."""
        dropped = 0
        if count is not None and len(attributes) > count:
            dropped = len(attributes) - count
            attributes = dict(list(attributes.items())[:count])
        if (longest := self.value_length) is not None:
            attributes = {key: _shorten(value, longest) for key, value in attributes.items()}
        return attributes, dropped

    def as_data(self) -> dict[str, int | None]:
        """For `hub:started`, from which `from_data` makes the same limits again."""
        return asdict(self)


UNLIMITED = Limits(attributes=None, events=None, event_attributes=None)


def _shorten(value: V, longest: int) -> V:
    if isinstance(value, str):
        return value[:longest]  # type: ignore[return-value]  # a piece of a string is a string
    if isinstance(value, Sequence):
        return [one[:longest] for one in value]  # type: ignore[return-value]
    return value


def limits_from(environ: Mapping[str, str]) -> Limits:
    """The limits that the OTEL_* variables set; a variable about spans goes before the general one."""
    general = _limit(environ, "OTEL_ATTRIBUTE_COUNT_LIMIT", DEFAULT_COUNT)
    length = _limit(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None)
    return Limits(
        attributes=_limit(environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", general),
        value_length=_limit(environ, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
        events=_limit(environ, "OTEL_SPAN_EVENT_COUNT_LIMIT", DEFAULT_COUNT),
        event_attributes=_limit(environ, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", general),
    )


def _limit(environ: Mapping[str, str], name: str, default: int | None) -> int | None:
    text = environ.get(name, "").strip().lower()
    if not text:
        return default
    if text == "unset":
        return None
    if text.isdecimal():
        return int(text)
    log.warning("%s: %r is no number from 0 up; the default holds", name, text)
    return default


def from_data(data: Mapping[str, int | None]) -> Limits:
    """Limits as `Limits.as_data` wrote them; unknown keys are left out."""
    return Limits(**{key: value for key, value in data.items() if key in Limits.__slots__})
