"""How a request tells the loopback server to misbehave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

HEADER = "x-demo"
"""Holds the switches of one request, as `name=value` words; metadata.demo in the body does the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What to do to one request. The faults are `fail`, `reset`, `cut`, `end_early` and `body`."""

    latency: float = 0.0
    """Seconds before the first byte."""
    delay: float = 0.0
    """Seconds between the chunks of a stream."""
    chunks: int | None = None
    """Pieces a streamed text comes in; a word each when absent."""
    size: int | None = None
    """Characters of the answer."""
    gzip: bool = False
    """Compress what is not a stream."""
    times: int | None = None
    """Only the first so many requests with this body and these switches meet the fault; all of them when absent."""
    retry_ms: int = 5
    """What a failed request is told to wait."""
    fail: int | None = None
    """Answer with this status and OpenAI's error body."""
    reset: bool = False
    """Reset the connection before any header."""
    cut: int | None = None
    """Drop the connection after so many chunks of a stream (or in the middle of a body)."""
    end_early: int | None = None
    """End a stream properly after so many chunks, without finish reason, usage and end mark."""
    body: str = ""
    """`invalid`: JSON that ends in the middle; `wrong_type`: an HTML page with status 200; `empty`: no bytes at all."""

    @property
    def fault(self) -> str:
        """The name of the fault asked for; empty when there is none."""
        if self.fail is not None:
            return f"fail={self.fail}"
        for name in ("reset", "cut", "end_early", "body"):
            if getattr(self, name) not in (None, False, ""):
                return name
        return ""

    def without_fault(self) -> Switches:
        healthy = {name: getattr(self, name) for name in ("latency", "delay", "chunks", "size", "gzip")}
        return Switches(**healthy)


def parse(text: str) -> Switches:
    """Read `name=value` words; a flag may stand without value.

    Raises: ValueError: A name that is no switch, or a value that is not of its type.
    """
    kinds = get_type_hints(Switches)
    known = {field.name for field in fields(Switches)}
    values: dict[str, Any] = {}
    for word in text.replace(",", " ").replace(";", " ").split():
        name, _, value = word.partition("=")
        if name not in known:
            raise ValueError(f"{name!r} is no switch; there are {', '.join(sorted(known))}")
        kind = kinds[name]
        if kind is bool:
            values[name] = value in ("", "1", "true")
        elif kind is str:
            values[name] = value
        else:
            values[name] = float(value) if kind is float else int(value)
    return Switches(**values)


def of_request(headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[str, Switches]:
    """The switches of a request, as text and read. Raises: ValueError, as `parse`."""
    metadata = body.get("metadata")
    text = headers.get(HEADER) or (metadata.get("demo") if isinstance(metadata, dict) else "") or ""
    return str(text), parse(str(text))
