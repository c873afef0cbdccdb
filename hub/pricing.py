"""What a call cost, in nano-dollars, from its raw usage and a price card.

A card is what is kept in the store, as JSON: a list of offers, the last one that applies counts. An offer is
{"rates": {kind: rate}, "from": Unix ns, "between": [seconds of the UTC day, seconds]}; the last two may be missing. A
rate is a decimal string, nano-dollars per token (per call for "request"), or {"base": rate, "tiers": [[tokens, rate]]}:
with more input than that many tokens all of them cost that rate. Kinds: input, output, cache_read, cache_write,
reasoning, request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Any, Final, NamedTuple

Usage = Mapping[str, int | None]
Rate = Decimal | tuple[Decimal, tuple[tuple[int, Decimal], ...]]

LARGEST: Final = 10**13
"""Nano-dollars. More than ten thousand dollars for a call is a mistake, and the sum of hundreds of thousands of them
still has to fit 64 bits."""
DAY = 86_400
_ZERO, _NANO = Decimal(0), Decimal("1e-9")
EXACT = Context(
    prec=60,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
"""What we compute in. A program may have changed decimal's own, and costs must not depend on who computes them."""

Card = list[dict[str, Any]]

OWN, DISCOUNTED, TOLD, LISTED, DEFAULTED = SOURCES = (
    "hub.toml",
    "hub.toml discount",
    "model_info",
    "genai-prices",
    "hub.toml default",
)
"""Where cards come from, the one that counts most first: the user's price or discount for this very model; a list's
price with a discount on all of a provider's models, or on all; what the provider says of its model; the public list;
what the user has said of models that no list knows."""
_RANKS: Final = {source: rank for rank, source in enumerate(SOURCES)}


def rank_of(source: str) -> int:
    """The place of *source* in SOURCES; an unknown one stands with the price lists."""
    return _RANKS.get(source, _RANKS[LISTED])


class PriceRow(NamedTuple):
    """A card as the store keeps it. `card` None: the model was looked up and has no known price."""

    provider: str
    model: str
    effective_ns: int
    source: str
    version: str
    card: Card | None


class Cost(NamedTuple):
    """Nano-dollars, who says so, and by which price list."""

    nanos: int
    source: str
    version: str | None


class _Offer(NamedTuple):
    rates: dict[str, Rate]
    start_ns: int
    between: tuple[int, int] | None

    def applies(self, at_ns: int) -> bool:
        if at_ns < self.start_ns:
            return False
        if self.between is None:
            return True
        start, end = self.between
        second = at_ns // 10**9 % DAY
        return start <= second < end if start <= end else second >= start or second < end


def reported(usd: object) -> int | None:
    """Nano-dollars of a decimal string of dollars, rounded half-even; None when it is none, or beyond `LARGEST`."""
    if not isinstance(usd, str | int) or isinstance(usd, bool):
        return None
    most = LARGEST // 10**9
    with localcontext(EXACT):
        try:
            amount = Decimal(usd)
        except InvalidOperation:
            return None
        if not amount.is_finite() or not -most <= amount <= most:
            return None
        return int(amount.quantize(_NANO).scaleb(9))


def cost_of(usage: Usage, offers: Sequence[_Offer], at_ns: int) -> int | None:
    """Nano-dollars for *usage* (inclusive counts) at *at_ns*, rounded half-even once; None when a count it needs is
    unknown, or the sum is beyond `LARGEST`."""
    offer = next((one for one in reversed(offers) if one.applies(at_ns)), offers[0] if offers else None)
    if offer is None:
        return None
    rates, given, answered = offer.rates, usage.get("input_tokens"), usage.get("output_tokens")
    if (given is None and "input" in rates) or (answered is None and "output" in rates):
        return None
    size = given or 0
    with localcontext(EXACT):
        total = _side(rates, "input", size, size, usage, ("cache_read", "cache_write"))
        total += _side(rates, "output", answered or 0, size, usage, ("reasoning",))
        if "request" in rates:
            total += _at(rates["request"], size)
        nanos = int(total.to_integral_value())
    return nanos if abs(nanos) <= LARGEST else None


