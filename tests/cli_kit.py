"""The commands in this process, in a folder and an environment of their own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli.main import app

HUB = str(Path(sys.executable).parent / "hub")
"""The command as it is installed."""
Command = Callable[..., Result]


def settle(where: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> dict[str, str]:
    """Work in *where* with no settings but *settings*. Returns: The environment, for processes."""
    for name in os.environ:
        if name.startswith(("HUB_", "OTEL_")) and name != "HUB_TEST_POSTGRES_URL":
            monkeypatch.delenv(name)
    for name, value in {"XDG_DATA_HOME": where / "data", "COLUMNS": 100, **settings}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(where)
    return dict(os.environ)


def commands(*first: str) -> Command:
    """Runs a command, or the one that begins with *first*."""
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [*first, *args])


def on_a_terminal(args: list[str], env: dict[str, str], columns: int = 100) -> tuple[int, str]:
    """Run the installed command on a terminal of its own."""
    main, side = pty.openpty()
    process = subprocess.Popen([HUB, *args], stdin=side, stdout=side, stderr=side, env={**env, "COLUMNS": str(columns)})
    os.close(side)
    seen = b""
    while True:
        try:
            if select.select([main], [], [], 20)[0]:
                seen += os.read(main, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
    os.close(main)
    return process.wait(20), seen.decode().replace("\r\n", "\n")
