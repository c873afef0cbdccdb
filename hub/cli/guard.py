"""What happens when a command fails: a line on stderr that says what to do, an exit code, never a traceback."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from hub.cli import shapes
from hub.errors import (
    AmbiguousId,
    ConfigError,
    FileRefused,
    HubError,
    MissingExtra,
    NotFound,
    QueryLimit,
    QueryRefused,
    ReplayImpossible,
    SearchOff,
)
from hub.own_packages import check

P = ParamSpec("P")

_OF_USAGE = (ConfigError, AmbiguousId, FileRefused, MissingExtra, ReplayImpossible, SearchOff)

OK, FAILED_CHECK, USAGE, NOT_FOUND, STORE, INTERRUPTED = 0, 1, 2, 3, 4, 130


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """*command* with its failures turned into exit codes."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            check("storage")
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            raise typer.Exit(OK) from None  # the reader has what it wanted: `hub calls | head`
        except (KeyboardInterrupt, typer.Abort):  # the latter at a question
            raise typer.Exit(INTERRUPTED) from None
        except HubError as error:
            say(f"hub: {error}")
            raise typer.Exit(exit_code(error)) from None
        except OSError as error:
            say(f"hub: {error.filename or 'the system'}: {error.strerror or error}; check the path and your rights")
            raise typer.Exit(STORE) from None
        except (typer.Exit, typer.BadParameter):
            raise
        except Exception as error:
            raise typer.Exit(unexpected(error)) from None

    return run


def exit_code(error: HubError) -> int:
    """The exit code that says what kind of failure *error* is."""
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, _OF_USAGE) or (isinstance(error, QueryRefused) and not isinstance(error, QueryLimit)):
        return USAGE
    return STORE


def unexpected(error: Exception) -> int:
    """Report a mistake of ours without the values at hand, which may be somebody's prompts."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    say(f"hub: this should not have happened: {type(error).__name__}{place}; report it, with what hub doctor says")
    return STORE


def say(line: str) -> None:
    """One line for people, on stderr. What SQLite says of stored text may quote it."""
    try:
        print(shapes.clean(line), file=sys.stderr, flush=True)
    except OSError:
        pass


def _forget_stdout() -> None:
    """Keep the interpreter from complaining, at its exit, about what nobody wants to read any more."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