def _side(rates: dict[str, Rate], kind: str, count: int, size: int, usage: Usage, within: tuple[str, ...]) -> Decimal:
    """Cost of one direction. Counts with a rate of their own are taken out of the direction's count."""
    total, rest = _ZERO, count
    for part in within:
        number = usage.get(f"{part}_tokens")
        if number and part in rates:
            number = min(number, rest)
            rest -= number
            total += number * _at(rates[part], size)
    return total + rest * _at(rates[kind], size) if kind in rates else total


def _at(rate: Rate, size: int) -> Decimal:
    if isinstance(rate, Decimal):
        return rate
    base, tiers = rate
    return next((price for start, price in reversed(tiers) if size > start), base)


class _Held(NamedTuple):
    row: PriceRow
    offers: list[_Offer]


class PriceBook:
    """The cards of one store, ready to compute with. Computing uses nothing else, so that a rebuild gives the same."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], list[_Held]] = {}
        self.models: set[str] = set()
        """The models that there are cards for, of whichever provider."""

    def add(self, rows: Iterable[PriceRow]) -> None:
        """Take *rows* in, in the order in which they were written: each replaces those that begin with it or later."""
        for row in rows:
            self.models.add(row.model)
            held = self._held.setdefault((row.provider, row.model), [])
            while held and held[-1].row.effective_ns >= row.effective_ns:
                held.pop()
            held.append(_Held(row, [_parse(offer) for offer in row.card or ()]))

    def pairs(self) -> list[tuple[str, str]]:
        """The providers, '' for none, and models that there are cards for."""
        return list(self._held)

    def cards(self, provider: str | None, model: str) -> list[PriceRow]:
        """The cards of a model, by their start; each holds until the next one's."""
        return [row for row, _ in self._held.get((provider or "", model), ())]

    def at(self, provider: str, model: str, at_ns: int) -> PriceRow | None:
        """The card for calls that began at *at_ns*."""
        held = self._card(provider, model, at_ns)
        return held and held.row

    def cost(self, provider: str | None, models: Iterable[str], usage: Usage, at_ns: int) -> Cost | None:
        """What a call that began at *at_ns* cost; None when that is unknown.

        Args:
            models: The names that the model goes by; of cards that count the same, the first name's is taken.
        """
        found = [card for model in models if (card := self._card(provider or "", model, at_ns)) is not None]
        if len(found) > 1:
            found.sort(key=lambda card: rank_of(card.row.source))
        for row, offers in found:
            nanos = cost_of(usage, offers, at_ns)
            if nanos is not None:
                return Cost(nanos, row.source, row.version)
        return None

    def _card(self, provider: str, model: str, at_ns: int) -> _Held | None:
        held = self._held.get((provider, model))
        if not held:
            return None
        return next((card for card in reversed(held) if card.row.effective_ns <= at_ns), held[0])


def _parse(offer: Mapping[str, Any]) -> _Offer:
    between = offer.get("between")
    return _Offer(
        {kind: _parse_rate(rate) for kind, rate in offer["rates"].items()},
        offer.get("from", 0),
        None if between is None else (between[0], between[1]),
    )


def _parse_rate(rate: Any) -> Rate:
    if isinstance(rate, str):
        return Decimal(rate)
    return Decimal(rate["base"]), tuple((start, Decimal(price)) for start, price in rate["tiers"])


def holding_from(rows: Sequence[PriceRow], start_ns: int) -> list[PriceRow]:
    """Of *rows*, the cards of one model by their start, those that hold at *start_ns* or later; the first of them then
    begins there."""
    begun = [row for row in rows if row.effective_ns <= start_ns]
    later = [row for row in rows if row.effective_ns > start_ns]
    return [*(row._replace(effective_ns=start_ns) for row in begun[-1:]), *later]


def same_prices(some: Sequence[PriceRow], others: Sequence[PriceRow]) -> bool:
    """Whether two sequences of one model's cards, by their start, say the same at every time, of whatever version."""
    return _steps(some) == _steps(others)


def _steps(rows: Sequence[PriceRow]) -> list[tuple[int, str, Card | None]]:
    steps: list[tuple[int, str, Card | None]] = []
    for row in rows:
        if not steps or (row.source, row.card) != steps[-1][1:]:
            steps.append((row.effective_ns, row.source, row.card))
    return steps
