"""A recorded request as arguments for what is to be asked now, found out from its signature."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hub.errors import HubError, ReplayImpossible
from hub.own_packages import check
from hub.replays.conversation import Lost, flat_tools, for_contract, for_text_messages, read_turns, unheld
from hub.replays.original import Original

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens"),
    "stop": ("stop", "stop_sequences"),
    "reasoning_effort": ("reasoning_effort", "reasoning"),
}
"""Under which names else a recorded parameter may be asked for."""

_SYSTEM = ("system", "system_prompt", "instructions")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
UNSURE = "no field of"
_NO_PLACE = "the target takes no such parameter"
_TEXT_ONLY = "the target takes text only"


@dataclass(slots=True)
class Wanted:
    """What is to be asked: the recorded request, with what the user changed."""

    original: Original
    model: str | None
    params: dict[str, Any]
    changed: frozenset[str]
    """Names of what the user gave."""


@dataclass(slots=True)
class Asking:
    """A call ready to be made."""

    method: Callable[..., Any]
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    lost: Lost = field(default_factory=dict)


def rebuild(thing: Any, wanted: Wanted) -> Asking:
    """The call of *thing*, a provider or a function, that asks what is *wanted*. Raises: ReplayImpossible"""
    return _Rebuilding(wanted, *_method(thing, wanted.original)).asking()


def _method(thing: Any, original: Original) -> tuple[Callable[..., Any], Lost]:
    """What to call, and what that costs."""
    if not inspect.isroutine(thing):
        for name in ("stream", "complete_stream", "complete") if original.stream else ("complete",):
            if callable(method := getattr(thing, name, None)):
                lost = {"stream": "the target does not stream"} if original.stream and name == "complete" else {}
                _refuse_embeddings(original)
                return method, lost
    if callable(thing):
        return thing, {}
    raise ReplayImpossible(
        original.call_id,
        f"a {type(thing).__qualname__} has no method `complete`",
        "pass the method or function itself, as in using=client.generate",
    )


def _refuse_embeddings(original: Original) -> None:
    if original.operation == "embeddings":
        raise ReplayImpossible(
            original.call_id,
            "it asked for embeddings, which a chat provider does not make",
            "use a provider that sends recorded bodies again, such as --using openai, or a function",
        )


class _Rebuilding:
    def __init__(self, wanted: Wanted, method: Callable[..., Any], lost: Lost) -> None:
        self.wanted, self.original = wanted, wanted.original
        self.done = Asking(method, lost=lost)
        try:
            self.parameters = dict(inspect.signature(method).parameters)
        except (ValueError, TypeError):
            raise self.impossible(
                "the target does not tell its parameters", "wrap it in a function(messages)"
            ) from None
        self.hints = _hints(method)
        self.takes_any = any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())

    def impossible(self, why: str, remedy: str) -> ReplayImpossible:
        return ReplayImpossible(self.original.call_id, why, remedy)

    def asking(self) -> Asking:
        name, kind = self._subject()
        if kind == "request":
            self._put(name, self._request(name))
        else:
            system = self._system()
            subject = {"messages": self._messages, "prompt": self._prompt, "input": self._input}[kind]
            self._put(name, subject(name, self._said(without_system=system)))
            self._keywords()
        return self.done

    def _subject(self) -> tuple[str, str]:
        """The parameter that takes what is said, and in which form."""
        for name in ("request", "messages", "prompt", "input"):
            if name in self.parameters:
                return name, name
        first = next((p for p in self.parameters.values() if p.kind in _POSITIONAL), None)
        if first is not None:
            hint = self.hints.get(first.name)
            if _validates(hint):
                return first.name, "request"
            if hint is str:
                return first.name, "prompt"
            if _item(hint) is not None or hint in (list, collections.abc.Sequence):
                return first.name, "messages"
        shown = getattr(self.done.method, "__qualname__", type(self.done.method).__qualname__)
        raise self.impossible(
            f"what {shown} takes is not known", "name its parameter messages, prompt or request, or annotate it"
        )

    def _put(self, name: str, value: Any) -> None:
        parameter = self.parameters[name]
        before = list(self.parameters)[: list(self.parameters).index(name)]
        if parameter.kind in _POSITIONAL and not before:
            self.done.args.append(value)
        else:
            self.done.kwargs[name] = value

    # The forms.

    def _said(self, *, without_system: bool = False) -> list[Any]:
        messages = self.original.messages
        if messages is None:
            raise self.impossible("what it said was recorded only as bytes", "replay it through a provider of its wire")
        return messages[1:] if without_system else messages

    def _system(self) -> bool:
        """Whether the system's text goes into a parameter of its own, which gets it here."""
        name = next((name for name in _SYSTEM if name in self.parameters), None)
        messages = self.original.messages or ()
        first = messages[0] if messages and isinstance(messages[0], dict) else {}
        if name is None or first.get("role") != "system" or not isinstance(first.get("content"), str):
            return False
        self.done.kwargs[name] = first["content"]
        return True

    def _messages(self, name: str, messages: list[Any]) -> list[Any]:
        cls = _item(self.hints.get(name))
        if cls is None:
            return messages if name in self.hints else [_either(message) for message in messages]
        fields = _field_names(cls)
        if all(_has_shape(message, cls, fields) for message in messages):
            shaped = messages
        elif (turns := read_turns(messages)) is None:
            raise self._unknown_shape()
        else:
            shaped = for_text_messages(
                turns, with_calls="tool_calls" in fields, with_parts="parts" in fields, lost=self.done.lost
            )
        return [self._made(cls, fields, message) for message in shaped]

    def _made(self, cls: type, fields: frozenset[str], message: Mapping[str, Any]) -> Any:
        given = {name: value for name, value in message.items() if name in fields}
        for name in message.keys() - fields:
            self.done.lost[f"messages.{name}"] = f"{cls.__qualname__} has no such field"
        try:
            if _validates(cls):
                made = cls.model_validate(given)  # type: ignore[attr-defined]
                self.done.lost.update(unheld(given, made, "messages"))
                return made
            hints = typing.get_type_hints(cls)
            for name, value in given.items():
                hint = hints.get(name)
                if inspect.isclass(hint) and issubclass(hint, Enum):
                    given[name] = hint(value)
                elif name == "content" and value is None and hint is str:
                    given[name] = ""
            return cls(**given)
        except Exception as error:
            raise self.impossible(
                f"its messages do not fit {cls.__qualname__} ({type(error).__name__})", "use another provider"
            ) from error

    def _unknown_shape(self) -> ReplayImpossible:
        return self.impossible(
            "its messages have a shape that nobody knows how to rebuild",
            "pass a function that takes the messages as they were, using=function",
        )

    def _prompt(self, name: str, messages: list[Any]) -> Any:
        turns = read_turns(messages)
        if turns is None:
            only = messages[0] if len(messages) == 1 else None
            if isinstance(only, dict) and "content" in only:
                return only["content"]
            raise self._unknown_shape()
        chosen = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
        for place, turn in enumerate(turns):
            if place != chosen:
                self.done.lost[f"messages[{place}]"] = "the target takes one prompt only"
            elif any(piece.kind != "text" for piece in turn.pieces):
                self.done.lost[f"messages[{place}].content"] = _TEXT_ONLY
            else:
                self.done.lost.update((f"messages[{place}]{left}", _TEXT_ONLY) for left in turn.unread)
        return turns[chosen].text if turns else ""

    def _input(self, name: str, messages: list[Any]) -> Any:
        given = [message.get("content") if isinstance(message, dict) else message for message in messages]
        for place, message in enumerate(messages):
            for key, value in message.items() if isinstance(message, dict) else ():
                if value and key != "content" and (key, value) != ("role", "user"):
                    self.done.lost[f"messages[{place}].{key}"] = "the target takes inputs only"
        return given[0] if len(given) == 1 else given

    # Requests.

    def _request(self, name: str) -> Any:
        cls: Any = self.hints.get(name)
        if not _validates(cls):
            check("providers")
            from providers.contract import ChatRequest

            cls = ChatRequest
        shaped = for_contract(self._said(), self.done.lost)
        if shaped is None:
            raise self._unknown_shape()
        fields = frozenset(cls.model_fields)
        data: dict[str, Any] = {"messages": shaped}
        if self.original.tools and "tools" in fields:
            data["tools"] = flat_tools(self.original.tools, self.done.lost)
        elif self.original.tools:
            self.done.lost["tools"] = _NO_PLACE
        if self.original.stream and "stream" in fields and "stream" not in self.done.lost:
            data["stream"] = True
        is_open = cls.model_config.get("extra") == "allow"
        for param, value in self._parameters().items():
            known = next((one for one in _ALIASES.get(param, (param,)) if one in fields), None)
            if known is not None:
                data[known] = _in_contract(param, value)
            elif is_open:
                data[param] = value
                self.done.lost[param] = f"{UNSURE} {cls.__qualname__}: the target may leave it out"
            else:
                self.done.lost[param] = _NO_PLACE
        try:
            request = cls.model_validate(data)
        except HubError:
            raise
        except Exception as error:
            where = _first_place(error)
            raise self.impossible(
                f"it does not fit {cls.__qualname__}{f' at {where}' if where else ''}",
                "change a parameter with --set or params=, or use another provider",
            ) from error
        self.done.lost.update(unheld(data, request))
        return request

    # Keywords.

    def _parameters(self) -> dict[str, Any]:
        model = {} if self.wanted.model is None else {"model": self.wanted.model}
        return {**model, **self.wanted.params}

    def _keywords(self) -> None:
        if self.original.tools:
            if "tools" in self.parameters:
                self.done.kwargs["tools"] = self._tools()
            else:
                self.done.lost["tools"] = _NO_PLACE
        if self.original.stream and "stream" in self.parameters:
            self.done.kwargs["stream"] = True
        for param, value in self._parameters().items():
            self._keyword(param, value)

    def _tools(self) -> list[Any]:
        tools = self.original.tools or []
        return flat_tools(tools, self.done.lost) if _item(self.hints.get("messages")) is not None else tools

    def _keyword(self, param: str, value: Any) -> None:
        known = next((one for one in _ALIASES.get(param, (param,)) if one in self.parameters), None)
        if known is not None:
            self.done.kwargs[known] = value
        elif param == "response_format" and "json_mode" in self.parameters and _kind(value) == "json_object":
            self.done.kwargs["json_mode"] = True
        elif self.takes_any and (param not in self.original.from_config or param in self.wanted.changed):
            self.done.kwargs[param] = value
        elif param in self.original.from_config:
            self.done.lost[param] = "came from the configuration of the original's provider; the target has its own"
        else:
            self.done.lost[param] = _NO_PLACE


