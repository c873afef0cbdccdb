"""What a word is, in messages and in what people search for: decided here, not by each database in its own way.

A word is letters and digits, without case and accents. A character of Chinese or Japanese is a word of its own, as
nothing but a dictionary tells where words end there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from hub.errors import QueryRefused
from hub.messages import Part, values

RULES = 1
"""Goes up when something here changes: an index by other rules is made again."""
UNICODE = unicodedata.unidata_version

PART_CHARACTERS, MESSAGE_CHARACTERS = 65_536, 262_144
"""How much of a part, and of all parts of a message, is searched."""
_WORDS_CHARACTERS = 250_000
"""Of the words of a message, each counted once: a tsvector takes a megabyte, and a character up to four bytes."""
_LONGEST_WORD = 64
_MOST_WORDS = 32
_SEARCHED = frozenset(("text", "thinking", "refusal", "audio", "tool_call", "tool_result"))
_TOOLS = frozenset(("tool_call", "tool_result"))
_SHORTEST_PREFIX = 2

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ACCENTS = "\u0300-\u036f"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_ASCII_WORD = re.compile(rf"([a-z0-9]{{1,{_LONGEST_WORD}}})[a-z0-9]*")
_WORD_AS_WRITTEN = re.compile(rf"[{_ALONE}]|(?:[^\W_{_ALONE}]|[{_ACCENTS}])+")
_ACCENT = re.compile(rf"[{_ACCENTS}]+")
_BLANK = re.compile(r"\s+")
_ASKED = re.compile(r'"([^"]*)"|(\S+)')


def words_in(text: str) -> list[str]:
    """The words of *text*, in order."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return [word[:_LONGEST_WORD] for word in _WORD.findall(unicodedata.normalize("NFC", bare))]


def role_word(role: str) -> str:
    """What stands for *role* among the words of a message; no text has it."""
    return ("§" + "".join(words_in(role)))[:_LONGEST_WORD]


# Messages.


def texts_of(message: Any) -> list[tuple[Part, str]]:
    """What is searched of a message: text, refusals, thoughts, transcripts, what tools were asked and what they
    answered. Not what nobody knows the shape of."""
    left, found = MESSAGE_CHARACTERS, []
    for part, value in values(message):
        if part.type in _SEARCHED and part.path is not None and left > 0:
            text = _text(value, part.type in _TOOLS)[: min(left, PART_CHARACTERS)]
            left -= len(text)
            found.append((part, text))
    return found


def words_of(message: Any) -> list[str]:
    """The words that lead to a message, each once, its roles among them."""
    found: dict[str, None] = {}
    for part, text in texts_of(message):
        if part.role is not None:
            found[role_word(part.role)] = None
        found.update(dict.fromkeys(words_in(text)))
    words, size = list(found), sum(map(len, found))
    while size > _WORDS_CHARACTERS:
        size -= len(words.pop())
    return words


def _text(value: object, is_tool: bool) -> str:
    """A value as text. Of JSON the names and values, as escapes within would become letters of words."""
    if not isinstance(value, str):
        return " ".join(_leaves(value))
    if not is_tool or value[:1] not in ("{", "["):
        return value
    try:
        return " ".join(_leaves(orjson.loads(value)))
    except ValueError:
        return value


def _leaves(value: object) -> Iterator[str]:
    waiting: list[object] = [value]
    left = PART_CHARACTERS
    while waiting and left > 0:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [each for pair in reversed(one.items()) for each in reversed(pair)]
        elif isinstance(one, list):
            waiting += reversed(one)
        elif one is not None:
            text = one if isinstance(one, str) else orjson.dumps(one).decode()
            left -= len(text)
            yield text


# What is searched for.


