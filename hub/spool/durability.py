"""Waiting for the disk: many callers share one fdatasync."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

Resolve = Callable[[bool], None]


class Gate:
    """Wakes one thread. Opening it takes no lock that anybody holds: safe in signal handlers and finalisers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it is open

    def wait(self, seconds: float) -> bool:
        """Whether the gate was opened before the time was up. Closes it."""
        return self._lock.acquire(timeout=max(seconds, 0.0))


class Syncer:
    """A thread that brings the spool to the disk for those who wait."""

    def __init__(
        self,
        appended: Callable[[], int],
        sync: Callable[[], bool],
        count_timeout: Callable[[], None],
        *,
        timeout: float,
    ) -> None:
        self._appended = appended
        self._sync = sync
        self._count_timeout = count_timeout
        self._timeout = timeout
        self._synced = 0
        self._late = False
        self._stopped = False
        self._waiters: deque[Resolve] = deque()
        self._gate = Gate()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until what was appended so far is on the disk.

        False: the time was up (default: the spool's), it cannot be written, or an earlier wait ran into its time and
        the disk has not come back since. Each False is counted.
        """
        if self._appended() <= self._synced:
            return True
        if not self._hopeful():
            return False
        done = threading.Lock()
        done.acquire()
        result: list[bool] = []

        def resolve(ok: bool) -> None:
            result.append(ok)
            done.release()

        self._waiters.append(resolve)
        self._gate.open()
        if not done.acquire(timeout=self._timeout if timeout is None else timeout):
            self._late = True
        if result and result[0]:
            return True
        self._count_timeout()
        return False

    def future(self, loop: asyncio.AbstractEventLoop, timeout: float | None = None) -> asyncio.Future[bool]:
        """`wait` for a coroutine on *loop*. Never raises; cancelling it is harmless."""
        future: asyncio.Future[bool] = loop.create_future()
        if self._appended() <= self._synced:
            future.set_result(True)
            return future
        if not self._hopeful():
            future.set_result(False)
            return future

        def settle(ok: bool) -> None:
            if not future.done():
                if not ok:
                    self._count_timeout()
                future.set_result(ok)

        def expire() -> None:
            if not future.done():
                self._late = True
                settle(False)

        def resolve(ok: bool) -> None:
            try:
                loop.call_soon_threadsafe(settle, ok)
            except RuntimeError:
                pass  # the loop was closed: nobody waits any more

        timer = loop.call_later(self._timeout if timeout is None else timeout, expire)
        future.add_done_callback(lambda _: timer.cancel())
        self._waiters.append(resolve)
        self._gate.open()
        return future

    def _hopeful(self) -> bool:
        if not self._late and self._running():
            return True
        self._gate.open()  # the disk may be back
        self._count_timeout()
        return False

    def _running(self) -> bool:
        if self._thread is None and not self._stopped and self._start.acquire(False):  # else somebody is at it
            try:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="hub-sync", daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:  # the interpreter is ending
                return False
            finally:
                self._start.release()
        return not self._stopped

    def _run(self) -> None:
        while not self._stopped:
            self._gate.wait(60.0)
            waiters = []
            while self._waiters:
                waiters.append(self._waiters.popleft())
            if waiters or self._late:
                self._serve(waiters)

    def _serve(self, waiters: list[Resolve]) -> None:
        target = self._appended()
        try:
            ok = self._sync()
        except (OSError, ValueError):
            ok = False
        if ok:
            self._synced, self._late = target, False
        for resolve in waiters:
            resolve(ok)

    def stop(self, timeout: float = 0.1) -> None:
        """End the thread; who still waits gets False."""
        self._stopped = True
        thread = self._thread
        self._gate.open()
        if thread is not None:
            thread.join(timeout)
        deadline = time.monotonic() + timeout
        while self._waiters and time.monotonic() < deadline:
            try:
                self._waiters.popleft()(False)
            except IndexError:
                break

    def forget_in_child(self) -> None:
        """After a fork: there is no thread and nobody waits."""
        self._stopped, self._thread = True, None
        self._waiters.clear()
