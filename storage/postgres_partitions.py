"""The partitions of hub_events: a month of streams each, so that old ones are dropped whole.

A stream's id is a UUIDv7 and begins with its time, so ids in order of text are in order of time. Months are made when
they are needed. Ids from before 2015, which no right clock gives, stand in `hub_events_odd`; those later than the month
after this one in `hub_events_later`, which is emptied into months as time goes on: a clock decades off makes no
decades of partitions. There is no DEFAULT partition: DETACH CONCURRENTLY refuses one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple, Self

from psycopg.errors import LockNotAvailable

from storage.postgres_connection import PostgresConnection

TABLE = "hub_events"
ODD, LATER = f"{TABLE}_odd", f"{TABLE}_later"
_FIRST = 2015 * 12
_IMPATIENCE_MS, _SPLIT_AGAIN_NS = 100, 60 * 10**9
_MONTH_TABLE = re.compile(rf"{TABLE}_(\d{{4}})_(0[1-9]|1[0-2])")
_BOUND = re.compile(r"FROM \((MINVALUE|'[^']*')\) TO \((MAXVALUE|'[^']*')\)")


class Month(int):
    """Months since year 0."""

    @classmethod
    def at(cls, ms: int) -> Month:
        """The month of a UTC Unix time in milliseconds."""
        moment = datetime.fromtimestamp(ms / 1000, UTC)
        return cls(moment.year * 12 + moment.month - 1)

    @classmethod
    def named(cls, table: str) -> Self | None:
        """The month whose partition goes by that name."""
        found = _MONTH_TABLE.fullmatch(table)
        return None if found is None else cls(int(found[1]) * 12 + int(found[2]) - 1)

    @property
    def start_ms(self) -> int:
        """Its first millisecond."""
        return int(datetime(self // 12, self % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)

    @property
    def bound(self) -> str:
        """What all ids of it and later months are not below."""
        digits = f"{self.start_ms:012x}"
        return f"{digits[:8]}-{digits[8:]}"

    @property
    def table(self) -> str:
        """The name of its partition."""
        return f"{TABLE}_{self // 12:04d}_{self % 12 + 1:02d}"


class Layout(NamedTuple):
    """What partitions there are."""

    months: frozenset[Month]
    later: Month
    """The month that `hub_events_later` begins with."""

    def table_of(self, month: Month) -> str:
        """The partition that has the streams of *month*."""
        return month.table if month in self.months else LATER if month >= self.later else ODD


class Partitions:
    """Makes partitions before events need them, within the writer's transaction. Remembers those there are."""

    def __init__(self) -> None:
        self._known: Layout | None = None
        self._split_not_before = 0

    def forget(self) -> None:
        """What is remembered may be wrong: a transaction failed, or partitions were dropped."""
        self._known = None

    def make_for(self, connection: PostgresConnection, stream_ids: Iterable[str], now_ns: int) -> None:
        """Make the months of *stream_ids*, and the next one after now."""
        known = self._known or read(connection)
        months = {month for month in map(month_of, stream_ids) if month is not None}
        ahead = Month(Month.at(now_ns // 10**6) + 1)
        may_split = now_ns >= self._split_not_before
        if (may_split and ahead >= known.later) or any(month < known.later for month in months - known.months):
            known = read(connection)  # another process may have done it meanwhile
        if may_split and ahead >= known.later:
            known = self._split_later(connection, known, ahead, now_ns)
        wanted = {month for month in months if month < known.later}
        for month in sorted(wanted - known.months):
            make(connection, month)
        self._known = Layout(known.months | wanted, known.later)

    def _split_later(self, connection: PostgresConnection, known: Layout, ahead: Month, now_ns: int) -> Layout:
        """Needs a lock that a long query may hold: then it is tried another time, nothing depends on it."""
        try:
            with connection.raw.transaction(), _impatient(connection):
                known = _split_later(connection, known, ahead)
        except LockNotAvailable:
            self._split_not_before = now_ns + _SPLIT_AGAIN_NS
        return known


@contextmanager
def _impatient(connection: PostgresConnection) -> Iterator[None]:
    """Other writers wait meanwhile: whoever holds a lock for longer is not waited for. Within a transaction."""
    (before,) = connection.execute("SELECT current_setting('lock_timeout')").fetchone() or ("",)
    connection.execute("SELECT set_config('lock_timeout', ?, true)", (str(_IMPATIENCE_MS),))
    yield
    connection.execute("SELECT set_config('lock_timeout', ?, true)", (before,))


def month_of(stream_id: str) -> Month | None:
    """The month a stream belongs to; None before 2015."""
    ms = int(stream_id[:8] + stream_id[9:13], 16)
    if ms < Month(_FIRST).start_ms:
        return None
    if ms >= 253_402_300_800_000:  # the year 10000
        return Month(10_000 * 12)
    return Month.at(ms)


def read(connection: PostgresConnection) -> Layout:
    """The partitions as they are. One that is being detached takes no events any more."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ?::regclass AND NOT i.inhdetachpending",
        (TABLE,),
    )
    months, later = {month for (name,) in rows if (month := Month.named(name)) is not None}, Month(_FIRST)
    bound = connection.execute(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass(?)", (LATER,)
    ).fetchone()
    if bound is not None and (range_ := _BOUND.search(bound[0])) is not None:
        digits = range_[1].strip("'").replace("-", "")
        later = Month.at(int(digits, 16))
    return Layout(frozenset(months), later)


def make_first(connection: PostgresConnection, now_ns: int) -> None:
    """The partitions of a new table: the odd, this month and the next, and what is later."""
    now = Month.at(now_ns // 10**6)
    _attach(connection, ODD, None, Month(_FIRST).bound)
    for month in (now, Month(now + 1)):
        make(connection, month)
    _attach(connection, LATER, Month(now + 2).bound, None)


def make(connection: PostgresConnection, month: Month) -> None:
    """Make the partition of *month*, or put it back if it was detached, within a writer's turn."""
    if month.table in pending(connection):
        with _impatient(connection):
            finish_detaching(connection, month.table)
    _attach(connection, month.table, month.bound, Month(month + 1).bound)


def finish_detaching(connection: PostgresConnection, name: str) -> None:
    """Of what is `pending`. Waits for all who may still read it as a partition."""
    connection.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {name} FINALIZE")


def pending(connection: PostgresConnection) -> list[str]:
    """Partitions of which somebody began to be detached, and did not end."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ?::regclass AND i.inhdetachpending",
        (TABLE,),
    )
    return [name for (name,) in rows]


def _split_later(connection: PostgresConnection, known: Layout, ahead: Month) -> Layout:
    """Months up to *ahead* take over from `hub_events_later`."""
    months = [Month(month) for month in range(known.later, ahead + 1)]
    end = Month(ahead + 1)
    connection.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {LATER}")
    new = {*months[-2:], *_months_in(connection, end)} - known.months
    for month in sorted(new):
        make(connection, month)
    connection.execute(
        f"WITH moved AS (DELETE FROM {LATER} WHERE stream_id < ? RETURNING *) INSERT INTO {TABLE} SELECT * FROM moved",
        (end.bound,),
    )
    _attach(connection, LATER, end.bound, None)
    return Layout(known.months | new, end)


def _months_in(connection: PostgresConnection, end: Month) -> Iterator[Month]:
    rows = connection.execute(
        f"SELECT DISTINCT substr(stream_id, 1, 13) FROM {LATER} WHERE stream_id < ?", (end.bound,)
    )
    return (month for (start,) in rows.fetchall() if (month := month_of(start)) is not None)


def _attach(connection: PostgresConnection, name: str, low: str | None, high: str | None) -> None:
    """Make a partition of the ids from *low* up to *high*. Readers and writers of others are not held up."""
    connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE {TABLE} INCLUDING ALL)")  # one may have been detached
    start, end = "MINVALUE" if low is None else f"'{low}'", "MAXVALUE" if high is None else f"'{high}'"
    connection.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")
