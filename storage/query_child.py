"""Guarded SQL in a process of its own, which is killed when it takes too long and cannot take more memory than allowed.

The guard's deadline is looked at between steps of SQLite's machine; one instr() over long texts is a single step.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from hub.errors import QueryLimit, QueryRefused, StoreError
from storage.query import Limits, Params, Result
from storage.sqlite_query import run

_GRACE_SECONDS = 0.5
_MEMORY_BYTES = 512 << 20
_SORT_FILE_BYTES = 1 << 30


def run_in_child(path: Path, sql: str, params: Params = (), *, limits: Limits | None = None) -> Result:
    """What `storage.sqlite_query.run` does, from a process that may be killed. Meant for commands: it forks, which a
    program with threads should not do."""
    limits = limits or Limits()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, path, sql, params, limits), daemon=True)
    try:
        _start(child)
        theirs.close()
        if not ours.poll(limits.seconds + _GRACE_SECONDS):
            raise limits.too_long()
        answer = ours.recv()
    except EOFError:
        raise QueryLimit("the query's process ended without an answer", "select fewer rows or shorter text") from None
    finally:
        if child.pid is not None:
            child.kill()
            child.join()
        child.close()
        ours.close()
    if isinstance(answer, Result):
        return answer
    kind, facts = answer
    raise kind(*facts)


def _start(child: BaseProcess) -> None:
    """A Ctrl-C waits until the fork is over: raised in a hook of `os.register_at_fork` Python forgets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(to: Connection, path: Path, sql: str, params: Params, limits: Limits) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then kills us
    room = _size() + limits.bytes * 4 + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SORT_FILE_BYTES, _SORT_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        to.send(run(path, sql, params, limits=limits))
    except MemoryError:
        to.send((QueryLimit, ("the query ran out of memory", "select fewer rows or shorter text")))
    except QueryRefused as refused:  # as its facts: pickle would rebuild an exception from its message
        to.send((type(refused), (refused.reason, refused.remedy)))
    except StoreError as failed:
        to.send((type(failed), (failed.url, failed.reason, failed.remedy)))


def _size() -> int:
    """This process's address space, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
