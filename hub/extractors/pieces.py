"""Texts that a stream sends in pieces."""

from __future__ import annotations

from typing import Any

Place = tuple[Any, ...]


class Pieces:
    """Puts together what stands at the same place of one event after another: a secret may be cut into letters."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[Place, list[str]] = {}

    def add(self, value: Any, place: Place = ()) -> None:
        """Take the strings in *value*, which is JSON data."""
        kind = type(value)
        if kind is str:
            self._parts.setdefault(place, []).append(value)
        elif kind is dict:
            for key, each in value.items():
                self.add(each, (*place, key))
        elif kind is list:
            for number, each in enumerate(value):
                own = each.get("index", number) if type(each) is dict else number
                self.add(each, (*place, own if type(own) is int else number))

    def texts(self) -> list[str]:
        """Those that came in more than one piece."""
        return ["".join(parts) for parts in self._parts.values() if len(parts) > 1]
