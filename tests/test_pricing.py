"""Cost in nano-dollars."""

from __future__ import annotations

from decimal import ROUND_UP, Context, Decimal, Inexact, Rounded, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.price_list import PriceList
from hub.pricing import Cost, PriceBook, PriceRow, reported

HOUR = 3600 * 10**9


def cost(rates: dict[str, Any], at_ns: int = 0, **usage: int | None) -> int | None:
    return cost_by([{"rates": rates}], at_ns, **usage)


def cost_by(card: list[dict[str, Any]] | None, at_ns: int = 0, **usage: int | None) -> int | None:
    book = PriceBook()
    book.add([PriceRow("acme", "m", 0, "list", "1", card)])
    found = book.cost("acme", ["m"], usage, at_ns)
    return found.nanos if found else None


def test_input_contains_what_was_cached() -> None:
    rates = {"input": "100", "output": "1000", "cache_read": "10", "cache_write": "125"}
    usage = {"input_tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 3, "output_tokens": 2}
    assert cost(rates, **usage) == 3 * 100 + 4 * 10 + 3 * 125 + 2 * 1000


def test_output_contains_reasoning() -> None:
    usage = {"input_tokens": 0, "output_tokens": 10, "reasoning_tokens": 4}
    assert cost({"output": "10", "reasoning": "100"}, **usage) == 6 * 10 + 4 * 100
    assert cost({"output": "10"}, **usage) == 100


def test_without_a_rate_of_their_own_cached_tokens_cost_as_input() -> None:
    assert cost({"input": "7"}, input_tokens=10, cache_read_tokens=4) == 70


def test_more_cached_than_input_never_costs_less_than_nothing() -> None:
    assert cost({"input": "7", "cache_read": "1"}, input_tokens=3, cache_read_tokens=10) == 3


@pytest.mark.parametrize(("tokens", "nanos"), [(199, 199), (200, 200), (201, 402)])
def test_a_tier_applies_to_all_tokens_above_its_start(tokens: int, nanos: int) -> None:
    assert cost({"input": {"base": "1", "tiers": [[200, "2"]]}}, input_tokens=tokens) == nanos


@pytest.mark.parametrize(("rate", "tokens", "nanos"), [("0.5", 1, 0), ("0.5", 3, 2), ("0.5", 5, 2), ("1.5", 1, 2)])
def test_halves_are_rounded_to_even_once(rate: str, tokens: int, nanos: int) -> None:
    assert cost({"input": rate}, input_tokens=tokens) == nanos


def test_a_rate_per_request_counts_once() -> None:
    assert cost({"input": "2", "request": "5000"}, input_tokens=10) == 5020


def test_an_unknown_count_that_has_a_rate_makes_the_cost_unknown() -> None:
    assert cost({"input": "1", "output": "1"}, input_tokens=5) is None
    assert cost({"input": "1", "output": "1"}, output_tokens=5) is None
    assert cost({"input": "1"}, input_tokens=5) == 5, "embeddings answer no tokens and have no rate for them"


def test_a_cost_beyond_ten_thousand_dollars_is_unknown() -> None:
    assert cost({"input": "10"}, input_tokens=10**12) == 10**13
    assert cost({"input": "10"}, input_tokens=10**12 + 1) is None
    assert cost({"input": "1000000"}, input_tokens=2**62) is None


def test_the_last_offer_that_applies_counts() -> None:
    card: list[dict[str, Any]] = [
        {"rates": {"input": "1"}},
        {"rates": {"input": "2"}, "from": 24 * HOUR},
        {"rates": {"input": "3"}, "between": [3600, 7200]},
        {"rates": {"input": "4"}, "between": [23 * 3600, 1800]},
    ]
    for at, nanos in [(2, 1), (26, 2), (1, 3), (1.99, 3), (23, 4), (24.25, 4), (24.75, 2)]:
        assert cost_by(card, int(at * HOUR), input_tokens=1) == nanos


def test_when_no_offer_applies_the_first_does() -> None:
    assert cost_by([{"rates": {"input": "2"}, "from": HOUR}], 0, input_tokens=1) == 2


def test_a_later_card_is_for_calls_that_begin_later() -> None:
    book = PriceBook()
    old = PriceRow("", "m", 0, "list", "1", [{"rates": {"input": "1"}}])
    new = PriceRow("", "m", 100, "list", "2", [{"rates": {"input": "2"}}])
    book.add([old, new])
    assert book.cost(None, ["m"], {"input_tokens": 1}, 99) == Cost(1, "list", "1")
    assert book.cost(None, ["m"], {"input_tokens": 1}, 100) == Cost(2, "list", "2")
    assert book.cards(None, "m") == [old, new]
    assert book.cards("acme", "m") == []


def test_a_model_known_to_have_no_price_costs_null() -> None:
    assert cost_by(None, input_tokens=1) is None


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("1.25", 1_250_000_000),
        (2, 2 * 10**9),
        ("-0.5", -500_000_000),
        ("0.00000000050000000000000000000000000000000000000000000000000000000000000001", 1),
        ("10000", 10**13),
        ("-10000", -(10**13)),
        ("10000.1", None),
        ("-10000.1", None),
        *dict.fromkeys(("NaN", "Infinity", "1e30", "cheap", "", None, True, 0.5)).items(),
        ([], None),
    ],
)
def test_reported_dollars(usd: object, nanos: int | None) -> None:
    assert reported(usd) == nanos


