"""Prices and discounts of the user's own: how settings spell them, and which price counts when."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import ROUND_UP, Context, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import load
from hub.errors import ConfigError
from hub.own_prices import RATES, read_discounts, read_prices
from hub.price_list import PriceList, Prices, outranks
from hub.pricing import SOURCES, Card, PriceBook, PriceRow, holding_from, same_prices

DOCS = Path(__file__).parents[1] / "docs"


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


class Listed(PriceList):
    """A list that knows one model."""

    version = "genai-prices 1"

    def load(self) -> None:
        return

    def card(self, provider: str | None, model: str) -> Card | None:
        return [{"rates": {"input": "100", "output": "200"}}] if model == "known" else None


def prices(own: object = None, discounts: object = ()) -> Prices:
    return Prices(read_prices(own or {}, "here"), read_discounts(discounts, "here"), Listed())


def told(provider: str, model: str) -> PriceRow:
    return PriceRow(provider, model, 0, "model_info", "model_info 2026-01-01", [{"rates": {"input": "7"}}])


def seen(found: list[PriceRow]) -> list[tuple[int, str, Any]]:
    """Start, source, and rate of the input."""
    return [(row.effective_ns, row.source, row.card and row.card[0]["rates"].get("input")) for row in found]


# What settings say.


def test_a_file_says_prices_by_model_and_date(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(
        """
        [prices."acme/acme-1"]
        input = 0.15
        output = 1.5
        cache_read = 0
        request = 0.01

        [[prices."m"]]
        from = 2026-07-01
        input = { base = 1.25, tiers = [[200_000, 2.5]] }
        output = 10

        [[prices.m]]
        input = "2"
        output = 10

        [[discounts]]
        provider = "openai"
        percent = 12.5
        from = 2026-01-31
        """
    )
    settings = load({}, {}, tmp_path)
    [acme] = settings.prices["acme/acme-1"]
    assert acme.effective_ns == 0
    assert acme.card == [{"rates": {"input": "150", "output": "1500", "cache_read": "0", "request": "10000000"}}]
    first, second = settings.prices["m"]
    assert (first.effective_ns, second.effective_ns) == (0, day("2026-07-01"))
    assert second.card[0]["rates"]["input"] == {"base": "1250", "tiers": [[200_000, "2500"]]}
    [discount] = settings.discounts
    assert (discount.provider, discount.model, discount.effective_ns) == ("openai", None, day("2026-01-31"))
    assert settings.origins["prices"] == settings.origins["discounts"] == str(tmp_path / "hub.toml")


def test_pyproject_the_environment_and_arguments_say_them_too(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hub.prices.m]\ninput = 1\noutput = 2\n")
    table = {"m": {"from": "2026-01-01", "input": 1, "output": 2}}
    from_file = load({}, {}, tmp_path)
    assert from_file.prices["m"][0].card == [{"rates": {"input": "1000", "output": "2000"}}]
    from_environment = load({}, {"HUB_PRICES": json.dumps(table)}, tmp_path)
    assert from_environment.prices == load({"prices": table}, {}, tmp_path).prices
    assert from_environment.prices["m"][0].effective_ns == day("2026-01-01")
    assert from_environment.origins["prices"] == "environment HUB_PRICES"


BAD = [
    ("prices = 3", ["prices", "[prices."]),
    ("[prices.m]\ninput = 1", ['prices."m"', "input and output"]),
    ("[prices.m]\ninput = -1\noutput = 1", ['prices."m".input', "-1", "dollars for a million tokens"]),
    ("[prices.m]\ninput = nan\noutput = 1", ['prices."m".input', "number"]),
    ("[prices.m]\ninput = true\noutput = 1", ['prices."m".input', "number"]),
    ("[prices.m]\ninput = 1\noutput = 2e6", ['prices."m".output', "million"]),
    ("[prices.m]\ninput = {base = 1}\noutput = 2", ['prices."m".input', "tiers"]),
    ("[prices.m]\ninput = {base = 1, tiers = [[1]]}\noutput = 2", ['prices."m".input', "tiers"]),
    ("[prices.m]\ninput = 1\noutput = 1\nrequest = 'x'", ['prices."m".request', "dollars for a call"]),
    ("[prices.m]\ninput = 1\noutput = 1\nimput = 2", ["imput", "did you mean input"]),
    ("[prices.m]\ninput = 1\noutput = 1\nfrom = 2026", ['prices."m".from', "2026-01-31"]),
    ("[prices.m]\ninput = 1\noutput = 1\nfrom = 2026-01-01T00:00:00", ['prices."m".from', "2026-01-31"]),
    ("[prices.m]\ninput = 1\noutput = 1\nfrom = 'soon'", ['prices."m".from', "'soon'"]),
    ("[[prices.m]]\ninput = 1\noutput = 1\n[[prices.m]]\ninput = 2\noutput = 1", ['prices."m"', "of their own"]),
    ("[prices]\nm = []", ['prices."m"', "one table"]),
    ("[prices]\nm = 3", ['prices."m"', "{input = 0.5"]),
    ("[prices]\n'' = {input = 1, output = 1}", ["name a model"]),
    ("discounts = {openai = 3}", ["discounts", "[[discounts]]"]),
    ("discounts = [3]", ["discounts[0]", "percent = 10"]),
    ("[[discounts]]\npercent = 101", ["discounts[0].percent", "101", "0 to 100"]),
    ("[[discounts]]\nprovider = 'x'", ["discounts[0].percent", "0 to 100"]),
    ("[[discounts]]\nprovider = ''\npercent = 1", ["discounts[0].provider", "name"]),
    ("[[discounts]]\npercent = 1\n[[discounts]]\npercent = 2", ["discounts[1]", "same"]),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_is_no_price_is_refused_by_file_key_and_remedy(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load({}, {}, tmp_path)
    for words in (*said, str(path)):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", ["not json", "[1]", "3"])
def test_text_that_is_no_table_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="takes a table"):
        read_prices(value, "environment HUB_PRICES")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["input", "output", "from", "m", "percent"]), inner)
        ),
    )
)
def test_whatever_stands_there_is_read_or_refused(value: object) -> None:
    with suppress(ConfigError):
        for prices_of in read_prices(value, "here").values():
            assert all(one.card[0]["rates"].keys() <= set(RATES) for one in prices_of)
    with suppress(ConfigError):
        assert all(0 <= one.percent <= 100 for one in read_discounts(value, "here"))


def test_dollars_are_taken_as_written_whatever_the_program_s_decimal_context() -> None:
    with localcontext(Context(prec=2, rounding=ROUND_UP)):
        [price] = read_prices({"m": {"input": 0.123456789, "output": 0.1}}, "here")["m"]
        [row] = prices(discounts=[{"percent": 33}]).cards(None, "known")
    assert price.card[0]["rates"] == {"input": "123.456789", "output": "100"}
    assert row.card is not None
    assert row.card[0]["rates"] == {"input": "67.00", "output": "134.00"}


# Which price counts.


def test_the_sources_come_in_their_order() -> None:
    own = {"acme/known": {"input": 1, "output": 1}, "default": {"input": 9, "output": 9}}
    assert seen(prices(own).cards("acme", "known", told("acme", "known"))) == [(0, "hub.toml", "1000")]
    assert seen(prices().cards("acme", "known", told("acme", "known"))) == [(0, "model_info", "7")]
    assert seen(prices(own).cards("other", "known")) == [(0, "genai-prices", "100")]
    assert seen(prices(own).cards("other", "strange")) == [(0, "hub.toml default", "9000")]
    assert seen(prices().cards("other", "strange")) == [(0, "genai-prices", None)]


def test_a_price_of_a_provider_s_model_counts_more_than_one_of_the_model() -> None:
    own = {"acme/m": {"input": 1, "output": 1}, "m": {"input": 2, "output": 2}}
    found = [seen(prices(own).cards(provider, "m"))[0][2] for provider in ("acme", "other", None)]
    assert found == ["1000", "2000", "2000"]


def test_before_the_first_date_the_list_s_price_counts() -> None:
    own = {"known": [{"from": "2026-03-01", "input": 3, "output": 3}, {"from": "2026-02-01", "input": 2, "output": 2}]}
    assert seen(prices(own).cards("acme", "known")) == [
        (0, "genai-prices", "100"),
        (day("2026-02-01"), "hub.toml", "2000"),
        (day("2026-03-01"), "hub.toml", "3000"),
    ]


def test_discounts_are_for_lists_prices_and_the_nearest_one_counts() -> None:
    said = prices(
        {"mine": {"input": 5, "output": 5}},
        [
            {"percent": 1},
            {"provider": "acme", "percent": 10, "from": date(2026, 2, 1)},
            {"provider": "acme", "percent": 0, "from": date(2026, 4, 1)},
            {"model": "known", "provider": "other", "percent": 50},
        ],
    )
    assert seen(said.cards("acme", "known")) == [
        (0, "hub.toml discount", "99.00"),
        (day("2026-02-01"), "hub.toml discount", "90.0"),
        (day("2026-04-01"), "genai-prices", "100"),
    ]
    assert [row.version for row in said.cards("acme", "known")][1] == "genai-prices 1 less 10%"
    assert seen(said.cards("other", "known")) == [(0, "hub.toml", "50.0")]
    assert seen(said.cards("acme", "mine")) == [(0, "hub.toml", "5000")], "what is said to be paid is paid"
    assert seen(said.cards("third", "known", told("third", "known"))) == [(0, "hub.toml discount", "6.93")]


def test_a_discount_reaches_every_tier() -> None:
    with_tiers = PriceRow("a", "m", 0, "model_info", "1", [{"rates": {"input": {"base": "10", "tiers": [[5, "20"]]}}}])
    [row] = prices(discounts=[{"percent": 50}]).cards("a", "m", with_tiers)
    assert row.card == [{"rates": {"input": {"base": "5.0", "tiers": [[5, "10.0"]]}}}]


def test_the_settings_price_of_the_asked_name_counts_more_than_a_list_s_of_the_served_one() -> None:
    book = PriceBook()
    said = prices({"asked": {"input": 1, "output": 1}}, [{"percent": 10}])
    for model in ("asked", "known"):
        book.add(said.cards("acme", model))
    cost = book.cost("acme", ["known", "asked"], {"input_tokens": 1, "output_tokens": 0}, 0)
    assert cost is not None
    assert (cost.nanos, cost.source) == (1000, "hub.toml")


def test_a_model_that_answers_no_tokens_is_priced_with_an_output_rate_of_0() -> None:
    book = PriceBook()
    book.add(prices({"embed": {"input": 0.02, "output": 0}, "free": {"input": 0, "output": 0}}).cards(None, "embed"))
    cost = book.cost(None, ["embed"], {"input_tokens": 1000, "output_tokens": None}, 0)
    assert cost is not None
    assert cost.nanos == 20_000


def test_free_is_known_to_cost_nothing() -> None:
    book = PriceBook()
    book.add(prices({"free": {"input": 0, "output": 0}}).cards(None, "free"))
    cost = book.cost(None, ["free"], {"input_tokens": 1000, "output_tokens": 7}, 0)
    assert cost is not None
    assert (cost.nanos, cost.source) == (0, "hub.toml")


def test_a_card_takes_the_place_of_those_that_begin_with_it_or_later() -> None:
    def row(start: int, rate: str) -> PriceRow:
        return PriceRow("", "m", start, "list", "1", [{"rates": {"input": rate}}])

    book = PriceBook()
    book.add([row(0, "1"), row(100, "2"), row(200, "3")])
    book.add([row(100, "4")])
    assert [card.effective_ns for card in book.cards(None, "m")] == [0, 100]
    found = [book.cost(None, ["m"], {"input_tokens": 1}, at) for at in (99, 100, 250)]
    assert [cost and cost.nanos for cost in found] == [1, 4, 4]


def test_cards_that_say_the_same_are_the_same_however_they_are_cut() -> None:
    def rows(*steps: tuple[int, str]) -> list[PriceRow]:
        return [PriceRow("", "m", at, "list", str(at), [{"rates": {"input": rate}}]) for at, rate in steps]

    assert same_prices(rows((0, "1"), (5, "1"), (9, "2")), rows((0, "1"), (9, "2")))
    assert not same_prices(rows((0, "1")), rows((0, "1"), (9, "2")))
    assert holding_from(rows((0, "1"), (5, "2"), (9, "3")), 7) == [
        rows((5, "2"))[0]._replace(effective_ns=7),
        *rows((9, "3")),
    ]
    assert holding_from(rows((5, "2")), 0) == rows((5, "2"))


def test_a_source_outranks_those_behind_it() -> None:
    own = prices({"known": {"from": "2030-01-01", "input": 1, "output": 1}}).cards(None, "known")
    assert outranks(own, prices().cards(None, "known"))
    assert not outranks(prices().cards(None, "known"), prices().cards(None, "strange"))


def test_the_settings_that_the_documentation_shows_are_read(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (DOCS / "prices.md").read_text(), re.DOTALL)
    (tmp_path / "hub.toml").write_text(text)
    shown = load({}, {}, tmp_path)
    assert shown.prices.keys() == {"acme/acme-1", "gpt-4o-mini", "default"}
    assert [discount.percent for discount in shown.discounts] == [10, 15]


def test_every_source_is_documented() -> None:
    documented = re.findall(r"^\| `([\w. -]+)`", (DOCS / "prices.md").read_text(), re.MULTILINE)
    assert set(SOURCES) <= set(documented)
