"""Anthropic's messages, from the wire or as the SDK's objects."""

from __future__ import annotations

from typing import Any

from hub.extractors.usage import usage_of
from hub.extractors.values import get, plain, text
from hub.outcomes import ResponseFacts


def anthropic_facts(answer: Any) -> ResponseFacts | None:
    """What *answer* says; None when it is no message of Anthropic's."""
    content = get(answer, "content")
    if get(answer, "type") != "message" or not isinstance(content, list):
        return None
    reason = text(get(answer, "stop_reason"))
    return {
        "model": text(get(answer, "model")),
        "response_id": text(get(answer, "id")),
        "usage": usage_of(get(answer, "usage")),
        "finish_reasons": [reason] if reason else None,
        "messages": [
            {"role": text(get(answer, "role")) or "assistant", "content": [plain(block) for block in content]}
        ],
    }
