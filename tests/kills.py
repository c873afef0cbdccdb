"""Runs the program that is killed, and compares what it said with what the store has."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hub.recovery import RecoveryReport, recover
from hub.spool.folder import folders
from storage import open_store
from tests.killed_program import settings_in

REPOSITORY = Path(__file__).parents[1]


def kill(folder: Path, kills: int, *, seed: int, seconds: float = 0.3, durability: str = "crash_safe") -> Said:
    """Start the program and kill it, *kills* times, two lives at a time. Returns: All that its lives said."""
    options = {"kills": kills, "seconds": seconds, "seed": seed, "durability": durability}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_program", str(folder), *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120 + kills * seconds * 4,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("hub: calls are kept in")]
    assert (done.returncode, complaints) == (0, []), f"seed {seed}: exit {done.returncode}, {complaints}"
    return Said.read(folder / "said")


@dataclass(frozen=True)
class Said:
    """By call: how many events it had emitted, and its status when it had ended."""

    calls: dict[str, tuple[int, str | None]]

    @classmethod
    def read(cls, path: Path) -> Said:
        calls: dict[str, tuple[int, str | None]] = {}
        for line in path.read_bytes().splitlines():
            kind, call_id, events, status = line.decode().split()
            calls[call_id] = (int(events), status if kind == "E" else None)
        return cls(calls)

    @property
    def events(self) -> int:
        return sum(events for events, _ in self.calls.values())


def bring_in(folder: Path) -> RecoveryReport:
    """What the ended left in their spools comes into the store."""
    settings = settings_in(folder)
    store = open_store(settings.db_url)
    try:
        return recover(settings.spool_root, store)
    finally:
        store.close()


class Found:
    """What is in the store."""

    def __init__(self, folder: Path) -> None:
        self.left_spools = folders(settings_in(folder).spool_root)
        with closing(sqlite3.connect(f"file:{folder / 'calls.db'}?mode=ro", uri=True)) as db:
            self.statuses: dict[str, str] = dict(db.execute("SELECT call_id, status FROM llm_calls"))
            self.versions: dict[str, tuple[int, int, int]] = {
                stream: (events, first, last)
                for stream, events, first, last in db.execute(
                    "SELECT stream_id, count(DISTINCT version), min(version), max(version) FROM llm_events GROUP BY 1"
                )
            }
            self.events, self.ids = db.execute("SELECT count(*), count(DISTINCT event_id) FROM llm_events").fetchone()
            self.producers: dict[str, tuple[int, int, int, int]] = {
                producer: (events, numbers, first, last)
                for producer, events, numbers, first, last in db.execute(
                    "SELECT producer, count(*), count(DISTINCT producer_seq), min(producer_seq), max(producer_seq)"
                    " FROM llm_events GROUP BY 1"
                )
            }
            self.emitted: dict[str, int] = dict(
                db.execute(
                    "SELECT data ->> '$.producer', data ->> '$.emitted' FROM llm_events WHERE type = 'hub:recovered'"
                )
            )
            self.dropped: dict[str, int] = dict(
                db.execute(
                    "SELECT data ->> '$.producer', sum(data ->> '$.count') FROM llm_events"
                    " WHERE type = 'hub:dropped' AND coalesce(data ->> '$.sink', 'store') = 'store' GROUP BY 1"
                )
            )
            self.reasons = {
                reason
                for (reason,) in db.execute("SELECT data ->> '$.reason' FROM llm_events WHERE type = 'hub:dropped'")
            }

    def stored(self, call_id: str) -> int:
        return self.versions.get(call_id, (0, 0, 0))[0]

    def ends_of_open(self, said: Said) -> set[str]:
        """What became of the calls that nothing was said of after their request."""
        return {self.statuses[call_id] for call_id, (_, status) in said.calls.items() if status is None}

    def assert_sound(self) -> None:
        """No event twice, each stream whole from 1, each call closed, nothing left in a spool."""
        assert self.events == self.ids
        assert [s for s, (events, first, last) in self.versions.items() if (first, last) != (1, events)] == []
        assert [call_id for call_id, status in self.statuses.items() if status == "running"] == []
        assert self.left_spools == []

    def assert_complete(self, said: Said) -> None:
        """All that was said is there, nothing was dropped, and the producers' own counts agree."""
        missing = {c: (n, self.stored(c)) for c, (n, _) in said.calls.items() if self.stored(c) < n}
        assert missing == {}
        ended = {call_id: (events, status) for call_id, (events, status) in said.calls.items() if status}
        assert {c: (self.stored(c), self.statuses[c]) for c in ended} == ended
        assert self.dropped == {}
        counts = {p: (events, 1, events) for p, (events, *_) in self.producers.items()}
        assert {p: (numbers, first, last) for p, (_, numbers, first, last) in self.producers.items()} == counts
        assert self.emitted == {p: self.producers[p][0] for p in self.emitted}
