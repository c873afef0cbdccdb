"""A SQLite file: opening it safely, the lock around each write, and what its errors mean to a user."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from hub.errors import ForeignStore, StoreError, StoreUnavailable
from storage.sqlite_connection import SQLiteConnection
from storage.turns import Place

LOCK_SUFFIX = ".lock-hub"
_BACKUP, _REVISION = ".backup-", re.compile(r"0\d{3}")
_LOCK_WAIT = 5.0
_PATIENCE = 2.0
"""Seconds for which a writer lets those go first who came before it: they may be stopped."""
_BUSY_MS = 1_000
_OF_VALUES = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
_IS_MISSING = re.compile("no such (table|column)")
_NETWORK = """
    nfs nfs4 cifs smb3 smbfs ncpfs afs ceph glusterfs lustre beegfs gfs2 ocfs2 gpfs davfs
    fuse.sshfs fuse.davfs fuse.glusterfs fuse.s3fs fuse.rclone fuse.gcsfuse fuse.cephfs
"""


def url_of(path: Path) -> str:
    """How the file is named in errors."""
    return f"sqlite:///{path}"


def backups_of(path: Path) -> list[Path]:
    """The copies that upgrades made of the file, see `storage.migrate`."""
    return [copy for copy in _copies_of(path) if _REVISION.fullmatch(_ending(copy, path))]


def foreign_copies_of(path: Path) -> list[Path]:
    """What people seem to have copied the file to."""
    return [copy for copy in _copies_of(path) if not _REVISION.fullmatch(_ending(copy, path))]


def _copies_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}{_BACKUP}*"))


def _ending(copy: Path, path: Path) -> str:
    return copy.name.removeprefix(f"{path.name}{_BACKUP}")


def connect(path: Path) -> SQLiteConnection:
    """Open the existing file, and change nothing in it. Transactions are begun and ended by the caller.

    Raises: StoreError
    """
    with translated(path):
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=96,
            factory=SQLiteConnection,
            timeout=_BUSY_MS / 1000,
        )


def prepare(connection: sqlite3.Connection) -> None:
    """Set a connection to a database of ours up for writing."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "mmap_size=0", "journal_size_limit=33554432"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA cache_size=-4096")
    connection.execute("PRAGMA wal_autocheckpoint=2000")  # 8 MB: pages written often are copied back less often
    connection.execute("PRAGMA secure_delete=ON")  # Debian's default, not SQLite's: what is erased must be gone


def make_file(path: Path) -> None:
    """Make an empty file, readable by its owner alone, where there is none.

    A journal left behind by a deleted database is removed: SQLite would play it into the new file.

    Raises: StoreError
    """
    refuse_network_folder(path)
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_dir():
            raise StoreError(url_of(path), "this is a folder", "name a file in it (HUB_DB_URL)")
        if path.exists():
            if not path.is_file():
                raise StoreError(url_of(path), "this is a device or a pipe", "name a file (HUB_DB_URL)")
            return
        with write_lock(path):
            if path.exists():
                return
            for suffix in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # where a link leads, if it is one


@contextmanager
def write_lock(path: Path, wait: float = _LOCK_WAIT) -> Iterator[None]:
    """Hold the lock of all who write to the file, in the order in which they asked for it; SQLite lets some starve.

    Raises: StoreUnavailable: Somebody held it for *wait* seconds.
    """
    descriptor = os.open(path.with_name(path.name + LOCK_SUFFIX), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    place = Place(descriptor)
    try:
        _take(descriptor, place, path, wait)
        place.leave()
        yield
    finally:
        place.leave()  # a child forked meanwhile has a copy of the descriptor
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _take(descriptor: int, place: Place, path: Path, wait: float) -> None:
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        if (place.is_first or waited > _PATIENCE) and _has_taken(descriptor):
            return
        if waited > wait:
            raise StoreUnavailable(
                url_of(path), f"another process has been writing for {wait:g} s", "it is tried again"
            )
        time.sleep(min(max(waited / 8, 0.0003), 0.002))


def _has_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def identity(path: Path) -> tuple[int, int] | None:
    """Tells this file from another that comes to stand at its path; None when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def refuse_network_folder(path: Path, mounts: str | None = None) -> None:
    """Raises: StoreError: *path* is on a network file system, where SQLite's locks and shared memory do not work.

    mounts: Text in the form of /proc/self/mounts, which is read when it is None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(errors="replace")
        except OSError:
            return
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    if kind in _NETWORK.split():
        raise StoreError(
            url_of(path), f"{best} is a network file system ({kind})", "choose a folder on a local disk (HUB_DB_URL)"
        )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and of the file system into StoreErrors that name the file and what to do.

    What SQLite says of a value, not of the file, stays as it is: trying the same value again would fail for ever.
    """
    try:
        yield
    except _OF_VALUES:
        raise
    except sqlite3.Error as error:
        raise _meaning(error, path) from error
    except OSError as error:
        raise _os_meaning(error, path) from error


def damaged(path: Path, how: str = "") -> StoreError:
    """What to say of a database of ours that cannot be used any more."""
    remedy = "move it away and restore a backup; without one a new database is made"
    return StoreError(url_of(path), f"the database is damaged{how}", remedy)


def _meaning(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    url = url_of(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(url, "another program keeps the database locked", "end its transaction")
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(url, "the disk is full", "make room on it")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreUnavailable(
            url, "cannot be written", f"give yourself permission to write the file and its folder {path.parent}"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ForeignStore(url, "is not a SQLite database", "choose another file (HUB_DB_URL)")
    if code == sqlite3.SQLITE_CORRUPT:
        return damaged(path)
    if code == sqlite3.SQLITE_ERROR and _IS_MISSING.match(str(error)):
        return damaged(path, f" ({error})")
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(url, "the disk cannot be read or written", "make room on it, and see whether it is ill")
    return StoreUnavailable(url, f"SQLite failed: {error}", "it is tried again")


def _os_meaning(error: OSError, path: Path) -> StoreError:
    url = url_of(path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreUnavailable(
            url, "cannot be written", f"give yourself permission to write the file and its folder {path.parent}"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailable(url, "the disk is full", "make room on it")
    return StoreUnavailable(url, f"cannot be opened ({error.strerror})", "check the path (HUB_DB_URL)")