class Term(NamedTuple):
    """Words that have to stand side by side."""

    words: tuple[str, ...]
    is_prefix: bool = False
    """The last of them is the beginning of a word."""

    def is_in(self, words: Sequence[str]) -> bool:
        """Whether it stands among *words*."""
        end = "" if self.is_prefix else " "
        return f" {' '.join(self.words)}{end}" in f" {' '.join(words)} "

    def place_in(self, words: Sequence[str]) -> int | None:
        """Where in *words* it stands first."""
        first, size = self.words[0], len(self.words)
        for start, word in enumerate(words):
            if (word == first or size == 1) and self._stands(words[start : start + size]):
                return start
        return None

    def _stands(self, words: Sequence[str]) -> bool:
        if not self.is_prefix:
            return tuple(words) == self.words
        return tuple(words[:-1]) == self.words[:-1] and words[-1].startswith(self.words[-1])


class Query(NamedTuple):
    """Terms that a message has to have, all of them."""

    terms: tuple[Term, ...]

    @property
    def phrases(self) -> list[Term]:
        """The terms of several words, of which an index knows only whether all are there."""
        return [term for term in self.terms if len(term.words) > 1]


def parsed(text: str) -> Query:
    """What *text* asks for: plain words, "a phrase", begin*; anything else stands for itself.

    Raises: QueryRefused: There is no word in it, or too many are.
    """
    terms = []
    for quoted, bare in _ASKED.findall(text):
        words = tuple(words_in(quoted or bare))
        if words:
            is_prefix = bare.endswith("*") and len(words[-1]) >= _SHORTEST_PREFIX
            terms.append(Term(words, is_prefix))
    count = sum(len(term.words) for term in terms)
    if not count:
        raise QueryRefused(f"there is no word in {text!r}", "search for letters or digits")
    if count > _MOST_WORDS:
        raise QueryRefused(f"{count} words are more than {_MOST_WORDS}", "leave the common ones out")
    return Query(tuple(dict.fromkeys(terms)))


def has_all(message: Any, phrases: Sequence[Term]) -> bool:
    """Whether each of *phrases* stands in one of *message*'s parts."""
    parts = [words_in(text) for _, text in texts_of(message)]
    return all(any(phrase.is_in(words) for words in parts) for phrase in phrases)


# What was found.


class Snippet(NamedTuple):
    """The piece of a message that has what was searched for."""

    part: Part | None
    """None: the message has changed, or is empty."""
    text: str
    marks: tuple[tuple[int, int], ...]
    """Where in *text* the words stand."""


_BEFORE, _SHOWN = 40, 160


def snippet(message: Any, query: Query) -> Snippet:
    """From the part of *message* that has most of *query*."""
    best: tuple[Part, str, list[tuple[int, int]]] | None = None
    for part, text in texts_of(message):
        spans = _spans(text, query)
        if best is None or len(spans) > len(best[2]):
            best = part, text, spans
    if best is None:
        return Snippet(None, "", ())
    part, text, spans = best
    return Snippet(part, *_cut(text, spans))


def _spans(text: str, query: Query) -> list[tuple[int, int]]:
    """Where in *text* each term stands first, of those that do."""
    placed = _placed(text)
    words = [word for word, _ in placed]
    found = []
    for term in query.terms:
        place = term.place_in(words)
        if place is not None:
            found.append((placed[place][1][0], placed[place + len(term.words) - 1][1][1]))
    return sorted(found)


def _placed(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The words of *text*, each with where it stands."""
    if text.isascii():
        return [(match[1], match.span()) for match in _ASCII_WORD.finditer(text.lower())]
    return [(word, match.span()) for match in _WORD_AS_WRITTEN.finditer(text) for word in words_in(match.group())]


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    first = spans[0][0] if spans else 0
    start = 0 if first <= _BEFORE else _after_blank(text, first - _BEFORE, first)
    end = min(len(text), start + _SHOWN)
    head, tail = "…" if start else "", "…" if end < len(text) else ""
    shift = len(head) - start
    marks = tuple((one + shift, min(other, end) + shift) for one, other in spans if one < end)
    return f"{head}{text[start:end]}{tail}", marks


def _after_blank(text: str, start: int, end: int) -> int:
    """Behind the first blank between *start* and *end*, else *start*."""
    match = _BLANK.search(text, start, end)
    return match.end() if match else start
