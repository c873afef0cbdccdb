"""Messages and tools of one vendor's or contract's shape in that of another.

What is in the wanted shape already stays as it is. What the wanted shape has no place for is named in `lost`, by path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hub.extractors.values import text

Lost = dict[str, str]

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS = ("text", "input_text", "output_text", "summary_text")
_CALLS = ("tool_call", "tool_use", "function_call", "function")
_RESULTS = ("tool_result", "function_call_output")
_IMAGES = ("image", "image_url", "input_image")
_OF_CONTRACT: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "thinking": ("thinking",),
    "redacted_thinking": ("data",),
    "tool_call": ("id", "name", "input"),
    "tool_result": ("tool_call_id", "output"),
    "image": ("source",),
    "reasoning": ("content", "summary"),
}
"""What blocks of our contract, and Amplifier's, must have."""
_READ: Mapping[str, frozenset[str]] = {
    "message": frozenset(("role", "type", "content", "parts", "name", "tool_call_id", "tool_calls")),
    "text": frozenset(("type", "text")),
    "call": frozenset(("type", "id", "call_id", "name", "function", "arguments", "input")),
    "result": frozenset(("type", "id", "call_id", "tool_call_id", "tool_use_id", "output", "content")),
    "image": frozenset(("type", "source", "image_url", "url", "data", "media_type", "detail")),
}
"""Keys of a message and of its blocks that are read here; the others stay behind where it is written anew."""
_NO_PLACE = "messages of the target have no place for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a message: text, image, call, result, or a raw block that nobody converts."""

    kind: str
    text: str = ""
    id: str = ""
    name: str = ""
    value: Any = None
    """Arguments of a call, output of a result, an image's source, the raw block."""


@dataclass(slots=True)
class Turn:
    """A message, read."""

    role: str
    pieces: list[Piece] = field(default_factory=list)
    name: str | None = None
    tool_call_id: str | None = None
    unread: list[str] = field(default_factory=list)
    """Places within the message that stay behind."""

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind == "text")

    def of(self, kind: str) -> list[Piece]:
        return [piece for piece in self.pieces if piece.kind == kind]


def read_turns(messages: Sequence[Any]) -> list[Turn] | None:
    """*messages* read; None when one of them is of a shape that nobody knows."""
    turns: list[Turn] = []
    for message in messages:
        turn = _turn(message)
        if turn is None:
            return None
        turns.append(turn)
    return turns


