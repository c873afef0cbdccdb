"""Events as rows of a Parquet file: the envelope typed, data and content as JSON text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from hub.errors import FileRefused
from hub.parquet import Kind, load_pyarrow, write_parquet
from hub.transfer.found import END, HEADER, PRICES, Broken, Found
from hub.transfer.lines import JsonLines, found_in

COLUMNS: Mapping[str, Kind] = {
    "id": "text",
    "type": "text",
    "schema_version": "integer",
    "stream_id": "text",
    "version": "integer",
    "call_id": "text",
    "occurred_at": "instant",
    "level": "text",
    "project": "text",
    "environment": "text",
    "service": "text",
    "session_id": "text",
    "user_id": "text",
    "tags": "text",
    "trace_id": "text",
    "span_id": "text",
    "parent_span_id": "text",
    "trace_flags": "integer",
    "tracestate": "text",
    "parent_is_remote": "boolean",
    "causation_id": "text",
    "producer": "text",
    "producer_seq": "integer",
    "data": "text",
    "content": "text",
}
"""Of an export, in the order of `EventRecord`."""

_JSON = ("tags", "data", "content")
_NEEDED = ("id", "type", "stream_id", "version", "occurred_at", "project", "data")
_GROUP_ROWS, _GROUP_BYTES = 10_000, 32 << 20
_LARGEST_GROUP = 1 << 30
_BATCH = 256
_ENVELOPE_SIZE = 500


def write_table(lines: Path, path: Path) -> None:
    """Make of *lines*, a whole export of our own as JSON lines, the Parquet file *path*. Raises: MissingExtra"""
    told: dict[str, Any] = {PRICES: []}

    def records() -> Iterator[tuple[Sequence[Any], int]]:
        with lines.open("rb") as file:
            for found in JsonLines(file, 0, longest=1 << 40):
                if isinstance(found, Broken):
                    raise AssertionError(f"an export of our own is damaged at {found.place}: {found.reason}")
                if HEADER in found.value or END in found.value:
                    told.update(found.value)
                elif PRICES in found.value:
                    told[PRICES].append(found.value[PRICES])
                else:
                    yield [_cell(name, found.value[name]) for name in COLUMNS], found.size

    write_parquet(
        path, COLUMNS, _groups(records()), metadata=lambda: {key: orjson.dumps(told[key]).decode() for key in told}
    )


def _groups(records: Iterator[tuple[Sequence[Any], int]]) -> Iterator[Sequence[Sequence[Any]]]:
    group: list[Sequence[Any]] = []
    weight = 0
    for row, size in records:
        if group and (len(group) == _GROUP_ROWS or weight + size > _GROUP_BYTES):
            yield group
            group, weight = [], 0
        group.append(row)
        weight += size
    yield group


def _cell(name: str, value: Any) -> Any:
    return orjson.dumps(value).decode() if name in _JSON and value is not None else value


class EventTable:
    """The records of a Parquet file, which need not be well-meant."""

    form = "parquet"

    def __init__(self, path: Path) -> None:
        """Raises:
        MissingExtra: pyarrow is not installed.
        FileRefused: It is no Parquet, or has something else in it.
        """
        self._arrow = load_pyarrow()
        self._path, self.done = path, 0
        try:
            schema = self._arrow.parquet.read_schema(path)
            texts = [field.name for field in schema if self._arrow.types.is_string(field.type)]
            # As dictionaries: a text that a few bytes of the file repeat a million times takes no more memory than one.
            self._file = self._arrow.parquet.ParquetFile(path, read_dictionary=texts)
        except (self._arrow.ArrowException, OSError) as error:
            raise FileRefused(
                str(path), f"it is no Parquet file that can be read ({error})", "export it again"
            ) from None
        names = schema.names
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            raise FileRefused(
                str(path),
                f"its rows are no events of the hub: no column {', '.join(missing)}",
                "see hub export parquet",
            )
        self._names = [name for name in COLUMNS if name in names]
        self.total = self._file.metadata.num_rows

    def __iter__(self) -> Iterator[Found | Broken]:
        yield from self._told(HEADER, PRICES)
        groups = self._file.metadata
        for number in range(groups.num_row_groups):
            group, first = groups.row_group(number), self.done
            if group.total_byte_size > _LARGEST_GROUP:
                yield Broken(f"rows from {first + 1}", f"a row group of more than {_LARGEST_GROUP >> 30} GiB")
            else:
                yield from self._rows(number)
            self.done = first + group.num_rows
        yield from self._told(END)

    def _told(self, *keys: str) -> Iterator[Found | Broken]:
        """What the file says besides its rows."""
        metadata = self._file.metadata.metadata or {}
        for key in keys:
            if (text := metadata.get(key.encode())) is None:
                continue
            found = found_in(text, "the file's metadata")
            if isinstance(found, Broken) or key != PRICES:
                yield found if isinstance(found, Broken) else Found(found.place, {key: found.value}, 0)
            else:
                for cards in found.value if isinstance(found.value, list) else [found.value]:
                    yield Found(found.place, {key: cards}, 0)

    def _rows(self, number: int) -> Iterator[Found | Broken]:
        try:
            for batch in self._file.iter_batches(_BATCH, row_groups=[number], columns=self._names):
                names = batch.schema.names
                for cells in zip(*map(self._cells, batch.columns), strict=True):
                    self.done += 1
                    yield _record(dict(zip(names, cells, strict=True)), f"row {self.done}")
        except (self._arrow.ArrowException, OSError) as error:
            yield Broken(f"row {self.done + 1}", f"what follows in its row group cannot be read ({error})")

    def _cells(self, column: Any) -> list[Any]:
        """The values of a column; those that occur again are one object."""
        types = self._arrow.types
        if types.is_timestamp(column.type):  # Python's have no nanoseconds
            return list(
                column.cast(self._arrow.timestamp("ns", tz=column.type.tz)).cast(self._arrow.int64()).to_pylist()
            )
        if not types.is_dictionary(column.type):
            return [_value(cell) for cell in column]
        known: dict[int | None, Any] = {None: None}
        found = []
        for index in column.indices.to_pylist():
            if index not in known:
                known[index] = _value(column.dictionary[index])
            found.append(known[index])
        return found


class _Unreadable(NamedTuple):
    why: str


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except ValueError as error:  # text that is no UTF-8
        return _Unreadable(str(error))


def _record(cells: dict[str, Any], place: str) -> Found | Broken:
    size = _ENVELOPE_SIZE
    for name, value in cells.items():
        if isinstance(value, _Unreadable):
            return Broken(place, f"{name} cannot be read ({value.why})")
        if name in _JSON and isinstance(value, str):
            found = found_in(value, place)
            if isinstance(found, Broken):
                return Broken(place, f"{name}: {found.reason}")
            cells[name] = found.value
            size += found.size
    return Found(place, cells, size)