def test_costs_do_not_depend_on_the_program_s_decimal_context() -> None:
    with localcontext(Context(prec=2, rounding=ROUND_UP, traps=[Inexact, Rounded])):
        assert cost({"input": "2.5", "output": "10"}, input_tokens=1_001, output_tokens=1) == 2_512
        assert reported("1.234567891") == 1_234_567_891
        listed = PriceList().card("openai", "gpt-4o-mini")
    assert listed == PriceList().card("openai", "gpt-4o-mini")


@given(st.text())
def test_no_text_breaks_reading_dollars(text: str) -> None:
    assert reported(text) is None or isinstance(reported(text), int)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o-2024-08-06"),
        ("anthropic", "claude-opus-4-6"),
        ("deepseek", "deepseek-chat"),
    ],
)
@pytest.mark.parametrize("hour", [0, 1, 12])
def test_it_agrees_with_genai_prices(provider: str, model: str, hour: int) -> None:
    from datetime import UTC, datetime

    import genai_prices

    prices, book = PriceList(), PriceBook()
    book.add([PriceRow(provider, model, 0, prices.source, prices.version, prices.card(provider, model))])
    at = datetime(2026, 11, 20, hour, 45, tzinfo=UTC)
    usage = {"input_tokens": 250_000, "output_tokens": 777, "cache_read_tokens": 12_345}
    theirs = genai_prices.calc_price(
        genai_prices.Usage(**usage), model, provider_id=provider, genai_request_timestamp=at
    )
    ours = book.cost(provider, [model], usage, int(at.timestamp()) * 10**9)
    assert ours is not None
    assert (
        ours.nanos
        == int((theirs.total_price * 10**9).to_integral_value())
        == round(Decimal(theirs.total_price) * 10**9)
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [("acme", "mistral-large-latest"), ("openai", "no-such-model"), (None, "no-such-model"), ("acme", "no-such-model")],
)
def test_the_price_list_knows_no_strangers(provider: str | None, model: str) -> None:
    assert PriceList().card(provider, model) is None


def test_a_known_model_is_found_without_provider() -> None:
    assert PriceList().card(None, "gpt-4o-mini") == PriceList().card("openai", "gpt-4o-mini")


def test_under_a_name_that_is_no_vendors_a_model_costs_what_its_only_seller_asks() -> None:
    prices = PriceList()
    assert prices.card("AcmeProvider", "gpt-4o-mini") == prices.card("openai", "gpt-4o-mini")
    assert prices.card("AcmeProvider", "claude-opus-4-6") == prices.card("anthropic", "claude-opus-4-6")
    assert prices.card("deepseek", "gpt-4o-mini") is None, "a vendor is asked for its own prices alone"
