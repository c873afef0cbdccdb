"""Several who use one log at once: nobody misses anything, whatever the others do."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from hub.events import EventRecord
from hub.store import AppendResult, Erasure, EventStore
from tests.contracts.case import LATER, Follower, StoreCase, whole_log
from tests.factories import Factory

WRITERS = 4
CALLS = 25


class SharingContract(StoreCase):
    def test_what_one_wrote_is_known_to_the_other(self, tmp_path: Path, factory: Factory) -> None:
        one, two = self.open_store(tmp_path), self.open_store(tmp_path)
        calls = [factory.call([{"role": "user", "content": "the same for all"}]) for _ in range(3)]
        rival: EventRecord = {**calls[0][1], "id": factory.new_id()}
        assert one.append(calls[0]).new == 4
        assert two.append([*calls[0], *calls[1]]) == AppendResult(4, duplicates=4)
        assert two.append([rival]) == AppendResult(0, conflicts=(rival,))
        assert one.append([*calls[1], *calls[2]]) == AppendResult(4, duplicates=4)
        assert whole_log(two) == whole_log(one) == [*calls[0], *calls[1], *calls[2]]
        one.close()
        two.close()

    def test_what_another_erased_is_neither_kept_nor_referred_to(self, tmp_path: Path, factory: Factory) -> None:
        one, two = self.open_store(tmp_path), self.open_store(tmp_path)
        messages = [{"role": "user", "content": "shared"}]
        first, again, late = (factory.call(messages, user_id=user) for user in ("u1", None, "u1"))
        one.append(first)
        two.erase(Erasure(project="shop", before_ns=LATER, user_id="u1"))
        one.append(again + late)
        assert list(one.read_stream(UUID(again[0]["stream_id"]))) == again
        assert {record["content"] is None for record in one.read_stream(UUID(late[0]["stream_id"]))} == {True}
        one.close()
        two.close()

    @pytest.mark.parametrize("shared", [False, True], ids=["a store each", "one store"])
    def test_readers_follow_writers_without_gap_repetition_or_disorder(self, tmp_path: Path, shared: bool) -> None:
        stores = [self.open_store(tmp_path) for _ in range(1 if shared else WRITERS)]
        readers = [
            Follower(self.open_store(tmp_path), types=types, limit=limit)
            for types, limit in ((None, 7), (["llm:response", "acme:tick"], 3))
        ]
        ended = threading.Event()

        def follow(reader: Follower) -> None:
            while not ended.is_set():
                reader.read()
            reader.read()

        with ThreadPoolExecutor(WRITERS + len(readers)) as pool:
            following = [pool.submit(follow, reader) for reader in readers]
            writing = [pool.submit(write, stores[number % len(stores)], number) for number in range(WRITERS)]
            written = [task.result() for task in writing]
            ended.set()
            for task in following:
                task.result()
        log = whole_log(stores[0])
        assert readers[0].seen == log
        assert readers[1].seen == [one for one in log if one["type"] in ("llm:response", "acme:tick")]
        for records in written:
            assert [one for one in log if one["producer"] == records[0]["producer"]] == records
        assert len(log) == sum(map(len, written))
        for store in stores:
            store.close()


def write(store: EventStore, number: int) -> Sequence[EventRecord]:
    """Append calls and ticks in batches of any size, some of them twice. Returns: what was to be written."""
    factory, chance = Factory(f"p{number}"), random.Random(number)
    records = []
    for _ in range(CALLS):
        records += factory.call([{"role": "user", "content": "the same for all"}], "answer")
        records.append(factory.event("acme:tick", stream=factory.new_id(), version=1, call_id=None))
    start = 0
    while start < len(records):
        size = chance.choice((1, 3, 10, 30))
        result = store.append(records[max(start - chance.randrange(4), 0) : start + size])
        assert result.new == len(records[start : start + size])
        assert result.conflicts == ()
        start += size
    return records
