"""Kills a program that makes traced calls with SIGKILL, again and again, and compares what it said with the store.

Run: python tests/benchmarks/kill.py [kills, 600 unless given] [seconds of the longest life, 1.2] [seed]
600 kills with lives of up to 1.2 s acknowledge more than two million events and take five to ten minutes on two cores.
Ends with 1 when an event is missing or doubled, a stream has a gap, a call is left open or a count is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.kills import Found, Said, bring_in, kill

ROUND = 50
"""Kills that share one store."""
COLUMNS = ("kills", "said", "missing", "stored", "doubled", "gaps", "open", "lost", "recovered", "events/s", "wrong")


@dataclass
class Round:
    """What one store showed: figures in the order of COLUMNS, all but the last two to be added up."""

    kills: int
    said: int
    """Events acknowledged."""
    missing: int
    """Of those."""
    stored: int
    doubled: int
    gaps: int
    """Streams that are not 1, 2, 3 and so on."""
    open: int
    lost: int
    recovered: int
    """Spools that were left at the end; those before were recovered by the lives after, or killed while they did."""
    rate: float
    """Events a second that the recovery at the end brought in."""
    wrong: str
    """Accounts that do not agree."""

    @property
    def fails(self) -> bool:
        return bool(self.missing or self.doubled or self.gaps or self.open or self.wrong)

    def line(self) -> str:
        figures = list(vars(self).values())
        return "".join(f"{figure:>11,}" for figure in figures[:-2]) + f"{self.rate:>11,.0f}  {self.wrong}"


def one_round(kills: int, seconds: float, seed: int) -> Round:
    with tempfile.TemporaryDirectory(prefix="hub-kills-") as name:
        folder = Path(name)
        said = kill(folder, kills, seed=seed, seconds=seconds)
        began = time.monotonic()
        report = bring_in(folder)
        took = time.monotonic() - began
        found = Found(folder)
        statuses = list(found.statuses.values())
        return Round(
            kills,
            said.events,
            sum(max(0, events - found.stored(call_id)) for call_id, (events, _) in said.calls.items()),
            found.events,
            found.events - found.ids,
            sum((first, last) != (1, events) for events, first, last in found.versions.values()),
            statuses.count("running"),
            statuses.count("lost"),
            len(report.recovered),
            report.events / took,
            complaint(found, said) if not report.waiting else str(report.waiting),
        )


def complaint(found: Found, said: Said) -> str:
    """What a test would say; empty when all is well."""
    try:
        found.assert_sound()
        found.assert_complete(said)
    except AssertionError as error:
        return str(error).partition("\n")[0] or "the store and what was said do not agree"
    return ""


def main(kills: int = 600, seconds: float = 1.2, seed: int = 1) -> int:
    began = time.monotonic()
    print(f"seed {seed}, lives of up to {seconds:g} s, {ROUND} kills a store")
    print("".join(f"{name:>11}" for name in COLUMNS))
    rounds = []
    for start in range(0, kills, ROUND):
        rounds.append(one_round(min(ROUND, kills - start), seconds, seed + start))
        print(rounds[-1].line(), flush=True)
    sums = [sum(column) for column in zip(*(list(vars(one).values())[:-2] for one in rounds), strict=True)]
    print("".join(f"{total:>11,}" for total in sums) + f"   in {time.monotonic() - began:.0f} s")
    return int(any(one.fails for one in rounds))


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(*map(int, given[:1]), *map(float, given[1:2]), *map(int, given[2:3])))
