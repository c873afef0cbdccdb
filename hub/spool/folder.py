"""A producer's folder: made in one step, held by a lock, taken over when its holder is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from hub.forking import undivided

LOCK = "lock"
_NEW, _GONE = ".new", ".gone"
STALE_SECONDS = 600
"""A folder that is still being made after this time belongs to a process that died while making it."""


def make_folder(root: Path, producer: str, fill: Callable[[Path], None]) -> tuple[Path, int]:
    """A folder for *producer*, filled and locked before anybody can see it, and the descriptor that holds its lock.

    Raises: OSError
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    young = root / (producer + _NEW)
    young.mkdir(mode=0o700)
    fd = -1
    try:
        with undivided():
            fd = os.open(young / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            _held.add(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fill(young)
        folder = root / producer
        young.rename(folder)
    except BaseException:
        let_go(fd)
        shutil.rmtree(young, ignore_errors=True)
        raise
    return folder, fd


_held: set[int] = set()
"""Descriptors of locks of this process. A child's copy of one would keep the lock beyond its holder's end."""


def let_go(fd: int) -> None:
    """Give up the lock that *fd* holds. Harmless for one that was given up, at a fork for instance."""
    if fd in _held:
        _held.discard(fd)
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child forked just now may not have come to close its copy
        os.close(fd)


def _close_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)


def take_lock(folder: Path) -> int | None:
    """The descriptor that now holds the lock of *folder*; None: its process lives, or somebody else took it over.

    Raises: OSError: The lock cannot be opened for writing.
    """
    with undivided():
        try:
            fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        _held.add(fd)
        if _locked(fd, folder):
            return fd
        let_go(fd)
    return None


def _locked(fd: int, folder: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.fstat(fd)
        there = os.stat(folder / LOCK)
    except (BlockingIOError, FileNotFoundError):
        return False
    except BaseException:
        let_go(fd)
        raise
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of *folder*. Raises: OSError: The lock cannot be read."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def folders(root: Path) -> list[Path]:
    """The producers' folders under *root*, oldest first; none when there is no root. Raises: OSError"""
    try:
        return sorted(path for path in root.iterdir() if path.suffix not in (_NEW, _GONE) and path.is_dir())
    except FileNotFoundError:
        return []


def discard(folder: Path) -> None:
    """Delete the folder; from the first moment nobody takes it for a spool any more. Raises: OSError"""
    gone = folder.with_name(folder.name + _GONE)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(root: Path) -> None:
    """Delete what was left by processes that died while they made or deleted their folder."""
    now = time.time()
    for path in list(root.glob("*" + _GONE)) + list(root.glob("*" + _NEW)):
        try:
            if path.suffix == _GONE or now - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
