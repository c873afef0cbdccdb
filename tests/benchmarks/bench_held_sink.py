"""A sink that takes 500 ms for every batch, beside many calls with 1 MB of content: what is kept, dropped and needed.

Run: python tests/benchmarks/bench_held_sink.py [calls, 20000 unless given]
Each case runs in a process of its own, whose memory is read from outside.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from hub import traced
from hub.runtime import Hub
from hub.store import AppendResult, OpenCall
from storage.sqlite import SQLiteStore

ROOT = Path(__file__).resolve().parents[2]
HELD_SECONDS = 0.5
MIB = 1 << 20
ANONYMOUS_BOUND, RSS_BOUND = 64.0, 128.0
"""MiB by which the burst may let the process grow."""
RATE_BOUND = 0.95


@dataclass(frozen=True)
class Case:
    """One run."""

    calls: int
    content: int = MIB
    """Characters of each prompt."""
    held: str = ""
    """The sink that is held: store, other or none."""
    store: str = "sqlite"
    """Or null: one that only counts."""
    equal: bool = False
    """All prompts are the same."""
    spool_bytes: int = 1024 * MIB


@dataclass
class Outcome:
    """What became of it. Memory in MiB above what the process had before the burst."""

    emitted: int
    sinks: dict[str, dict[str, Any]]
    """Per sink stored, waiting and dropped by reason, while it was held."""
    received: dict[str, int]
    """Events that each sink had taken by then."""
    rate: float
    """Calls a second that reached the sink that is not held, from the first call to its last event."""
    final: dict[str, Any]
    """The store's counts when everything had been delivered."""
    calls_stored: int
    """Calls with an answer in the store by then."""
    shed: int
    """Of those, how many lost their prompt to shedding."""
    seconds: float = 0.0
    anonymous: float = field(default=0.0)
    rss: float = field(default=0.0)


# In the process that is measured.


class Hold:
    """Keeps a sink for HELD_SECONDS a batch, as long as `on`, and counts what passes."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.received = 0
        self.last = 0.0
        self._released = threading.Event()

    def pass_on(self, count: int) -> None:
        if self.on:
            self._released.wait(HELD_SECONDS)
        self.received += count
        self.last = time.perf_counter()

    def release(self) -> None:
        self.on = False
        self._released.set()


class HeldStore(SQLiteStore):
    hold: Hold

    def append(self, events: Sequence[Any]) -> AppendResult:
        done = super().append(events)
        self.hold.pass_on(len(events))
        return done


class NullStore:
    def __init__(self, hold: Hold) -> None:
        self.hold = hold

    def append(self, events: Sequence[Any]) -> AppendResult:
        self.hold.pass_on(len(events))
        return AppendResult(len(events))

    def open_calls(self, producer: str) -> Sequence[OpenCall]:
        return ()

    def close(self) -> None:
        return


class Other:
    """Takes everything at once."""

    name = "other"

    def __init__(self, hold: Hold) -> None:
        self.hold = hold

    def write(self, records: Sequence[Any]) -> Sequence[Any]:
        self.hold.pass_on(len(records))
        return ()

    def close(self) -> None:
        return


def answer(prompt: str) -> str:
    return "An answer."


def child(case: Case, folder: Path) -> Outcome:
    holds = {name: Hold(case.held == name) for name in ("store", "other")}
    store: Any = NullStore(holds["store"])
    if case.store == "sqlite":
        store = HeldStore(folder / "calls.db")
        store.hold = holds["store"]
    hub = Hub(
        store=store,
        sinks=[Other(holds["other"])],
        otel="off",
        spool_dir=folder / "spool",
        spool_bytes=case.spool_bytes,
        db_url=str(folder / "calls.db"),
    )
    call = traced(answer, provider="acme", model="acme-1", hub=hub)
    call("warm up")
    hub.flush(2.0)
    body = "x" * case.content
    print("ready", flush=True)
    sys.stdin.readline()
    already = {name: hold.received for name, hold in holds.items()}
    started = time.perf_counter()
    for number in range(case.calls):
        call(body if case.equal else f"{number}{body}")
    rate = _rate(hub, holds, case, started)
    counted = hub.spool.counters()  # exact at any moment, the sinks at work
    received = {name: hold.received - already[name] for name, hold in holds.items()}
    for hold in holds.values():
        hold.release()
    hub.flush(120.0)
    final = hub.spool.counters()
    hub.shutdown()
    calls_stored, shed = _stored(folder / "calls.db") if case.store == "sqlite" else (0, 0)
    return Outcome(
        counted.emitted,
        {name: asdict(sink) for name, sink in counted.sinks.items()},
        received,
        rate,
        asdict(final.sinks["store"]) | {"emitted": final.emitted},
        calls_stored,
        shed,
        time.perf_counter() - started,
    )


def _rate(hub: Hub, holds: dict[str, Hold], case: Case, started: float) -> float:
    free = "store" if case.held == "other" else "other"
    deadline = time.monotonic() + 120
    while hub.spool.counters().sinks[free].waiting and time.monotonic() < deadline:
        time.sleep(0.005)
    return case.calls / (holds[free].last - started)


def _stored(database: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(database)) as connection:
        (calls,) = connection.execute("SELECT count(*) FROM llm_calls WHERE status = 'ok'").fetchone()
        (shed,) = connection.execute(
            "SELECT count(*) FROM llm_events WHERE type = 'llm:request' AND json_extract(data, '$.shed') IS NOT NULL"
        ).fetchone()
    return calls - 1, shed  # the first was to warm up


# In the one that measures.


def run(case: Case) -> Outcome:
    """Run *case* in a process of its own and read its memory while it runs."""
    with tempfile.TemporaryDirectory(prefix="held-sink-") as folder:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", json.dumps(asdict(case)), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            before = _memory(process.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            peak = dict.fromkeys(before, 0.0)
            while process.poll() is None:
                for name, now in _memory(process.pid).items():
                    peak[name] = max(peak[name], now - before[name])
                time.sleep(0.02)
            outcome = Outcome(**json.loads(process.stdout.read()))
        finally:
            process.kill()
            process.wait()
            process.communicate()
    outcome.anonymous, outcome.rss = peak["Anonymous"], peak["Rss"]
    return outcome


def _memory(pid: int) -> dict[str, float]:
    """MiB. Nothing when the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    values = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
    return {name: values[name] for name in ("Anonymous", "Rss") if name in values}


