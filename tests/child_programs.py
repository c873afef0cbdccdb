"""Programs in a process of their own that make traced calls and say so, as `tests.kills.Said` reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.killed_program import settings_in
from tests.kills import REPOSITORY

OPENING = """
import asyncio, multiprocessing, os, signal, sys, threading, time
import hub
from hub.calls import current_call

@hub.traced(provider="acme", model="acme-1")
def ask(prompt):
    return current_call.get()

@hub.traced(provider="acme", model="acme-1")
async def aask(prompt):
    await asyncio.sleep(0)
    return current_call.get()

@hub.traced(provider="acme", model="acme-1")
def stream(prompt):
    yield current_call.get()
    yield " and more"

def say(call):
    os.write(1, b"E %s 4 ok\\n" % call.id.encode())  # no buffer that a fork would copy or a kill would take

async def many(count):
    for call in await asyncio.gather(*(aask(str(n)) for n in range(count))):
        say(call)
"""


def start(folder: Path, program: str, processes: int = 1) -> list[subprocess.Popen[str]]:
    """Run *program*, which goes on from `OPENING`, so many times at once. Store and spool are those of `settings_in`;
    what it says is added to the file `said`."""
    settings = settings_in(folder)
    surroundings = {
        "HUB_DB_URL": settings.db_url,
        "HUB_SPOOL_DIR": str(settings.spool_dir),
        "HUB_PROJECT": settings.project,
        "PYTHONPATH": str(REPOSITORY),
    }
    (folder / "program.py").write_text(OPENING + program)
    with (folder / "said").open("ab") as said:
        return [
            subprocess.Popen(
                [sys.executable, "program.py"],
                stdout=said,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={**_without_settings(), **surroundings},
                text=True,
            )
            for _ in range(processes)
        ]


def ended(process: subprocess.Popen[str], timeout: float) -> tuple[int, str]:
    """How a program ended, and its errors. Raises: TimeoutExpired: It has not; it is killed then."""
    try:
        _, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, errors


def _without_settings() -> dict[str, str]:
    """The environment, as if nobody had set up the hub or OpenTelemetry."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
