"""`hub show`: one call, whole."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli import shapes
from hub.cli import trace as tree
from hub.cli.calls import COLOURS, model_of, preview
from hub.cli.opening import open_for_reading, require_call
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import console, parsed, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

    from hub.reader import StoredCall

ROLES = {"system": "magenta", "developer": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}

FACTS = (
    *("call_id", "project", "environment", "service", "session_id", "user_id", "tags", "source", "replay_of"),
    *("operation", "server_address", "tier", "response_id", "finish_reason", "params", "chunk_count"),
    *("continuation_count", "response_cached", "capture", "trace_id", "span_id"),
)


def show(
    call_id: Annotated[
        str, typer.Argument(metavar="ID", help="The beginning of an id, @last, or @-2 for the one before.")
    ] = "@last",
    db: Db = None,
    json: Json = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The stored events with their content, wire bodies included.")
    ] = False,
    trace: Annotated[bool, typer.Option("--trace", help="The trace around it, as a tree.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Long messages whole; otherwise 4,000 characters of each.")
    ] = False,
) -> None:
    """Show one call: what was sent, what came back, tools, attempts, events."""
    form = chosen_format(json)
    reader = open_for_reading(db)
    require_call(reader, call_id)
    call = reader.call(call_id)
    if trace:
        if form == "json":
            write_json(call.trace)
        else:
            console().print(tree.table(call.trace, call.id))
    elif raw:
        write_json([dict(record) for record in call.content])
    elif form == "json":
        write_json(call.as_json())
    else:
        render(call, console(), datetime.now().astimezone(), most=None if full else 4_000)


def render(call: StoredCall, to: Console, now: datetime, *, most: int | None) -> None:
    """Print *call* for people. *most*: characters of each message."""
    to.print(_headline(call, now))
    to.print(_facts(call))
    for card in _cards(call, most):
        to.print(card)
    for title, table in (
        ("Tools", _tools(call)),
        ("Attempts", _attempts(call, now) if len(call.attempts) > 1 else None),
        ("Events", _events(call, now)),
    ):
        if table is not None:
            to.print(f"\n{title}", style="bold")
            to.print(table)


def _headline(call: StoredCall, now: datetime) -> Text:
    from rich.text import Text

    line = Text()
    line.append(shapes.one_line(call["status"]), style=f"bold {COLOURS.get(call['status'], '')}".strip())
    line.append(f"  {model_of(call)}", style="bold")
    served = call["response_model"]
    if served and served != call["request_model"]:
        line.append(f" (served by {shapes.one_line(served)})")
    line.append(f"  {shapes.moment(call['started_at'], now)}  {shapes.duration(call['duration_ms'])}")
    if call["ttft_ms"] is not None:
        line.append(f", first token after {shapes.duration(call['ttft_ms'])}")
    line.append(f"\n{_tokens(call)}, {_cost(call)}")
    if call["error_type"] or call["error_message"]:
        code = f" ({call['status_code']})" if call["status_code"] else ""
        message = shapes.clean(call["error_message"] or "the message was not kept")
        line.append(f"\n{shapes.one_line(call['error_type'] or 'error')}{code}: {message}", style="red")
    return line


def _tokens(call: StoredCall) -> str:
    parts = [f"{_count(call['input_tokens'])} tokens in", f"{_count(call['output_tokens'])} out"]
    for column, words in (
        ("cache_read_tokens", "read from cache"),
        ("cache_write_tokens", "written to cache"),
        ("reasoning_tokens", "reasoning"),
    ):
        if call[column]:
            parts.append(f"{_count(call[column])} {words}")
    return ", ".join(parts)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _cost(call: StoredCall) -> str:
    if call["cost_nanos"] is None:
        return "cost unknown"
    source = f" by {shapes.one_line(call['cost_source'])}" if call["cost_source"] else ""
    return f"{shapes.exact_cost(call['cost_nanos'])}{source}"


def _facts(call: StoredCall) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name in FACTS:
        value = call.row.get(name)
        if value not in (None, "", "{}"):
            table.add_row(name, Text(_fact(name, value)))
    return table


def _fact(name: str, value: Any) -> str:
    if name in ("params", "tags") and isinstance(opened := parsed(value), dict):
        return shapes.one_line("  ".join(f"{key}={item}" for key, item in opened.items()))
    return shapes.value(value)


def _cards(call: StoredCall, most: int | None) -> Iterator[RenderableType]:
    from rich.panel import Panel
    from rich.text import Text

    if not call.messages and call["capture"] != "full":
        yield _previews(call)
        return
    for direction, position, role, parts in _grouped(call.messages):
        place = position if direction == "input" else "answer"
        title = Text(f"{place} · {shapes.one_line(role or 'unknown')}")  # as a str it would be markup
        yield Panel(_body(parts, most), title=title, title_align="left", border_style=ROLES.get(role or "", "white"))
    if not any(message["direction"] == "output" for message in call.messages) and call["response_summary"]:
        yield Panel(Text(preview(call["response_summary"])), title="answer (preview)", title_align="left")


def _previews(call: StoredCall) -> RenderableType:
    from rich.text import Text

    lines = [
        f"{name}: {preview(call[column])}"
        for name, column in (("sent", "request_summary"), ("answer", "response_summary"))
        if call[column]
    ]
    why = {"none": "no content was kept (HUB_CAPTURE=none)", "summary": "previews only (HUB_CAPTURE=summary)"}
    return Text("\n".join([*lines, why.get(call["capture"], "there is no content")]), style="dim")


def _grouped(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, str | None, list[dict[str, Any]]]]:
    """Parts next to each other of one role make one card."""
    kept: list[dict[str, Any]] = []
    for part in messages:
        if kept and (kept[0]["direction"], kept[0]["role"]) != (part["direction"], part["role"]):
            yield kept[0]["direction"], kept[0]["position"], kept[0]["role"], kept
            kept = []
        kept.append(part)
    if kept:
        yield kept[0]["direction"], kept[0]["position"], kept[0]["role"], kept


def _body(parts: Sequence[dict[str, Any]], most: int | None) -> Text:
    from rich.text import Text

    body = Text()
    for number, part in enumerate(parts):
        if number:
            body.append("\n")
        if label := _label(part):
            body.append(label, style="dim")
        content = part["content"]
        if content is None:
            if part["type"] != "tool_call":
                body.append(f"({shapes.size(part['bytes'])}, not kept as text)", style="dim")
            continue
        text = shapes.clean(content)
        body.append(text if most is None else text[:most])
        if most is not None and len(text) > most:
            body.append(f"\n… {len(text) - most:,} more characters; --full shows them", style="dim")
    return body


def _label(part: dict[str, Any]) -> str:
    if part["type"] == "text":
        return ""
    named = " ".join(shapes.one_line(part[key]) for key in ("name", "tool_call_id") if part[key])
    return f"[{part['type']}{' ' + named if named else ''}] "


def _tools(call: StoredCall) -> RenderableType | None:
    rows = [
        (tool["name"], _cut(tool["arguments"]), _cut(tool["result"]), (tool["result_call_id"] or "")[:18])
        for tool in call.tool_calls
    ]
    return _table(("tool", "arguments", "result", "told in call"), rows)


def _attempts(call: StoredCall, now: datetime) -> RenderableType | None:
    rows = [
        (
            attempt["attempt"],
            shapes.moment(attempt["started_at"], now),
            shapes.duration(attempt["duration_ms"]),
            attempt["status_code"],
            attempt["error_type"],
            shapes.duration(attempt["delay_ms"]),
        )
        for attempt in call.attempts
    ]
    return _table(("attempt", "started", "took", "status", "error", "then waited"), rows)


def _events(call: StoredCall, now: datetime) -> RenderableType | None:
    rows = [
        (
            event["position"],
            event["version"],
            event["type"],
            shapes.moment(event["occurred_at"], now),
            _cut(event["data"]),
        )
        for event in call.events
    ]
    return _table(("position", "version", "type", "at", "data"), rows)


def _cut(text: object) -> str:
    line = shapes.value(text)
    return line if len(line) <= 120 else line[:119] + "…"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType | None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return None
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shapes.value(value)) for value in row))
    return table
