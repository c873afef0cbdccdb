"""Reading values out of shapes we do not own: dicts from a wire, models of an SDK, dataclasses, plain objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from hub.harmless import is_harmless

_SCALARS = frozenset({str, int, float, bool, type(None)})


_ABSENT = object()
_LISTS, _NUMBERS = (list, tuple), (int, float)


def get(thing: Any, name: str) -> Any:
    """The key or attribute *name* of *thing*; None when there is none, or when asking for it fails."""
    try:
        if isinstance(thing, dict):
            return thing.get(name)
        fields = getattr(thing, "__dict__", None)
        if fields is None:
            return getattr(thing, name, None)
        value = fields.get(name, _ABSENT)
        if value is not _ABSENT:
            return value
        if _is_model(type(thing)):
            extra = thing.__pydantic_extra__
            return None if extra is None else extra.get(name)
        return getattr(thing, name, None)
    except BaseException as error:  # a property, or a proxy, of the program's
        if not is_harmless(error):
            raise
        return None


def attribute(thing: Any, name: str) -> Any:
    """As `get`, of an object with behaviour, whose properties count: a provider, or its configuration.

    Its class is not remembered: that of a traced instance holds the instance.
    """
    try:
        if isinstance(thing, _MAPPINGS):
            return thing.get(name)
        if BaseModel in type(thing).__mro__ and not any(name in base.__dict__ for base in type(thing).__mro__):
            extra = thing.__pydantic_extra__
            return thing.__dict__.get(name) if not extra else {**extra, **thing.__dict__}.get(name)
        return getattr(thing, name, None)
    except BaseException as error:
        if not is_harmless(error):
            raise
        return None


def attributes(thing: Any, names: Sequence[str]) -> Sequence[Any]:
    """`attribute` for each of *names*."""
    try:
        if type(thing) is dict:
            return [thing.get(name) for name in names]
        if BaseModel not in type(thing).__mro__ and not isinstance(thing, _MAPPINGS):
            return [getattr(thing, name, None) for name in names]
    except BaseException as error:  # one of them
        if not is_harmless(error):
            raise
    return [attribute(thing, name) for name in names]


_MAPPINGS = (dict, MappingProxyType)


def fields_of(thing: Any, names: Collection[str]) -> tuple[Mapping[str, Any], Collection[str]]:
    """What a request object says, by name, and which of that it was given: no default of its class.

    Of an object that cannot list its fields only *names* are read.
    """
    if isinstance(thing, _MAPPINGS):
        return thing, thing.keys()
    kind, fields = type(thing), getattr(thing, "__dict__", None)
    if fields is not None and _is_model(kind):
        given, extra = thing.__pydantic_fields_set__, thing.__pydantic_extra__ or {}
        said = {name: fields[name] if name in fields else extra.get(name) for name in given}
        for name in _with_a_default(kind):
            said.setdefault(name, fields.get(name))
        return said, given
    if dataclasses.is_dataclass(kind):
        known = {one.name: get(thing, one.name) for one in dataclasses.fields(thing)}
        return known, known.keys()
    own = {} if fields is None else {name: value for name, value in fields.items() if not name.startswith("_")}
    return {**{name: value for name in names if (value := get(thing, name)) is not None}, **own}, own.keys()


_defaults: dict[type, tuple[str, ...]] = {}


def _with_a_default(kind: type) -> tuple[str, ...]:
    """The fields of a model that say something even where they are not given."""
    known = _defaults.get(kind)
    if known is None:
        fields: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", {})
        known = tuple(name for name, one in fields.items() if one.default is not None or one.default_factory)
        if len(_defaults) < _MOST_KINDS:
            _defaults[kind] = known
    return known


_kinds: dict[type, bool] = {}
_MOST_KINDS = 4096


def _is_model(kind: type) -> bool:
    """Whether *kind* is one of pydantic's, which take longer to say that they lack an attribute than all else here."""
    known = _kinds.get(kind)
    if known is None:
        known = any("__pydantic_extra__" in base.__dict__ for base in kind.__mro__)
        if len(_kinds) < _MOST_KINDS:
            _kinds[kind] = known
    return known


def has_fixed_fields(kind: type) -> bool:
    """Whether all of this *kind* have the same fields: a model, or a dataclass."""
    return _is_model(kind) or dataclasses.is_dataclass(kind)


def reader(thing: Any) -> Callable[[str], Any]:
    """`get` of one *thing*, for many names: at a third of the cost where it is a dict or a model."""
    if isinstance(thing, dict):
        return thing.get
    if _is_model(type(thing)):
        extra = thing.__pydantic_extra__
        return ({**thing.__dict__, **extra} if extra else thing.__dict__).get

    def of_object(name: str) -> Any:
        try:
            return getattr(thing, name, None)
        except BaseException as error:
            if not is_harmless(error):
                raise
            return None

    return of_object


def text(value: Any) -> str | None:
    """A string that says something, with an Enum's value counting as one; else None."""
    if type(value) is str:
        return value or None
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A count of something; None for what is no count."""
    return value if type(value) is int and value >= 0 else None


def plain(value: Any) -> Any:
    """*value* as what JSON knows: a model or dataclass becomes a dict of what it has to say.

    Dicts and lists are returned as they are, the caller's own objects: what hides deeper is for the sanitiser.
    """
    kind = type(value)
    if kind in _SCALARS or kind is dict or kind is list:
        return value
    if isinstance(value, Enum):
        return value.value
    if _is_model(kind):
        return _model(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(item) for f in dataclasses.fields(value) if (item := getattr(value, f.name)) is not None}
    return value


def _model(value: Any) -> dict[str, Any]:
    said = {name: item for name, item in value.__dict__.items() if item is not None}
    extra = value.__pydantic_extra__
    return {**said, **extra} if extra else said


_MESSAGE_FIELDS = ("role", "content", "parts", "tool_calls", "tool_call_id", "name")


def message(value: Any) -> Any:
    """One message of any contract as a dict; a bare string is the user's."""
    kind = type(value)
    if kind is dict:
        return value
    if isinstance(value, str):
        return {"role": "user", "content": value}
    found = _model(value) if _is_model(kind) else plain(value)
    if type(found) is dict:
        if isinstance(role := found.get("role"), Enum):
            found["role"] = role.value
        return found
    if get(value, "role") is None:
        return {"role": "user", "content": value}
    return {
        name: [plain(part) for part in item] if isinstance(item, _LISTS) else plain(item)
        for name in _MESSAGE_FIELDS
        if (item := get(value, name)) is not None
    }


def messages(value: Any) -> list[Any] | None:
    """A conversation in any form as a list of dicts: the list given, when it is one already."""
    if value is None:
        return None
    if isinstance(value, _LISTS):
        if value and isinstance(value[0], _NUMBERS):  # tokens, or an embedding: one text of many numbers
            return [message(value)]
        for item in value:
            if type(item) is not dict:
                return [message(item) for item in value]
        return value if type(value) is list else list(value)
    return [message(value)]
