"""What models cost: as the settings say, else as their provider says, else as genai-prices lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hub.own_prices import DEFAULT, Discount, OwnPrice
from hub.pricing import DAY, DEFAULTED, DISCOUNTED, EXACT, LISTED, OWN, Card, PriceRow, rank_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

_SOLE_SELLERS = frozenset({"anthropic", "google", "openai", "x-ai"})
"""Of genai-prices' names those whose priced models nobody else sells; others' weights are anybody's to host."""

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "request",
}
"""genai-prices' names of those units that usage tells about. A million tokens' dollars are a token's micro-dollars."""


class PriceList:
    """The cards of genai-prices. Loading them takes a quarter of a second and 7 MB."""

    source = LISTED

    @cached_property
    def version(self) -> str:
        """Does not load the list."""
        return f"{self.source} {version('genai-prices')}"

    def load(self) -> None:
        """Load the list now, so that looking up does not have to."""
        import genai_prices.data_snapshot

        genai_prices.data_snapshot.get_snapshot()

    def card(self, provider: str | None, model: str) -> Card | None:
        """The card of a model; None for an unknown model. Under a name that is no vendor's, a provider class's for one,
        only models that nobody but their maker sells have a price."""
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
        try:
            if not provider or self._knows(provider):
                _, found = snapshot.find_provider_model(model, None, provider or None, None)
            else:
                maker, found = snapshot.find_provider_model(model, None, None, None)
                if maker.id not in _SOLE_SELLERS:
                    return None
        except LookupError:
            return None
        return _card(found)

    def _knows(self, provider: str) -> bool:
        from genai_prices.data_snapshot import get_snapshot

        try:
            get_snapshot().find_provider(None, provider, None)
        except LookupError:
            return False
        return True


def _card(model: ModelInfo) -> Card | None:
    from genai_prices.types import ConditionalPrice

    listed = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    with localcontext(EXACT):
        offers = [_offer(one) for one in listed]
    return offers if any(offer["rates"] for offer in offers) else None


def _offer(conditional: Any) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    for unit, kind in _KINDS.items():
        rate = getattr(conditional.prices, unit, None)
        if rate is not None:
            rates[kind] = _rate(rate, 10**6 if kind == "request" else 10**3)
    offer: dict[str, Any] = {"rates": rates}
    constraint = conditional.constraint
    if (day := getattr(constraint, "start_date", None)) is not None:
        offer["from"] = (day.toordinal() - 719_163) * DAY * 10**9
    elif constraint is not None:
        offer["between"] = [_second_of_day(constraint.start_time), _second_of_day(constraint.end_time)]
    return offer


def _rate(rate: Any, scale: int) -> Any:
    if isinstance(rate, Decimal):
        return str(rate * scale)
    return {"base": str(rate.base * scale), "tiers": [[tier.start, str(tier.price * scale)] for tier in rate.tiers]}


def _second_of_day(moment: Any) -> int:
    offset = moment.utcoffset()
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second - (offset.total_seconds() if offset else 0)
    return int(seconds) % DAY


class Prices:
    """Gives the cards of models, from all sources that are known before the store is asked."""

    def __init__(
        self,
        own: Mapping[str, Sequence[OwnPrice]] | None = None,
        discounts: Sequence[Discount] = (),
        listed: PriceList | None = None,
    ) -> None:
        """*own*, *discounts*: as the settings have them, see hub.own_prices."""
        self._own = dict(own or {})
        self._default = self._own.pop(DEFAULT, ())
        self._discounts = tuple(discounts)
        self._listed = listed or PriceList()

    @property
    def from_settings(self) -> bool:
        """Whether the settings say anything of prices."""
        return bool(self._own or self._default or self._discounts)

    @property
    def list_version(self) -> str:
        """Of genai-prices, which is not loaded."""
        return self._listed.version

    def load(self) -> None:
        """Load the list now, so that looking up does not have to."""
        self._listed.load()

    def may_replace(self, held: Sequence[PriceRow], told: PriceRow | None) -> bool:
        """Whether a look at `cards` could find others than *held*, by what is known without loading the list."""
        if self.from_settings or told is not None:
            return True
        return any(rank_of(row.source) >= rank_of(LISTED) and row.version != self._listed.version for row in held)

    def cards(self, provider: str | None, model: str, told: PriceRow | None = None) -> list[PriceRow]:
        """The cards of a model by their start, from the beginning of time; a card of None where it has no known price.

        Args:
            told: What the provider says that the model costs.
        """
        own = (provider and self._own.get(f"{provider}/{model}")) or self._own.get(model) or ()
        discounts = [one for one in self._discounts if one.is_on(provider, model)]
        starts = {0} | {one.effective_ns for one in (*own, *self._default)} | {one.effective_ns for one in discounts}
        listed, found = told, list[PriceRow]()
        for start in sorted(starts):
            price = _holding(own, start)
            if price is not None:
                row = PriceRow(provider or "", model, start, OWN, price.version, price.card)
            else:
                listed = listed or self._list_price(provider, model)
                row = self._without_own(listed, discounts, start)
            if not found or (row.source, row.card) != (found[-1].source, found[-1].card):
                found.append(row)
        return found

    def knows(self, provider: str | None, model: str) -> bool:
        """Whether a model has a price, or will have one, without what its provider says."""
        return any(row.card is not None for row in self.cards(provider, model))

    def _list_price(self, provider: str | None, model: str) -> PriceRow:
        card = self._listed.card(provider, model)
        return PriceRow(provider or "", model, 0, self._listed.source, self._listed.version, card)

    def _without_own(self, listed: PriceRow, discounts: Sequence[Discount], start: int) -> PriceRow:
        row = listed._replace(effective_ns=start)
        if row.card is None:
            if (default := _holding(self._default, start)) is not None:
                row = row._replace(source=DEFAULTED, version=default.version, card=default.card)
            return row
        begun = (one for one in discounts if one.effective_ns <= start)
        best = max(begun, key=_nearness, default=None)
        if best is None or not best.percent:
            return row
        return row._replace(
            source=DISCOUNTED if best.model is None else OWN,
            version=f"{row.version} less {best.percent:f}%",
            card=_reduced(row.card, best.percent),
        )


def _holding(prices: Sequence[OwnPrice], start: int) -> OwnPrice | None:
    return next((one for one in reversed(prices) if one.effective_ns <= start), None)


def _nearness(discount: Discount) -> tuple[bool, bool, int]:
    """What is said of a model counts more than what is said of a provider, and the newest of that."""
    return discount.model is not None, discount.provider is not None, discount.effective_ns


def _reduced(card: Card, percent: Decimal) -> Card:
    with localcontext(EXACT):
        factor = (100 - percent) / 100
        return [
            {**offer, "rates": {kind: _scaled_rate(rate, factor) for kind, rate in offer["rates"].items()}}
            for offer in card
        ]


def _scaled_rate(rate: Any, factor: Decimal) -> Any:
    if isinstance(rate, str):
        return str(Decimal(rate) * factor)
    tiers = [[start, str(Decimal(price) * factor)] for start, price in rate["tiers"]]
    return {"base": str(Decimal(rate["base"]) * factor), "tiers": tiers}


def outranks(some: Sequence[PriceRow], others: Sequence[PriceRow]) -> bool:
    """Whether the best source of *some* counts more than that of *others*."""
    return min(rank_of(row.source) for row in some) < min(rank_of(row.source) for row in others)
