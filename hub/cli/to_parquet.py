"""A query's answer as a Parquet file: its columns have types, which SQL's values have to tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hub.parquet import Kind, write_parquet

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_ROW_GROUP = 65_536


def save(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Write *rows* to *path*. Returns: How many they are. Raises: MissingExtra, OSError

    A column of whole numbers holds those, one that has decimals too doubles, one of instants as the views write them
    timestamps, all others text; also one of nulls alone.
    """
    kinds: dict[str, Kind] = {}
    values = []
    for index, name in enumerate(columns):
        kinds[name], shown = _typed([row[index] for row in rows])
        values.append(shown)
    typed = list(zip(*values, strict=True))
    return write_parquet(path, kinds, (typed[start : start + _ROW_GROUP] for start in range(0, len(typed), _ROW_GROUP)))


def _typed(values: list[Any]) -> tuple[Kind, list[Any]]:
    types = {type(value) for value in values if value is not None}
    if types == {int}:
        return "integer", values
    if types and types <= {int, float}:
        return "real", _each(float, values)
    if types == {bytes}:
        return "bytes", values
    if types == {str} and all(value is None or _INSTANT.fullmatch(value) for value in values):
        try:
            return "instant", _each(_nanoseconds, values)
        except (ValueError, OverflowError):  # no day of the calendar, or none that 64 bits can tell
            pass
    return "text", _each(_text, values)


def _each(make: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    return [None if value is None else make(value) for value in values]


def _nanoseconds(instant: str) -> int:
    ns = (datetime.fromisoformat(instant) - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not _INT_MIN <= ns <= _INT_MAX:
        raise OverflowError(instant)
    return ns


def _text(value: Any) -> str:
    """A value in a column of several types."""
    if isinstance(value, str):
        return value
    return value.hex() if isinstance(value, bytes) else json.dumps(value)
