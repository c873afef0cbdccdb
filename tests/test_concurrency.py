"""Many calls at once, in every way a program can have them: all complete and paired, and nothing counted twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from hub.runtime import Hub
from hub.session import session
from hub.spool.folder import folders
from tests.child_programs import ended, start
from tests.killed_program import settings_in
from tests.kills import Found, Said, bring_in
from tests.spools import assert_exact

CALL = (4, 1, 4)
"""Events, and the first and last version, of a call that is complete."""


class Providers:
    """Traced functions that answer a question with its own text."""

    def __init__(self, hub: Hub) -> None:
        traced = hub.traced(provider="acme", model="acme-1")
        self.ask, self.aask = traced(self._plain), traced(self._coroutine)
        self.stream, self.astream = traced(self._generator), traced(self._async_generator)

    def _plain(self, prompt: str) -> str:
        return f"re: {prompt}"

    async def _coroutine(self, prompt: str, pauses: int = 1) -> str:
        for _ in range(pauses):
            await asyncio.sleep(0)
        return f"re: {prompt}"

    def _generator(self, prompt: str) -> Iterator[str]:
        yield "re: "
        yield prompt

    async def _async_generator(self, prompt: str, pauses: int = 1) -> AsyncIterator[str]:
        yield "re: "
        for _ in range(pauses):
            await asyncio.sleep(0)
        yield prompt


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(settings_in(tmp_path)) as started:
        yield started


def assert_all_there(hub: Hub, folder: Path, prompts: set[str]) -> None:
    """One call for each of *prompts*, with its own answer and in its own session; the hub's counts agree."""
    assert hub.flush(30) == 0
    counted = hub.spool.counters()
    assert_exact(counted)
    found = Found(folder)
    assert (counted.emitted, counted.sinks["store"].stored) == (found.events, found.events)
    assert counted.sinks["store"].dropped == {}
    assert set(found.statuses.values()) == {"ok"}
    assert {found.versions[call_id] for call_id in found.statuses} == {CALL}
    assert found.events == found.ids
    with closing(sqlite3.connect(folder / "calls.db")) as db:
        rows = db.execute(
            "SELECT c.session_id, i.content, o.content FROM llm_calls c"
            " JOIN llm_messages i ON i.call_id = c.call_id AND i.direction = 'input'"
            " JOIN llm_messages o ON o.call_id = c.call_id AND o.direction = 'output'"
        ).fetchall()
    assert sorted(rows) == sorted((f"about {prompt}", prompt, f"re: {prompt}") for prompt in prompts)
    assert len(found.statuses) == len(prompts)


def test_a_hundred_interleaved_calls_in_one_loop_are_paired(hub: Hub, tmp_path: Path) -> None:
    providers, chance = Providers(hub), random.Random(1)

    async def one(number: int) -> str:
        prompt = f"question {number}"
        async with session(f"about {prompt}"):
            if number % 4:
                assert await providers.aask(prompt, chance.randrange(20)) == f"re: {prompt}"
            else:
                chunks = [chunk async for chunk in providers.astream(prompt, chance.randrange(20))]
                assert chunks == ["re: ", prompt]
        return prompt

    async def main() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(100)))

    assert_all_there(hub, tmp_path, set(asyncio.run(main())))


def test_eight_threads_are_paired(hub: Hub, tmp_path: Path) -> None:
    providers, start = Providers(hub), threading.Barrier(8)

    def work(thread: int) -> list[str]:
        start.wait()
        prompts = [f"question {thread}.{number}" for number in range(150)]
        for number, prompt in enumerate(prompts):
            with session(f"about {prompt}"):
                if number % 3:
                    assert providers.ask(prompt) == f"re: {prompt}"
                else:
                    assert list(providers.stream(prompt)) == ["re: ", prompt]
        return prompts

    with ThreadPoolExecutor(8) as pool:
        asked = {prompt for prompts in pool.map(work, range(8)) for prompt in prompts}
    assert len(asked) == 1200
    assert_all_there(hub, tmp_path, asked)


def test_loops_one_after_the_other_and_beside_each_other_are_paired(hub: Hub, tmp_path: Path) -> None:
    providers = Providers(hub)

    async def one(prompt: str) -> str:
        async with session(f"about {prompt}"):
            await providers.aask(prompt, 3)
        return prompt

    async def few(name: str) -> list[str]:
        return await asyncio.gather(*(one(f"question {name}.{number}") for number in range(5)))

    def loops(thread: int) -> list[str]:
        return [prompt for number in range(30) for prompt in asyncio.run(few(f"{thread}.{number}"))]

    with ThreadPoolExecutor(2) as pool:
        asked = {prompt for prompts in pool.map(loops, range(2)) for prompt in prompts}
    assert len(asked) == 300
    assert_all_there(hub, tmp_path, asked)


