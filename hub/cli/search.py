"""`hub search`: calls by what was said in them."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.calls import model_of
from hub.cli.guard import say
from hub.cli.instants import instant
from hub.cli.opening import open_for_reading, place, require_store, say_empty
from hub.cli.options import Csv, Db, Format, Json, Jsonl, chosen_format
from hub.cli.output import console, write_json, write_rows
from hub.cli.progress import progress
from hub.errors import StoreUnavailable

if TYPE_CHECKING:
    from rich.text import Text

    from hub.config import Settings
    from hub.reader import Reader
    from storage.search_find import Found, Hit

COLUMNS = (
    *("call_id", "started_at", "project", "session_id", "provider", "request_model", "status"),
    *("role", "type", "snippet"),
)
_BLANKS = re.compile(r"\s+")


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS",
            help="All in one message. '\"a phrase\"': side by side. begin*: the beginning of a word.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Only calls that asked for it, or got it.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Calls begun from then on: 7d, 12h, or a day.", show_default=False
        ),
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", help="Only messages of this role: user, assistant.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="At most this many calls.")] = 20,
    repeats: Annotated[
        bool, typer.Option("--all", help="Also older calls that carry nothing but messages shown already.")
    ] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Make the index that searching needs.")] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Drop that index.")] = False,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Find calls by words in their messages, the newest first. Off until --enable makes an index."""
    from storage.search_words import parsed

    form = chosen_format(json, jsonl, csv)
    text = " ".join(words or ())
    if enable + disable + bool(text) != 1:
        raise typer.BadParameter("give words to search for, or --enable, or --disable")
    since_ns = None if since is None else instant(since, "--since")
    if text:
        parsed(text)  # before anything is opened
    reader = open_for_reading(db)
    if enable or disable:
        _switch(reader, form, on=enable)
        return
    if reader.is_missing():
        say_empty(reader.settings)
        found = None
    else:
        _catch_up(reader.settings)
        found = reader.search(text, model=model, role=role, since_ns=since_ns, limit=limit, repeats=repeats)
    _show(reader, found, form, limit)


def _switch(reader: Reader, form: Format, *, on: bool) -> None:
    from storage import open_store

    settings = reader.settings
    require_store(reader)
    with closing(open_store(settings.db_url)) as store:
        if on:
            with progress("Indexing messages") as advance:
                store.follow_search(advance, enable=True)
            size = store.search_bytes()
        else:
            size, was_on = 0, store.drop_search()
    where = place(settings)
    if form == "json":
        write_json({"store": where, "search": "on" if on else "off", "index_bytes": size})
    elif on:
        typer.echo(f"Search is on in {where}; its index takes {shapes.size(size)}.")
    else:
        typer.echo(f"Search is off in {where}{'; its index is gone' if was_on else ' already'}.")


def _catch_up(settings: Settings) -> None:
    """Index what came since the last search. Where that may not be written, what is indexed is searched."""
    from storage import open_store

    began, advance = time.monotonic(), None

    def told(done: int, total: int) -> None:
        nonlocal advance
        if time.monotonic() - began > 1:
            advance = advance or shown.enter_context(progress("Indexing messages"))
            advance(done, total)

    try:
        with closing(open_store(settings.db_url)) as store, ExitStack() as shown:
            store.follow_search(told)
    except StoreUnavailable as refused:
        say(f"hub: the index cannot be brought up to date: {refused.reason}")


def _show(reader: Reader, found: Found | None, form: Format, limit: int) -> None:
    hits = found.hits if found else []
    if found is not None:
        if found.waiting:
            say(f"hub: {found.waiting:,} messages and events are not indexed yet")
        if not found.is_complete and len(hits) < limit:
            say("hub: the words are common, and only the newest messages and calls were looked at; add a word")
        if not hits:
            say_empty(reader.settings, filtered=True)
    if form == "table":
        if hits:
            _print(reader, hits)
        return
    write_rows(
        ({**hit.call, "role": hit.role, "type": hit.type, "snippet": hit.snippet} for hit in hits), COLUMNS, form
    )


def _print(reader: Reader, hits: list[Hit]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen, now = console(), datetime.now().astimezone()
    ids = reader.shortest_ids([hit.call["call_id"] for hit in hits])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True, style="dim")
    table.add_column("time", no_wrap=True)
    table.add_column("model", max_width=22, no_wrap=True, overflow="ellipsis")
    table.add_column("role", max_width=9, no_wrap=True, overflow="ellipsis")
    table.add_column("message", min_width=10, overflow="fold")
    for hit in hits:
        table.add_row(
            ids[hit.call["call_id"]],
            Text(shapes.moment(hit.call["started_at"], now)),
            Text(model_of(hit.call)),
            Text(shapes.value(hit.role)),
            _marked(hit),
        )
    screen.print(table)


def _marked(hit: Hit) -> Text:
    """The snippet on one line, the words bold."""
    from rich.text import Text

    shown, done = Text(), 0
    for start, end in hit.marks:
        start = max(start, done)
        shown.append(_line(hit.snippet[done:start]))
        shown.append(_line(hit.snippet[start : max(start, end)]), style="bold")
        done = max(start, end)
    return shown.append(_line(hit.snippet[done:]))


def _line(text: str) -> str:
    return _BLANKS.sub(" ", shapes.clean(text))
