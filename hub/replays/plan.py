"""What is to leave for where, decided before anything does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from hub.errors import NotTraceable, ReplayImpossible
from hub.extractors.requests import PARAMS
from hub.recorder import Recorder
from hub.replays.original import Original
from hub.replays.rebuild import Asking, Wanted, rebuild
from hub.replays.targets import Target, described, is_sdk_client, path_for
from hub.traced import traced
from hub.watch import HasRecorder

_NOT_TO_SET = frozenset(
    (
        *("model", "messages", "input", "prompt", "request", "tools", "api_key", "base_url", "organization", "project"),
        *("headers", "extra_headers", "extra_query", "extra_body", "http_client", "client", "auth", "timeout"),
    )
)
_SAID_OTHERWISE = frozenset(
    ("model", "messages", "input", "prompt", "instructions", "tools", "stream", "stream_options")
)
"""What of a body is recorded as something else than a parameter."""
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent where."""

    original: Original
    target: Target
    wanted: Wanted
    recorder: Recorder | None
    run: str
    body: bytes | None = None
    """Sent as it is, to `path`; otherwise `asking` says what is called."""
    path: str = ""
    asking: Asking | None = None

    @property
    def model(self) -> str | None:
        """The model asked for."""
        found = opened(self.body).get("model") if self.body is not None else self.wanted.model
        return found if isinstance(found, str) else None

    @property
    def is_unchanged(self) -> bool:
        """Whether what is sent are the bytes that were stored, and those that were sent."""
        return self.body is not None and self.body == self.original.body and self.original.untouched

    @property
    def hosted_tools(self) -> list[str]:
        """Types of tools that the provider would run itself: a search, a server of somebody's."""
        tools = opened(self.body).get("tools") if self.body is not None else None
        kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
        return sorted({str(kind) for kind in kinds if kind not in (None, "function", "custom")})

    @property
    def streams(self) -> bool:
        return self.original.stream if self.body is None else opened(self.body).get("stream") is True


def opened(body: bytes | None) -> dict[str, Any]:
    """A body that is known to be an object."""
    found = orjson.loads(body or b"{}")
    assert isinstance(found, dict)
    return found


def plan(
    original: Original,
    target: Target,
    *,
    model: str | None,
    params: Mapping[str, Any],
    recorder: Recorder | None,
    hub: HasRecorder | None,
    run: str,
) -> Plan:
    """Decide what leaves. Raises: ReplayImpossible"""
    _refuse_settings(params, original)
    model = model or target.model
    changed = {**params, **({} if model is None or model == original.model else {"model": model})}
    wanted = Wanted(original, model or original.model, {**_recorded_params(original), **params}, frozenset(changed))
    known = original.body_json()
    path = None if known is None or target.resend is None else path_for(known, original.operation)
    if known is not None and path is not None:
        if recorder is not None and is_sdk_client(target.thing):  # its bytes are seen through a traced one only
            target = replace(target, resend=described(_traced(target.thing, original, hub)).resend)
        return Plan(original, target, wanted, recorder, run, _body(original, known, changed), path)
    if original.operation == "embeddings" and target.resend is not None:
        raise ReplayImpossible(
            original.call_id, "its body was not kept as it was", "make the call again through a traced client"
        )
    if wanted.model is not None and not wanted.model.isprintable():
        raise ReplayImpossible(
            original.call_id, "its model's name holds control characters", "name another with --model or model="
        )
    thing = target.thing if recorder is None else _traced(target.thing, original, hub)
    asking = rebuild(thing, wanted)
    for name, value in (known or {}).items():
        if name not in _SAID_OTHERWISE and name not in PARAMS and value is not None and name not in asking.kwargs:
            asking.lost.setdefault(name, "only a provider that takes the body itself can send it")
    return Plan(original, target, wanted, recorder, run, asking=asking)


def _refuse_settings(params: Mapping[str, Any], original: Original) -> None:
    for name in params:
        if name in _NOT_TO_SET or not name.isidentifier():
            raise ReplayImpossible(
                original.call_id,
                f"{name} cannot be set",
                "parameters such as temperature can; a model is given by --model or model=, keys and addresses by the "
                "environment",
            )


def _body(original: Original, known: Mapping[str, Any], changed: Mapping[str, Any]) -> bytes:
    """The stored bytes, with what the user changed written over them."""
    assert original.body is not None
    different = {spelled(name, known): value for name, value in changed.items() if not _has(known, name, value)}
    if not different:
        return original.body
    try:
        made = _written_over(
            original.body.decode(), {name: _COMPACT.encode(value) for name, value in different.items()}
        ).encode()
        opened(made)
    except (TypeError, ValueError, RecursionError) as error:
        raise ReplayImpossible(
            original.call_id,
            f"its body with another {', '.join(different)} would be no JSON that can be sent",
            "give numbers of 64 bits, texts, lists and objects of these",
        ) from error
    return made


def _has(body: Mapping[str, Any], name: str, value: Any) -> bool:
    if name not in body or isinstance(body[name], bool) != isinstance(value, bool):
        return False
    return bool(body[name] == value)


def spelled(name: str, body: Mapping[str, Any]) -> str:
    """A parameter's name as *body* has it already."""
    if name == "max_tokens":
        return next((one for one in ("max_completion_tokens", "max_output_tokens") if one in body), name)
    return name


def _written_over(text: str, values: Mapping[str, str]) -> str:
    """An object's JSON with these members, encoded ones; all others stay as they are written, to the last digit."""
    pieces, kept, new = [], 0, dict(values)
    at = end = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        start = _after_space(text, _after_space(text, at) + 1)
        end = _DECODER.raw_decode(text, start)[1]
        if name in values:
            pieces += [text[kept:start], values[name]]
            kept = end
            new.pop(name, None)
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    added = [f",{_COMPACT.encode(name)}:{value}" for name, value in new.items()]
    return "".join((*pieces, text[kept:end], *added, text[end:]))


def _after_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _recorded_params(original: Original) -> dict[str, Any]:
    """As recorded; as the body has them, where that is known: it has whole schemas."""
    found = dict(original.params)
    for name, value in (original.body_json() or {}).items():
        if (known := PARAMS.get(name)) is not None and value is not None:
            found[known] = value.get("effort") if name == "reasoning" and isinstance(value, dict) else value
    return found


def _traced(thing: Any, original: Original, hub: HasRecorder | None) -> Any:
    try:
        return traced(thing, hub=hub) if hub is not None else traced(thing)
    except NotTraceable as error:
        raise ReplayImpossible(original.call_id, str(error), "pass a provider, a function or a method") from error
