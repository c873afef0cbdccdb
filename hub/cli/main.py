"""The command `hub`: its commands, and what every failure looks like."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from hub.cli.calls import calls
from hub.cli.collect import collect
from hub.cli.config import config
from hub.cli.demo import demo
from hub.cli.diff import diff
from hub.cli.doctor import doctor
from hub.cli.erase import erase
from hub.cli.export import export
from hub.cli.guard import guarded, unexpected
from hub.cli.import_ import import_
from hub.cli.maintain import migrate, rebuild
from hub.cli.prune import prune
from hub.cli.replay import replay
from hub.cli.reprice import reprice
from hub.cli.search import search
from hub.cli.show import show
from hub.cli.sql import sql
from hub.cli.stats import stats
from hub.cli.tail import tail
from hub.cli.values import PairCommand

app = typer.Typer(
    name="hub",
    help="Every call of your programs to a language model: kept, listed, queried.",
    epilog="Exit codes: 0 ok, 1 a difference or a failed check, 2 usage, 3 not found, 4 store or network, "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "calls": calls,
    "show": show,
    "tail": tail,
    "search": search,
    "sql": sql,
    "stats": stats,
    "replay": replay,
    "diff": diff,
    "import": import_,
    "collect": collect,
    "doctor": doctor,
    "migrate": migrate,
    "rebuild": rebuild,
    "reprice": reprice,
    "erase": erase,
    "prune": prune,
}

for name, command in COMMANDS.items():
    app.command(name, cls=PairCommand if command is sql else None)(guarded(command))
app.command("ls", hidden=True, help="The same as calls.")(guarded(calls))
app.add_typer(export, name="export")
app.add_typer(config, name="config")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from hub import __version__

        typer.echo(f"llm-hub {__version__}")
        raise typer.Exit


def _make_streams_patient() -> None:
    """What a terminal's encoding lacks is spelled out, and nobody listening is no error."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # to the end of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line of this process."""
    _make_streams_patient()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # past the guard: only what happens outside of commands
        sys.exit(unexpected(error))
