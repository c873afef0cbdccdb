"""A call within its trace, drawn as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hub.cli import shapes
from hub.cli.calls import COLOURS

if TYPE_CHECKING:
    from rich.table import Table

_MOST = 500


class Line(NamedTuple):
    """A span's line of the tree."""

    branches: str
    span: dict[str, Any]


def lines(spans: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """The tree of *spans*, see `Reader.trace`: each below its parent, those whose parent is not there at the top."""
    known = {span["span_id"] for span in spans}
    below: dict[str | None, list[dict[str, Any]]] = {}
    for span in spans:
        parent = span["parent_span_id"]
        below.setdefault(parent if parent in known and parent != span["span_id"] else None, []).append(span)
    drawn: set[str] = set()
    waiting = [("", "", span) for span in reversed([*below.get(None, []), *spans])]  # the latter for circles
    while waiting:
        lead, branch, span = waiting.pop()
        if span["span_id"] in drawn:
            continue
        drawn.add(span["span_id"])
        yield Line(lead + branch, span)
        children = below.get(span["span_id"], [])
        inner = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for index, child in enumerate(reversed(children)):
            waiting.append((inner, "└─ " if index == 0 else "├─ ", child))


def table(spans: Sequence[dict[str, Any]], call_id: str) -> Table:
    """The tree with times, the call *call_id* marked."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for heading in ("trace", "service", "took", "status", "call"):
        made.add_column(heading, overflow="fold" if heading == "trace" else "ellipsis", no_wrap=heading != "trace")
    for count, (branches, span) in enumerate(lines(spans)):
        if count == _MOST:
            made.add_row(f"... and {len(spans) - _MOST:,} more; --json has them all")
            break
        status, own = str(span["status"] or ""), span["call_id"]
        name = Text(branches, style="dim")
        name.append(shapes.one_line(span["name"] or "erased"), style="bold" if own == call_id else "")
        made.add_row(
            name,
            Text(shapes.one_line(span["service"] or "")),
            shapes.duration(span["duration_ms"]),
            Text(shapes.one_line(status), style=COLOURS.get(status.lower(), "")),
            "this call" if own == call_id else str(own or "")[:13],
        )
    return made
