"""Costs stay what they were: an export brings the price cards that were used, an import those that disturb nobody.

The factory's calls have two models, the one asked for and the one that served, and each has its cards.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.price_list import Prices
from hub.pricing import PriceRow
from hub.reader import Reader
from hub.transfer.files import Form
from storage.adopting import Adopted
from storage.sqlite import SQLiteStore
from tests.factories import START, Factory
from tests.transfer_kit import Listed, bring_in, export, prices, seen_in, settings_of, written

OLD, NEW = prices(10, "2025"), prices(77, "2026")
DAY_MS = 86_400_000.0


def costs(db: Path) -> dict[str, tuple[int | None, str | None]]:
    """By call: nano-dollars and the version of the price list."""
    with closing(Reader(settings_of(db))) as reader:
        return {call.id: (call["cost_nanos"], call["price_version"]) for call in reader.calls(limit=1_000)}


def rebuilt(db: Path) -> dict[str, tuple[int | None, str | None]]:
    with closing(SQLiteStore(db, prices=NEW)) as store:
        store.rebuild()
    return costs(db)


@pytest.mark.parametrize(("name", "form"), [("out.jsonl", "jsonl"), ("out.parquet", "parquet")])
def test_calls_cost_what_they_did_whatever_price_list_the_importer_has(tmp_path: Path, name: str, form: Form) -> None:
    factory, source, target = Factory(), tmp_path / "source.db", tmp_path / "target.db"
    written(source, factory.calls(3), prices=OLD)
    written(source, factory.calls(3), prices=NEW)  # the list has a new card: it counts for calls that begin from now on
    written(source, factory.calls(2), prices=NEW)
    assert {version for _, version in costs(source).values()} == {"2025", "2026"}
    export(source, tmp_path / name, form)
    done = bring_in(tmp_path / name, target, prices=prices(500, "2027")).done
    assert (done.price_cards, done.other_prices) == (4, 0)
    assert costs(target) == costs(source) == rebuilt(target)
    assert seen_in(target) == seen_in(source)


def test_a_model_without_a_known_price_stays_without(tmp_path: Path) -> None:
    class Nothing(Listed):
        def card(self, provider: str | None, model: str) -> list[dict[str, Any]] | None:
            return None

    written(tmp_path / "source.db", Factory().calls(2), prices=Prices(listed=Nothing(0, "2025")))
    export(tmp_path / "source.db", tmp_path / "out.jsonl")
    bring_in(tmp_path / "out.jsonl", tmp_path / "target.db", prices=NEW)
    assert set(costs(tmp_path / "target.db").values()) == {(None, None)}


def test_a_later_export_brings_the_cards_that_came_later(tmp_path: Path) -> None:
    factory, source, target = Factory(), tmp_path / "source.db", tmp_path / "target.db"
    written(source, factory.calls(3), prices=OLD)
    export(source, tmp_path / "first.jsonl")
    bring_in(tmp_path / "first.jsonl", target, prices=NEW)
    since = factory.now
    written(source, factory.calls(3), prices=NEW)
    written(source, factory.calls(3), prices=NEW)
    export(source, tmp_path / "second.jsonl", since_ns=since)
    assert bring_in(tmp_path / "second.jsonl", target, prices=prices(500, "2027")).done.price_cards == 2
    assert costs(target) == costs(source) == rebuilt(target)


def test_a_store_with_prices_of_its_own_keeps_them_and_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    own = Factory("own", start=START + 10**15).calls(3)
    written(target, own, prices=NEW)
    before = costs(target)
    theirs = Factory("theirs")
    written(source, theirs.calls(3), prices=OLD)
    export(source, tmp_path / "out.jsonl")
    done = bring_in(tmp_path / "out.jsonl", target, prices=NEW).done
    assert (done.new, done.price_cards, done.other_prices, done.is_whole) == (12, 0, 2, True)
    after = costs(target)
    assert {call: after[call] for call in before} == before
    assert {version for _, version in after.values()} == {"2026"}
    assert rebuilt(target) == after


def test_equal_prices_of_another_version_of_the_list_are_no_difference(tmp_path: Path) -> None:
    written(tmp_path / "target.db", Factory("own").calls(1), prices=prices(10, "2026"))
    written(tmp_path / "source.db", Factory("theirs").calls(1), prices=prices(10, "2025"))
    export(tmp_path / "source.db", tmp_path / "out.jsonl")
    assert bring_in(tmp_path / "out.jsonl", tmp_path / "target.db").done.other_prices == 0


def test_an_import_that_is_interrupted_behind_its_first_calls_ends_with_the_same_costs(tmp_path: Path) -> None:
    factory, source, target = Factory(), tmp_path / "source.db", tmp_path / "target.db"
    written(source, factory.calls(3), prices=OLD)
    written(source, factory.calls(3), prices=NEW)
    written(source, factory.calls(3), prices=NEW)
    export(source, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    for count in (3, 9, 20):
        (tmp_path / "torn.jsonl").write_bytes(b"".join(lines[:count]))
        bring_in(tmp_path / "torn.jsonl", target, prices=prices(500, "2027"))
    bring_in(tmp_path / "out.jsonl", target, prices=prices(500, "2027"))
    assert costs(target) == costs(source) == rebuilt(target)


def test_only_cards_of_models_that_are_exported_leave_the_store(tmp_path: Path) -> None:
    db = tmp_path / "calls.db"
    ours = Factory("a", project="ours").call(request={"model": "our-model"}, response={"model": "our-model"})
    secret = Factory("b", project="theirs").call(request={"model": "hush-1"}, response={"model": "hush-1"})
    written(db, [*ours, *secret], prices=OLD)
    export(db, tmp_path / "out.jsonl", project="ours")
    raw = (tmp_path / "out.jsonl").read_bytes()
    assert b"our-model" in raw
    assert b"hush-1" not in raw


def test_live_calls_after_an_import_get_the_newest_prices(tmp_path: Path) -> None:
    factory = Factory()
    written(tmp_path / "source.db", factory.calls(2), prices=OLD)
    export(tmp_path / "source.db", tmp_path / "out.jsonl")
    bring_in(tmp_path / "out.jsonl", tmp_path / "target.db", prices=NEW)
    written(tmp_path / "target.db", factory.calls(1), prices=NEW)
    assert sorted(str(version) for _, version in costs(tmp_path / "target.db").values()) == ["2025", "2025", "2026"]


def test_a_writer_that_is_at_work_learns_of_the_cards_that_come(tmp_path: Path) -> None:
    factory, db = Factory(), tmp_path / "target.db"
    written(tmp_path / "source.db", factory.calls(2), prices=OLD)
    export(tmp_path / "source.db", tmp_path / "out.jsonl")
    with closing(SQLiteStore(db, prices=NEW)) as writer:
        writer.append([Factory().event("acme:tick", stream=factory.new_id(), version=1)])
        bring_in(tmp_path / "out.jsonl", db, prices=NEW)
        writer.append(factory.calls(1))
    assert rebuilt(db) == costs(db)
    with closing(Reader(settings_of(db))) as reader:
        assert [row.version for row in reader.prices()].count("2025") == 2


# The store's side.


def row(effective_ns: int, rate: str, version: str = "v") -> PriceRow:
    return PriceRow("openai", "m", effective_ns, "s", version, [{"rates": {"input": rate, "output": rate}}])


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path / "calls.db", prices=NEW)


def test_all_cards_of_a_model_without_any_are_taken_and_again_none(store: SQLiteStore) -> None:
    rows = [row(0, "1"), row(100, "2")]
    assert store.adopt_prices(rows) == Adopted(2, 0)
    assert store.adopt_prices(rows) == Adopted(0, 0)
    store.close()


def test_a_card_older_than_one_that_is_here_is_not_taken(store: SQLiteStore) -> None:
    store.adopt_prices([row(100, "2")])
    assert store.adopt_prices([row(0, "1"), row(100, "2")]) == Adopted(0, 1)
    assert store.adopt_prices([row(50, "2")]) == Adopted(0, 0), "it says nothing else"
    store.close()


def test_a_later_card_is_taken_only_if_no_call_here_has_used_the_price_before_it(store: SQLiteStore) -> None:
    store.adopt_prices([row(0, "1")])
    call = Factory().call(request={"model": "m"}, response={"model": "m"})
    store.append(call)
    begun = call[0]["occurred_at"]
    assert store.adopt_prices([row(0, "1"), row(begun, "2")]) == Adopted(0, 1)
    assert store.adopt_prices([row(0, "1"), row(begun + 1, "3")]) == Adopted(1, 0)
    store.close()


def test_an_attempts_price_counts_as_used_too(store: SQLiteStore) -> None:
    store.adopt_prices([row(0, "1")])
    factory = Factory()
    call = factory.call()
    tried = {"provider": "openai", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 5}}
    call[2:2] = [factory.event("provider:retry", stream=call[0]["stream_id"], version=3, data=tried)]
    for version, record in enumerate(call, 1):
        record["version"] = version
    store.append(call)
    assert store.adopt_prices([row(0, "1"), row(call[0]["occurred_at"], "2")]) == Adopted(0, 1)
    store.close()