PROGRAM = """
def work(rounds=3):
    for n in range(rounds):
        asyncio.run(many(5))
        say(ask(str(n)))
        [call, _] = stream("a story")
        say(call)

def flushed():
    left = hub.flush(20)
    if left:
        raise SystemExit(f"{left} events are not in the store")

def end_of(child, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise SystemExit("a child hung")
"""
IN_THE_MIDDLE_OF_A_CALL = """
@hub.traced(provider="acme", model="acme-1")
def forking(prompt):
    child = os.fork()
    if child == 0:
        work()
        hub.emit("acme:note", pid=os.getpid())
    return current_call.get(), child

@hub.traced(provider="acme", model="acme-1")
async def async_forking(prompt):
    await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        say(await aask("from the child"))
    return current_call.get(), child

@hub.traced(provider="acme", model="acme-1")
def stream_forking(prompt):
    yield "one"
    child = os.fork()
    yield current_call.get(), child
    yield "three"

def fork(begin):
    call, child = begin()
    if child == 0:
        work()
        flushed()
        sys.exit(7)
    say(call)
    work()
    if end_of(child) != 7:
        raise SystemExit("the child failed")

fork(lambda: forking("fork here"))
fork(lambda: asyncio.run(async_forking("fork here")))
fork(lambda: list(stream_forking("fork here"))[1])
"""
WITH_THREADS = """
ended = threading.Event()

def busy():
    while not ended.is_set():
        say(ask("x" * 200))
        hub.emit("acme:tick")
        time.sleep(0.001)

threads = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(12):
    time.sleep(0.03)
    child = os.fork()
    if child == 0:
        work(1)
        flushed()
        os._exit(7)
    if end_of(child) != 7:
        raise SystemExit("the child failed")
ended.set()
for thread in threads:
    thread.join()
"""
THREADS_OF_A_CHILD = """
for number in range(4):
    say(ask("in the parent"))
    child = os.fork()
    if child == 0:
        if hub.flush(10):
            raise SystemExit("what the parent emitted is not the child's")
        together = threading.Barrier(4)
        def first():
            together.wait()
            say(ask("among the first in the child"))
        threads = [threading.Thread(target=first) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        flushed()
        os._exit(7)
    if end_of(child) != 7:
        raise SystemExit("a child failed")
"""
MULTIPROCESSING = """
def child(number):
    work(2)
    flushed()
    return number

work()
context = multiprocessing.get_context("fork")
process = context.Process(target=child, args=[1])
process.start()
work()
process.join(30)
if process.exitcode != 0:
    raise SystemExit("the process failed")
with context.Pool(2) as pool:
    if pool.map(child, range(4)) != [0, 1, 2, 3]:
        raise SystemExit("the pool failed")
    pool.close()
    pool.join()
"""


def run(folder: Path, program: str, processes: int = 1) -> Found:
    """Run *program* so many times at once; what it said, and nothing but, is in the store then."""
    for process in start(folder, PROGRAM + program, processes):
        exit_code, errors = ended(process, timeout=90)
        complaints = [line for line in errors.splitlines() if not line.startswith("hub: calls are kept in")]
        assert (exit_code, complaints) == (0, [])
    bring_in(folder)
    found, heard = Found(folder), Said.read(folder / "said")
    found.assert_sound()
    found.assert_complete(heard)
    assert set(found.statuses) == set(heard.calls)
    return found


def producers_of_calls(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "calls.db")) as db:
        return dict(db.execute("SELECT producer, count(*) FROM llm_calls GROUP BY 1"))


def test_a_fork_in_the_middle_of_a_call_leaves_it_to_the_parent(tmp_path: Path) -> None:
    run(tmp_path, IN_THE_MIDDLE_OF_A_CALL)
    assert sorted(producers_of_calls(tmp_path).values()) == [21, 22, 42, 66]
    with closing(sqlite3.connect(tmp_path / "calls.db")) as db:
        [(stream, call)] = db.execute("SELECT stream_id, call_id FROM llm_events WHERE type = 'acme:note'")
    assert call is None
    assert stream not in Found(tmp_path).statuses


def test_a_fork_beside_busy_threads_wedges_neither_side(tmp_path: Path) -> None:
    run(tmp_path, WITH_THREADS)
    assert len(producers_of_calls(tmp_path)) == 13


def test_a_childs_first_calls_are_recorded_though_its_threads_make_them_at_once(tmp_path: Path) -> None:
    run(tmp_path, THREADS_OF_A_CHILD)
    assert sorted(producers_of_calls(tmp_path).values()) == [4] * 5


def test_processes_of_multiprocessing_record_their_own_calls(tmp_path: Path) -> None:
    run(tmp_path, MULTIPROCESSING)
    assert sum(producers_of_calls(tmp_path).values()) == 2 * 21 + 5 * 14
    assert len(producers_of_calls(tmp_path)) in (3, 4)  # a pool may give all to one of its two


def test_four_processes_fill_one_store(tmp_path: Path) -> None:
    found = run(tmp_path, "work(40)\nflushed()", processes=4)
    assert len(found.statuses) == 4 * 40 * 7
    assert sorted(producers_of_calls(tmp_path).values()) == [280] * 4
    assert folders(settings_in(tmp_path).spool_root) == []
    assert found.events == 4 * (1 + 280 * 4)
