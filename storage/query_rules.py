"""Which functions SQL from people may call, and how a statement begins. Default is no."""

from __future__ import annotations

import re

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
