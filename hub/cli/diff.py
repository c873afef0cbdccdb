"""`hub diff`: two calls side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK, say
from hub.cli.opening import open_for_reading, require_call
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import console, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hub.replays.comparing import Comparison, Pair

_CONTEXT = 3
"""Lines of text around a difference."""


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The beginning of an id, @last, or @-2 for the one before.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Compare two calls: text, tool calls, tokens, cost, time. Exit code 1 when their answers differ."""
    from hub.replays.comparing import compare

    form = chosen_format(json)
    reader = open_for_reading(db)
    require_call(reader, a)
    found = compare(reader.call(a), reader.call(b))
    if form == "json":
        write_json(found.as_json())
    else:
        render(found, console())
    say_unknown(found)
    if not found.same_answer:
        raise typer.Exit(FAILED_CHECK)


def say_unknown(found: Comparison) -> None:
    """Say why answers cannot be compared, if they cannot."""
    if found.same_answer is None:
        said = " and ".join(found.unknown)
        say(
            f"hub: the answers cannot be compared: that of {said} was not kept, or is not there yet, or is no text; "
            "HUB_CAPTURE=full keeps answers"
        )


def render(found: Comparison, to: Console) -> None:
    """Print *found* for people."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, justify in (("", "left"), (_short(found, "a"), "left"), (_short(found, "b"), "left"), ("", "left")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, pair, show in _rows(found):
        note = "" if pair.same else _change(name, pair)
        table.add_row(name, Text(show(pair.a)), Text(show(pair.b)), Text(note, style="yellow"))
    to.print(table)
    for title, pair in (("text", found.text), ("tool calls", found.tool_calls)):
        _print_answers(title, pair, to)


def _short(found: Comparison, side: str) -> str:
    one, other = found.ids.a, found.ids.b
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    return str(getattr(found.ids, side))[: max(8, same + 4)].rstrip("-")


def _rows(found: Comparison) -> Iterator[tuple[str, Pair, Any]]:
    for name in ("provider", "model", "status", "finish_reason"):
        yield name.replace("_", " "), getattr(found, name), shapes.value
    for name, pair in found.numbers.items():
        if pair.a is None and pair.b is None:
            continue
        if name == "cost_nanos":
            yield "cost", pair, shapes.exact_cost
        elif name.endswith("_ms"):
            yield {"duration_ms": "time", "ttft_ms": "first token"}[name], pair, shapes.duration
        else:
            yield name.replace("_", " "), pair, _count


def _count(number: int | None) -> str:
    return shapes.UNKNOWN if number is None else f"{number:,}"


def _change(name: str, pair: Pair) -> str:
    if not isinstance(pair.a, int | float) or not isinstance(pair.b, int | float):
        return "differs"
    if not pair.a:
        return "more"
    percent = 100 * (pair.b - pair.a) / pair.a
    return f"{percent:+.0f}%" if abs(percent) >= 1 else f"{percent:+.1f}%"


def _print_answers(title: str, pair: Pair, to: Console) -> None:
    from rich.text import Text

    if pair.a is None or pair.b is None or (pair.same and not pair.a):
        return
    if pair.same:
        to.print(Text(f"\n{title}: the same", style="green"))
        return
    to.print(Text(f"\n{title}", style="bold"))
    for line in difflib.unified_diff(_lines(pair.a), _lines(pair.b), "a", "b", n=_CONTEXT, lineterm=""):
        to.print(_coloured(line), soft_wrap=True)


def _lines(answer: Any) -> list[str]:
    if isinstance(answer, str):
        return [shapes.clean(line) for line in answer.splitlines()]
    return [shapes.one_line(f"{call['name']}({call['arguments']})") for call in answer]


def _coloured(line: str) -> Text:
    from rich.text import Text

    return Text(line, style={"-": "red", "+": "green", "@": "dim"}.get(line[:1], ""))
