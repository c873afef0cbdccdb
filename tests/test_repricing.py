"""New prices for calls that were made: what changes, what never does, and that a rebuild agrees."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.own_prices import read_discounts, read_prices
from hub.price_list import PriceList, Prices
from hub.pricing import Card
from storage import open_store, rebuilding, repricing
from storage.repricing import ModelCosts, Repriced, Scope
from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.factories import SECOND, START, Factory
from tests.stories import story

Opened = Callable[..., SqlStore]


class Listed(PriceList):
    """A list with one rate for all models but acme's."""

    def __init__(self, rate: str | None = "100") -> None:
        self.rate, self.version = rate, f"genai-prices {rate}"

    def load(self) -> None:
        return

    def card(self, provider: str | None, model: str) -> Card | None:
        if self.rate is None or model.startswith("acme"):
            return None
        return [{"rates": {"input": self.rate, "output": self.rate}}]


def prices(own: object = None, discounts: object = (), *, rate: str | None = "100") -> Prices:
    return Prices(read_prices(own or {}, "here"), read_discounts(discounts, "here"), Listed(rate))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Of an empty store of each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    return str(request.getfixturevalue("migrated_postgres_url"))


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """Opens the one store, by prices and a clock."""
    stores: list[SqlStore] = []

    def open_it(by: Prices | None = None, now: int = START) -> SqlStore:
        store = open_store(url, prices=by or prices())
        store._wall = lambda: now
        stores.append(store)
        return store

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def factory() -> Factory:
    return Factory()


def query(store: SqlStore, sql: str) -> list[tuple[Any, ...]]:
    with store._using() as connection:
        return [tuple(row) for row in connection.execute(sql)]


def costs(store: SqlStore) -> list[tuple[Any, ...]]:
    return query(store, "SELECT cost_nanos, cost_source, price_version FROM hub_calls ORDER BY started_ns, call_id")


def rows(store: SqlStore) -> list[list[tuple[Any, ...]]]:
    """Everything that repricing could touch."""
    return [
        query(store, "SELECT * FROM hub_calls ORDER BY call_id"),
        query(store, "SELECT * FROM hub_attempts ORDER BY position"),
        query(store, "SELECT * FROM llm_costs_hourly ORDER BY hour, project, service, provider, model"),
        query(store, "SELECT * FROM hub_prices ORDER BY id"),
        query(store, "SELECT * FROM hub_counters ORDER BY name"),
    ]


def agrees_with_a_rebuild(store: SqlStore) -> bool:
    before = rows(store)
    store.rebuild()
    return rows(store) == before


ACME = {"provider": "acme", "model": "acme-1"}
ACME_PRICE = {"acme/acme-1": {"input": 1, "output": 2}}
COST = 250 * 1000 + 500 * 2000


def acme(factory: Factory, **options: Any) -> list[Any]:
    return factory.call(request=ACME, response={"model": "acme-1", **options})


def test_a_price_is_for_new_calls_and_for_old_ones_once_repriced(opened: Opened, factory: Factory) -> None:
    opened().append(acme(factory))
    factory.now += SECOND
    store = opened(prices(ACME_PRICE))
    store.append(acme(factory))
    [old, new] = costs(store)
    assert old == (None, None, None)
    assert new[:2] == (COST, "hub.toml")
    assert new[2].startswith("hub.toml ")
    assert agrees_with_a_rebuild(store)
    done = store.reprice()
    assert costs(store) == [new, new]
    assert done.models == [ModelCosts("acme", "acme-1", 2, COST, 2 * COST, 1, 0)]
    assert (done.cards, done.calls) == (1, 1)
    assert agrees_with_a_rebuild(store)


def test_a_call_dated_in_the_future_keeps_no_price_from_changing(opened: Opened, factory: Factory) -> None:
    store = opened()
    store.append([*acme(factory), *factory.call()])
    store.append(Factory("rogue", start=4_000_000_000 * SECOND).call())
    factory.now += SECOND
    store = opened(prices(ACME_PRICE, rate="500"))
    store.append([*acme(factory), *factory.call()])
    assert [cost for cost, *_ in costs(store)] == [None, 75_000, COST, 375_000, 75_000]


