"""Strings made fit to keep, each looked at once and then remembered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from hub.redaction import Redactor, secret_name, weak_name

_SURROGATE = re.compile("[\ud800-\udfff]")
_ENTRY = 64
_MAX_KEYS = 4096
_LONGEST_KEY = 128


class Marks(NamedTuple):
    """What was changed in a value before it was kept."""

    sanitised: dict[str, int]
    """Reason to count: nul, surrogate, nan, bigint, bytes, unserialisable, cycle, depth, nodes, size, redactor."""
    redacted: int
    """Secrets replaced."""


class Key(NamedTuple):
    """A dict's key, cleaned."""

    plain: str
    marks: Marks | None
    secret: bool
    """Text under it is a secret."""
    weak: bool
    """Text under it is a secret if it looks like one."""


class Memory:
    """Strings already looked at, within a bound of bytes; the less recently used half goes at once.

    `clean` holds those that need no change and `changed` what became of the others. Every step is one operation of a
    builtin container, so threads and finalisers may enter at any point; the worst is a string looked at twice.
    """

    __slots__ = ("_half", "_old", "_old_changed", "_used", "changed", "clean", "longest")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._old: set[Any] = set()
        self._old_changed: dict[str, tuple[str, Marks]] = {}
        self._start()

    def _start(self) -> None:
        self._used = self.longest = 0
        self.changed: dict[str, tuple[str, Marks]] = {}
        self.clean: set[Any] = {None}  # not True and False, which Decimal(0) and 0j equal

    def recall(self, text: str) -> tuple[str, Marks | None] | None:
        """What is known of a *text* that is not in `clean`; asked for, it counts as recently used."""
        if text in self._old:
            self.keep(text, text, None)
            return text, None
        if (known := self.changed.get(text)) is not None:
            return known
        if (known := self._old_changed.get(text)) is not None:
            self.keep(text, *known)
        return known

    def keep(self, text: str, clean: str, marks: Marks | None) -> None:
        size = text.__sizeof__() + _ENTRY
        if marks is not None:
            size += clean.__sizeof__() + _ENTRY
        if size > self._half // 2:
            return
        if self._used + size > self._half:
            self._old, self._old_changed = self.clean, self.changed
            self._start()
        self._used += size
        if marks is None:
            self.longest = max(self.longest, len(text))
            self.clean.add(text)
        else:
            self.changed[text] = clean, marks

    def size(self) -> int:
        """Bytes held by the strings, without the containers."""
        held = sum(text.__sizeof__() for text in chain(self.clean, self._old) if type(text) is str)
        pairs = chain(self.changed.items(), self._old_changed.items())
        return held + sum(text.__sizeof__() + clean.__sizeof__() for text, (clean, _) in pairs)


class Strings:
    """Cleans single strings and the keys of dicts; remembers what it has seen."""

    def __init__(
        self, *, redact: Callable[[str], str] | None, patterns: Sequence[str], enabled: bool, memory_bytes: int
    ) -> None:
        self._redactor = Redactor(patterns=patterns, redact=redact) if enabled else None
        self._shortest = self._redactor.shortest if self._redactor else 2**62
        self.memory = Memory(memory_bytes)
        self.plain_keys: set[str] = set()
        self._special_keys: dict[str, Key] = {}

    def look_up(self, text: str) -> tuple[str, Marks | None]:
        """*text* cleaned, from memory if it is there."""
        memory = self.memory
        if text in memory.clean:
            return text, None
        known = memory.recall(text)
        if known is None:
            known = self.scan(text)
            memory.keep(text, *known)
        return known

    def scan(self, text: str) -> tuple[str, Marks | None]:
        """*text* cleaned, without a look into memory."""
        quiet = text.isascii() and "\0" not in text
        if quiet and (self._redactor is None or len(text) < self._shortest or self._redactor.passes(text)):
            return text, None
        sanitised: dict[str, int] = {}
        plain = _encodable(text, sanitised)
        redacted = 0
        if self._redactor is not None and len(plain) >= self._shortest:
            found, redacted, failed = self._redactor(plain)
            if failed:
                sanitised["redactor"] = 1
            plain = found if found is plain else _encodable(found, sanitised)
        return plain, Marks(sanitised, redacted) if sanitised or redacted else None

    def key(self, key: str) -> Key:
        """What is to be done with this key of a dict."""
        known = self._special_keys.get(key)
        if known is None:
            plain, marks = self.look_up(key)
            redacting = self._redactor is not None
            known = Key(plain, marks, redacting and secret_name(key), redacting and weak_name(key))
            if len(key) <= _LONGEST_KEY:
                self._remember_key(key, known)
        return known

    def _remember_key(self, key: str, known: Key) -> None:
        if len(self.plain_keys) + len(self._special_keys) >= _MAX_KEYS:
            self.plain_keys, self._special_keys = set(), {}
        if known[1:] == (None, False, False):
            self.plain_keys.add(key)
        else:
            self._special_keys[key] = known


def _encodable(text: str, sanitised: dict[str, int]) -> str:
    """*text* without NUL and lone surrogates, which no store takes."""
    if "\0" in text:
        sanitised["nul"] = sanitised.get("nul", 0) + text.count("\0")
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text, count = _SURROGATE.subn("\ufffd", text)
            sanitised["surrogate"] = sanitised.get("surrogate", 0) + count
    return text
