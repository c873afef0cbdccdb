"""Exports and imports, and what a store is to its readers, for comparisons."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.config import Settings, load
from hub.events import EventRecord
from hub.polite import no_rest
from hub.price_list import PriceList, Prices
from hub.reader import Reader
from hub.store import Advance
from hub.transfer.exporting import Exported
from hub.transfer.files import Form, export_file, longest_record, opened
from hub.transfer.importing import Imported, import_events
from hub.transfer.selection import Selection
from storage.sqlite import SQLiteStore
from tests.factories import Factory

_OF_THE_STORE = ("position", "recorded_at")
"""What llm_events says of the place that an event has here."""


def silent(done: int, total: int) -> None:
    return


class Listed(PriceList):
    """A price list of so many nano-dollars a token, whatever the model."""

    def __init__(self, rate: int, version: str) -> None:
        self.rate, self.list_version = str(rate), version

    @property
    def version(self) -> str:
        return self.list_version

    def load(self) -> None:
        return

    def card(self, provider: str | None, model: str) -> list[dict[str, Any]] | None:
        return [{"rates": {"input": self.rate, "output": self.rate}}]


def prices(rate: int, version: str) -> Prices:
    """What a store is opened with, to have such a list."""
    return Prices(listed=Listed(rate, version))


def settings_of(db: Path, **more: Any) -> Settings:
    return load({"db_url": str(db), **more}, {}, db.parent)


def written(db: Path, records: list[EventRecord], **options: Any) -> Path:
    """A store with *records*."""
    with closing(SQLiteStore(db, **options)) as store:
        for start in range(0, len(records), 500):
            store.append(records[start : start + 500])
    return db


def many_calls(db: Path, count: int) -> list[EventRecord]:
    """A store with *count* calls of 1 kB. Returns: its events."""
    factory = Factory()
    records = [record for _ in range(count) for record in factory.call(answer=factory.text(500))]
    written(db, records)
    return records


def export(
    db: Path, file: Path, form: Form = "jsonl", *, replace: bool = False, advance: Advance = silent, **selection: Any
) -> Exported:
    with closing(Reader(settings_of(db))) as reader:
        return export_file(reader, file, form, Selection(**selection), replace=replace, advance=advance)


@dataclass
class Outcome:
    """What an import did, and what it complained of: place and reason."""

    done: Imported
    complaints: list[tuple[str, str]] = field(default_factory=list)


def bring_in(file: Path, db: Path, *, longest: int | None = None, **options: Any) -> Outcome:
    settings = settings_of(db)
    complaints: list[tuple[str, str]] = []
    with opened(file, settings) as source, closing(SQLiteStore(db, rest=no_rest, **options)) as store:
        done = import_events(
            source,
            store,
            longest=longest or longest_record(settings),
            complain=lambda place, why: complaints.append((place, why)),
            advance=silent,
        )
    return Outcome(done, complaints)


def events_in(db: Path) -> list[EventRecord]:
    """All events, in the order of the log, as they are stored."""
    with closing(Reader(settings_of(db))) as reader:
        return [record for page in reader.pages() for record in page.events]


def seen_in(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all views, those of contributed events too, but for what is the store's own."""
    with closing(Reader(settings_of(db))) as reader:
        found = {}
        for view, columns in reader.schema().items():
            kept = ", ".join(f'"{column}"' for column in columns if column not in _OF_THE_STORE)
            found[view] = sorted(reader.sql(f"SELECT {kept} FROM {view}").rows, key=repr)
        return found


def environment(folder: Path) -> dict[str, str]:
    """For commands in a process of their own: no settings, an empty data folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
    return {**kept, "XDG_DATA_HOME": str(folder / "data"), "NO_COLOR": "1"}
