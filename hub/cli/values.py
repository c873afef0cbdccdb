"""Values for a query, from a command line: for ? in order, or for :name by -p NAME VALUE."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_WORDS = {"null": None, "true": 1, "false": 0}
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class PairCommand(TyperCommand):
    """Reads -p NAME VALUE as -p NAME=VALUE: Typer knows no option that takes two values and may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _paired(args))


def _paired(args: list[str]) -> list[str]:
    found: list[str] = []
    rest = iter(args)
    for arg in rest:
        found.append(arg)
        if arg == "--":
            break
        if arg in ("-p", "--param") and (name := next(rest, None)) is not None:
            if not _PAIR.fullmatch(name) and (value := next(rest, None)) is not None:
                name = f"{name}={value}"
            found.append(name)
    return [*found, *rest]


def params_of(values: list[str], named: list[str]) -> list[Any] | dict[str, Any]:
    """Values as the reader takes them: in order, or by name."""
    if not named:
        return [value_of(text) for text in values]
    if values:
        raise typer.BadParameter("a SELECT takes values by name, -p NAME VALUE, or in order behind it, not both")
    pairs = [_PAIR.fullmatch(pair) for pair in named]
    if None in pairs:
        text = named[pairs.index(None)]
        raise typer.BadParameter(
            f"-p takes a name and a value, -p model gpt-4o for :model; in {text!r} there is no name. "
            "Values for ? stand behind the SELECT"
        )
    return {pair[1]: value_of(pair[2]) for pair in pairs if pair}


def value_of(text: str) -> Any:
    """*text*, from a command line, as SQL is to compare it: a whole number of 64 bits, a decimal, null, true (1), false
    (0), all as JSON has them; what stands in double quotes is text, and so is all else.

    An exponent makes no number: 12345678901234e5 may be a span's id.
    """
    if text in _WORDS:
        return _WORDS[text]
    if match := _NUMBER.fullmatch(text):
        if match[1]:
            return float(text)
        return int(text) if len(text) < 21 and _INT_MIN <= int(text) <= _INT_MAX else text
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text
