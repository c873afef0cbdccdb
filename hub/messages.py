"""Messages of every vendor's shape, as JSON data: what they consist of, and a line to show.

Pure functions that never raise: a shape nobody knows is one part of type `json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

import orjson

from hub.content import preview

_SYSTEM = frozenset(("system", "developer"))
_SPEAKERS = ("user", "assistant", "system", "developer")
_MAX_NAMES = 50
_MAX_PARTS = 1_000
"""A message of more, tokens or an embedding as a rule, is one part of type json: each part of a large message is found
by reading the message from its start."""


class Part(NamedTuple):
    """One thing a message carries."""

    role: str | None
    """As the message says it; where it says none, the one its type implies; None for a bare string."""
    type: str
    """text, thinking, redacted_thinking, tool_call, tool_result, image, audio, video, file, refusal or json."""
    name: str | None
    """Of the tool called or answering, or of the author."""
    tool_call_id: str | None
    path: str | None
    """Where the part's value stands in the message, `$.content[0].text`: for SQLite's json_extract and as it is a
    jsonpath of PostgreSQL. Of a tool_call the arguments. None if there is nothing to read, as with images."""
    bytes: int
    """Size of the value at path, of its UTF-8 or its compact JSON; 0 without path."""
    is_json: bool
    """The value at path is no string."""


class _Found(NamedTuple):
    part: Part
    value: Any


_Read = Callable[[Any, str, str | None], Iterator[_Found]]


def parts(message: Any) -> list[Part]:
    """What *message* (JSON data) consists of, in its order; never empty."""
    return [found.part for found in _parts(message)]


def values(message: Any) -> list[tuple[Part, Any]]:
    """As `parts`, each with the value at its path; None where there is no path."""
    return [(found.part, found.value) for found in _parts(message)]


def said(message: Any) -> list[str]:
    """The texts of *message*, refusals too; what was thought or called is none."""
    return [found.value for found in _parts(message) if found.part.type in ("text", "refusal") and found.value]


def tool_calls(message: Any) -> list[dict[str, Any]]:
    """The calls that *message* asks for: id, name, arguments as they stand there."""
    return [
        {"id": found.part.tool_call_id, "name": found.part.name, "arguments": found.value}
        for found in _parts(message)
        if found.part.type == "tool_call"
    ]


def summarise(messages: Iterable[Any], tools: Iterable[Any] | None = None, limit: int = 200) -> dict[str, Any]:
    """A preview of *messages*, which are JSON data: what a list of calls shows.

    Returns:
        text: One line, at most *limit* characters and a note of what was cut, without data: URLs and base64: the newest
            message of a user or tool; where there is none, as in answers, all the others say. Tool calls are
            shown as name(arguments) where a message has no text, images as [image].
        roles: Role to number of messages.
        kinds: Part type to number of parts.
        tool_names: Of the *tools* offered; without *tools*, of those called. At most 50, each once.
        bytes: Sum of the parts' sizes.
    """
    listed: list[Any] = [messages] if isinstance(messages, str | dict) else list(messages)
    read = [_parts(message) for message in listed]
    every = [found for each in read for found in each]
    called = (found.part.name for found in every if found.part.type == "tool_call")
    names = called if tools is None else map(tool_name, tools)
    return {
        "text": newest_text(listed, limit),
        "roles": dict(Counter(each[0].part.role or "user" for each in read)),
        "kinds": dict(Counter(found.part.type for found in every)),
        "tool_names": list(dict.fromkeys(filter(None, names)))[:_MAX_NAMES],
        "bytes": sum(found.part.bytes for found in every),
    }


def count_and_system(messages: Any) -> tuple[int, bool]:
    """How many messages there are, and whether one is the system's or developer's. Takes a program's own objects:
    dicts, anything with `.role`, roles as str or Enum. What has no length counts as none, and is not consumed."""
    if isinstance(messages, str | dict):
        messages = (messages,)
    count = 0
    try:
        count = len(messages)
        for message in messages:
            role = message.get("role") if type(message) is dict else getattr(message, "role", None)
            if type(role) is not str:
                role = role._value_ if isinstance(role, Enum) else None
            if role in _SYSTEM:
                return count, True
    except Exception:
        pass
    return count, False


def tool_name(tool: Any) -> str | None:
    """Of a tool's definition in any vendor's shape; of a built-in one its type."""
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function")
    named = inner if isinstance(inner, dict) else tool
    return _first(named, "name") or _first(tool, "name", "type")


def newest_text(messages: Any, limit: int = 200) -> str:
    """The `text` of `summarise`, reading only the messages it takes."""
    listed: list[Any] = [messages] if isinstance(messages, str | dict) else list(messages)
    if listed and (plain := _plain(listed[-1])) and (len(listed) == 1 or listed[-1]["role"] == "user"):
        return preview(plain, limit)  # as most are; the long way finds the same
    others: list[list[_Found]] = []
    for message in reversed(listed):
        found = _parts(message)
        if found[0].part.role in (None, "user", "tool", "function"):
            return _shown([found], limit)
        others.append(found)
    others.reverse()
    return _shown([each for each in others if each[0].part.role not in _SYSTEM] or others[-1:], limit)


def _shown(read: Sequence[list[_Found]], limit: int) -> str:
    found = [one for each in read for one in each]
    text = [one for one in found if one.part.type in ("text", "refusal")]
    pieces = [_show(one) for one in text or [one for one in found if one.part.type != "thinking"] or found]
    return preview(" ".join(filter(None, pieces)), limit)


def _show(found: _Found) -> str:
    part, value = found
    shown = value if isinstance(value, str) else "" if part.path is None else _json(value).decode()
    if part.type == "tool_call":
        return f"{part.name or 'tool'}({shown})"
    return shown if part.path is not None else f"[{part.type}]"


def _plain(message: Any) -> str | None:
    """The text of a message of a role and a text and nothing else, as most are; None of any other."""
    if type(message) is dict and len(message) == 2 and message.get("role") in _SPEAKERS:
        content = message.get("content")
        if type(content) is str and content:
            return content
    return None


def _parts(message: Any) -> list[_Found]:
    if plain := _plain(message):  # the long way finds the same in four times the time
        return [_value("text", plain, "$.content", message["role"])]
    try:
        found = list(islice(_message(message), _MAX_PARTS + 1))
    except Exception:  # a shape that only looks like one we know
        found = []
    role = _text(message.get("role")) if isinstance(message, dict) else None
    return found if 0 < len(found) <= _MAX_PARTS else [_value("json", message, "$", role)]


def _message(message: Any) -> Iterator[_Found]:
    if isinstance(message, str):
        yield _value("text", message, "$", None)
        return
    if not isinstance(message, dict):
        return
    role, kind = _text(message.get("role")), message.get("type")
    if kind not in (None, "message") and "role" not in message:
        yield from _block(message, "$", None)  # an item of OpenAI's Responses stands beside messages
        return
    for key in ("reasoning_content", "reasoning"):
        if isinstance(message.get(key), str) and message[key]:
            yield _value("thinking", message[key], f"$.{key}", role)
    yield from _content(message, role)
    if isinstance(message.get("refusal"), str):
        yield _value("refusal", message["refusal"], "$.refusal", role)
    if isinstance(message.get("audio"), dict):
        yield _spoken(message["audio"], "$.audio", role)
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        yield _call(call, f"$.tool_calls[{index}]", role)
    if isinstance(message.get("function_call"), dict):
        yield _call(message["function_call"], "$.function_call", role)


def _content(message: dict[str, Any], role: str | None) -> Iterator[_Found]:
    answers = role in ("tool", "function")
    name, call_id = _text(message.get("name")), _text(message.get("tool_call_id"))
    for key in ("content", "parts", "text"):
        content = message.get(key)
        blocks = content if isinstance(content, list) else [content]
        for index, block in enumerate(blocks):
            path = f"$.{key}[{index}]" if blocks is content else f"$.{key}"
            if block is None or block == "":
                continue
            for found in _block(block, path, role):
                if answers and found.part.type in ("text", "json"):
                    part = found.part._replace(type="tool_result", name=name, tool_call_id=call_id)
                    yield _Found(part, found.value)
                elif name is not None and found.part.name is None:
                    yield _Found(found.part._replace(name=name), found.value)
                else:
                    yield found


def _block(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    if isinstance(block, str):
        yield _value("text", block, path, role)
        return
    kind = block.get("type") if isinstance(block, dict) else None
    read: _Read
    if kind is None:
        read = _untyped
    elif isinstance(kind, str):
        read = _BLOCKS.get(kind) or (_builtin_call if kind.endswith("_call") else _unknown)
    else:
        read = _unknown
    yield from read(block, path, role)


def _unknown(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    yield _value("json", block, path, role)


def _untyped(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    """Gemini's and Bedrock's, where the key says what it is."""
    for key, read in _KEYED.items() if isinstance(block, dict) else ():
        if key in block:
            yield from read(block[key], f"{path}.{key}", role)
            return
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        kind = "thinking" if block.get("thought") is True else "text"
        yield _value(kind, block["text"], f"{path}.text", role)
        return
    yield from _unknown(block, path, role)


def _written(kind: str) -> _Read:
    def read(block: Any, path: str, role: str | None) -> Iterator[_Found]:
        for key in ("text", "thinking", "refusal", "content"):
            if isinstance(block.get(key), str):
                yield _value(kind, block[key], f"{path}.{key}", role)
                return
        yield _value("json", block, path, role)

    return read


def _reasoning(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    """A text, or lists of texts; encrypted, there is nothing to read."""
    role = role or "assistant"
    empty = True
    for key in ("summary", "content", "text"):
        inner = block.get(key)
        pieces = inner if isinstance(inner, list) else [inner]
        for index, piece in enumerate(pieces):
            at = f"{path}.{key}[{index}]" if pieces is inner else f"{path}.{key}"
            if isinstance(piece, dict) and isinstance(piece.get("text"), str):
                piece, at = piece["text"], f"{at}.text"
            if isinstance(piece, str):
                empty = False
                yield _value("thinking", piece, at, role)
    if empty:
        yield _bare("redacted_thinking", role)


def _called(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    yield _call(block, path, role or "assistant")


def _call(call: Any, path: str, role: str | None) -> _Found:
    """OpenAI's {id, function: {name, arguments}}, or name and arguments in one."""
    if not isinstance(call, dict):
        return _value("tool_call", call, path, role)
    call_id = _first(call, "call_id", "id", "toolUseId")
    inner, at = call, path
    for key in ("function", "custom"):
        if isinstance(call.get(key), dict):
            inner, at = call[key], f"{path}.{key}"
    name = _text(inner.get("name"))
    for key in ("arguments", "input", "args"):
        if inner.get(key) is not None:
            return _value("tool_call", inner[key], f"{at}.{key}", role, name, call_id)
    return _bare("tool_call", role, name, call_id)


