"""Events out of a store, as they are stored, into JSON lines.

A file grows under another name and gets its own when it is whole. Beside it stands a journal, so that an export which
was interrupted goes on where it was, unless something was erased or pruned meanwhile: then what is written may hold it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from hub.errors import FileRefused
from hub.events import EventRecord
from hub.reader import Reader
from hub.store import Advance, Cursor
from hub.transfer.found import END, FORMAT, HEADER, PRICES
from hub.transfer.journal import Journal
from hub.transfer.lines import Compression, compressed
from hub.transfer.selection import Selection
from storage.reading import LogState, place

_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    events: int
    calls: int
    resumed: int = 0
    """Events that an interrupted export had written already."""
    disturbed: bool = False
    """Something was erased or pruned meanwhile, and what was written could not be taken back."""


class _Piece(NamedTuple):
    raw: bytes
    cursor: Cursor | None
    events: int
    calls: int


def export_stream(reader: Reader, out: IO[bytes], selection: Selection, advance: Advance) -> Exported:
    """Write to *out* what *selection* takes. Raises: StoreError, QueryRefused"""
    state = reader.log_state()
    with closing(Journal(None)) as journal:
        _choose(journal, reader, selection, "")
        reached = journal.reached
        out.write(_header(selection))
        for piece in _pieces(reader, journal, selection, state, advance):
            out.write(piece.raw)
            reached.events, reached.calls = reached.events + piece.events, reached.calls + piece.calls
        out.write(_end(reached.events))
        out.flush()
        disturbed = reader.log_state().removals != state.removals
        return Exported(reached.events, reached.calls, disturbed=disturbed)


def export_lines(
    reader: Reader, part: Path, selection: Selection, how: Compression, advance: Advance, finish: Callable[[], None]
) -> Exported:
    """Write to *part*, going on where an export of the same was interrupted, and have it put in its place.

    Args:
        finish: Does that, when *part* is whole. Until it returns everything can be gone on with.
    Raises: StoreError, QueryRefused, OSError
        FileRefused: Another process is writing the same.
    """
    beside = part.with_name(part.name + "-journal")
    with _held(part) as file, _as_os_error(beside), closing(Journal(beside)) as journal:
        try:
            while True:
                state = reader.log_state()
                done = _go_on(reader, file, journal, selection, how, state, advance)
                if reader.log_state().removals == state.removals:
                    break
            finish()
        except BaseException:
            if not journal.is_of_use:
                part.unlink(missing_ok=True)
                journal.discard()
            raise
        journal.discard()
    return done


def _go_on(
    reader: Reader,
    file: IO[bytes],
    journal: Journal,
    selection: Selection,
    how: Compression,
    state: LogState,
    advance: Advance,
) -> Exported:
    plan = _plan(reader, selection, how, state)
    goes_on = journal.continues(plan) and os.fstat(file.fileno()).st_size >= journal.reached.bytes
    if not goes_on:
        _choose(journal, reader, selection, plan)
    reached, resumed = journal.reached, journal.reached.events if goes_on else 0
    file.truncate(reached.bytes)
    file.seek(reached.bytes)
    if not goes_on:
        reached.bytes += file.write(compressed(_header(selection), how))
    waiting: list[bytes] = []
    for piece in _pieces(reader, journal, selection, state, advance):
        waiting.append(piece.raw)
        reached.cursor = piece.cursor
        reached.events, reached.calls = reached.events + piece.events, reached.calls + piece.calls
        if sum(map(len, waiting)) >= _PIECE:
            reached.bytes += file.write(compressed(b"".join(waiting), how))
            waiting.clear()
            _settle(file)
            journal.commit()
    reached.bytes += file.write(compressed(b"".join(waiting), how))
    _settle(file)
    journal.commit()
    file.write(compressed(_end(reached.events), how))  # not in the journal: who goes on writes behind the events
    _settle(file)
    return Exported(reached.events, reached.calls, resumed)


def _plan(reader: Reader, selection: Selection, how: Compression, state: LogState) -> str:
    """What has to be the same for an export to go on."""
    facts = {
        "format": FORMAT,
        "store": reader.settings.shown_db_url,
        "first": state.first,
        "removals": state.removals,
        "selection": selection.as_data(),
        "compression": how,
    }
    return orjson.dumps(facts).decode()


def _choose(journal: Journal, reader: Reader, selection: Selection, plan: str) -> None:
    journal.begin(plan, () if selection.is_everything else selection.call_ids(reader))


def _pieces(
    reader: Reader, journal: Journal, selection: Selection, state: LogState, advance: Advance
) -> Iterator[_Piece]:
    """The lines of one page after the other, up to where the log ended at *state*."""
    told: set[str] = set()
    for page in reader.pages(journal.reached.cursor, until=state.end):
        events = page.events if selection.is_everything else _selected(page.events, journal, selection)
        models = _models(events) - told
        lines = list(_price_lines(reader, models)) if models else []
        told |= models
        lines += map(orjson.dumps, events)
        calls = sum(record["version"] == 1 and record["call_id"] == record["stream_id"] for record in events)
        yield _Piece(b"".join(line + b"\n" for line in lines), page.next, len(events), calls)
        if page.next is not None:
            advance(place(page.next), place(state.end))


def _selected(events: tuple[EventRecord, ...], journal: Journal, selection: Selection) -> tuple[EventRecord, ...]:
    chosen = journal.chosen({record["call_id"] for record in events if record["call_id"] is not None})
    return tuple(
        record
        for record in events
        if (selection.takes(record) if record["call_id"] is None else record["call_id"] in chosen)
    )


def _models(events: tuple[EventRecord, ...]) -> set[str]:
    """The models whose prices may tell what these events' calls cost."""
    found: set[str] = set()
    for record in events:
        data = record["data"]
        for told in (data, data.get("last_attempt")):
            if isinstance(told, dict):
                found.update(name for key in ("model", "request_model") if isinstance(name := told.get(key), str))
    return found


def _price_lines(reader: Reader, models: set[str]) -> Iterator[bytes]:
    """The cards that the store has of *models*, each provider's in a line, before the first event that needs them."""
    rows = [row for row in reader.prices() if row.model in models]
    for (provider, model), cards in groupby(rows, key=lambda row: (row.provider, row.model)):
        shown = [
            {"effective_ns": row.effective_ns, "source": row.source, "version": row.version, "card": row.card}
            for row in cards
        ]
        yield orjson.dumps({PRICES: {"provider": provider, "model": model, "cards": shown}})


def _header(selection: Selection) -> bytes:
    from hub import __version__

    told: Mapping[str, Any] = {"format": FORMAT, "by": f"llm-hub {__version__}", "selection": selection.as_data()}
    return orjson.dumps({HEADER: told}) + b"\n"


def _end(events: int) -> bytes:
    return orjson.dumps({END: {"events": events}}) + b"\n"


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fdatasync(file.fileno())


@contextmanager
def _held(part: Path) -> Iterator[IO[bytes]]:
    """The file, for its owner alone and for one process at a time."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileRefused(str(part), "another export is writing it", "wait for it, or name another file") from None
        yield file


@contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """What goes wrong with the journal is a matter of its folder or disk."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
