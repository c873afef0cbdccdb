"""The price cards that costs were computed with. Rows are only ever added: what was known at any time can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

import orjson

from hub.pricing import TOLD, PriceBook, PriceRow
from storage.engine import Connection


def read_prices(connection: Connection, known_ns: int | None = None) -> PriceBook:
    """All cards of a store; with *known_ns* those that were known then."""
    book, known = PriceBook(), "" if known_ns is None else "WHERE coalesce(made_ns, 0) <= ?"
    rows = connection.execute(
        f"SELECT provider, model, effective_ns, source, version, card FROM hub_prices {known} ORDER BY id",
        () if known_ns is None else (known_ns,),
    )
    book.add(
        PriceRow(provider, model, effective_ns, source, version, None if card is None else orjson.loads(card))
        for provider, model, effective_ns, source, version, card in rows
    )
    return book


def price_rows(connection: Connection) -> list[PriceRow]:
    """The cards that hold, of each model by their start."""
    book = read_prices(connection)
    return [row for pair in sorted(book.pairs()) for row in book.cards(*pair)]


def keep(connection: Connection, rows: Iterable[PriceRow], now: int) -> None:
    """Add *rows*. Whoever does moves the store's epoch on, so that all writers read the prices again."""
    connection.executemany(
        "INSERT INTO hub_prices (provider, model, effective_ns, source, version, card, made_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*row[:5], None if row.card is None else orjson.dumps(row.card).decode(), now) for row in rows],
    )


def told_price(connection: Connection, provider: str | None, model: str) -> PriceRow | None:
    """What the provider says that a model costs."""
    return next(_told(connection, "WHERE provider = ? AND model = ?", (provider or "", model)), None)


def told_prices(connection: Connection) -> dict[tuple[str, str], PriceRow]:
    """`told_price` of every model that a provider has listed with a price."""
    return {(row.provider, row.model): row for row in _told(connection, "", ())}


def _told(connection: Connection, where: str, values: tuple[str, ...]) -> Iterator[PriceRow]:
    kinds = ("input", "output", "cache_read", "cache_write")
    found = connection.execute(f"SELECT provider, model, seen_ns, {','.join(kinds)} FROM hub_models {where}", values)
    for provider, model, seen_ns, *nanos in found.fetchall():
        rates = {kind: _exact(rate) for kind, rate in zip(kinds, nanos, strict=True) if _is_rate(rate)}
        if "input" in rates or "output" in rates:
            seen = "" if seen_ns is None else f" {datetime.fromtimestamp(seen_ns // 10**9, UTC):%Y-%m-%d}"
            yield PriceRow(provider, model, 0, TOLD, TOLD + seen, [{"rates": rates}])


def _is_rate(nanos: float | None) -> bool:
    return nanos is not None and math.isfinite(nanos) and nanos >= 0


def _exact(nanos: float) -> str:
    return f"{Decimal(str(nanos)).normalize():f}"
