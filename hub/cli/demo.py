"""`hub demo`: the main job on real traffic, offline, and what the hub knows afterwards."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import FAILED_CHECK, USAGE, say
from hub.cli.opening import place, settings_for
from hub.own_packages import check

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

    from hub.config import Settings
    from hub.demo.day import Day
    from hub.reader import Reader, StoredCall
    from hub.replays import Replay
    from storage.query import Result

FILE = "hub-demo.db"

BY_MODEL = """\
with ranked as (
  select *, percent_rank() over (partition by request_model order by duration_ms) as rank from llm_calls
)
select request_model, count(*) as calls, count(case when status <> 'ok' then 1 end) as failed,
  sum(input_tokens) as input, sum(output_tokens) as output, round(sum(cost_nanos) / 1e9, 6) as usd,
  round(min(case when rank >= 0.95 then duration_ms end)) as p95_ms
from ranked where counted = 1 group by 1 order by calls desc"""


def demo(
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", help=f"The store. Otherwise HUB_DB_URL, or ./{FILE}.", show_default=False),
    ] = None,
) -> None:
    """Trace some 200 calls of a little shop against a server of our own, then show what is known of them.

    Needs no network and no key. Run again, it adds another day's calls to the same store.
    """
    from storage import open_store

    check("providers")
    try:
        from hub.demo import day
    except ImportError as missing:
        if missing.name != "openai":
            raise
        say("hub: the demo drives OpenAI's own SDK, which is not installed; run: pip install 'llm-hub[demo]'")
        raise typer.Exit(USAGE) from None
    url = _store_url(db)
    with closing(open_store(url)) as store:
        store.checkpoint("demo")  # a store that cannot be used is told of before the day, not after it
    screen = _screen()
    with _progress("A day in the shop: chats, agents with tools, streams, retries ..."):
        done = day.run(url)
    _tell_what_happened(screen, done)
    from hub.reader import Reader

    with Reader(settings_for(url)) as reader:
        option = "" if db is None and "HUB_DB_URL" in os.environ else f" --db {_short(reader.settings)}"
        _show(screen, reader, option)
        _show_replay(screen, reader, option, done.replayed)
        _say_what_next(screen, reader, option)
    if done.left or done.stored != done.served:
        say(
            f"hub: the store does not have what was served: {done.stored} instead of {done.served}, {done.left} events "
            "waiting; run hub doctor"
        )
        raise typer.Exit(FAILED_CHECK)


def _store_url(db: str | None) -> str:
    """What was asked for by option or environment; the store of a hub.toml is for earnest calls."""
    settings = settings_for(db)
    asked = settings.origins["db_url"] == "argument" or os.environ.get("HUB_DB_URL")
    return settings.db_url if asked else settings_for(FILE).db_url


def _screen() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _progress(words: str) -> Status:
    from rich.console import Console

    return Console(stderr=True).status(words)


def _tell_what_happened(screen: Console, done: Day) -> None:
    same = done.stored == done.served
    screen.print(
        f"{done.served.calls} calls with the openai SDK, httpx and providers of four kinds, {done.requests} requests "
        f"to {done.base_url}, in {done.seconds:.1f} s."
    )
    if same:
        screen.print(
            f"The store has these {done.stored.calls} calls, {done.stored.input_tokens:,} input and "
            f"{done.stored.output_tokens:,} output tokens; the server counted the same."
        )
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    where = shapes.one_line(endpoint or "the default endpoint")
    if done.unsent == 0:
        screen.print(f"Their traces are at {where}.")
    elif done.unsent is not None:
        say(f"hub: the traces did not reach {where}; the calls are in the store all the same. Does it listen there?")


def _show(screen: Console, reader: Reader, option: str) -> None:
    from hub.cli.calls import table_of
    from hub.cli.show import render

    now = datetime.now().astimezone()
    newest = reader.calls(limit=12)
    ids = reader.shortest_ids([call.id for call in newest])
    _title(screen, f"hub calls -n 12{option}")
    screen.print(table_of(newest, ids, now))
    _title(screen, f'hub sql{option} "\n{BY_MODEL}"')
    screen.print(_table(reader.sql(BY_MODEL)))
    told = _worth_telling(reader)
    short = reader.shortest_ids([told.id])[told.id]
    _title(screen, f"hub show {short}{option}")
    render(told, screen, now, most=400)


def _show_replay(screen: Console, reader: Reader, option: str, replayed: Replay) -> None:
    from hub.cli.diff import render as render_diff
    from hub.replays.comparing import compare

    ids = reader.shortest_ids([replayed.of, replayed.id or ""])
    meaning = "the server got the very bytes again" if replayed.fidelity == "exact" else ", ".join(replayed.lost)
    screen.print(f"\nAt the end of the day one call was replayed, {replayed.fidelity}: {meaning}.")
    _title(screen, f"hub diff {' '.join(ids.values())}{option}")
    render_diff(compare(reader.call(replayed.of), reader.call(replayed.id or "@last")), screen)


def _say_what_next(screen: Console, reader: Reader, option: str) -> None:
    path, what = reader.settings.sqlite_path, "a PostgreSQL database"
    if path is not None:
        what = f"a SQLite file of {shapes.size(path.stat().st_size)}"
    screen.print(f"\nThe store is {place(reader.settings)}, {what}. What to type next:\n")
    for command in (
        f"hub calls{option} --where \"status <> 'ok'\"",
        f"hub show{option} @last",
        f'hub sql{option} "select * from llm_event_shop_cart_abandoned"',
        f"hub doctor{option}",
    ):
        screen.print(f"  {command}", soft_wrap=True)


def _table(result: Result) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in result.columns:
        table.add_column(column, justify="left" if column == "request_model" else "right")
    for row in result.rows:
        table.add_row(*(shapes.value(value) for value in row))
    return table


def _worth_telling(reader: Reader) -> StoredCall:
    """The last answer of an agent: a conversation with tools in it."""
    found = reader.calls("request_model = 'gpt-4.1-mini' and status = 'ok' and finish_reason = 'stop'", limit=1)
    return found[0] if found else reader.call("@last")


def _short(settings: Settings) -> str:
    """The store as one would type it here; of a server's password there stay three stars."""
    path, here = settings.sqlite_path, Path.cwd()
    if path is None:
        return settings.shown_db_url
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _title(screen: Console, command: str) -> None:
    from rich.text import Text

    screen.print()
    screen.print(Text(f"$ {command}", style="bold cyan"), soft_wrap=True)