def _builtin_call(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    """web_search_call and its like: what was done stands in the item itself, differently in each."""
    name = _text(block.get("name")) or block["type"].removesuffix("_call")
    yield _value("tool_call", block, path, role or "assistant", name, _first(block, "call_id", "id"))


def _answered(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    name, call_id = _text(block.get("name")), _first(block, "tool_use_id", "tool_call_id", "call_id", "toolUseId", "id")
    for key in ("output", "content", "response", "result"):
        value = block.get(key)
        if value is None:
            continue
        at = f"{path}.{key}"
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            only = value[0]
            if isinstance(only.get("text"), str):
                value, at = only["text"], f"{at}[0].text"
        yield _value("tool_result", value, at, role or "tool", name, call_id)
        return
    yield _bare("tool_result", role or "tool", name, call_id)


def _media(kind: str) -> _Read:
    def read(block: Any, path: str, role: str | None) -> Iterator[_Found]:
        yield _bare(kind, role)

    return read


def _by_mime(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    kind = "file"
    if isinstance(block, dict):
        stated = _first(block, "modality", "mimeType", "mime_type", "media_type") or ""
        kind = next((each for each in ("image", "audio", "video") if stated.startswith(each)), "file")
    yield _bare(kind, role)


def _audio(block: Any, path: str, role: str | None) -> Iterator[_Found]:
    yield _spoken(block, path, role)


def _spoken(block: dict[str, Any], path: str, role: str | None) -> _Found:
    transcript = block.get("transcript")
    if isinstance(transcript, str):
        return _value("audio", transcript, f"{path}.transcript", role)
    return _bare("audio", role)


def _value(
    kind: str, value: Any, path: str, role: str | None, name: str | None = None, call_id: str | None = None
) -> _Found:
    is_json = not isinstance(value, str)
    size = len(_json(value)) if is_json else len(value.encode("utf-8", "replace"))
    return _Found(Part(role, kind, name, call_id, path, size, is_json), value)


def _bare(kind: str, role: str | None, name: str | None = None, call_id: str | None = None) -> _Found:
    return _Found(Part(role, kind, name, call_id, None, 0, False), None)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except Exception:
        return b""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _first(block: dict[str, Any], *keys: str) -> str | None:
    return next((found for key in keys if (found := _text(block.get(key)))), None)


# By `type`: Anthropic's and Amplifier's blocks, OpenAI's content parts and Responses items, OpenTelemetry's parts.
_BLOCKS: dict[str, _Read] = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text"), _written("text")),
    **dict.fromkeys(("thinking", "reasoning_text"), _written("thinking")),
    "refusal": _written("refusal"),
    "reasoning": _reasoning,
    "redacted_thinking": _media("redacted_thinking"),
    **dict.fromkeys(
        (
            "tool_use",
            "server_tool_use",
            "mcp_tool_use",
            "tool_call",
            "function_call",
            "custom_tool_call",
            "mcp_call",
            "function",
        ),
        _called,
    ),
    **dict.fromkeys(
        (
            *("tool_result", "mcp_tool_result", "web_search_tool_result", "code_execution_tool_result"),
            *("function_call_output", "custom_tool_call_output", "computer_call_output", "local_shell_call_output"),
            "tool_call_response",
        ),
        _answered,
    ),
    **dict.fromkeys(("image", "image_url", "input_image"), _media("image")),
    **dict.fromkeys(("audio", "input_audio", "output_audio"), _audio),
    **dict.fromkeys(("video", "video_url", "input_video"), _media("video")),
    **dict.fromkeys(("document", "input_file", "file_url", "container_upload"), _media("file")),
    **dict.fromkeys(("file", "blob", "uri"), _by_mime),
}

# By the only key: Gemini's parts (both spellings), Bedrock's blocks.
_KEYED: dict[str, _Read] = {
    **dict.fromkeys(("functionCall", "function_call", "toolUse"), _called),
    **dict.fromkeys(("functionResponse", "function_response", "toolResult"), _answered),
    **dict.fromkeys(("inlineData", "inline_data", "fileData", "file_data"), _by_mime),
    "image": _media("image"),
    "document": _media("file"),
    "video": _media("video"),
}
