"""The user's own prices and discounts, as settings spell them.

[prices."provider/model"] or [prices."model"], one table or several with a `from` each; [prices.default] for models that
no list knows. Rates are in US dollars for a million tokens, `request` is dollars for a call. [[discounts]] are percents
off the lists' prices. A date is its day's beginning in UTC.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any, NamedTuple

import orjson

from hub.errors import ConfigError
from hub.pricing import DAY, EXACT, OWN, Card

DEFAULT = "default"
RATES = ("input", "output", "cache_read", "cache_write", "reasoning", "request")
_COUNTED = ("input", "output")
_DEAREST = 10**6
"""Dollars for a million tokens, or for a call: more is a slip of the pen."""
_RATE = "dollars for a million tokens: a number from 0 to a million, or {base = 1.25, tiers = [[200_000, 2.5]]}"
_REQUEST = "dollars for a call: a number from 0 to a million"
_DATE = "a day such as 2026-01-31"


class OwnPrice(NamedTuple):
    """What a model costs from a day on."""

    effective_ns: int
    version: str
    card: Card


class Discount(NamedTuple):
    """Percent off the list price from a day on; of *provider* or *model* None means any."""

    provider: str | None
    model: str | None
    effective_ns: int
    percent: Decimal

    def is_on(self, provider: str | None, model: str) -> bool:
        """Whether it is about the provider's model."""
        return self.provider in (None, provider) and self.model in (None, model)

    def __str__(self) -> str:
        return f"{'/'.join(filter(None, (self.provider, self.model))) or 'all'}: {self.percent:f}%"


def read_prices(value: object, origin: str) -> dict[str, tuple[OwnPrice, ...]]:
    """The setting `prices`, each model's in the order of their start.

    Args:
        value: A table, or JSON text of one.
        origin: Where the setting was found, for errors.
    Raises: ConfigError
    """
    table = _parsed(value)
    if not isinstance(table, dict):
        raise ConfigError(f"prices ({origin})", value, 'it takes a table: [prices."provider/model"]')
    return {name: _prices_of(name, entry, origin) for name, entry in table.items()}


def _prices_of(name: object, entry: object, origin: str) -> tuple[OwnPrice, ...]:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"prices ({origin})", name, "name a model, or provider/model")
    place = f"prices.{quoted(name)}"
    listed = entry if isinstance(entry, list) else [entry]
    found = sorted((_price(place, one, origin) for one in listed), key=lambda one: one.effective_ns)
    if not found or len({one.effective_ns for one in found}) < len(found):
        raise ConfigError(f"{place} ({origin})", entry, "give one table, or several with a `from` of their own each")
    return tuple(found)


def _price(place: str, entry: object, origin: str) -> OwnPrice:
    if not isinstance(entry, dict):
        raise ConfigError(f"{place} ({origin})", entry, "it takes a table such as {input = 0.5, output = 1.5}")
    _check_keys(place, entry, ("from", *RATES), origin)
    if not {"input", "output"} <= entry.keys():
        raise ConfigError(f"{place} ({origin})", entry, "it needs input and output; 0 is for what costs nothing")
    rates = {kind: _rate(f"{place}.{kind}", entry[kind], origin) for kind in RATES if kind in entry}
    # A rate makes a cost unknown where the count is, and a model for embeddings answers no tokens: 0 must not ask.
    card: Card = [{"rates": {kind: rate for kind, rate in rates.items() if rate != "0" or kind not in _COUNTED}}]
    digest = hashlib.sha256(orjson.dumps(card, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    return OwnPrice(_day(place, entry, origin), f"{OWN} {digest}", card)


def _rate(place: str, value: object, origin: str) -> Any:
    """As cards have it."""
    scale = 10**9 if place.endswith(".request") else 10**3
    if isinstance(value, dict) and value.keys() == {"base", "tiers"} and isinstance(value["tiers"], list):
        tiers = [(tier[0], _scaled(tier[1], scale)) for tier in value["tiers"] if _is_tier(tier)]
        base = _scaled(value["base"], scale)
        if base is not None and len(tiers) == len(value["tiers"]) and all(rate is not None for _, rate in tiers):
            return {"base": base, "tiers": [[start, rate] for start, rate in sorted(tiers)]}
    rate = _scaled(value, scale)
    if rate is None:
        raise ConfigError(f"{place} ({origin})", value, f"it takes {_REQUEST if scale == 10**9 else _RATE}")
    return rate


def _is_tier(tier: object) -> bool:
    return isinstance(tier, list) and len(tier) == 2 and type(tier[0]) is int and tier[0] >= 0


def _scaled(value: object, scale: int) -> str | None:
    amount = _number(value)
    if amount is None or not 0 <= amount <= _DEAREST:
        return None
    with localcontext(EXACT):
        exact = (amount * scale).normalize()
    return f"{exact:f}"


def _number(value: object) -> Decimal | None:
    """An exact number: 0.1 is what was written, not the double next to it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        amount = Decimal(str(value))
    except (InvalidOperation, ValueError):  # the latter: an integer too long to be read
        return None
    return amount if amount.is_finite() else None


def read_discounts(value: object, origin: str) -> tuple[Discount, ...]:
    """The setting `discounts`: as `read_prices`, a list of tables."""
    listed = _parsed(value)
    if not isinstance(listed, (list, tuple)):
        raise ConfigError(f"discounts ({origin})", value, "it takes tables: [[discounts]]")
    found = [_discount(f"discounts[{number}]", one, origin) for number, one in enumerate(listed)]
    for number, one in enumerate(found):
        if any(one[:3] == other[:3] for other in found[:number]):
            raise ConfigError(
                f"discounts[{number}] ({origin})", listed[number], "another one is for the same, from then"
            )
    return tuple(found)


def _discount(place: str, entry: object, origin: str) -> Discount:
    if not isinstance(entry, dict):
        raise ConfigError(f"{place} ({origin})", entry, 'it takes a table such as {provider = "openai", percent = 10}')
    _check_keys(place, entry, ("provider", "model", "percent", "from"), origin)
    for key in ("provider", "model"):
        if key in entry and (not isinstance(entry[key], str) or not entry[key]):
            raise ConfigError(f"{place}.{key} ({origin})", entry[key], "it takes a name as llm_calls has it")
    percent = _number(entry.get("percent"))
    if percent is None or not 0 <= percent <= 100:
        raise ConfigError(f"{place}.percent ({origin})", entry.get("percent"), "it takes a number from 0 to 100")
    return Discount(entry.get("provider"), entry.get("model"), _day(place, entry, origin), percent)


def _check_keys(place: str, entry: Mapping[str, Any], allowed: Sequence[str], origin: str) -> None:
    for key in entry:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"
            raise ConfigError(f"{place} ({origin})", key, remedy)


def _day(place: str, entry: Mapping[str, Any], origin: str) -> int:
    """When `from` begins; 0 without one, as for days before 1970."""
    value = entry.get("from")
    if value is None:
        return 0
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime) or not 1 <= day.year <= 2200:
        raise ConfigError(f"{place}.from ({origin})", value, f"it takes {_DATE}")
    return max(0, day.toordinal() - date(1970, 1, 1).toordinal()) * DAY * 10**9


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except ValueError:
        return None


def quoted(name: str) -> str:
    """*name* as a TOML string, on one line."""
    return orjson.dumps(name).decode().replace("\x7f", "\\u007f")
