"""What a function's arguments, a request object or a wire body ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, NamedTuple

from hub.extractors.values import fields_of, get, messages, text

PARAMS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "seed": "seed",
    "n": "n",
    "stop": "stop",
    "stop_sequences": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "json_mode": "json_mode",
    "response_format": "response_format",
    "reasoning_effort": "reasoning_effort",
    "reasoning": "reasoning_effort",
    "verbosity": "verbosity",
    "service_tier": "service_tier",
    "parallel_tool_calls": "parallel_tool_calls",
    "tool_choice": "tool_choice",
    "logprobs": "logprobs",
    "dimensions": "dimensions",
    "encoding_format": "encoding_format",
    "truncation": "truncation",
    "background": "background",
    "previous_response_id": "previous_response_id",
}
"""The parameters that are recorded, and under which name. Any other may hold text or a secret, and is not."""

SOURCES = ("messages", "request", "prompt", "input")
"""Arguments that hold the conversation, or an object that does."""
_SYSTEM = ("system", "system_prompt", "instructions")
_KNOWN = frozenset({*PARAMS, *SOURCES, *_SYSTEM, "model", "tools", "stream"})
_OF_A_REQUEST = frozenset({*PARAMS, "messages", "model", "tools", "stream"})
_NUMBERS, _LISTS, _CONVERSATIONS = (bool, int, float), (list, tuple), (str, list)
"""For `isinstance`, to which a union is made anew at each call, at thrice the cost."""
_MAX_TEXT = 200
_MOST_NAMES = 32


class Asked(NamedTuple):
    """What a call asks for. Unknown is None."""

    messages: list[Any] | None = None
    model: str | None = None
    tools: list[Any] | None = None
    params: dict[str, Any] | None = None
    stream: bool = False
    unkept: list[str] | None = None
    """Names, sorted, of what was given besides, or is recorded in part only."""


def param(value: Any) -> Any:
    """A parameter's value as it is recorded: a scalar, short strings; of an object only its kind. Else None."""
    if value is None or isinstance(value, _NUMBERS):
        return value
    if isinstance(value, _LISTS):
        short = [one for one in value[:8] if isinstance(one, str) and len(one) <= _MAX_TEXT]
        return short or None
    found = text(value) or text(get(value, "effort")) or text(get(value, "type"))
    return found if found is None or len(found) <= _MAX_TEXT else None


def allowed(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of parameters by name those that are recorded."""
    params: dict[str, Any] = {}
    _read_params(params, values if isinstance(values, Mapping) else {}, [])
    return params or None


def asked(values: Mapping[str, Any]) -> Asked:
    """Read *values*, arguments by name or a wire body."""
    request = _first(values, SOURCES)
    inner = None if request is None or isinstance(request, _CONVERSATIONS) else get(request, "messages")
    if inner is None:
        said, model, tools, params, stream, unkept = messages(request), None, None, {}, False, []
    elif len(values) == 1:
        return _asked_by(request, inner)
    else:
        of_request = _asked_by(request, inner)
        said, model, tools, stream = of_request.messages, of_request.model, of_request.tools, of_request.stream
        params, unkept = of_request.params or {}, of_request.unkept or []
    _read_params(params, values, unkept, _KNOWN, values)
    if isinstance(form := values.get("text"), dict):  # where OpenAI's responses have what chats call response_format
        _read_params(params, {"response_format": form.get("format")}, unkept)
    system, own_tools = _first(values, _SYSTEM), values.get("tools")
    if isinstance(system, str) and system:
        said = [{"role": "system", "content": system}, *(said or ())]
    return Asked(
        said,
        text(values.get("model")) or model,
        tools if own_tools is None else _listed(own_tools),
        params or None,
        values.get("stream") is True or stream,
        _sorted(unkept),
    )


def _asked_by(request: Any, conversation: Any) -> Asked:
    """What a *request* object asks for, of which *conversation* is the messages."""
    params: dict[str, Any] = {}
    unkept: list[str] = []
    fields, given = fields_of(request, _OF_A_REQUEST)
    _read_params(params, fields, unkept, _OF_A_REQUEST, given)
    tools = fields.get("tools")
    return Asked(
        messages(conversation),
        text(fields.get("model")),
        None if tools is None else _listed(tools),
        params or None,
        fields.get("stream") is True,
        _sorted(unkept),
    )


def _sorted(names: list[str]) -> list[str] | None:
    return sorted(set(names))[:_MOST_NAMES] if names else None


def _listed(tools: Any) -> list[Any] | None:
    """*tools* as a list; anything else, an iterator for one, is left as it is and counts as one. None of what is empty
    or, as SDKs say it, not given."""
    if isinstance(tools, _LISTS):
        return list(tools) or None
    try:
        if not tools:
            return None
    except Exception:  # it will not tell
        pass
    return [tools]


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if (value := values.get(name)) is not None:
            return value
    return None


def _read_params(
    params: dict[str, Any],
    values: Mapping[str, Any],
    unkept: list[str],
    known: Collection[str] = PARAMS,
    given: Collection[str] = (),
) -> None:
    """Into *params* what is recorded of *values*; into *unkept* the names of those *given* of which that is not all."""
    for name, value in values.items():
        if value is None:
            continue
        if name not in known:
            if name in given:
                unkept.append(str(name)[:_MAX_TEXT])
        elif (kept := PARAMS.get(name)) is not None:
            if (found := param(value)) is not None:
                params[kept] = found
            if found is not value and not _same(found, value):
                unkept.append(name)


def _same(found: Any, value: Any) -> bool:
    """Whether a parameter is recorded as it was given."""
    if isinstance(value, Enum):
        return found is not None
    return isinstance(value, _LISTS) and isinstance(found, list) and len(found) == len(value)


class Arguments:
    """How to read a function's arguments, worked out once from its signature.

    At a call only the names that matter are looked at: `inspect.Signature.bind` takes longer than all the rest.
    """

    __slots__ = ("_alias", "_defaults", "_keyword", "_lone", "_names", "_positional", "_usual")

    def __init__(self, function: Callable[..., Any], *, method: bool = False, has_self: bool = False) -> None:
        """*method*: of a provider, whose first argument is the conversation whatever its name; with *has_self* the
        second one."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (ValueError, TypeError):  # a function written in C
            parameters = ()  # type: ignore[assignment]
        positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        self._names = [one.name for one in positional]
        first = int(has_self or self._names[:1] == ["self"])
        self._positional = list(enumerate(self._names))[first:]
        self._alias = ""
        if method and not any(one.name in SOURCES for one in parameters):
            self._alias = self._positional[0][1] if self._positional else ""
            self._positional[:1] = [(first, "request")]
        self._lone = self._positional[0][0] if self._positional and self._positional[0][1] == "messages" else None
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
        self._keyword = {n: v for n, v in self._defaults.items() if n in _KNOWN and v is not None}
        self._usual = asked(self._keyword)
        if self._usual.messages is not None:  # a default of its own
            self._lone = None

    def asked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
        """What a call with these arguments asks for."""
        given = len(args)
        if self._lone is not None and given == self._lone + 1 and not kwargs:
            _, model, tools, params, stream, unkept = self._usual
            return Asked(messages(args[self._lone]), model, tools, params, stream, unkept)
        values: dict[str, Any] = dict(self._keyword)
        for index, name in self._positional:
            if index < given:
                values[name] = args[index]
        if kwargs:
            values.update(kwargs)
            if self._alias in values:
                values["request"] = values.pop(self._alias)
        return asked(values)

    def by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults included; of `*args` what has a name."""
        return {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}
