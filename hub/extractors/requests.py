"""What a function's arguments, a request object or a wire body ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hub.extractors.values import get, messages, text

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

_SOURCES = ("messages", "request", "prompt", "input")
_SYSTEM = ("system", "system_prompt", "instructions")
_KNOWN = frozenset({*PARAMS, *_SOURCES, *_SYSTEM, "model", "tools", "stream"})
_MAX_TEXT = 200


class Asked(NamedTuple):
    """What a call asks for. Unknown is None."""

    messages: list[Any] | None = None
    model: str | None = None
    tools: list[Any] | None = None
    params: dict[str, Any] | None = None
    stream: bool = False


def param(value: Any) -> Any:
    """A parameter's value as it is recorded: a scalar, short strings; of an object only its kind. Else None."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        short = [one for one in value[:8] if isinstance(one, str) and len(one) <= _MAX_TEXT]
        return short or None
    found = text(value) or text(get(value, "effort")) or text(get(value, "type"))
    return found if found is None or len(found) <= _MAX_TEXT else None


def allowed(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of parameters by name those that are recorded."""
    params: dict[str, Any] = {}
    _read_params(params, values if isinstance(values, Mapping) else {})
    return params or None


def asked(values: Mapping[str, Any]) -> Asked:
    """Read *values*, arguments by name or a wire body."""
    request = _first(values, _SOURCES)
    params: dict[str, Any] = {}
    inner = None if request is None or isinstance(request, str | list) else get(request, "messages")
    if inner is not None:
        _read_params(params, {name: value for name in PARAMS if (value := get(request, name)) is not None})
    _read_params(params, values)
    if isinstance(form := values.get("text"), dict):  # where OpenAI's responses have what chats call response_format
        _read_params(params, {"response_format": form.get("format")})
    said = messages(inner if inner is not None else request)
    system = _first(values, _SYSTEM)
    if isinstance(system, str) and system:
        said = [{"role": "system", "content": system}, *(said or ())]
    tools = values.get("tools")
    if tools is None and inner is not None:
        tools = get(request, "tools")
    return Asked(
        said,
        text(values.get("model")) or (text(get(request, "model")) if inner is not None else None),
        None if tools is None else _listed(tools),
        params or None,
        values.get("stream") is True or (inner is not None and get(request, "stream") is True),
    )


def _listed(tools: Any) -> list[Any] | None:
    """*tools* as a list; anything else, an iterator for one, is left as it is and counts as one. None of what is empty
    or, as SDKs say it, not given."""
    if isinstance(tools, list | tuple):
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


def _read_params(params: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        known = PARAMS.get(name)
        if known is not None and (found := param(value)) is not None:
            params[known] = found


class Arguments:
    """How to read a function's arguments, worked out once from its signature.

    At a call only the names that matter are looked at: `inspect.Signature.bind` takes longer than all the rest.
    """

    __slots__ = ("_defaults", "_keyword", "_names", "_positional")

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (ValueError, TypeError):  # a function written in C
            parameters = ()  # type: ignore[assignment]
        positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        self._names = [one.name for one in positional]
        self._positional = [(index, one.name) for index, one in enumerate(positional) if one.name in _KNOWN]
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
        self._keyword = {n: v for n, v in self._defaults.items() if n in _KNOWN and v is not None}

    def asked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
        """What a call with these arguments asks for."""
        if len(kwargs) == 0 and not self._keyword and len(self._positional) == 1 and args:
            index, name = self._positional[0]
            if name == "messages" and index < len(args):
                return Asked(messages(args[index]))
        values: dict[str, Any] = dict(self._keyword)
        given = len(args)
        for index, name in self._positional:
            if index < given:
                values[name] = args[index]
        if kwargs:
            values.update(kwargs)
        return asked(values)

    def by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults included; of `*args` what has a name."""
        return {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}