def complaints(case: Case, outcome: Outcome) -> list[str]:
    """What does not hold; nothing when all is well."""
    wrong = []
    for name, sink in outcome.sinks.items():
        if outcome.emitted != sink["stored"] + sink["waiting"] + sum(sink["dropped"].values()):
            wrong.append(f"{name}: emitted {outcome.emitted} is not {sink}")
    if outcome.final["dropped"] or outcome.final["waiting"] or outcome.final["stored"] != outcome.final["emitted"]:
        wrong.append(f"the store lost events whole: {outcome.final}")
    if case.store == "sqlite" and outcome.calls_stored != case.calls:
        wrong.append(f"{outcome.calls_stored} calls of {case.calls} are in the store")
    if outcome.anonymous > ANONYMOUS_BOUND:
        wrong.append(f"anonymous memory grew by {outcome.anonymous:.0f} MiB")
    if outcome.rss > RSS_BOUND:
        wrong.append(f"RSS grew by {outcome.rss:.0f} MiB")
    return wrong


def main(calls: int = 20_000) -> int:
    small = Case(calls, content=1_000, store="null")
    cases = {
        "store held, 1 MB": Case(calls, held="store"),
        "nothing held, 1 kB": small,
        "store held, 1 kB": Case(**{**asdict(small), "held": "store"}),
        "other held, 1 kB": Case(**{**asdict(small), "held": "other"}),
        "other held, 1 MB alike": Case(calls // 10, held="other", equal=True),
    }
    table = Table(title=f"{calls:,} calls, a sink held for {HELD_SECONDS} s a batch")
    for heading in ("case", "emitted", "store", "other", "shed", "calls/s", "anonymous MiB", "RSS MiB", "seconds"):
        table.add_column(heading)
    wrong = []
    outcomes = {}
    for name, case in cases.items():
        outcome = outcomes[name] = run(case)
        wrong += [f"{name}: {complaint}" for complaint in complaints(case, outcome)]
        table.add_row(
            name,
            f"{outcome.emitted:,}",
            *(_shown(outcome.sinks[sink]) for sink in ("store", "other")),
            f"{outcome.shed:,}",
            f"{outcome.rate:,.0f}",
            f"{outcome.anonymous:.1f}",
            f"{outcome.rss:.1f}",
            f"{outcome.seconds:.1f}",
        )
    kept = outcomes["store held, 1 kB"].rate / outcomes["nothing held, 1 kB"].rate
    if kept < RATE_BOUND:
        wrong.append(f"beside a held store the other sink keeps {kept:.0%} of its rate")
    Console(width=160).print(table)
    print(f"beside a held store the other sink keeps {kept:.0%} of its rate")
    for complaint in wrong:
        print(f"over the bound: {complaint}")
    return int(bool(wrong))


def _shown(sink: dict[str, Any]) -> str:
    return f"{sink['stored']:,} + {sink['waiting']:,} waiting + {sink['dropped'] or 0} dropped"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asdict(child(Case(**json.loads(sys.argv[2])), Path(sys.argv[3])))))
    else:
        sys.exit(main(*map(int, sys.argv[1:2])))
