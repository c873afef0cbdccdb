"""What the store has of a call's request, and how much of that is as it was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from hub.errors import ReplayImpossible
from hub.extractors.requests import PARAMS
from hub.extractors.values import text

if TYPE_CHECKING:
    from hub.events import Data, EventRecord
    from hub.reader import StoredCall

MARK = "[REDACTED"
REDACTED = "redacted before it was kept"
_PARAMS = frozenset(PARAMS.values())
_KINDS_ONLY = ("json_schema", "function", "tool", "allowed_tools", "custom")
"""Where a parameter has one of these, it was an object, of which only the kind was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A recorded request."""

    call_id: str
    trace_id: str | None
    span_id: str | None
    provider: str | None
    server_address: str | None
    session_id: str | None
    user_id: str | None
    operation: str
    model: str | None
    messages: list[Any] | None
    tools: list[Any] | None
    params: Mapping[str, Any]
    """Allow-listed: what else the store says is left out."""
    from_config: frozenset[str]
    stream: bool
    body: bytes | None
    """Of the HTTP request, as kept; None when none was seen, or several different ones."""
    untouched: bool
    """The body's bytes are those that were sent."""
    lost: Mapping[str, str]
    """What is not among what was kept, each with its reason. The body, if there is one, may know better."""

    def body_json(self) -> dict[str, Any] | None:
        """The body as an object; None when it is none, or no longer one."""
        if self.body is None:
            return None
        try:
            found = orjson.loads(self.body)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def read(call: StoredCall) -> Original:
    """The request of *call*. Raises: ReplayImpossible: Its text is not there."""
    requests = list(_requests(call.content))
    if not requests:
        raise ReplayImpossible(call.id, "the store has no request of it", "a call can be replayed once it was sent")
    data = _merged([request.data for request in requests])
    _refuse_without_content(call.id, data, requests)
    messages, tools, marks = _said(requests)
    sent = list(dict.fromkeys(_bodies(requests, messages)))
    lost = {
        **dict.fromkeys(_names(data.get("unkept")), "was given, and is not among what is recorded"),
        **_redacted_parts(messages, "messages", marks),
        **_redacted_parts(tools, "tools", marks),
    }
    if marks.get("sanitised"):
        lost["messages"] = f"changed so that it could be kept: {_counts(marks['sanitised'])}"
    if len(sent) > 1:
        lost["requests"] = f"the call sent {len(sent)} different ones; what was asked for is sent once"
    body, untouched = sent[0] if len(sent) == 1 else (None, False)
    params, more = _params(data.get("params"))
    return Original(
        call_id=call.id,
        trace_id=call["trace_id"],
        span_id=call["span_id"],
        provider=text(data.get("provider")),
        server_address=text(data.get("server_address")),
        session_id=call["session_id"],
        user_id=call["user_id"],
        operation=text(data.get("operation")) or "chat",
        model=text(data.get("model")),
        messages=messages,
        tools=tools,
        params=params,
        from_config=frozenset(_names(data.get("from_config"))),
        stream=data.get("stream") is True,
        body=body,
        untouched=untouched,
        lost={**lost, **more},
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """A request event and its debug companion."""

    data: Data
    debug: Data
    content: Mapping[str, Any]


def _requests(events: Sequence[EventRecord]) -> Iterator[_Request]:
    """The call's own request first, then those of its inner layers."""
    for place, event in enumerate(events):
        if event["type"] == "llm:request":
            after = events[place + 1] if place + 1 < len(events) else None
            debug = after if after is not None and after["type"] == "llm:request:debug" else None
            content = debug["content"] if debug is not None else None
            yield _Request(event["data"], debug["data"] if debug is not None else {}, content or {})


def _merged(all_data: Sequence[Data]) -> Data:
    """Outer facts win, inner ones fill what is unknown."""
    merged: Data = {}
    for data in all_data:
        merged.update((key, value) for key, value in data.items() if merged.get(key) is None)
    return merged


def _refuse_without_content(call_id: str, data: Data, requests: Sequence[_Request]) -> None:
    capture = data.get("capture")
    if capture in ("none", "summary"):
        kept = {"none": "no text of it was kept", "summary": "only previews of it were kept"}[capture]
        raise ReplayImpossible(
            call_id, f"{kept} (HUB_CAPTURE={capture})", "set HUB_CAPTURE=full and make the call again"
        )
    for request in requests:
        expected, found = request.debug.get("bytes"), request.content
        if isinstance(expected, int) and expected > len(_encoded(found) if found else b""):
            if "shed" in request.data or "shed" in request.debug:
                continue
            gone = "its content was erased" if not found else "part of its content was erased"
            raise ReplayImpossible(call_id, gone, "what was erased stays erased; make the call again")
    messages = _said(requests)[0]
    if messages or any(_bodies(requests, messages)):
        return
    shed = next(
        (mark for request in requests for mark in (request.data.get("shed"), request.debug.get("shed")) if mark), None
    )
    if shed is not None:
        why = f"its text was too much to keep ({shed.get('reason') if isinstance(shed, Mapping) else shed})"
        raise ReplayImpossible(call_id, why, "raise HUB_SPOOL_BYTES or HUB_MAX_BODY_BYTES and make the call again")
    raise ReplayImpossible(
        call_id,
        "what it sent was not seen",
        "hub.traced reads arguments named messages, prompt or request; hub.call takes messages=",
    )


def _said(requests: Sequence[_Request]) -> tuple[list[Any] | None, list[Any] | None, Data]:
    """Messages and tools of the outermost layer that knows them, and the marks of the event that has them."""
    for request in requests:
        messages = request.content.get("messages")
        if isinstance(messages, list):
            tools = request.content.get("tools")
            return messages, tools if isinstance(tools, list) else None, request.data
    return None, None, {}


def _bodies(requests: Sequence[_Request], messages: list[Any] | None) -> Iterator[tuple[bytes, bool]]:
    """Each wire body, and whether it is as it was sent."""
    for request in requests:
        wire = request.content.get("wire")
        if not isinstance(wire, Mapping):
            continue
        if isinstance(body := wire.get("body"), str):
            raw = body.encode("utf-8", "surrogatepass")
        elif isinstance(head := wire.get("head"), str) and isinstance(tail := wire.get("tail"), str):
            between = request.content.get("messages", messages)
            if not isinstance(between, list):  # they were too much to keep, and were left out
                continue
            raw = head.encode("utf-8", "surrogatepass") + _encoded(between) + tail.encode("utf-8", "surrogatepass")
        else:
            continue
        yield raw, not wire.get("changed")


def _encoded(stored: Any) -> bytes:
    try:
        return orjson.dumps(stored)
    except TypeError as error:  # it was JSON before, so that nothing else can be wrong with it
        raise RecursionError("nested deeper than can be encoded") from error


def bodies(events: Sequence[EventRecord]) -> list[tuple[bytes, bool]]:
    """The different wire bodies that a call's events tell of, each with whether it is as it was sent."""
    requests = list(_requests(events))
    return list(dict.fromkeys(_bodies(requests, _said(requests)[0])))


def asked(events: Sequence[EventRecord]) -> Data:
    """What a call's request events say, put together."""
    return _merged([request.data for request in _requests(events)])


def _params(found: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Those that may be sent, and the others by name with the reason."""
    params, lost = {}, {}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        if name not in _PARAMS:
            lost[str(name)] = "no parameter that the hub records"
        elif name in ("response_format", "tool_choice") and value in _KINDS_ONLY:
            lost[name] = f"only its kind was recorded: {value}"
        else:
            params[name] = value
    return params, lost


def _redacted_parts(value: Any, path: str, marks: Data) -> dict[str, str]:
    if not value or not marks.get("redacted"):
        return {}
    return redacted(value, path) or {path: REDACTED}


def redacted(value: Any, path: str = "") -> dict[str, str]:
    """Paths of the texts in *value* that are blacked out, `messages[1].content`, with the reason."""
    if isinstance(value, str):
        return {path: REDACTED} if MARK in value else {}
    found: dict[str, str] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            found.update(redacted(item, f"{path}.{key}" if path else str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found.update(redacted(item, f"{path}[{index}]"))
    return found


def _names(found: Any) -> list[str]:
    return [name for name in found if isinstance(name, str)] if isinstance(found, list | tuple) else []


def _counts(reasons: Any) -> str:
    if not isinstance(reasons, Mapping):
        return "marked"
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def provider_name(original: Original) -> str:
    """The stored provider's name, if it is nothing but a name.

    Raises: ReplayImpossible: It is none, or could be read as more: a scheme with a model, a path, a module.
    """
    name = original.provider
    if name is None:
        raise ReplayImpossible(original.call_id, "which provider it went to is not known", "say it with using=")
    if not _NAME.fullmatch(name):
        raise ReplayImpossible(original.call_id, f"{name!r} is no name of a provider", "say which one with using=")
    return name
