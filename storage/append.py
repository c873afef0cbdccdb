"""A batch of events written in one transaction, with everything that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from hub.errors import SchemaMismatch
from hub.events import EventRecord
from hub.polite import Rest, no_rest
from hub.price_list import Prices, outranks
from hub.pricing import PriceBook, holding_from, same_prices
from storage import event_views, price_tables
from storage.batch import EVENT_COLUMNS, Batch, event_row
from storage.bodies import Piece, Shape, make_ready, manifest
from storage.engine import Connection, Insert, Lookup, RangeLookup
from storage.event_views import SCHEMA_EVENT, announce
from storage.migrate import REVISION, VERSION_TABLE
from storage.own_events import expired_told
from storage.price_tables import read_prices, told_price
from storage.projections import CALL_TYPES, instant
from storage.projector import Entry, Projector, ResultKey, insert_parts
from storage.sequences import MANY, cut, keep, packed
from storage.tombstones import Tombstones, stripped, without_content

LIVE = "calls"
"""The checkpoint of the projections that append itself keeps."""

_REMEMBERED_CONTENTS = 8_192

_CLOCKS_DIFFER_NS = 86_400 * 10**9
_SCHEMA = "schema"
_READ_COUNTERS = (
    f"SELECT name, value FROM hub_counters UNION ALL SELECT '{_SCHEMA}', CAST(version_num AS BIGINT)"
    f" FROM {VERSION_TABLE}"
)
_INSERT_EVENTS = Insert("hub_events", EVENT_COLUMNS)
_INSERT_CONTENTS = Insert("hub_contents", ("id", "project", "hash", "body", "packed", "bytes"))
_FIND_CONTENTS = Lookup("SELECT hash, id FROM hub_contents WHERE hash {}")
_FIND_EVENTS = RangeLookup(
    "WITH wanted(stream, low, high) AS ({})"
    " SELECT stream_id, version, event_id"
    " FROM wanted CROSS JOIN hub_events WHERE stream_id = stream AND version BETWEEN low AND high",
    ("text", "integer", "integer"),
)


class Memory:
    """What one writer remembers of its store, so as not to ask again. Dropped when the store's epoch moves on."""

    def __init__(self) -> None:
        self.epoch = -1
        self.keys: dict[str, bytes] = {}
        self.contents: dict[bytes, tuple[int, Shape]] = {}
        self.sequences: dict[bytes, int] = {}
        self.first_results: dict[ResultKey, str] = {}
        self.book = PriceBook()
        self.checked_prices: set[tuple[str | None, str]] = set()
        self.settled_prices: set[tuple[str | None, str]] = set()
        """Their cards came with the calls, see `storage.adopting`: no price list has a say."""
        self.tombstones = Tombstones((), self.keys)

    def refresh(self, connection: Connection, epoch: int) -> None:
        """Begin anew if somebody changed what is remembered here. Within a transaction."""
        if epoch == self.epoch:
            return
        self.contents.clear()
        self.sequences.clear()
        self.first_results.clear()
        self.keys.update(connection.execute("SELECT project, key FROM hub_keys"))
        self.book = read_prices(connection)
        self.tombstones = Tombstones(read_tombstones(connection), self.keys)
        self.epoch = epoch

    def forget(self) -> None:
        """Nothing that is remembered is certain any more: a transaction failed, or the file is another one."""
        self.epoch = -1
        self.keys.clear()
        self.checked_prices.clear()

    def remember(self, contents: Mapping[bytes, tuple[int, Shape]], sequences: Mapping[bytes, int]) -> None:
        """What is in the store for certain: its transaction stands."""
        if len(self.contents) + len(contents) > _REMEMBERED_CONTENTS:
            self.contents.clear()
        if len(self.sequences) + len(sequences) > _REMEMBERED_CONTENTS:
            self.sequences.clear()
        self.contents.update(contents)
        self.sequences.update(sequences)


def read_tombstones(connection: Connection) -> Iterable[tuple[str, str, bytes, int]]:
    """What `Tombstones` are made of."""
    return connection.execute("SELECT project, kind, hash, before_ns FROM hub_tombstones")


def read_counters(connection: Connection) -> dict[str, int]:
    """position, content, sequence and epoch; 0 where nothing happened yet.

    Raises: SchemaMismatch: The store was upgraded by newer code since it was opened.
    """
    found = dict(connection.execute(_READ_COUNTERS))
    schema = found.pop(_SCHEMA, 0)
    if schema > int(REVISION):
        raise SchemaMismatch(connection.url, found=f"{schema:04d}", expected=REVISION, remedy="upgrade llm-hub")
    return {"position": 0, "content": 0, "sequence": 0, "epoch": 0} | found


