"""Reading values out of shapes we do not own: dicts from a wire, models of an SDK, dataclasses, plain objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import Any

_SCALARS = frozenset({str, int, float, bool, type(None)})


def get(thing: Any, name: str) -> Any:
    """The key or attribute *name* of *thing*; None when there is none."""
    if isinstance(thing, dict):
        return thing.get(name)
    return getattr(thing, name, None)


def reader(thing: Any) -> Callable[[str], Any]:
    """`get` of one *thing*, for many names: at a third of the cost where it is a dict."""
    return thing.get if isinstance(thing, dict) else lambda name: getattr(thing, name, None)


def text(value: Any) -> str | None:
    """A string that says something, with an Enum's value counting as one; else None."""
    if type(value) is str:
        return value or None
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A count of something; None for what is no count."""
    return value if type(value) is int and value >= 0 else None


def plain(value: Any) -> Any:
    """*value* as what JSON knows, one level at least: models are dumped, objects become their attributes.

    Dicts and lists are returned as they are, the caller's own objects: what hides deeper in them is the sanitiser's.
    """
    kind = type(value)
    if kind in _SCALARS or kind is dict or kind is list:
        return value
    if isinstance(value, Enum):
        return value.value
    dump = getattr(kind, "model_dump", None)
    if callable(dump):
        try:
            return dump(value, mode="json", exclude_unset=True, warnings=False)
        except Exception:  # not pydantic's own, or a value JSON mode refuses
            return dump(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(item) for f in dataclasses.fields(value) if (item := getattr(value, f.name)) is not None}
    return value


_MESSAGE_FIELDS = ("role", "content", "parts", "tool_calls", "tool_call_id", "name")


def message(value: Any) -> Any:
    """One message of any contract as a dict; a bare string is the user's."""
    if type(value) is dict:
        return value
    if isinstance(value, str):
        return {"role": "user", "content": value}
    found = plain(value)
    if type(found) is dict:
        return found
    if getattr(value, "role", None) is None:
        return {"role": "user", "content": value}
    return {
        name: [plain(part) for part in item] if isinstance(item, list | tuple) else plain(item)
        for name in _MESSAGE_FIELDS
        if (item := getattr(value, name, None)) is not None
    }


def messages(value: Any) -> list[Any] | None:
    """A conversation in any form as a list of dicts: the list given, when it is one already."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        for item in value:
            if type(item) is not dict:
                return [message(item) for item in value]
        return value if type(value) is list else list(value)
    return [message(value)]
