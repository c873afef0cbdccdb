"""Price cards that come with calls from another store.

Cards are facts: what a call cost follows from those that were used. So an import brings them along. It must not change
what the calls already here cost, now or after a rebuild, so only cards that no call here can have used are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hub.pricing import PriceBook, PriceRow
from storage.engine import Connection
from storage.price_tables import keep


class Adopted(NamedTuple):
    """What became of the cards of one model."""

    added: int
    differing: int
    """Left out, and in their time this store has another card: the calls that come cost something else here."""


def adopt(connection: Connection, book: PriceBook, rows: Sequence[PriceRow], now: int) -> Adopted:
    """Take in *rows*, the cards of one provider's model in the order of their time. Within a transaction; *book* has
    all cards of the store."""
    differing = 0
    new = _unused(connection, book, rows)
    keep(connection, new, now)
    book.add(new)
    for row in rows:
        here = book.at(row.provider, row.model, row.effective_ns)
        differing += here is None or here.card != row.card
    return Adopted(len(new), differing)


def _unused(connection: Connection, book: PriceBook, rows: Sequence[PriceRow]) -> Sequence[PriceRow]:
    """The cards that are newer than all calls and cards of the model here; all of them where it has no card."""
    held = book.cards(rows[0].provider, rows[0].model)
    if not held:
        return rows
    later = [row for row in rows if row.effective_ns > held[-1].effective_ns]
    return [] if later and _used_since(connection, later[0]) else later


def _used_since(connection: Connection, row: PriceRow) -> bool:
    since, provider, model = row.effective_ns, row.provider, row.model
    found = connection.execute(
        "SELECT 1 FROM hub_calls WHERE started_ns >= ? AND coalesce(provider, '') = ?"
        " AND (request_model = ? OR response_model = ?) UNION ALL"
        " SELECT 1 FROM hub_attempts WHERE started_ns >= ? AND coalesce(provider, '') = ? AND model = ? LIMIT 1",
        (since, provider, model, model, since, provider, model),
    )
    return found.fetchone() is not None