def test_a_dry_run_tells_what_would_change_and_changes_nothing(opened: Opened, factory: Factory) -> None:
    store = opened()
    store.append([*acme(factory), *factory.calls(3), *factory.call(request={"provider": None})])
    changed = opened(prices(ACME_PRICE, rate="200"), now=START + 1)
    before = rows(changed)
    told = changed.reprice(dry_run=True)
    assert rows(changed) == before
    assert told.models == [
        ModelCosts("acme", "acme-1", 1, None, COST, 1, 0),
        ModelCosts("openai", "gpt-4o-mini", 3, 3 * 75_000, 3 * 150_000),
        ModelCosts(None, "gpt-4o-mini", 1, 75_000, 150_000),
    ]
    assert changed.reprice() == told
    assert costs(changed)[1][2] == "genai-prices 200"


def test_doing_it_again_changes_nothing(opened: Opened, factory: Factory) -> None:
    opened().append(story(1))
    store = opened(prices({"gpt-4o": {"from": "2026-01-01", "input": 5, "output": 5}}, [{"percent": 5}], rate="200"))
    assert store.reprice().calls
    before = rows(store)
    done = store.reprice()
    assert (done.calls, done.cards) == (0, 0)
    assert all(one.difference == 0 for one in done.models)
    assert rows(store) == before


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), window=st.integers(1, 40), since=st.integers(0, 20), named=st.booleans())
def test_a_rebuild_after_a_reprice_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, window: int, since: int, named: bool
) -> None:
    path = tmp_path_factory.mktemp("reprice") / "calls.db"
    chance = random.Random(seed)
    records = story(seed)
    for record in records:
        if record["type"] == "llm:response" and chance.random() < 0.2:
            record["data"]["reported_cost_usd"] = "0.00002"
    with pytest.MonkeyPatch.context() as patch, closing(SQLiteStore(path, prices=prices(rate="100"))) as store:
        patch.setattr(repricing, "_WINDOW", window)
        for start in range(0, len(records), 17):
            store.append(records[start : start + 17])
        was = costs(store)
        for rate in ("37", None, "100"):
            store._prices = prices({"azure/gpt-4o": {"input": 1, "output": 3}}, rate=rate)
            scope = Scope(since_ns=START + since * SECOND // 2, model="gpt-4o-mini" if named else None)
            told = store.reprice(scope, dry_run=True)
            assert store.reprice(scope) == told
            assert agrees_with_a_rebuild(store)
        assert store.reprice(Scope(known_ns=0)).cards == 0
        store._prices = prices(rate="100")
        store.reprice()
        assert [cost[:2] for cost in costs(store)] == [cost[:2] for cost in was]


def test_what_a_response_reported_is_never_repriced(opened: Opened, factory: Factory) -> None:
    told = {"reported_cost_usd": "0.5", "cost_reporter": "provider"}
    opened().append([*acme(factory, **told), *factory.call(response=told)])
    store = opened(prices(ACME_PRICE, rate="200"))
    done = store.reprice()
    assert done.calls == 0
    assert costs(store) == [(5 * 10**8, "provider", None)] * 2
    assert [(one.calls, one.cost_before, one.cost_after) for one in done.models] == [(1, 5 * 10**8, 5 * 10**8)] * 2


def test_attempts_are_repriced_and_the_call_with_them(opened: Opened, factory: Factory) -> None:
    call = factory.call()
    stream = call[0]["stream_id"]
    tried = {"provider": "azure", "model": "acme-x", "usage": {"input_tokens": 30, "output_tokens": 10}}
    call.insert(2, factory.event("provider:attempt", stream=stream, version=8, data={"attempt": 1, **tried}))
    call[3]["data"].update(attempts=2, last_attempt={"provider": "openai", "usage": {"input_tokens": 9}})
    call[3]["data"]["last_attempt"]["usage"]["output_tokens"] = 1
    opened().append(call)
    store = opened(prices({"acme-x": {"input": 1, "output": 1}}))
    assert costs(store) == [(None, None, None)]
    store.reprice(Scope(model="acme-x"))
    assert query(store, "SELECT cost_nanos FROM hub_attempts ORDER BY position") == [(40_000,), (1_000,)]
    assert costs(store)[0][0] == 41_000
    assert agrees_with_a_rebuild(store)


def test_only_calls_since_then_are_repriced(opened: Opened, factory: Factory) -> None:
    store = opened()
    for _ in range(4):
        store.append(factory.call())
        factory.now += SECOND
    dearer = opened(prices(rate="200"))
    done = dearer.reprice(Scope(since_ns=START + 2 * SECOND))
    assert [cost[0] for cost in costs(dearer)] == [75_000, 75_000, 150_000, 150_000]
    assert done.models == [ModelCosts("openai", "gpt-4o-mini", 2, 150_000, 300_000)]
    assert agrees_with_a_rebuild(dearer)
    factory.now += SECOND
    dearer.append(factory.call())
    assert costs(dearer)[-1][0] == 150_000


@pytest.mark.parametrize("name", ["gpt-4o-mini", "openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_only_one_model_is_repriced_by_either_of_its_names(opened: Opened, factory: Factory, name: str) -> None:
    opened().append([*factory.call(), *factory.call(request={"model": "other"}, response={"model": "other"})])
    dearer = opened(prices(rate="200"))
    done = dearer.reprice(Scope(model=name))
    assert done.models == [ModelCosts("openai", "gpt-4o-mini", 1, 75_000, 150_000)]
    assert [cost[0] for cost in costs(dearer)] == [150_000, 75_000]
    assert agrees_with_a_rebuild(dearer)
    assert dearer.reprice(Scope(model="strange")).models == []


def test_a_reprice_during_a_rebuild_is_not_undone_by_it(
    opened: Opened, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 8)
    opened().append(factory.calls(6))
    dearer, done = opened(prices(rate="200")), list[Repriced]()

    def reprice(_done: int, _total: int) -> None:
        if not done:
            done.append(dearer.reprice())

    opened(prices(rate="200")).rebuild(reprice)
    assert done[0].calls == 6
    assert [cost[0] for cost in costs(dearer)] == [150_000] * 6
    assert agrees_with_a_rebuild(dearer)


def test_costs_as_the_store_knew_prices_at_a_time(opened: Opened, factory: Factory) -> None:
    opened(now=START + 1).append(factory.calls(2))
    dearer = opened(prices(ACME_PRICE, rate="200"), now=START + 10)
    dearer.append(acme(factory))
    dearer.reprice()
    assert [cost[0] for cost in costs(dearer)] == [150_000, 150_000, COST]
    now = opened(prices(rate="300"), now=START + 20)
    told = now.reprice(Scope(known_ns=START + 9), dry_run=True)
    assert [(one.model, one.cost_before, one.cost_after) for one in told.models] == [
        ("gpt-4o-mini", 300_000, 150_000),
        ("acme-1", COST, COST),
    ]
    assert now.reprice(Scope(known_ns=START + 9)) == told
    assert [cost[0] for cost in costs(now)] == [75_000, 75_000, COST], "a mistaken reprice can be taken back"
    assert agrees_with_a_rebuild(now)
    assert now.reprice(Scope(known_ns=START + 15)).models[0].cost_after == 300_000, "and so can that"
    versions = query(now, "SELECT made_ns, version FROM hub_prices WHERE model = 'gpt-4o-mini' ORDER BY id")
    assert versions == [
        (START + 1, "genai-prices 100"),
        (START + 10, "genai-prices 200"),
        (START + 20, "genai-prices 100"),
        (START + 20, "genai-prices 200"),
    ]


def test_what_the_provider_says_of_its_model_counts_more_than_the_list(opened: Opened, factory: Factory) -> None:
    store = opened()
    store.append(factory.call())
    with store._using() as connection, store._writing(connection):
        connection.execute(
            "INSERT INTO hub_models (provider, model, input, output, cache_read, seen_ns) VALUES (?, ?, ?, ?, ?, ?)",
            ("openai", "gpt-4o-mini", 150.0, 0.5, float("inf"), START),
        )
        connection.execute("INSERT INTO hub_models (provider, model) VALUES (?, ?)", ("openai", "no-price"))
    store.reprice()
    assert costs(store) == [(250 * 150 + 250, "model_info", "model_info 2026-09-21")]
    assert agrees_with_a_rebuild(store)
    again = opened()
    factory.now += SECOND
    again.append(factory.call())
    assert costs(again)[1] == costs(again)[0]


def test_a_program_without_the_settings_does_not_displace_their_prices(opened: Opened, factory: Factory) -> None:
    opened(prices(ACME_PRICE, [{"provider": "openai", "percent": 10}])).append([*acme(factory), *factory.call()])
    held = query(opened(), "SELECT count(*) FROM hub_prices")
    factory.now += SECOND
    for other in (None, {"mine": {"input": 1, "output": 1}}):
        stranger = opened(prices(other, rate="200"))
        stranger.append([*acme(factory), *factory.call()])
        assert query(stranger, "SELECT count(*) FROM hub_prices") == held
    assert [cost[1] for cost in costs(stranger)] == ["hub.toml", "hub.toml discount"] * 3
    stranger.reprice()
    assert [cost[:2] for cost in costs(stranger)] == [(None, None), (150_000, "genai-prices")] * 3, (
        "it does if asked to"
    )


def test_a_running_writer_goes_by_what_was_repriced_beside_it(opened: Opened, factory: Factory) -> None:
    running = opened()
    running.append(acme(factory))
    opened(prices(ACME_PRICE)).reprice()
    running.append(acme(factory))
    assert [cost[0] for cost in costs(running)] == [COST, COST]


def test_a_reprice_writes_in_steps_and_tells_how_far_it_is(
    opened: Opened, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = repricing.write_costs

    def counted(connection: Any, changes: list[repricing.Change], rest: Any) -> None:
        sizes.append(len(changes))
        write(connection, changes, rest)

    monkeypatch.setattr(repricing, "_WINDOW", 4)
    monkeypatch.setattr(repricing, "write_costs", counted)
    opened().append(factory.calls(10))
    store = opened(prices(rate="200"))
    told: list[tuple[int, int]] = []
    store.reprice(progress=lambda done, total: told.append((done, total)))
    assert (told, sizes) == ([(4, 10), (8, 10), (10, 10)], [4, 4, 2])


def test_calls_that_arrive_during_a_reprice_are_priced_as_it_says(
    opened: Opened, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repricing, "_WINDOW", 3)
    writer = opened()
    writer.append(factory.calls(40))
    store = opened(prices(ACME_PRICE, rate="200"))
    late = [acme(factory) for _ in range(30)]

    def write() -> None:
        for batch in late:
            writer.append(batch)

    thread = threading.Thread(target=write)
    thread.start()
    store.reprice()
    thread.join()
    assert [cost[0] for cost in costs(store)][:40] == [150_000] * 40
    assert len(costs(store)) == 70
    assert agrees_with_a_rebuild(store)


def test_a_row_that_changes_between_look_and_write_is_priced_as_it_is_then(
    opened: Opened, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = factory.call(response={"status": "lost"})
    opened().append(call)
    store, writer = opened(prices(rate="200")), opened(prices({"served": {"input": 3, "output": 3}}))
    told = {"model": "served", "usage": {"input_tokens": 1, "output_tokens": 1}}
    final = factory.event("llm:response", stream=call[0]["stream_id"], version=9, data=told)
    look = repricing.Repricing._write

    def late(self: repricing.Repricing, call_ids: Any) -> None:
        writer.append([final])
        look(self, call_ids)

    monkeypatch.setattr(repricing.Repricing, "_write", late)
    store.reprice()
    assert costs(store)[0][:2] == (6_000, "hub.toml")
    assert agrees_with_a_rebuild(store)


KILLED = """
import os, sys
from storage import open_store, repricing
from tests.test_repricing import prices

repricing._WINDOW = 4
store = open_store(sys.argv[1], prices=prices(rate="200"))
store.reprice(progress=lambda done, total: os._exit(9) if done >= 8 else None)
"""


def test_one_that_is_killed_is_finished_by_the_next(opened: Opened, factory: Factory, url: str) -> None:
    store = opened()
    store.append(factory.calls(20))
    ended = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60, cwd=Path(__file__).parents[1])
    assert ended.returncode == 9
    assert [cost[0] for cost in costs(store)] == [150_000] * 8 + [75_000] * 12
    again = opened(prices(rate="200"))
    done = again.reprice()
    assert (done.cards, done.calls) == (0, 12)
    assert agrees_with_a_rebuild(again)


def test_an_empty_store_has_nothing_to_reprice(opened: Opened) -> None:
    done = opened().reprice()
    assert (done.models, done.cards, done.calls) == ([], 0, 0)
