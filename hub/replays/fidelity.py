"""How what left differs from what left before, field by field, and never with a value: those may be anybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Lost = dict[str, str]

_DEEP = ("messages", "input", "tools", "response_format", "text", "reasoning")
"""Where the path within a field says more than its name."""
_MOST = 100


def differences(before: bytes, now: bytes) -> Lost:
    """Fields of the body *before* that *now* has not, or not so, and new ones; empty when the bytes are the same."""
    if before == now:
        return {}
    one, other = _opened(before), _opened(now)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return {"body": "sent differently"}
    found = dict(_pairs(one, other))
    return found or {"body": "the same values, written differently"}


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in (*one, *(name for name in other if name not in one)):
        if name not in other:
            yield name, "not sent"
        elif name not in one:
            yield name, "added"
        elif one[name] != other[name]:
            yield from _within(name, one[name], other[name]) if name in _DEEP else [(name, "sent differently")]


def _within(path: str, one: Any, other: Any) -> list[tuple[str, str]]:
    found = list(_places(path, one, other))
    return found if len(found) <= _MOST else [(path, f"sent differently in {len(found)} places")]


def _places(path: str, one: Any, other: Any) -> Iterator[tuple[str, str]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in (*one, *(key for key in other if key not in one)):
            if key not in other:
                yield f"{path}.{key}", "not sent"
            elif key not in one:
                yield f"{path}.{key}", "added"
            elif one[key] != other[key]:
                yield from _places(f"{path}.{key}", one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            if index >= len(other):
                yield f"{path}[{index}]", "not sent"
            elif index >= len(one):
                yield f"{path}[{index}]", "added"
            elif one[index] != other[index]:
                yield from _places(f"{path}[{index}]", one[index], other[index])
    else:
        yield path, "sent differently"


def _opened(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None