def _turn(message: Any) -> Turn | None:
    if isinstance(message, str):
        return Turn("user", [Piece(kind="text", text=message)])
    if not isinstance(message, dict):
        return None
    role = message.get("role")
    if role is None and isinstance(message.get("type"), str):
        return _item(message)
    if role not in _ROLES:
        return None
    turn = Turn(role, name=text(message.get("name")), tool_call_id=text(message.get("tool_call_id")))
    turn.unread = _unread("message", message, "")
    for key in ("content", "parts"):
        content = message.get(key)
        for number, block in enumerate(content if isinstance(content, list) else [content]):
            if block is not None and block != "":
                turn.pieces.append(piece := _piece(block))
                turn.unread += _unread(piece.kind, block, f".{key}[{number}]")
    if role in ("tool", "function"):
        said: Any = turn.text if all(piece.kind == "text" for piece in turn.pieces) else message.get("content")
        turn.pieces = turn.of("result") or [Piece(kind="result", id=turn.tool_call_id or "", value=said)]
    known = {piece.id for piece in turn.of("call")}
    calls = message.get("tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else ()):
        if (piece := _call(call)).id not in known or not piece.id:
            turn.pieces.append(piece)
            turn.unread += _unread(piece.kind, call, f".tool_calls[{number}]")
    return turn


def _unread(kind: str, block: Any, at: str) -> list[str]:
    if kind == "raw" or not isinstance(block, dict):
        return []
    return [f"{at}.{key}" for key, value in block.items() if value and key not in _READ[kind]]


def _item(item: Mapping[str, Any]) -> Turn | None:
    """An item of OpenAI's Responses that is no message."""
    piece = _piece(item)
    if piece.kind == "call":
        return Turn("assistant", [piece], unread=_unread("call", item, ""))
    if piece.kind == "result":
        return Turn("tool", [piece], tool_call_id=piece.id, unread=_unread("result", item, ""))
    return Turn("assistant", [piece]) if item.get("type") == "reasoning" else None


def _piece(block: Any) -> Piece:
    if isinstance(block, str):
        return Piece(kind="text", text=block)
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in _TEXTS and isinstance(block.get("text"), str):
        return Piece(kind="text", text=block["text"])
    if kind in _CALLS:
        return _call(block)
    if kind in _RESULTS:
        found = next((block[key] for key in ("output", "content") if key in block), "")
        return Piece(kind="result", id=_first(block, "tool_call_id", "tool_use_id", "call_id"), value=found)
    if kind in _IMAGES and (source := _image_source(block)) is not None:
        return Piece(kind="image", value=source)
    return Piece(kind="raw", name=str(kind), value=block)


def _call(call: Any) -> Piece:
    if not isinstance(call, dict):
        return Piece(kind="raw", name="tool_call", value=call)
    inner = call["function"] if isinstance(call.get("function"), dict) else call
    given: Any = next((inner[key] for key in ("arguments", "input") if key in inner), {})
    return Piece(kind="call", id=_first(call, "call_id", "id"), name=_first(inner, "name"), value=_opened(given))


def _opened(arguments: Any) -> Any:
    """Arguments as an object; text that is no JSON object stays text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return arguments
    return found if isinstance(found, dict) else arguments


def _image_source(block: Mapping[str, Any]) -> dict[str, Any] | None:
    if isinstance(source := block.get("source"), dict):
        return source
    given = block.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given if given is not None else block.get("url")
    more = {"detail": given["detail"]} if isinstance(given, dict) and given.get("detail") is not None else {}
    if isinstance(url, str):
        head, comma, data = url.partition(",")
        if head.startswith("data:") and head.endswith(";base64") and comma:
            return {"type": "base64", "media_type": head[5:-7], "data": data, **more}
        return {"type": "url", "url": url, **more}
    raw = block.get("data")
    if isinstance(raw, str):
        return {"type": "base64", "media_type": block.get("media_type") or "image/png", "data": raw}
    return None


# Into our contract's shape, and Amplifier's.


def for_contract(messages: Sequence[Any], lost: Lost) -> list[dict[str, Any]] | None:
    """*messages* as a request of our contract has them; None when nobody knows their shape."""
    found: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        if _is_of_contract(message):
            found.append(message)
        elif (turn := _turn(message)) is not None:
            found.append(_contract_message(turn, message))
            lost.update((f"messages[{number}]{place}", _NO_PLACE) for place in turn.unread)
        else:
            return None
    return found


def _is_of_contract(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in _ROLES or message.get("tool_calls"):
        return False
    content = message.get("content")
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(block, dict)
        and (needs := _OF_CONTRACT.get(str(block.get("type")))) is not None
        and all(key in block for key in needs)
        for block in content
    )


def _contract_message(turn: Turn, message: Any) -> dict[str, Any]:
    if turn.role in ("tool", "function") and len(turn.pieces) == 1 and isinstance(turn.pieces[0].value, str):
        content: Any = turn.pieces[0].value
    elif turn.pieces and all(piece.kind == "text" for piece in turn.pieces) and not isinstance(message, dict):
        content = turn.text
    else:
        content = [_contract_block(piece) for piece in turn.pieces]
    said: dict[str, Any] = {"role": turn.role, "content": content or ""}
    if turn.name is not None:
        said["name"] = turn.name
    if turn.tool_call_id is not None:
        said["tool_call_id"] = turn.tool_call_id
    return said


def _contract_block(piece: Piece) -> Any:
    if piece.kind == "text":
        return {"type": "text", "text": piece.text}
    if piece.kind == "call":
        if isinstance(piece.value, dict):
            return {"type": "tool_call", "id": piece.id, "name": piece.name, "input": piece.value}
        return {"type": "tool_call", "id": piece.id, "name": piece.name, "input": {}, "raw_arguments": piece.value}
    if piece.kind == "result":
        return {"type": "tool_result", "tool_call_id": piece.id, "output": piece.value}
    if piece.kind == "image":
        return {"type": "image", "source": piece.value}
    return piece.value


# Into the shapes of message classes that hold one text: adversarial-debate's, and spine's with its calls beside it.


def for_text_messages(turns: Sequence[Turn], *, with_calls: bool, with_parts: bool, lost: Lost) -> list[dict[str, Any]]:
    """Messages of one text each; calls and images stand beside it where the shape has a place for them."""
    found: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        path = f"messages[{number}]"
        lost.update((f"{path}{place}", _NO_PLACE) for place in turn.unread)
        for said in _text_messages(turn):
            one: dict[str, Any] = {"role": said.role, "content": said.text or None}
            if results := said.of("result"):
                one["content"] = _as_text(results[0].value)
                one["tool_call_id"] = results[0].id or said.tool_call_id
            calls = said.of("call")
            if calls and with_calls:
                one["tool_calls"] = [
                    {"id": call.id, "name": call.name, "arguments": call.value if isinstance(call.value, dict) else {}}
                    for call in calls
                ]
                if not all(isinstance(call.value, dict) for call in calls):
                    lost[f"{path}.tool_calls"] = "arguments that are no JSON object have no place in the target's"
            elif calls:
                lost[f"{path}.tool_calls"] = "messages of the target have no place for them"
            if said.of("image") and with_parts:
                shown = [piece for piece in said.pieces if piece.kind in ("text", "image")]
                one["content"], one["parts"] = None, [_spine_part(piece) for piece in shown]
                if any("detail" in piece.value for piece in said.of("image")):
                    lost[f"{path}.detail"] = _NO_PLACE
            elif said.of("image"):
                lost[f"{path}.images"] = "messages of the target have no place for them"
            for raw in said.of("raw"):
                lost[f"{path}.{raw.name}"] = _NO_PLACE
            if said.name is not None:
                one["name"] = said.name
            found.append(one)
    return found


def _text_messages(turn: Turn) -> Iterator[Turn]:
    """One message for each tool's result, as one text each is all they hold."""
    results = turn.of("result")
    if len(results) + bool(len(turn.pieces) > len(results)) <= 1:
        yield turn
        return
    for result in results:
        yield Turn("tool", [result], tool_call_id=result.id)
    yield Turn(turn.role, [piece for piece in turn.pieces if piece.kind != "result"], name=turn.name)


def _spine_part(piece: Piece) -> dict[str, Any]:
    if piece.kind == "image":
        source = piece.value
        if "url" in source:
            return {"type": "image", "url": source["url"]}
        return {"type": "image", "data": source.get("data", ""), "media_type": source.get("media_type", "image/png")}
    return {"type": "text", "text": piece.text}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Models.


def unheld(given: Mapping[str, Any], model: Any, path: str = "") -> Lost:
    """What of *given* a *model* made of it does not hold: classes may leave out what they do not know."""
    try:
        held = model.model_dump(), model.model_dump(by_alias=True)
    except Exception:  # a serialiser of the program's
        return {}
    one, other = (dict.fromkeys(_missing(given, each, path)) for each in held)
    return {place: f"{type(model).__qualname__} leaves it out" for place in one if place in other}


def _missing(given: Any, held: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(held, Mapping):
        for key, value in given.items():
            place = f"{path}.{key}" if path else key
            if key in held:
                yield from _missing(value, held[key], place)
            elif value:
                yield place
    elif isinstance(given, list) and isinstance(held, list | tuple):
        for number, (one, other) in enumerate(zip(given, held, strict=False)):
            yield from _missing(one, other, f"{path}[{number}]")


# Tools.


def flat_tools(tools: Sequence[Any], lost: Lost) -> list[dict[str, Any]]:
    """Function tools as {name, description, parameters}, which is how the contracts have them."""
    found: list[dict[str, Any]] = []
    for number, tool in enumerate(tools):
        inner = tool.get("function") if isinstance(tool, dict) else None
        one = inner if isinstance(inner, dict) else tool
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            lost[f"tools[{number}]"] = "a tool of the vendor's own, which the target's contract does not have"
            continue
        flat = {key: value for key, value in one.items() if key not in ("type", "input_schema")}
        flat["parameters"] = next(
            (one[key] for key in ("parameters", "input_schema") if isinstance(one.get(key), dict)),
            {"type": "object", "properties": {}},
        )
        found.append(flat)
    return found


def _first(block: Mapping[str, Any], *keys: str) -> str:
    return next((found for key in keys if (found := text(block.get(key)))), "")
