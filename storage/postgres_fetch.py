"""One statement run on PostgreSQL within bounds, and its values as SQLite would give them.

libpq is driven by hand, so that the one thread that reads looks at the time and the size as rows come: psycopg's own
ways to read know no deadline.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Loader, PyFormat, Transformer
from psycopg.types.numeric import FloatLoader, IntLoader
from psycopg.types.string import ByteaLoader, TextLoader

from storage.query import Result

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?\+00")
_GRACE_SECONDS = 2.0
_ENDS_THE_CONNECTION = ("08", "57P")


class LimitReached(Exception):
    """*what* it was: seconds or bytes."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class StatementFailed(Exception):
    """What PostgreSQL said."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state, self.text = state, text


def fetch(
    connection: psycopg.Connection[Any],
    sql: str,
    values: Sequence[Any],
    *,
    rows: int,
    size: int,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run *sql*, which has $1 and so on for *values*. As one statement: the extended protocol knows no other.

    The connection is closed when a limit is reached, or something else breaks in.

    Args:
        rows: What comes behind them is passed over; *sql* should end soon after.
        size: Of all text in the result together.
        deadline: In the time of *clock*.
    Raises:
        LimitReached
        StatementFailed
        psycopg.Error: The connection is lost, or a value cannot be sent.
    """
    dumped = Transformer(connection)
    data = dumped.dump_sequence(values, [PyFormat.TEXT] * len(values))
    answer = _Answer(connection, deadline, clock)
    try:
        connection.pgconn.send_query_params(sql.encode(), data, param_types=dumped.types)
        connection.pgconn.set_single_row_mode()
        fetched = _collect(answer, rows, size)
        answer.drain()
    except StatementFailed:
        answer.drain()
        raise
    except BaseException:
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=_GRACE_SECONDS)
        connection.close()
        raise
    return fetched


def _collect(answer: _Answer, limit: int, size: int) -> Result:
    loaded = Transformer(_Context(answer.connection))
    rows: list[tuple[Any, ...]] = []
    first = True
    while result := answer.next():
        if result.status not in (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK):
            raise _failure(result)
        loaded.set_pgresult(result, set_loaders=first)
        if first:
            columns = tuple((result.fname(at) or b"").decode() for at in range(result.nfields))
            first = False
        if result.ntuples and len(rows) == limit:
            return Result(columns, tuple(rows), truncated=True)
        for row in loaded.load_rows(0, result.ntuples, tuple):
            size -= sum(len(value) for value in row if isinstance(value, (str, bytes)))
            if size < 0:
                raise LimitReached("bytes")
            rows.append(row)
    return Result(columns, tuple(rows), truncated=False)


class _Answer:
    """What the server sends back, looked at as it comes."""

    def __init__(self, connection: psycopg.Connection[Any], deadline: float, clock: Callable[[], float]) -> None:
        self.connection = connection
        self._libpq, self._deadline, self._clock = connection.pgconn, deadline, clock

    def next(self) -> pq.abc.PGresult | None:
        """The next result; None when there are no more."""
        while self._libpq.flush():
            self._wait(writing=True)
        while self._libpq.is_busy():
            self._wait()
        return self._libpq.get_result()

    def drain(self) -> None:
        """Pass over what still comes of a statement that is at its end."""
        self._deadline = self._clock() + _GRACE_SECONDS
        while self.next():
            pass

    def _wait(self, writing: bool = False) -> None:
        """Wait for the socket and take in what it has."""
        socket = self._libpq.socket
        left = self._deadline - self._clock()
        readable, writable, _ = (
            select.select([socket], [socket] if writing else [], [], left) if left > 0 else ([], [], [])
        )
        if not (readable or writable):
            raise LimitReached("seconds")
        if readable:
            self._libpq.consume_input()


def _failure(result: pq.abc.PGresult) -> Exception:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
    if not state or state.startswith(_ENDS_THE_CONNECTION):
        return psycopg.OperationalError(text or "the connection is lost")
    return StatementFailed(state, text)


class _InstantLoader(Loader):
    """As the views of SQLite have them."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        match = _INSTANT.fullmatch(text)
        return f"{match[1]}T{match[2]}.{match[3] or '':0<6}Z" if match else text


class _NumericLoader(Loader):
    """The sum of a column of integers is an integer."""

    def load(self, data: Any) -> int | float | str:
        text = bytes(data).decode()
        if not text.lstrip("-").isdigit():
            return float(text)
        return int(text) if len(text) <= _MOST_DIGITS else text


class _BoolLoader(Loader):
    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")


_MOST_DIGITS = 1_000
"""Of a number; more stay text, as Python makes no integer of some thousands, which its user may change."""

_ADAPTERS = AdaptersMap(types=psycopg.adapters.types)
_ADAPTERS.register_loader(0, TextLoader)  # all that is not named here
for _names, _loader in (
    (("int2", "int4", "int8", "oid"), IntLoader),
    (("float4", "float8"), FloatLoader),
    (("numeric",), _NumericLoader),
    (("bool",), _BoolLoader),
    (("bytea",), ByteaLoader),
    (("timestamptz",), _InstantLoader),
):
    for _name in _names:
        _ADAPTERS.register_loader(_name, _loader)


class _Context:
    """Where psycopg looks for how values are loaded."""

    adapters = _ADAPTERS

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