def _hints(method: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(method)
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that only a type checker has
        found = getattr(function, "__annotations__", {})
        return {name: hint for name, hint in found.items() if not isinstance(hint, str)}


def _validates(cls: Any) -> bool:
    return inspect.isclass(cls) and hasattr(cls, "model_validate") and hasattr(cls, "model_fields")


def _item(hint: Any) -> type | None:
    """The class of a list's items, if it is one that we can make."""
    for option in (hint, *typing.get_args(hint)):
        inner = typing.get_args(option) or (option,)
        for one in inner:
            if _validates(one) or (inspect.isclass(one) and dataclasses.is_dataclass(one)):
                return one  # type: ignore[no-any-return]
    return None


def _field_names(cls: type) -> frozenset[str]:
    if _validates(cls):
        return frozenset(cls.model_fields)  # type: ignore[attr-defined]
    return frozenset(one.name for one in dataclasses.fields(cls) if one.init)


def _has_shape(message: Any, cls: type, fields: frozenset[str]) -> bool:
    """Whether *message* is a recorded object of a class like *cls*, so that it can be made again."""
    if not isinstance(message, dict) or not message.keys() <= fields:
        return False
    calls, content = message.get("tool_calls"), message.get("content")
    if any(isinstance(call, dict) and "function" in call for call in calls or ()):
        return False
    return content is None or isinstance(content, str) or not _holds_text_only(cls)


def _holds_text_only(cls: type) -> bool:
    try:
        hint = typing.get_type_hints(cls).get("content")
    except Exception:  # names that only a type checker has
        return False
    return hint is str or set(typing.get_args(hint)) == {str, type(None)}


class _Either(dict[str, Any]):
    """A message for code that does not say whether it takes dicts or objects."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in ("name", "tool_call_id", "tool_calls", "parts", "content"):
            return None
        raise AttributeError(name)


def _either(value: Any) -> Any:
    if isinstance(value, dict):
        return _Either({key: _either(item) for key, item in value.items()})
    return [_either(item) for item in value] if isinstance(value, list) else value


def _kind(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else value


def _in_contract(param: str, value: Any) -> Any:
    if param == "response_format":
        kind = {"json_object": "json"}.get(str(_kind(value)), _kind(value))
        return {**value, "type": kind} if isinstance(value, Mapping) else {"type": kind}
    if param == "stop" and isinstance(value, str):
        return [value]
    return value


def _first_place(error: Exception) -> str:
    """Where a validation failed, without the value."""
    errors = getattr(error, "errors", None)
    try:
        return ".".join(map(str, errors()[0]["loc"])) if callable(errors) else ""
    except Exception:
        return ""
