"""Which functions SQL from people may call, and how a statement begins. Default is no."""

from __future__ import annotations

import math
import re
from collections import Counter

TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})

_FUNCTIONS = """
    count sum avg min max total group_concat string_agg median percentile percentile_cont percentile_disc
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value

    length octet_length lower upper substr substring trim ltrim rtrim replace instr like glob hex unhex quote
    printf format char unicode concat concat_ws

    abs round sign ceil ceiling floor trunc mod pow power sqrt exp ln log log2 log10 pi random
    sin cos tan asin acos atan atan2 degrees radians

    coalesce ifnull nullif iif if typeof likely unlikely likelihood

    date time datetime julianday strftime unixepoch timediff current_date current_time current_timestamp

    json json_array json_array_length json_extract json_object json_patch json_quote json_remove json_replace json_set
    json_insert json_type json_valid json_error_position json_pretty json_group_array json_group_object -> ->>
"""

FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Without zeroblob and randomblob (memory for nothing), load_extension, and what tells about files or the build."""

_BLANK = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z)|;)+", re.DOTALL)
_WORD = re.compile(r"\w+|\S")


def first_keyword(sql: str) -> str:
    """The first word of *sql* behind blanks and comments, in capitals; empty when there is none."""
    blank = _BLANK.match(sql)
    word = _WORD.match(sql, blank.end() if blank else 0)
    return word.group().upper() if word else ""


_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*\]|[\w$]+|\S""", re.DOTALL
)


def expansions(sql: str) -> int:
    """At most so many times SQLite copies a common table expression of *sql* to where it is referred to: one that
    refers to another twice, which refers to a third twice, and so on, is copied out before anything could stop it."""
    tokens = [_name(token) for token in _TOKEN.findall(sql) if not token.startswith(("--", "/*"))]
    used = Counter(token for token, after in zip(tokens, [*tokens[1:], ""], strict=True) if after != ".")
    return math.prod(max(1, used[name] - times) ** times for name, times in _defined(tokens).items())


def _defined(tokens: list[str]) -> Counter[str]:
    """What stands before AS and a parenthesis, but for a list of columns: common table expressions, and windows."""
    found, opened, closed = Counter[str](), list[str](), ""
    for place, token in enumerate(tokens):
        if token == "(":
            opened.append(tokens[place - 1] if place else "")
        elif token == ")":
            closed = opened.pop() if opened else ""
        elif token == "as" and any(tokens[place + 1 : place + 1 + len(body)] == body for body in _BODIES):
            found[closed if tokens[place - 1] == ")" else tokens[place - 1]] += 1
    return found


def _name(token: str) -> str:
    """As SQLite compares names; it takes a string for one. What is quoted is never taken for a sign."""
    quote = token[0]
    if quote not in "'\"`[" or len(token) == 1:
        return token.lower()
    name = token[1:-1].replace(quote * 2, quote).lower()
    return name if _IS_WORD.fullmatch(name) else f"\0{name}"


_IS_WORD = re.compile(r"[\w$]+")
_BODIES = (["("], ["materialized", "("], ["not", "materialized", "("])
