"""The PostgreSQL of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.postgres_server import Server

REPOSITORY = Path(__file__).parents[1]


def test_a_database_of_ones_own_is_empty_and_in_utf8(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone() == (0,)


def test_a_wrong_password_is_refused(postgres_url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres_url, password="wrong")


def test_a_killed_server_comes_back_with_what_was_committed(own_postgres: Server) -> None:
    with psycopg.connect(own_postgres.url()) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    for end in (own_postgres.kill, own_postgres.stop):
        end()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(own_postgres.url())
        own_postgres.start()
        with psycopg.connect(own_postgres.url()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


_USES_AND_DIES = """
import os, signal
from tests.postgres_shared import _lease, own_server
with own_server() as server:
    print(_lease().folder, _lease().url, server.url(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_when_its_user_is_killed() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    program = subprocess.run(
        [sys.executable, "-c", _USES_AND_DIES],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert program.returncode == -signal.SIGKILL, program.stderr
    folder, *urls = program.stdout.split()
    deadline = time.monotonic() + 20
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(folder).exists()
    for url in urls:
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(url)
