"""`hub reprice`: costs by today's prices, or by those of another day."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import shapes
from hub.cli.guard import say
from hub.cli.instants import instant
from hub.cli.opening import open_for_upkeep, settings_for
from hub.cli.options import Csv, Db, Json, Jsonl, chosen_format
from hub.cli.output import console, write_rows
from hub.cli.progress import progress

if TYPE_CHECKING:
    from hub.config import Settings
    from storage.repricing import ModelCosts, Repriced

_COLUMNS = (
    "provider", "model", "calls", "cost_before_usd", "cost_after_usd", "difference_usd", "cost_before_nanos",
    "cost_after_nanos", "difference_nanos", "unpriced_before", "unpriced_after",
)  # fmt: skip


def reprice(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and write nothing.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only calls begun since: 30d, 2026-01-31.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Only this model, or provider/model.", show_default=False),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="By the prices that the store knew then: 2026-01-31.", show_default=False
        ),
    ] = None,
    db: Db = None,
    json: Json = False,
    jsonl: Jsonl = False,
    csv: Csv = False,
) -> None:
    """Compute costs again, by the prices of the settings and lists as they are today; what responses told stays."""
    from storage.repricing import Scope

    form = chosen_format(json, jsonl, csv)
    scope = Scope(
        since_ns=0 if since is None else max(0, instant(since, "--since")),
        model=model,
        known_ns=None if as_of is None else instant(as_of, "--as-of"),
    )
    settings = settings_for(db)
    with closing(open_for_upkeep(settings, prices=settings.price_list)) as store:
        known = f"by {_sources(settings)}" if as_of is None else f"as the store knew them on {as_of}"
        say(f"hub: prices {known}")
        with progress("Computing costs") as advance:
            done = store.reprice(scope, dry_run=dry_run, progress=advance)
    if form == "table":
        _print(done.models)
    else:
        write_rows([_row(one) for one in done.models], _COLUMNS, form)
    say(_summary(done, dry_run=dry_run))


def _sources(settings: Settings) -> str:
    own = [
        f"{shapes.many(len(found), noun)} of {settings.origins[name]}"
        for name, noun, found in (("prices", "price", settings.prices), ("discounts", "discount", settings.discounts))
        if found
    ]
    return ", ".join([*(own or ["no setting"]), "the providers' lists", settings.price_list.list_version])


def _row(one: ModelCosts) -> dict[str, object]:
    before, after = one.cost_before, one.cost_after
    return {
        **one._asdict(),
        "cost_before_nanos": before,
        "cost_after_nanos": after,
        "difference_nanos": one.difference,
        "cost_before_usd": None if before is None else before / 1e9,
        "cost_after_usd": None if after is None else after / 1e9,
        "difference_usd": one.difference / 1e9,
    }


def _print(models: Sequence[ModelCosts]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    for name in ("calls", "cost", "becomes", "difference", "unpriced", "become"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in models:
        name = "/".join(shapes.one_line(part) for part in (one.provider, one.model) if part) or shapes.UNKNOWN
        plus = "+" if one.difference > 0 else ""
        table.add_row(
            Text(name),
            f"{one.calls:,}",
            shapes.cost(one.cost_before),
            shapes.cost(one.cost_after),
            plus + shapes.cost(one.difference),
            f"{one.unpriced_before:,}",
            f"{one.unpriced_after:,}",
        )
    console().print(table)


def _summary(done: Repriced, *, dry_run: bool) -> str:
    total = sum(one.difference for one in done.models)
    if not done.calls and not done.cards:
        return "hub: nothing changes: every cost is what these prices make it"
    told = f"{shapes.many(done.calls, 'call')}, {shapes.cost(total)} in all, by {shapes.many(done.cards, 'new price')}"
    return f"hub: would change {told}; without --dry-run it does" if dry_run else f"hub: changed {told}"
