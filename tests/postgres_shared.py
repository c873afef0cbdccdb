"""The one PostgreSQL that all tests of a run share, also those in other workers of xdist.

A process of its own, the keeper, makes and starts it when the first test asks, and holds a connection from each
process that uses it. When the last has let go, or died, the keeper ends, with all that it made. Its door is a socket
with a name and no file, so the name is free again when the keeper is gone, and of two keepers only one comes to be.

HUB_TEST_POSTGRES_URL names another server. Its login must be allowed to make databases and roles.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.postgres_kit import migrate
from tests.postgres_server import Server, end_what_runs_in, make_pristine, open_to_all

REPOSITORY = Path(__file__).parents[1]
_PATIENCE = 60.0
_TEMPLATE = "hub_test_migrated"


def server_url() -> str:
    """Of the shared server, with a login that may do everything."""
    return os.environ.get("HUB_TEST_POSTGRES_URL") or _lease().url


@contextmanager
def own_server() -> Iterator[Server]:
    """A running server for one test alone."""
    lease = _lease()
    folder = lease.folder / f"own-{uuid4().hex}"  # the keeper removes it, should this process not come to it
    subprocess.run(["cp", "-a", lease.folder / "pristine", folder], check=True)
    server = Server(folder, lease.binaries, lease.password)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        end_what_runs_in(folder)
        shutil.rmtree(folder)


@contextmanager
def fresh_database(server: str, template: str = "template0") -> Iterator[str]:
    """The URL of a new database, which is dropped in the end, with whoever is connected to it.

    Roles belong to the whole server: those whose name begins with the database's are dropped as well.
    """
    name = f"hub_test_{uuid4().hex[:16]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
    try:
        yield _named(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            roles = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (name,))
            for (role,) in roles.fetchall():
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@contextmanager
def migrated_database(server: str) -> Iterator[str]:
    """As `fresh_database`, with the hub's schema."""
    if os.environ.get("HUB_TEST_POSTGRES_URL"):  # a template would be left there
        with fresh_database(server) as url:
            migrate(url)
            yield url
        return
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}_unfinished TEMPLATE template0 ENCODING 'UTF8'")
            migrate(_named(server, f"{_TEMPLATE}_unfinished"))
            connection.execute(f"ALTER DATABASE {_TEMPLATE}_unfinished RENAME TO {_TEMPLATE}")
    with fresh_database(server, _TEMPLATE) as url:
        yield url


def _named(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{database}").geturl()


def let_go(*, and_wait: bool) -> None:
    """Use the server no more. *and_wait*: until it is gone."""
    lease = _lease() if _lease.cache_info().currsize else None
    door = lease.door if lease else _knock() if and_wait else None
    if door is None:
        return
    door.shutdown(socket.SHUT_WR)
    if and_wait:
        door.settimeout(_PATIENCE)
        _read(door)
    if lease is not None and lease.started is not None:
        lease.started.wait(_PATIENCE)


@dataclass(frozen=True)
class _Lease:
    """What a user of the server holds. It lasts as long as *door* is open."""

    door: socket.socket
    started: subprocess.Popen[bytes] | None
    """The keeper, if this process is its parent."""
    url: str
    folder: Path
    binaries: Path
    password: str


@cache
def _lease() -> _Lease:
    started: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        door = _knock()
        if door is None:
            if started is None or started.poll() is not None:
                started = _start_keeper()
            time.sleep(0.02)
            continue
        told = json.loads(_read(door, until=b"\n") or "{}")
        if "failed" in told:
            raise RuntimeError(told["failed"])
        if told:
            url, folder, binaries, password = (told[key] for key in ("url", "folder", "binaries", "password"))
            mine = started if told["pid"] == getattr(started, "pid", None) else None
            return _Lease(door, mine, url, Path(folder), Path(binaries), password)
        door.close()  # it was about to end
    raise RuntimeError("no PostgreSQL for the tests within a minute")


def _start_keeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.postgres_shared", _door_name()],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt from the keyboard is for pytest, which then lets go
    )


def _door_name() -> str:
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return f"llm-hub-test-postgres-{os.getuid()}-{run}"


def _knock() -> socket.socket | None:
    door = socket.socket(socket.AF_UNIX)
    try:
        door.connect("\0" + _door_name())
    except ConnectionRefusedError:
        door.close()
        return None
    return door


def _read(door: socket.socket, until: bytes = b"") -> bytes:
    """What comes up to *until*, or to the other side's end."""
    read = b""
    try:
        while not (until and read.endswith(until)) and (more := door.recv(4_096)):
            read += more
    except ConnectionError:
        pass
    return read


def _keep(name: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.bind("\0" + name)
        except OSError:
            return  # another was first
        door.listen(64)
        place = None if os.geteuid() or open_to_all(Path(tempfile.gettempdir())) else "/tmp"
        root = Path(tempfile.mkdtemp(prefix="llm-hub-test-postgres-", dir=place))
        server = None
        try:
            password = secrets.token_hex(8)
            pristine, binaries = make_pristine(root, password)
            shared = root / "shared"
            subprocess.run(["cp", "-a", pristine, shared], check=True)
            server = Server(shared, binaries, password)
            server.start(
                max_connections=200, fsync="off"
            )  # nobody kills this one, and databases are made 3 times as fast
            told = {"pid": os.getpid(), "url": server.url(), "folder": str(root), "binaries": str(binaries)}
            _serve(door, {**told, "password": password})
        except Exception as failed:
            _serve(door, {"failed": str(failed)})
            raise
        finally:
            if server is not None:
                server.stop()
            for folder in root.iterdir():
                end_what_runs_in(folder)
            shutil.rmtree(root)


def _serve(door: socket.socket, told: dict[str, object]) -> None:
    """Until nobody is left: those who let go stay connected, and see by the connection's end that all is gone."""
    users: set[socket.socket] = set()
    gone: list[socket.socket] = []
    while ready := select.select([door, *users], [], [], None if users else _PATIENCE)[0]:
        for one in ready:
            if one is door:
                user = door.accept()[0]
                user.sendall(json.dumps(told).encode() + b"\n")
                users.add(user)
            elif not _speaks(one):
                users.remove(one)
                gone.append(one)
        if not users:
            return


def _speaks(user: socket.socket) -> bool:
    try:
        return bool(user.recv(1))
    except ConnectionError:
        return False


if __name__ == "__main__":
    _keep(sys.argv[1])
