"""What simonw/llm logs of a call, as messages in the shape of OpenAI's chat: texts, tools, notes of attachments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.extractors.usage import Usage, usage_of
from hub.transfer.lines import json_in

Row = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_ANTHROPIC = ("cache_creation_input_tokens", "cache_read_input_tokens")


def began_ns(written: Any, ulid: str) -> int:
    """When a call began: as it is written, else by its id. Raises: ValueError: Neither tells."""
    moment = _moment(written)
    if moment is None:
        return _ulid_ms(ulid) * 10**6
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


def _moment(written: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(written)
    except (TypeError, ValueError):
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return found if 1970 < found.year < 2116 else None


def _ulid_ms(ulid: str) -> int:
    ms = 0
    for letter in ulid[:10].lower():
        ms = ms * 32 + _BASE32.index(letter)
    if len(ulid) != 26 or not 0 < ms < 2**42:
        raise ValueError("neither its time nor its id says when it was made")
    return ms


def counts(row: Row, details: Any) -> Usage | None:
    """Tokens of a call. What the plugin of Anthropic's logs as input lacks what was cached."""
    given, answered = row.get("input_tokens"), row.get("output_tokens")
    more = details if isinstance(details, dict) else {}
    if any(key in more for key in _ANTHROPIC):
        return usage_of({**more, "input_tokens": given, "output_tokens": answered})
    return usage_of({**more, "prompt_tokens": given, "completion_tokens": answered})


def attachment(row: Row) -> dict[str, Any]:
    """A note of what was attached, without its bytes."""
    mime = str(row.get("type") or "")
    kind = next((kind for kind in ("image", "audio", "video") if mime.startswith(kind)), "file")
    note = {"mime_type": mime, "url": row.get("url"), "path": row.get("path"), "bytes": row.get("bytes")}
    return {"type": kind, "id": row.get("id"), **{key: value for key, value in note.items() if value is not None}}


def speaker(
    role: str,
    texts: Sequence[str],
    *,
    notes: Sequence[Mapping[str, Any]] = (),
    reasoning: str = "",
    calls: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A message of *role* with its texts, attachments and other parts, and the tools it calls."""
    content: Any = "".join(texts) if len(texts) < 2 else [_text(text) for text in texts]
    if notes:
        content = [*(_text(text) for text in texts), *notes]
    message: dict[str, Any] = {"role": role, "content": content or (None if calls else "")}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = list(calls)
    return message


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool_call(name: Any, arguments: Any, call_id: Any) -> dict[str, Any]:
    """*arguments*: as JSON text."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool_result(name: Any, output: Any, call_id: Any, notes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    text = output if isinstance(output, str) else str(output)
    content: Any = [_text(text), *notes] if notes else text
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


def tool(row: Row) -> dict[str, Any]:
    """A tool that was offered."""
    function = {
        "name": row["name"],
        "description": row["description"],
        "parameters": json_in(row["input_schema"]),
    }
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}
