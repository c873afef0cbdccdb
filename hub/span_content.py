"""Prompts and answers as span attributes, for those who asked for them."""

from __future__ import annotations

from hub.events import EventRecord


def content_attributes(record: EventRecord) -> dict[str, str]:
    """What the content of *record* adds to its call's span."""
    return {}
