"""What reading a file that is imported gives, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

HEADER, PRICES, END = "hub_export", "hub_prices", "hub_end"
"""The only key of those records that are no events: what the file is, the price cards of a model, what it held."""
FORMAT = 1
"""Of a file of events. It rises with a change that older versions would misread."""


class Found(NamedTuple):
    """A record of the file as JSON data, not checked yet."""

    place: str
    """Where in the file, for people: line 17."""
    value: Any
    size: int
    """About how many bytes it takes."""


class Broken(NamedTuple):
    """What could not be read."""

    place: str
    reason: str


class Source(Protocol):
    """A file to import. One broken record ends nothing."""

    form: str
    """What it is: jsonl, parquet, llm."""
    total: int
    """How far `done` goes; 0: nobody knows."""

    @property
    def done(self) -> int: ...

    def __iter__(self) -> Iterator[Found | Broken]: ...
