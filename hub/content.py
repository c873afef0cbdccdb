"""Content made fit to keep: encodable, without secrets, of bounded size. It runs on the caller's path."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hub.strings import Marks, Strings
from hub.walk import Walk

__all__ = ["Cleaner", "Marks", "preview", "truncate"]


def truncate(text: str, limit: int) -> str:
    """The first *limit* characters of *text*, and a note of how many were cut; *text* itself if it is no longer."""
    if len(text) <= limit:
        return text
    kept = max(limit, 0)
    return f"{text[:kept]}… [{len(text) - kept} more characters]"


_RUN = 200
"""Characters without a blank. Prose has none so long."""
_BLOB = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?[\w;=.+-]*,[\w+/=%-]*|(?<![\w+/=-])[A-Za-z0-9+/_-]{200,}={0,2}", re.ASCII
)


def preview(text: str, limit: int) -> str:
    """*text* on one line, cut to *limit* characters; data: URLs and runs of base64 become their type and size."""
    head = text[: limit + 256]
    words = head.split()
    if "data:" not in head and max(map(len, words), default=0) < _RUN:  # as most are; the long way finds the same
        shown = " ".join(words)
        if len(shown) > limit or len(text) == len(head):
            return _cut(shown, limit, len(text) - len(head))
    pieces: list[str] = []
    length = at = 0
    while at < len(text) and length <= limit:
        stop = at + limit + 256
        words = text[at:stop].split()
        found = (
            _BLOB.search(text, at, stop)
            if "data:" in text[at:stop] or max(map(len, words), default=0) >= _RUN
            else None
        )
        if found is None:
            end = min(stop, len(text))
            pieces.append(" ".join(words))
        else:
            pieces.append(" ".join(text[at : found.start()].split()))
            whole = _BLOB.match(text, found.start()) or found
            end = whole.end()
            pieces.append(f"[{whole['type'] or 'data'}, {end - whole.start()} characters]")
        length += sum(map(len, pieces[-2:]))
        at = end
    return _cut(" ".join(filter(None, pieces)), limit, len(text) - at)


def _cut(shown: str, limit: int, unseen: int) -> str:
    cut = max(len(shown) - limit, 0) + unseen
    return f"{shown[:limit]}… [{cut} more characters]" if cut else shown


_MAX_INT = 2**63 - 1
_FEW = 8
"""Messages. Of more, most are known already, and `Walk` finds that out in loops in C."""


class Cleaner:
    """Turns any object into what orjson encodes, without secrets. One for each hub; may be called from everywhere.

    Strings once looked at are remembered, so that the history of a conversation costs next to nothing.
    """

    def __init__(
        self,
        *,
        redact: Callable[[str], str] | None = None,
        patterns: Sequence[str] = (),
        enabled: bool = True,
        memory_bytes: int = 8 * 2**20,
        max_body_bytes: int = 16 * 2**20,
    ) -> None:
        """Args:
            redact: Called after the built-in rules with each new string; must be pure. Where it fails the string goes.
            patterns: Regular expressions; what they match is replaced.
            enabled: False sanitises without redacting anything.
            memory_bytes: Bound of the remembered strings' size.
            max_body_bytes: Bound of all strings in one value, as held in memory; what is over it is cut and marked.
        Raises: ConfigError: One of *patterns* cannot be used.
        """
        self._strings = Strings(redact=redact, patterns=patterns, enabled=enabled, memory_bytes=memory_bytes)
        self._max_body_bytes = max_body_bytes
        self._short = max_body_bytes // 4  # fits, whatever its characters

    def clean(self, value: Any, *, max_bytes: int | None = None) -> tuple[Any, Marks | None]:
        """*value* as data for orjson, and what was changed (None: nothing). Never raises and consumes no iterator.

        Parts that need no change are not copied: encode the answer before anyone changes *value*.

        Args:
            max_bytes: Bound of its strings' size; the cleaner's unless given.
        """
        if max_bytes is None:
            if type(value) is str and len(value) <= self._short and value in self._strings.memory.clean:
                return value, None
            max_bytes = self._max_body_bytes
        walk = Walk(self._strings, max_bytes)
        try:
            plain = walk.value(value, 0)
        except Exception:
            plain = walk.marker(value)
        return plain, walk.marks()

    def messages(self, value: Any) -> tuple[Any, Marks | None]:
        """`clean` for a conversation, quicker where it is a short list of flat dicts, or of such with flat parts, as
        most are that are new."""
        if type(value) is list and self._room_after(value, self._short) >= 0:
            return value, None
        return self.clean(value)

    def _room_after(self, value: list[Any], room: int, depth: int = 0) -> int:
        """How much of *room* a few flat dicts leave whose texts are clean, and their parts; -1: they are not."""
        strings = self._strings
        keys, clean = strings.plain_keys, strings.memory.clean
        if len(value) > _FEW:
            return -1
        for message in value:
            if type(message) is not dict or not keys.issuperset(message):
                return -1
            for each in message.values():
                if type(each) is str:
                    room -= len(each)
                    if room < 0 or (each not in clean and strings.look_up(each)[1] is not None):
                        return -1
                elif type(each) is list and depth == 0:
                    if each and (room := self._room_after(each, room, 1)) < 0:
                        return -1
                elif each is not None and (type(each) is not list or each):
                    return -1
        return room

    def facts(
        self, data: dict[str, Any], texts: Sequence[str], nested: Sequence[str]
    ) -> tuple[dict[str, Any], Marks | None]:
        """`clean` for an event's data, at a fifth of the cost where it is as it should be.

        Args:
            texts: Keys under which a string may stand that came from outside.
            nested: Keys under which a flat dict or list may stand. What is under other keys is known to be plain.
        """
        strings = self._strings
        clean = strings.memory.clean
        for key in texts:
            value = data.get(key)
            if value is not None and (
                type(value) is not str or (value not in clean and strings.look_up(value)[1] is not None)
            ):
                return self.clean(data)
        for key in nested:
            value = data.get(key)
            if value is None:
                continue
            kind = type(value)
            if kind is dict:
                value = value.values()
            elif kind is not list and kind is not tuple:
                return self.clean(data)
            if not all(map(self._is_plain, value)):
                return self.clean(data)
        return data, None

    def _is_plain(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            strings = self._strings
            return value in strings.memory.clean or strings.look_up(value)[1] is None
        if kind is int:
            return -_MAX_INT <= value <= _MAX_INT  # type: ignore[no-any-return]
        return value is None or kind is bool or (kind is float and value - value == 0.0)

    def text(self, text: str) -> tuple[str, Marks | None]:
        """`clean` for one string: an error message, a URL."""
        plain, marks = self.clean(text)
        return (plain if type(plain) is str else str(plain)), marks
