"""A program that makes traced calls, says whose events are emitted, and is killed over and over again.

Run: python -m tests.killed_program FOLDER --kills N [--seconds S] [--parallel P] [--seed N] [--durability MODE]

It imports once and forks for each life, so that a life costs no more than a hub's start. What the lives said stands in
FOLDER/said: a line for each call, as soon as its request is emitted (R) or it has ended (E), with the number of events
in its stream and its status.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hub.calls import current_call
from hub.config import Settings, load
from hub.runtime import Hub
from storage import sqlite as sqlite  # loaded before the first fork

STARTING = 0.06
"""Seconds."""
LONGEST_LIFE = 60
"""Seconds. A life that nobody kills, because its killer is gone, ends by itself."""
THREADS = 3
OPEN_SHARE, MARK_SHARE = 0.02, 0.1
MOST_OPEN = 5
PAUSES = (0.0, 0.0, 0.002, 0.01)
"""Seconds after a call, or after a round of them in one loop. With none the end finds nearly all still in the spool."""

Say = Callable[[bytes], None]


def settings_in(folder: Path, durability: str = "crash_safe") -> Settings:
    """Store and spool in *folder*, and nothing from the environment."""
    given = {
        "db_url": f"sqlite:///{folder / 'calls.db'}",
        "spool_dir": folder / "spool",
        "project": "kills",
        "durability": durability,
        "otel": "off",
    }
    return load(given, {}, folder)


class Program:
    """Traced functions of each kind, and loops that call them for ever. Each returns the id of its own call."""

    def __init__(self, hub: Hub, say: Say, chance: random.Random) -> None:
        self._hub, self._say, self._chance = hub, say, chance
        self._pause = chance.choice(PAUSES)
        self._open = 0
        traced = hub.traced(provider="acme", model="acme-1")
        self._ask, self._aask = traced(self._plain), traced(self._coroutine)
        self._stream, self._astream = traced(self._generator), traced(self._async_generator)
        self._fail, self._hang = traced(self._failing), traced(self._hanging)

    def _began(self) -> str:
        call = current_call.get()
        assert call is not None
        return call.root.id

    def _plain(self, prompt: str) -> str:
        return self._began()

    async def _coroutine(self, prompt: str, marked: bool) -> str:
        call_id = self._began()
        self._say(b"R %s 2 -\n" % call_id.encode())
        await asyncio.sleep(0)
        if marked:
            self._hub.emit("kills:mark", call=call_id)
        return call_id

    def _generator(self, prompt: str) -> Iterator[str]:
        yield self._began()
        yield " and"
        yield " more"

    async def _async_generator(self, prompt: str) -> AsyncIterator[str]:
        yield self._began()
        await asyncio.sleep(0)
        yield " and more"

    async def _failing(self, prompt: str) -> None:
        raise LookupError(self._began())

    async def _hanging(self, prompt: str) -> None:
        self._say(b"R %s 2 -\n" % self._began().encode())
        await asyncio.Event().wait()

    def _ended(self, call_id: str, status: bytes = b"ok", events: int = 4) -> None:
        self._say(b"E %s %d %s\n" % (call_id.encode(), events, status))

    def sync_forever(self) -> None:
        """One call after the other, every third of them a stream."""
        number = 0
        while True:
            number += 1
            if number % 3:
                self._ended(self._ask(f"question {number}"))
            else:
                [call_id, *_] = self._stream("a story")
                self._ended(call_id)
            if self._pause:
                time.sleep(self._pause)

    def threads_forever(self) -> None:
        """As `sync_forever`, in several threads."""
        threads = [threading.Thread(target=self.sync_forever, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        threads[0].join()

    async def async_forever(self) -> None:
        """Calls of all kinds in one loop."""
        held: set[asyncio.Future[None]] = set()
        while True:
            await asyncio.gather(*(self._one(number) for number in range(8)))
            if not held or (len(held) < MOST_OPEN and self._chance.random() < OPEN_SHARE):
                held.add(asyncio.ensure_future(self._hang("are you there?")))
            await asyncio.sleep(self._pause)

    async def _one(self, number: int) -> None:
        if number == 0:
            [call_id, *_] = [chunk async for chunk in self._astream("a story")]
            self._ended(call_id)
        elif number == 1:
            try:
                await self._fail("a question that cannot be answered")
            except LookupError as error:
                self._ended(str(error.args[0]), b"error")
        else:
            marked = self._chance.random() < MARK_SHARE
            self._ended(await self._aask("question " * number, marked), events=4 + marked)


def live(folder: Path, durability: str, seed: int, number: int, pipe: int) -> None:
    """Call and call, until the end comes from outside."""
    signal.alarm(LONGEST_LIFE)
    chance, kind = random.Random(f"{seed}.{number}"), number % 3
    hub = Hub(settings_in(folder, durability))
    program = Program(hub, lambda line: void(os.write(pipe, line)), chance)
    if kind == 0:
        program.sync_forever()
    elif kind == 1:
        program.threads_forever()
    else:
        asyncio.run(program.async_forever())


def void(_: object) -> None: ...


@dataclass
class Life:
    """A running process, the pipe it speaks through, and when it is to die (monotonic seconds)."""

    pid: int
    pipe: int
    dies_at: float
    after_first_word: float | None
    """Seconds it is still to have then; None when `dies_at` holds."""
    said: list[bytes] = field(default_factory=list)


class Killer:
    """Starts lives and ends them with SIGKILL."""

    def __init__(self, folder: Path, *, durability: str, seconds: float, seed: int) -> None:
        self._folder, self._durability, self._seconds, self._seed = folder, durability, seconds, seed
        self._chance = random.Random(seed)

    def run(self, kills: int, parallel: int) -> Iterator[bytes]:
        """What each life said, after its end."""
        lives: list[Life] = []
        begun = 0
        while begun < kills or lives:
            while begun < kills and len(lives) < parallel:
                begun += 1
                lives.append(self._begin(begun))
            for life in self._wait(lives):
                lives.remove(life)
                yield b"".join(life.said)

    def _begin(self, number: int) -> Life:
        # A quarter dies while it starts, the store's making and the recovery of those before included.
        early = self._chance.random() < 0.25
        rest = self._chance.uniform(0, STARTING if early else self._seconds)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                live(self._folder, self._durability, self._seed, number, writing)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writing)
        dies_at = time.monotonic() + (rest if early else LONGEST_LIFE)
        return Life(pid, reading, dies_at, None if early else rest)

    def _wait(self, lives: list[Life]) -> list[Life]:
        """Listen until something is said or due. Returns: The lives that are over."""
        now = time.monotonic()
        for life in lives:
            if life.dies_at <= now:
                os.kill(life.pid, signal.SIGKILL)
                life.dies_at = float("inf")
        next_death = min(life.dies_at for life in lives)
        timeout = None if next_death == float("inf") else max(0.0, next_death - now)
        readable = select.select([life.pipe for life in lives], [], [], timeout)[0]
        over = []
        for life in lives:
            if life.pipe in readable:
                more = os.read(life.pipe, 1 << 16)
                life.said.append(more)
                if life.after_first_word is not None:
                    life.dies_at, life.after_first_word = time.monotonic() + life.after_first_word, None
                if not more:
                    os.close(life.pipe)
                    _, status = os.waitpid(life.pid, 0)
                    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                        print(f"a life ended by itself: {os.waitstatus_to_exitcode(status)}", file=sys.stderr)
                    over.append(life)
        return over


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.3, help="of the longest life")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durability", default="crash_safe")
    asked = parser.parse_args()
    assert threading.active_count() == 1, "a fork copies no threads"
    killer = Killer(asked.folder, durability=asked.durability, seconds=asked.seconds, seed=asked.seed)
    with (asked.folder / "said").open("ab") as said:
        for lines in killer.run(asked.kills, asked.parallel):
            said.write(lines)


if __name__ == "__main__":
    main()
