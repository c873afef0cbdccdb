"""SQL as PostgreSQL cuts it into tokens, and our placeholders in it.

Follows scan.l of PostgreSQL with standard_conforming_strings = on. Where it is easier it cuts finer, never coarser: a
name is then seen where PostgreSQL sees none. What it need not understand, such as U&'', it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hub.errors import QueryRefused
from storage.query import Params, wrong_sql, wrong_values

Kind = Literal["word", "name", "string", "number", "operator", "mark", "placeholder"]

_LONGEST_NAME = 63
_BLANK = re.compile(r"(?:[ \t\n\r\f\v]+|--[^\n\r]*)+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9$\x80-\U0010ffff]*")
_STRING = re.compile(r"'(?:[^']|'')*'")
_ESCAPED_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_NAME = re.compile(r'"(?:[^"]|"")*"')
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*)?\$")
_NUMBER = re.compile(r"[0-9]+")
_PLACEHOLDER = re.compile(r"\?|:[A-Za-z_][A-Za-z_0-9]*")
_MARK = re.compile(r"::|:=|[()\[\],;.:]")
_OPERATOR = re.compile(r"[+\-*/<>=~!@#%^&|`]+")
_KEEPS_ITS_SIGN = frozenset("~!@#%^&|`")
_FOLD = str.maketrans({chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)})


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    value: str
    """Of a word in lower case, of a quoted name what stands within the quotes, of a placeholder its name or nothing."""
    start: int
    end: int

    @property
    def names(self) -> bool:
        """It is an identifier, or a keyword."""
        return self.kind in ("word", "name")

    def says(self, *values: str) -> bool:
        """It is one of these keywords or marks; a quoted name never is."""
        return self.kind in ("word", "mark") and self.value in values


def tokens(sql: str) -> list[Token]:
    """Raises: QueryRefused: It cannot be read with certainty."""
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise _unreadable("a lone surrogate is no text") from None
    if "\0" in sql:
        raise _unreadable("there is a NUL in it")
    return list(_cut(sql))


def _cut(sql: str) -> Iterator[Token]:
    at, before = 0, ""
    while True:
        at = _past_blanks(sql, at)
        if at == len(sql):
            return
        token = _next(sql, at)
        if token.kind == before == "string":  # the second goes on with the first, and by the first's rules
            raise _unreadable("a string goes on in another one; join them with ||")
        yield token
        at, before = token.end, token.kind


def _past_blanks(sql: str, at: int) -> int:
    while True:
        if blank := _BLANK.match(sql, at):
            at = blank.end()
        elif sql.startswith("/*", at):
            at = _past_comment(sql, at)
        else:
            return at


def _past_comment(sql: str, at: int) -> int:
    depth = 0
    while edge := _COMMENT_EDGE.search(sql, at):
        at = edge.end()
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return at
    raise _unreadable("a comment does not end")


def _next(sql: str, at: int) -> Token:
    char = sql[at]
    if char == "'":
        return Token("string", "", at, _whole(_STRING, sql, at, "a string"))
    if char == '"':
        end = _whole(_NAME, sql, at, "a quoted name")
        return Token("name", _fitting(sql[at + 1 : end - 1].replace('""', '"')), at, end)
    if word := _WORD.match(sql, at):
        return _word(sql, word)
    if char == "$":
        return _dollar_quoted(sql, at)
    if number := _NUMBER.match(sql, at):
        return Token("number", number.group(), at, number.end())
    if placeholder := _PLACEHOLDER.match(sql, at):
        return Token("placeholder", placeholder.group()[1:], at, placeholder.end())
    if mark := _MARK.match(sql, at):
        return Token("mark", mark.group(), at, mark.end())
    if run := _OPERATOR.match(sql, at):
        operator = _operator(run.group())
        return Token("operator", operator, at, at + len(operator))
    raise _unreadable(f"{char!r} has no place in SQL")


def _word(sql: str, word: re.Match[str]) -> Token:
    value = _fitting(word.group().translate(_FOLD))
    after = sql[word.end() : word.end() + 2]
    if value == "u" and after in ("&'", '&"'):
        raise _unreadable("U&'' and U&\"\" are not read here")
    if value == "e" and after.startswith("'"):
        return Token("string", "", word.start(), _whole(_ESCAPED_STRING, sql, word.end(), "a string"))
    return Token("word", value, word.start(), word.end())


def _dollar_quoted(sql: str, at: int) -> Token:
    quote = _DOLLAR.match(sql, at)
    if quote is None:
        raise _unreadable("placeholders are ? and :name")
    end = sql.find(quote.group(), quote.end())
    if end < 0:
        raise _unreadable("a string does not end")
    return Token("string", "", at, end + len(quote.group()))


def _operator(run: str) -> str:
    """The operator that *run* begins with: none contains the start of a comment, few end in a sign."""
    for comment in ("--", "/*"):
        if (cut := run.find(comment)) > 0:
            run = run[:cut]
    while len(run) > 1 and run[-1] in "+-" and not _KEEPS_ITS_SIGN.intersection(run):
        run = run[:-1]
    return run


def _whole(pattern: re.Pattern[str], sql: str, at: int, what: str) -> int:
    found = pattern.match(sql, at)
    if found is None:
        raise _unreadable(f"{what} does not end")
    return found.end()


def _fitting(name: str) -> str:
    """PostgreSQL cuts longer names off, and they then name something else."""
    if len(name.encode()) > _LONGEST_NAME:
        raise _unreadable(f"the name {name[:20]}... is longer than {_LONGEST_NAME} bytes")
    return name


def bound(sql: str, cut: Sequence[Token], params: Params) -> tuple[str, list[object]]:
    """*sql* with PostgreSQL's own placeholders, and their values in order.

    Raises: QueryRefused: There is not one value for each.
    """
    placeholders = [token for token in cut if token.kind == "placeholder"]
    value_of = _by_name(placeholders, params) if isinstance(params, Mapping) else _by_place(placeholders, params)
    before_is = {token for token, after in pairwise(cut) if after.says("is")}
    pieces: list[str] = []
    values: list[object] = []
    numbers: dict[tuple[object, bool], int] = {}
    at = 0
    for token in placeholders:
        # In `:x IS NULL OR column = :x` the first says nothing of a type, and must not decide on that of the second.
        key = (token.value or token.start, token in before_is)
        if key not in numbers:
            values.append(value_of(token))
            numbers[key] = len(values)
        pieces += [sql[at : token.start], f" ${numbers[key]}{'::text' if token in before_is else ''} "]
        at = token.end
    return "".join([*pieces, sql[at:]]), values


def _by_name(placeholders: Sequence[Token], params: Mapping[str, object]) -> Callable[[Token], object]:
    for token in placeholders:
        if not token.value:
            raise wrong_values("values are given by name, and there is a ?")
        if token.value not in params:
            raise wrong_values(f":{token.value} has no value")
    return lambda token: params[token.value]


def _by_place(placeholders: Sequence[Token], params: Sequence[object]) -> Callable[[Token], object]:
    if named := next((token.value for token in placeholders if token.value), None):
        raise wrong_values(f":{named} has no value, or not by its name")
    if len(placeholders) != len(params):
        raise wrong_values(f"there are {len(placeholders)} placeholders and {len(params)} values")
    places = dict(zip(placeholders, params, strict=True))
    return lambda token: places[token]


def _unreadable(why: str) -> QueryRefused:
    return wrong_sql(f"this SQL cannot be read: {why}")
