"""The checks of `hub doctor` on how a store grows, what should have been pruned, and what erasures left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from hub.cli import shapes
from hub.cli.findings import Finding
from hub.config import Settings
from hub.errors import HubError
from hub.reader import Reader
from storage.health import Health
from storage.query import Limits
from storage.read_side import open_read_side
from storage.sqlite_file import backups_of, foreign_copies_of
from storage.standing import Standing, standing

_PATIENT = Limits(seconds=120.0)
_LATELY = timedelta(days=7)
_GRACE = timedelta(days=1)
"""For which what is too old may wait for a daily `hub prune`."""
_SCARCE = 14
"""Days."""


def growth(reader: Reader, health: Health) -> Iterator[Finding]:
    """How large the store is, how fast it grows, and how long the disk has room for that."""
    since = f"{datetime.now(UTC) - _LATELY:%Y-%m-%dT%H:00:00.000000Z}"
    calls = reader.sql("SELECT count(*) FROM llm_calls", limits=_PATIENT).rows[0][0]
    lately = reader.sql("SELECT sum(calls) FROM llm_costs_hourly WHERE hour >= ?", (since,), limits=_PATIENT).rows[0][0]
    text, scarce = f"{shapes.many(calls, 'call')}, {shapes.size(health.bytes)}", False
    if calls:
        text += f", {shapes.size(health.bytes / calls)} a call"
    if calls and lately:
        daily = health.bytes / calls * int(lately) / _LATELY.days
        text += f", about {shapes.size(daily)} a day in the last {_LATELY.days}"
        days = _room_for(reader.settings.sqlite_path, daily)
        scarce = days is not None and days < _SCARCE
        text += f"; the disk has room for {shapes.many(int(days), 'day')} of it" if days is not None else ""
    if health.free_bytes > max(health.bytes // 4, 16 << 20):
        text += f"; {shapes.size(health.free_bytes)} of it are unused, new calls fill them"
    if reader.settings.retain_bodies is None and reader.settings.retain_calls is None:
        text += "; nothing is deleted"
    remedy = "hub prune deletes what is too old; hub prune --shrink gives the room back" if scarce else ""
    yield Finding("size", "warn" if scarce else "ok", text, remedy)


def _room_for(path: Path | None, daily: float) -> float | None:
    """Days; None where nobody knows, or more than a year."""
    if path is None:
        return None
    days = shutil.disk_usage(path.parent).free / daily
    return days if days <= 365 else None


def retention(settings: Settings, now: int | None = None) -> Iterator[Finding]:
    """What is older than the settings say, what erasures left behind, and copies of the store. *now*: UTC Unix ns."""
    now = time.time_ns() if now is None else now
    try:
        bodies_ns, calls_ns = _before(now, settings.retain_bodies), _before(now, settings.retain_calls)
        with closing(open_read_side(settings.db_url)) as side:
            found = side.read(partial(standing, bodies_before_ns=bodies_ns, calls_before_ns=calls_ns))
    except HubError as error:
        yield Finding("retention", "note", f"cannot be looked at: {error}")
        return
    yield from _overdue(settings, found)
    yield from _erasures(found)
    if settings.sqlite_path is not None:
        yield from _backups(settings.sqlite_path, anything_gone=found.tombstones > 0)


def _before(now: int, age: timedelta | None) -> int | None:
    return None if age is None else max(0, now - round((age + _GRACE).total_seconds() * 10**9))


def _overdue(settings: Settings, found: Standing) -> Iterator[Finding]:
    late = []
    if found.old_bodies:
        late.append(f"prompts and answers older than {_days(settings.retain_bodies)}")
    if found.old_calls:
        late.append(f"{shapes.many(found.old_calls, 'call')} older than {_days(settings.retain_calls)}")
    if late:
        remedy = "hub prune deletes them; nothing else does: have it run every day"
        yield Finding("retention", "warn", f"still here: {', '.join(late)}", remedy)
    elif settings.retain_bodies is not None or settings.retain_calls is not None:
        yield Finding("retention", "ok", "nothing is older than the settings say")
    if found.unswept:
        remedy = "run hub prune, or the same hub erase, again"
        yield Finding("interrupted", "warn", "an erasure or a pruning was interrupted: content is left over", remedy)
    if found.out_of_the_log:
        text = f"a pruning was interrupted: nobody sees what is in {', '.join(found.out_of_the_log)}"
        yield Finding("interrupted", "warn", text, "run hub prune again")


def _days(age: timedelta | None) -> str:
    return "" if age is None else shapes.many(round(age.total_seconds() / 86_400), "day")


def _erasures(found: Standing) -> Iterator[Finding]:
    if found.unscrubbed:
        text = "copies of what was erased may be left in unused parts of the files"
        yield Finding("erasures", "warn", text, "run the same hub erase again")
    elif found.tombstones:
        yield Finding("erasures", "ok", f"{found.tombstones:,} stand; what they cover is stripped when it comes late")


def _backups(path: Path, *, anything_gone: bool) -> Iterator[Finding]:
    for backup in backups_of(path):
        text = f"{backup} ({shapes.size(backup.stat().st_size)}) has the store as it was before an upgrade"
        text += ", with what was erased since" if anything_gone else ""
        yield Finding("backup", "warn" if anything_gone else "note", text, "delete it when you need it no more")
    for copy in foreign_copies_of(path):
        text = f"{copy} ({shapes.size(copy.stat().st_size)}) seems to be a copy of the store"
        yield Finding("backup", "warn" if anything_gone else "note", text, "delete it when you need it no more")