def write_counters(connection: Connection, counters: Mapping[str, int]) -> None:
    connection.executemany(
        "INSERT INTO hub_counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        counters.items(),
    )


def set_checkpoint(connection: Connection, name: str, reached: str) -> None:
    """How far a projection has come; that of append itself is `LIVE`."""
    connection.execute(
        "INSERT INTO hub_checkpoints (name, reached) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET reached = excluded.reached",
        (name, reached),
    )


def append_own(connection: Connection, record: EventRecord) -> int:
    """Write an event of the store's own, which no projection looks at. Within a transaction. Returns: Its position."""
    position = read_counters(connection)["position"] + 1
    connection.insert(_INSERT_EVENTS, event_row(record, position, record["occurred_at"], None), no_rest)
    write_counters(connection, {"position": position})
    set_checkpoint(connection, LIVE, str(position))
    return position


class Append:
    """One batch on its way into the log. `run` within a transaction; `committed` once it stands."""

    def __init__(
        self,
        connection: Connection,
        batch: Batch,
        memory: Memory,
        prices: Prices,
        now: int,
        rest: Rest,
        make_room: Callable[[Sequence[EventRecord]], None],
    ) -> None:
        self._connection, self._batch, self._memory = connection, batch, memory
        self._prices, self._now, self._rest, self._make_room = prices, now, rest, make_room
        self.expired = 0
        """Events that were refused."""
        self._contents: dict[bytes, tuple[int, Shape]] = {}
        self._sequences: dict[bytes, int] = {}

    def run(self) -> int:
        """Write what the log does not hold yet. Returns: How many events that was."""
        batch = self._batch
        self._counters = read_counters(self._connection)
        self._memory.refresh(self._connection, self._counters["epoch"])
        batch.settle(self._connection.lookup_ranges(_FIND_EVENTS, batch.ranges(), self._rest))
        refused = self._obey_tombstones()
        new = len(batch.records)
        batch.records += refused
        if not batch.records:
            return 0
        self._make_room(batch.records)
        self._write_contents()
        self._project()
        write_counters(self._connection, self._counters)
        set_checkpoint(self._connection, LIVE, str(self._counters["position"]))
        return new

    @property
    def position(self) -> int:
        """Of the newest event in the log. After `run`."""
        return self._counters["position"]

    def committed(self) -> None:
        """The transaction stands: remember what it wrote."""
        self._memory.remember(self._contents, self._sequences)
        self._memory.epoch = self._counters["epoch"]
        if self._batch.records:
            self._projector.committed()

    def _obey_tombstones(self) -> list[EventRecord]:
        """Returns: What tells of the events that are refused, if it was not told before."""
        batch, tombstones = self._batch, self._memory.tombstones
        if tombstones.is_empty:
            return []
        expired = batch.leave_out(tombstones.expired)
        self.expired = len(expired)
        for index, record in enumerate(batch.records):
            if tombstones.cover(record):
                batch.records[index] = stripped(record)
                batch.forget_content(record)
            elif tombstones.bodiless(record):
                batch.records[index] = without_content(record)
                batch.forget_content(record)
        seqs: dict[tuple[str, str], list[int]] = {}
        for record in expired:
            seqs.setdefault((record["project"], record["producer"]), []).append(record["producer_seq"])
        told = [expired_told(project, producer, found, self._now) for (project, producer), found in seqs.items()]
        places = [(record["stream_id"], 1, 1) for record in told]
        known = {stream for stream, *_ in self._connection.lookup_ranges(_FIND_EVENTS, places, self._rest)}
        return [record for record in told if record["stream_id"] not in known]

    def _write_contents(self) -> None:
        known, found = self._memory.contents, self._contents
        unseen: dict[bytes, Piece] = {}
        for piece in self._batch.wanted_pieces():
            if piece.hash in known:
                found[piece.hash] = known[piece.hash]
            else:
                unseen[piece.hash] = piece
        make_ready(unseen.values(), self._rest)
        for digest, content_id in self._connection.lookup(_FIND_CONTENTS, unseen, self._rest):
            found[digest] = (content_id, unseen.pop(digest).shape)
        self._insert_contents(unseen.values())

    def _insert_contents(self, new: Iterable[Piece]) -> None:
        values: list[Any] = []
        parts = []
        content_id = self._counters["content"]
        for piece in new:
            content_id += 1
            body = piece.raw.decode() if piece.packed is None else None
            values += (content_id, piece.project, piece.hash, body, piece.packed, len(piece.raw))
            parts.append((content_id, piece.parts or ()))
            self._contents[piece.hash] = (content_id, piece.shape)
        self._counters["content"] = content_id
        self._connection.insert(_INSERT_CONTENTS, values, self._rest)
        insert_parts(self._connection, parts, self._rest)

    def _project(self) -> None:
        memory, batch = self._memory, self._batch
        projector = self._projector = Projector(
            self._connection, memory.book, self._rest, first_results=memory.first_results
        )
        projector.load(
            record["call_id"] for record in batch.records if record["call_id"] and record["type"] in CALL_TYPES
        )
        ids = {digest: content_id for digest, (content_id, _) in self._contents.items()}
        manifests: list[dict[str, Any] | None] = []
        for position, record in enumerate(batch.records, self._counters["position"] + 1):
            outline = batch.outline_of(record)
            messages = outline.get("messages") if outline else None
            shapes = [self._contents[digest] for digest in messages] if isinstance(messages, list) else []
            firsts = projector.fold(Entry(position, record, shapes))
            manifests.append(None if outline is None else manifest(outline, ids, firsts))
            self._rest()
        self._cut_long_lists(manifests)
        self._insert_events(manifests)
        self._price(projector)
        projector.write()
        for record in batch.records:
            if record["type"] == SCHEMA_EVENT:
                changed = announce(self._connection, record)
                if changed is not None and self._connection.engine == "sqlite":
                    event_views.make(self._connection, changed)  # on PostgreSQL it takes hub migrate's rights

    def _cut_long_lists(self, manifests: Iterable[dict[str, Any] | None]) -> None:
        """Put stretches of messages that are stored once in the place of the messages."""
        long = [one for one in manifests if one and type(one.get("messages")) is list and len(one["messages"]) >= MANY]
        parted = [cut(one["messages"]) for one in long]
        wanted = [sequence for found, _ in parted for sequence in found]
        self._sequences, self._counters["sequence"] = keep(
            self._connection, wanted, self._memory.sequences, self._counters["sequence"], self._rest
        )
        for one, (found, tail) in zip(long, parted, strict=True):
            if found:
                one["messages"] = packed(found, self._sequences, tail)

    def _insert_events(self, manifests: Iterable[dict[str, Any] | None]) -> None:
        values: list[Any] = []
        position = self._counters["position"]
        for record, kept in zip(self._batch.records, manifests, strict=True):
            position += 1
            values += event_row(record, position, self._now, None if kept is None else orjson.dumps(kept).decode())
            self._rest()
        self._counters["position"] = position
        self._connection.insert(_INSERT_EVENTS, values, self._rest)

    def _price(self, projector: Projector) -> None:
        """Keep the cards that are needed for the first time, or that have changed since: for the calls from now on."""
        for provider, model in projector.priced_models() - self._memory.checked_prices - self._memory.settled_prices:
            self._check_price(provider, model)
            self._memory.checked_prices.add((provider, model))

    def _check_price(self, provider: str | None, model: str) -> None:
        memory, prices = self._memory, self._prices
        held, told = memory.book.cards(provider, model), told_price(self._connection, provider, model)
        if held and not prices.may_replace(held, told):
            return
        start = self._after_all_priced() if held else 0
        holding, wanted = holding_from(held, start), holding_from(prices.cards(provider, model, told), start)
        if held and (same_prices(holding, wanted) or outranks(holding, wanted)):
            return  # the latter: by a program whose settings say nothing of it
        price_tables.keep(self._connection, wanted, self._now)
        memory.book.add(wanted)
        self._counters["epoch"] += 1

    def _after_all_priced(self) -> int:
        """The earliest start of a new card that leaves every cost as it is, but for those of calls that a clock which
        is far ahead dates in the future: no price would change until then. Within `_price`, no call of the batch is
        written yet."""
        row = self._connection.execute(
            "SELECT started_ns FROM hub_calls WHERE started_at <= ? ORDER BY started_at DESC LIMIT 1",
            (instant(self._now + _CLOCKS_DIFFER_NS),),
        ).fetchone()
        return 0 if row is None else int(row[0]) + 1
