"""`hub replay`: a recorded call, sent again."""

from __future__ import annotations

import asyncio
import importlib
import json as jsonlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli import shapes
from hub.cli.diff import render, say_unknown
from hub.cli.guard import FAILED_CHECK, STORE, say
from hub.cli.opening import open_for_reading, require_call
from hub.cli.options import Db, Json, chosen_format
from hub.cli.output import console, write_json
from hub.errors import NotFound, ReplayImpossible

if TYPE_CHECKING:
    from rich.console import Console

    from hub.reader import Reader, StoredCall
    from hub.replays import Plan, Replay
    from hub.replays.comparing import Comparison

_LONGEST = 2_000
"""Characters of an error's message that are shown."""


def replay(
    call: Annotated[
        str, typer.Argument(metavar="CALL", help="The beginning of an id, @last, or @-2 for the one before.")
    ],
    using: Annotated[
        str | None,
        typer.Option(
            "--using",
            metavar="NAME",
            help="Whom to ask: a provider's name such as openai or openai:gpt-5-mini, or module:factory of your own. "
            "Otherwise the provider that the call went to.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Ask for this model instead.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a parameter: temperature=0.", show_default=False),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Compare with the original; exit code 1 when the answers differ.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Send a recorded call again, to the same provider or another, and record that.

    Keys and addresses come from the environment; tools are not executed. The new call names the old in replay_of.
    """
    form = chosen_format(json)
    params = dict(map(_setting, set_ or ()))
    reader = open_for_reading(db)
    require_call(reader, call)
    stored = reader.call(call)
    done = _send(stored, _chosen(using), model, params, reader)
    compared = _compared(stored, done, reader) if diff else None
    if form == "json":
        write_json(_as_json(done, compared))
    else:
        _show(done, compared, console())
    if compared is not None:
        say_unknown(compared)
    if diff and (compared is None or not compared.same_answer):
        raise typer.Exit(FAILED_CHECK)


def _setting(text: str) -> tuple[str, Any]:
    """temperature=0 as a name and a value; what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is no NAME=VALUE, such as temperature=0", param_hint="--set")
    try:
        return name, jsonlib.loads(value)
    except ValueError:
        return name, value


def _chosen(using: str | None) -> Any:
    """What `--using` names: a provider of the registry, or an object of the user's own module."""
    module, colon, factory = (using or "").partition(":")
    if not colon or _is_registered(module):
        return using
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: users' modules are where they work
    try:
        found: Any = importlib.import_module(module)
        for name in factory.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:  # whatever a module of the user's does while it is imported
        raise typer.BadParameter(
            f"{using} is neither a provider that is known ({_known()}) nor an object in a module that can be imported: "
            f"{_told(error)}",
            param_hint="--using",
        ) from None
    return found


def _is_registered(name: str) -> bool:
    from hub.own_packages import check

    check("providers")
    from providers import list_providers
    from providers.config import variable_prefix

    return name.lower() in list_providers() or bool(os.environ.get(f"{variable_prefix(name)}_BASE_URL"))


def _known() -> str:
    from providers import list_providers

    return ", ".join(list_providers())


def _send(stored: StoredCall, using: Any, model: str | None, params: dict[str, Any], reader: Reader) -> Replay:
    import hub
    from hub.replays import prepare, send

    settings = reader.settings

    async def sending() -> Replay:
        plan = prepare(stored, using, model=model, params=params)
        _announce(plan, stored)
        try:
            return await send(plan)
        except ReplayImpossible:
            raise
        except Exception as error:
            say(f"hub: the provider failed: {_told(error)}")
            raise typer.Exit(STORE) from None

    hub.init(db_url=settings.db_url, project=stored["project"])
    try:
        return asyncio.run(sending())
    finally:
        left = hub.flush()
        if left:
            say(f"hub: {left:,} events are not in the store yet; the next command brings them in")


def _announce(plan: Plan, stored: StoredCall) -> None:
    """Say what leaves for where, before it does."""
    from hub.cli.calls import model_of

    target, original = plan.target, plan.original
    name = shapes.one_line(target.name or type(target.thing).__qualname__)
    where = f" at {shapes.one_line(target.host)}" if target.host else ""
    how = "its stored bytes" if plan.is_unchanged else "its request, changed or rebuilt"
    model = shapes.one_line(plan.model or "its own model")
    say(f"hub: sending {how} ({model_of(stored)}) to {name}{where}, model {model}; tools are not executed")
    if target.host and original.server_address and original.server_address != target.host:
        say(f"hub: the original went to {shapes.one_line(original.server_address)}")
    if plan.hosted_tools:
        say(f"hub: the provider itself may run {', '.join(map(shapes.one_line, plan.hosted_tools))}, as it did before")
    if plan.recorder is None:
        say("hub: recording is switched off (HUB_DISABLED): the new call is not recorded")


def _told(error: BaseException) -> str:
    """What a failure of the user's code or the provider's says, without keys."""
    from hub.redaction import MARK, Redactor

    told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    for name, value in os.environ.items():
        if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")) and len(value) >= 6:
            told = told.replace(value, MARK)
    told = Redactor()(told)[0]
    return told if len(told) <= _LONGEST else told[:_LONGEST] + "…"


def _compared(stored: StoredCall, done: Replay, reader: Reader) -> Comparison | None:
    from hub.replays.comparing import compare

    if done.id is None:
        say("hub: the new call was not recorded, so there is nothing to compare; see hub config show")
        return None
    try:
        return compare(stored, reader.call(done.id))
    except NotFound:
        say(f"hub: the store does not have the new call yet; later: hub diff {stored.id} {done.id}")
        return None


def _as_json(done: Replay, compared: Comparison | None) -> dict[str, Any]:
    facts = {
        "call_id": done.id,
        "replay_of": done.of,
        "fidelity": done.fidelity,
        "lost": dict(done.lost),
        "text": done.text,
        "tool_calls": done.tool_calls,
    }
    return facts if compared is None else {**facts, "diff": compared.as_json()}


def _show(done: Replay, compared: Comparison | None, to: Console) -> None:
    from rich.text import Text

    line = Text(done.fidelity, style="bold green" if done.fidelity == "exact" else "bold yellow")
    line.append(f"  {done.id or 'not recorded'}", style="bold")
    line.append(f"  replays {done.of}", style="dim")
    to.print(line)
    for name, reason in done.lost.items():
        to.print(Text(f"  {shapes.one_line(name)}: {shapes.one_line(reason)}"))
    if compared is not None:
        to.print()
        render(compared, to)
        return
    if done.text:
        to.print(Text(f"\n{shapes.clean(done.text)}"))
    for call in done.tool_calls:
        to.print(
            Text(f"\nasks for {shapes.one_line(call['name'])}({shapes.one_line(call['arguments'])}); not executed")
        )
