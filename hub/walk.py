"""One pass over any object: what orjson encodes comes out, within bounds, whatever the object does."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain, islice
from pathlib import PurePath
from typing import Any, TypeVar
from uuid import UUID

from hub.redaction import FAILED_MARK, MARK, looks_secret
from hub.strings import Marks, Strings

_T = TypeVar("_T")

MAX_DEPTH = 64
MAX_NODES = 200_000

_MAX_INT, _MIN_INT = 2**63 - 1, -(2**63)  # SQLite and PostgreSQL have no larger ones
_INFINITY = float("inf")


class Walk:
    """One pass over one value: the bounds left and what was changed so far."""

    __slots__ = ("_counts", "_nodes", "_open", "_quick_room", "_redacted", "_room", "_strings")

    def __init__(self, strings: Strings, room: int) -> None:
        self._strings = strings
        self._counts: dict[str, int] = {}
        self._redacted = 0
        self._nodes = MAX_NODES
        self._room = self._quick_room = room
        self._open: set[int] = set()

    def marks(self) -> Marks | None:
        return Marks(self._counts, self._redacted) if self._counts or self._redacted else None

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self.string(value)
        if value is None or kind is bool:
            return value
        if kind is dict or kind is list:
            return self._container(value, kind, depth)
        if kind is int:
            return value if _MIN_INT <= value <= _MAX_INT else self._big(value)
        if kind is float:
            if value != value or value in (_INFINITY, -_INFINITY):
                return self.note("nan", None)
            return value
        try:
            return self._other(value, kind, depth)
        except Exception:
            return self.marker(value)

    def note(self, reason: str, instead: _T, count: int = 1) -> _T:
        self._counts[reason] = self._counts.get(reason, 0) + count
        return instead

    def marker(self, value: Any) -> str:
        """Stands for what cannot be kept."""
        kind = type(value)
        try:
            name = f"<{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__qualname__')}>"
        except Exception:
            name = "<object>"
        return self.note("unserialisable", self._strings.scan(name[:200])[0])

    def string(self, text: str) -> str:
        strings = self._strings
        size = len(text) if text.isascii() else text.__sizeof__()
        if size > self._room:
            return self._cut(text)
        self._room -= size
        if text in strings.memory.clean:
            return text
        return self._noted(strings.look_up(text))

    def _noted(self, known: tuple[str, Marks | None]) -> str:
        plain, marks = known
        if marks is not None:
            for reason, count in marks.sanitised.items():
                self.note(reason, None, count)
            self._redacted += marks.redacted
        return plain

    def _cut(self, text: str) -> str:
        """The part of *text* that fits. More than that is scanned: half a key would not be recognised."""
        each = 1 if text.isascii() else 4
        fits = max(self._room // each, 0)
        self._room = 0
        plain = self._noted(self._strings.scan(text[: fits + 4096])) if fits else ""
        return self.note("size", f"{plain[:fits]}… [{len(text) - fits} more characters]")

    def _big(self, value: int) -> str:
        try:
            return self.note("bigint", str(value))
        except ValueError:  # Python's own limit of 4300 digits
            return self.note("bigint", f"<int of {value.bit_length()} bits>")

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        """A dict or list, or a subclass of them or another collection with *kind* the one it becomes."""
        self._nodes -= 1
        if self._nodes < 0:
            return self.note("nodes", None)
        if depth >= MAX_DEPTH:
            return self.note("depth", None)
        if id(value) in self._open:
            return self.note("cycle", None)
        self._open.add(id(value))
        try:
            return self._mapping(value, depth) if kind is dict else self._sequence(value, depth)
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: Any, depth: int) -> Any:
        if type(value) is dict:
            if self._known(value.values, len(value)) and self._strings.plain_keys.issuperset(value):
                return value
            return self._pairs(list(value.items()), depth)
        pairs = dict.items(value) if issubclass(type(value), dict) else value.items()
        return self._pairs(islice(pairs, self._nodes + 1), depth)

    def _sequence(self, value: Any, depth: int) -> Any:
        if type(value) is list:
            if self._known_messages(value):
                return value
            return [self.value(each, depth + 1) for each in self._bounded(value)]
        items = list.__iter__(value) if issubclass(type(value), list) else value
        return [self.value(each, depth + 1) for each in self._bounded(islice(items, self._nodes + 1))]

    def _bounded(self, items: Iterable[Any]) -> Iterable[Any]:
        for each in items:
            self._nodes -= 1
            if self._nodes < 0:
                self.note("nodes", None)
                return
            yield each

    def _known(self, strings: Callable[[], Iterable[Any]], count: int) -> bool:
        """Whether all are strings already known to be clean, and fit; decided by loops in C."""
        memory = self._strings.memory
        try:
            if not memory.clean.issuperset(strings()):
                return False
            size = 4 * count * memory.longest
            if size > self._quick_room:  # too rough an estimate: one long string is remembered
                size = 4 * sum(map(len, filter(None, strings())))
        except Exception:  # not hashable, no length, or a method of the user's that raises
            return False
        if size > self._quick_room:
            return False
        self._quick_room -= size
        return True

    def _known_messages(self, value: list[Any]) -> bool:
        """Whether this is a list of flat dicts, as most messages are, of strings and keys already known to be clean."""
        if len(value) < 2 or type(value[0]) is not dict:
            return False
        try:
            if not self._known(lambda: chain.from_iterable(map(dict.values, value)), 4 * len(value)):
                return False
            return self._strings.plain_keys.issuperset(chain.from_iterable(value))
        except Exception:
            return False

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        plain_keys = self._strings.plain_keys
        for key, each in pairs:
            self._nodes -= 1
            if self._nodes < 0:
                self.note("nodes", None)
                break
            if type(key) is str and key in plain_keys:
                plain[key] = self.value(each, depth + 1)
            else:
                self._odd_pair(plain, key, each, depth)
        return plain

    def _odd_pair(self, plain: dict[str, Any], key: Any, each: Any, depth: int) -> None:
        if type(key) is not str:
            key = self._key_text(key, depth)
        known = self._strings.key(key)
        name = self._noted((known.plain, known.marks))
        while name in plain:  # 1 and "1", or two keys with secrets in them
            name += "'"
        if type(each) is str and (known.secret or (known.weak and looks_secret(each))):
            plain[name] = self._hide(each)
        else:
            kept = self.value(each, depth + 1)
            plain[name] = self._hide(kept) if known.secret else kept

    def _key_text(self, key: Any, depth: int) -> str:
        kind = type(key)
        if key is None or kind is bool or kind is int or kind is float:
            return str(self.value(key, depth + 1) if kind is int else key)
        kept = self.value(key, depth + 1)
        return kept if type(kept) is str else str(kept)

    def _hide(self, kept: Any) -> Any:
        """The value of a key-like name; those of a header sent twice come as a list."""
        if type(kept) is list:
            return [self._hide(each) if type(each) is str else each for each in kept]
        if type(kept) is not str or not kept or kept in (MARK, FAILED_MARK):
            return kept
        self._redacted += 1
        return MARK

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        convert = _converters.get(kind)
        if convert is None:
            convert = _choose(kind)
            if len(_converters) >= _MAX_CONVERTERS:
                _converters.clear()
            _converters[kind] = convert
        return convert(self, value, depth)

    def collection(self, value: Any, depth: int) -> Any:
        return self._container(value, list, depth)

    def mapping(self, value: Any, depth: int) -> Any:
        return self._container(value, dict, depth)

    def pair(self, value: tuple[Any, ...], depth: int) -> Any:
        """A tuple; of two, it may be a header."""
        if len(value) == 2 and type(value[0]) is str and self._strings.key(value[0]).secret:
            return [self.string(value[0]), self._hide(self.value(value[1], depth + 1))]
        return self._container(value, list, depth)

    def fields(self, value: Any, depth: int) -> Any:
        """An object as a dict of its public fields, read past the methods its class may put in the way."""
        found: dict[str, Any] = {}
        for name in _slots(type(value)):
            try:
                found[name] = object.__getattribute__(value, name)
            except AttributeError:
                continue
        for source in ("__dict__", "__pydantic_extra__"):
            try:
                found.update(object.__getattribute__(value, source) or {})
            except AttributeError:
                continue
        public = {name: each for name, each in found.items() if type(name) is str and not name.startswith("_")}
        if not public:
            return self.marker(value)
        if id(value) in self._open:
            return self.note("cycle", None)
        self._open.add(id(value))
        try:
            return self._container(public, dict, depth)
        finally:
            self._open.discard(id(value))


_Convert = Callable[[Walk, Any, int], Any]
_MAX_CONVERTERS = 1024
_converters: dict[type, _Convert] = {}

_OPAQUE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
)
_AS_TEXT = (timedelta, tzinfo, UUID, Decimal, PurePath, Fraction, complex)


def _opaque(walk: Walk, value: Any, depth: int) -> Any:
    return walk.marker(value)


# In this order: an Enum may be a str, a dict may be a Mapping. Subclasses of builtins are read by the builtin's own
# methods, which a subclass cannot replace.
_CHOICES: tuple[tuple[tuple[type, ...], _Convert], ...] = (
    (_OPAQUE, _opaque),
    ((Enum,), lambda walk, value, depth: walk.value(value._value_, depth + 1)),
    ((str,), lambda walk, value, depth: walk.string(str.__str__(value))),
    ((int,), lambda walk, value, depth: walk.value(int.__pos__(value), depth)),
    ((float,), lambda walk, value, depth: walk.value(float.__pos__(value), depth)),
    ((dict,), Walk.mapping),
    ((tuple,), Walk.pair),
    ((list, set, frozenset, deque), Walk.collection),
    ((bytes, bytearray), lambda walk, value, depth: walk.note("bytes", {"bytes": len(value)})),
    ((memoryview,), lambda walk, value, depth: walk.note("bytes", {"bytes": value.nbytes})),
    ((date, time), lambda walk, value, depth: walk.string(value.isoformat())),
    (_AS_TEXT, lambda walk, value, depth: walk.string(str(value))),
)


def _choose(kind: type) -> _Convert:
    for kinds, convert in _CHOICES:
        if issubclass(kind, kinds):
            return convert
    if not _has_fields(kind):
        if issubclass(kind, Mapping):
            return Walk.mapping
        if issubclass(kind, (Sequence, AbstractSet)):
            return Walk.collection
    return Walk.fields


def _has_fields(kind: type) -> bool:
    """A dataclass or a pydantic model, which may be a Mapping or Sequence too."""
    return any("__dataclass_fields__" in vars(each) or "__pydantic_fields__" in vars(each) for each in kind.__mro__)


def _slots(kind: type) -> list[str]:
    names: list[str] = []
    for each in reversed(kind.__mro__):
        slots = vars(each).get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
        names += vars(each).get("__struct_fields__", ())
    return [name for name in names if not name.startswith("_")]
