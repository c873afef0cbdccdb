"""Full-text search: how large its index is, how fast it is made, how long answers take, beside LIKE on the same rows.

    python tests/benchmarks/bench_search.py [--calls 100000] [--postgres URL] [--quick]

Texts have a vocabulary like people's: few words often, most of them seldom. Every fifth call is the turn of a
conversation and carries what was said before. A PostgreSQL database has to be migrated and empty.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hub.events import EventRecord
from hub.polite import no_rest
from storage import open_store
from storage.engine import Connection
from storage.search_find import Search, find
from storage.search_words import words_in
from storage.sql_store import SqlStore
from tests.benchmarks.report import Figure, show_figures
from tests.factories import Factory

VOCABULARY = 60_000
TURNS = 10
RARE = "xylophone"


class Speaker:
    """Makes texts of words whose frequencies fall as those of people's do."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        self.words = ["".join(self._random.choices(letters, k=self._random.randint(2, 10))) for _ in range(VOCABULARY)]
        self._weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))

    def text(self, size: int) -> str:
        return " ".join(self._random.choices(self.words, cum_weights=self._weights, k=size // 7))


def calls(speaker: Speaker, count: int) -> Iterator[list[EventRecord]]:
    """The events of each call; the one in the middle says a word that no other says."""
    factory = Factory("search")
    history: list[Any] = []
    for number in range(count):
        answer = speaker.text(2_000)
        if number == count // 2:
            answer = f"{answer} {RARE}"
        said = {"role": "assistant", "content": answer}
        if number % 5:
            yield factory.call([{"role": "user", "content": speaker.text(1_000)}], said)
            continue
        if len(history) >= 2 * TURNS:
            history.clear()
        history.append({"role": "user", "content": speaker.text(1_000)})
        yield factory.call(history, said, request={"model": "gpt-5"})
        history.append(said)


def fill(store: SqlStore, speaker: Speaker, count: int) -> None:
    batch: list[EventRecord] = []
    for done, events in enumerate(calls(speaker, count), 1):
        batch += events
        if len(batch) >= 1_000 or done == count:
            store.append(batch)
            batch = []
            print(f"{done:,} calls", end="\r", file=sys.stderr)


def held_times(store: SqlStore) -> list[float]:
    """How many ms each step takes from now on: on SQLite others may not write meanwhile."""
    held: list[float] = []
    writing = store._beside

    @contextmanager
    def timed(connection: Connection) -> Iterator[None]:
        with writing(connection):
            began = time.perf_counter()
            yield
        held.append((time.perf_counter() - began) * 1e3)

    store._beside = timed  # type: ignore[method-assign]
    return held


def milliseconds(work: Callable[[], object], runs: int) -> list[float]:
    """Of each run, after one that warms up."""
    found = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1e3)
    return found[1:]


def answers(connection: Connection, speaker: Speaker, runs: int) -> Iterator[Figure]:
    """Times of searches, and of LIKE for the same words."""
    common, other, seldom = speaker.words[0], speaker.words[1], speaker.words[2_000]
    asked = {
        "a rare word": Search(words=RARE),
        "a common word": Search(words=common),
        "two common words": Search(words=f"{common} {other}"),
        "a common and a seldom word": Search(words=f"{common} {seldom}"),
        "a phrase of common words": Search(words=f'"{common} {other}"'),
        "the beginning of many words": Search(words=f"{common[:2]}*"),
        "a common word, of few calls": Search(words=common, model="gpt-5"),
        "a common word, of no calls": Search(words=common, model="nobody"),
    }
    for name, what in asked.items():
        hits = len(find(connection, what).hits)
        yield Figure(name, milliseconds(lambda what=what: find(connection, what), runs), "", f"{hits} calls")  # type: ignore[misc]
    for name, word in (("LIKE, a rare word", RARE), ("LIKE, a common word", common)):

        def like(word: str = word) -> object:
            sql = "SELECT id FROM hub_contents WHERE body LIKE ? ORDER BY id DESC LIMIT 20"
            return connection.execute(sql, (f"%{word}%",)).fetchall()

        yield Figure(name, milliseconds(like, min(runs, 3)), "", "the yardstick")


def sizes(store: SqlStore, connection: Connection) -> Iterator[Figure]:
    (text,) = connection.execute(
        "SELECT sum(bytes) FROM hub_contents WHERE id IN (SELECT content_id FROM hub_parts)"
    ).fetchone()
    yield Figure("messages, MB", [float(text) / 1e6], "")
    yield Figure("the index, MB", [store.search_bytes() / 1e6], "", f"{store.search_bytes() / float(text):.2f} of them")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=100_000)
    options.add_argument("--postgres", metavar="URL")
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    given = options.parse_args()
    count, runs = (300, 2) if given.quick else (given.calls, 20)
    with tempfile.TemporaryDirectory() as folder:
        store, speaker = open_store(given.postgres or f"sqlite:///{folder}/calls.db"), Speaker()
        store._rest = no_rest
        fill(store, speaker, count)
        held = held_times(store)
        began = time.perf_counter()
        followed = store.follow_search(enable=True)
        took = time.perf_counter() - began
        text = speaker.text(100_000)
        words = milliseconds(lambda: words_in(text), 3)
        with store._apart() as connection:
            (messages,) = connection.execute("SELECT count(DISTINCT content_id) FROM hub_parts").fetchone()
            assert followed >= messages
            connection.execute("ANALYZE")
            figures = [
                *sizes(store, connection),
                Figure("indexed, messages a second", [messages / took], "", f"{count / took:,.0f} calls a second"),
                Figure("a step, ms", held, "" if given.postgres else "<= 50 as a rule", f"{len(held):,} steps"),
                Figure("words of 100 kB, ms", words, "", f"{len(text) / 1e3 / statistics.median(words):.0f} MB/s"),
                *answers(connection, speaker, runs),
            ]
        show_figures(f"{'PostgreSQL' if given.postgres else 'SQLite'}, {count:,} calls", figures)
        store.close()


if __name__ == "__main__":
    main()
