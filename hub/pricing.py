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
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

Usage = Mapping[str, int | None]
Rate = Decimal | tuple[Decimal, tuple[tuple[int, Decimal], ...]]

_LARGEST = 10**15
"""A million dollars for a call is a mistake, and the sum of thousands of mistakes still has to fit 64 bits."""
_DAY = 86_400
_ZERO, _NANO = Decimal(0), Decimal("1e-9")
_EXACT = Context(
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


class PriceRow(NamedTuple):
    """A card as the store keeps it. `card` None: the model was looked up and has no known price."""

    provider: str
    model: str
    effective_ns: int
    source: str
    version: str
    card: list[dict[str, Any]] | None


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
        second = at_ns // 10**9 % _DAY
        return start <= second < end if start <= end else second >= start or second < end


def reported(usd: object) -> int | None:
    """Nano-dollars of a decimal string of dollars, rounded half-even; None when it is none, or beyond a million."""
    if not isinstance(usd, str | int) or isinstance(usd, bool):
        return None
    most = _LARGEST // 10**9
    with localcontext(_EXACT):
        try:
            amount = Decimal(usd)
        except InvalidOperation:
            return None
        if not amount.is_finite() or not -most <= amount <= most:
            return None
        return int(amount.quantize(_NANO).scaleb(9))


def cost_of(usage: Usage, offers: Sequence[_Offer], at_ns: int) -> int | None:
    """Nano-dollars for *usage* (inclusive counts) at *at_ns*, rounded half-even once; None when a count it needs is
    unknown, or the sum is beyond a million dollars."""
    offer = next((one for one in reversed(offers) if one.applies(at_ns)), offers[0] if offers else None)
    if offer is None:
        return None
    rates, given, answered = offer.rates, usage.get("input_tokens"), usage.get("output_tokens")
    if (given is None and "input" in rates) or (answered is None and "output" in rates):
        return None
    size = given or 0
    with localcontext(_EXACT):
        total = _side(rates, "input", size, size, usage, ("cache_read", "cache_write"))
        total += _side(rates, "output", answered or 0, size, usage, ("reasoning",))
        if "request" in rates:
            total += _at(rates["request"], size)
        nanos = int(total.to_integral_value())
    return nanos if nanos <= _LARGEST else None


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


class PriceBook:
    """The cards of one store, ready to compute with. Computing uses nothing else, so that a rebuild gives the same."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[tuple[PriceRow, list[_Offer]]]] = {}
        self.models: set[str] = set()
        """The models that there are cards for, of whichever provider."""

    def add(self, rows: Iterable[PriceRow]) -> None:
        """Take *rows* in. Adding one again is harmless."""
        for row in rows:
            self.models.add(row.model)
            known = self._rows.setdefault((row.provider, row.model), [])
            if all(row.effective_ns != other.effective_ns for other, _ in known):
                known.append((row, [_parse(offer) for offer in row.card or ()]))
                known.sort(key=lambda entry: entry[0].effective_ns)

    def newest(self, provider: str | None, model: str) -> PriceRow | None:
        """The card for calls that begin from now on."""
        rows = self._rows.get((provider or "", model))
        return rows[-1][0] if rows else None

    def at(self, provider: str | None, model: str, at_ns: int) -> PriceRow | None:
        """The card for calls that began at *at_ns*."""
        found = self._at(provider, model, at_ns)
        return found and found[0]

    def cost(self, provider: str | None, model: str, usage: Usage, at_ns: int) -> Cost | None:
        """What a call that began at *at_ns* cost; None when that is unknown."""
        found = self._at(provider, model, at_ns)
        if found is None:
            return None
        row, offers = found
        nanos = cost_of(usage, offers, at_ns)
        return None if nanos is None else Cost(nanos, row.source, row.version)

    def _at(self, provider: str | None, model: str, at_ns: int) -> tuple[PriceRow, list[_Offer]] | None:
        rows = self._rows.get((provider or "", model))
        if not rows:
            return None
        return next((entry for entry in reversed(rows) if entry[0].effective_ns <= at_ns), rows[0])


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


class PriceList:
    """The cards of genai-prices. Loading them takes a quarter of a second and 7 MB."""

    source = "genai-prices"

    @cached_property
    def version(self) -> str:
        """Does not load the list."""
        return f"{self.source} {version('genai-prices')}"

    def load(self) -> None:
        """Load the list now, so that looking up does not have to."""
        import genai_prices.data_snapshot

        genai_prices.data_snapshot.get_snapshot()

    def card(self, provider: str | None, model: str) -> list[dict[str, Any]] | None:
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


def _card(model: ModelInfo) -> list[dict[str, Any]] | None:
    from genai_prices.types import ConditionalPrice

    listed = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    with localcontext(_EXACT):
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
        offer["from"] = (day.toordinal() - 719_163) * _DAY * 10**9
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
    return int(seconds) % _DAY
