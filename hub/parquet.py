"""Rows as a Parquet file. The one place that knows pyarrow, which is an extra."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hub.errors import MissingExtra

if TYPE_CHECKING:
    import pyarrow

Kind = Literal["text", "integer", "real", "boolean", "bytes", "instant"]
"""What a column holds. An instant is given as UTC Unix nanoseconds or as an aware datetime; integers have 64 bits."""


def load_pyarrow() -> Any:
    """pyarrow with its module for Parquet. Raises: MissingExtra"""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Parquet", "parquet") from error
    return pyarrow


def write_parquet(
    path: Path,
    columns: Mapping[str, Kind],
    batches: Iterable[Sequence[Sequence[Any]]],
    *,
    metadata: Callable[[], Mapping[str, str]] | None = None,
) -> int:
    """Write rows to *path*, for its owner alone; it stands there only when it is whole. An existing file is replaced.

    Args:
        batches: Rows in the order of *columns*. Each batch becomes a row group; no more than one is held in memory.
        metadata: Of the file; asked when all batches are written.
    Returns: How many rows that were.
    Raises:
        MissingExtra: pyarrow is not installed.
        ValueError, TypeError: A value is not of its column's kind.
    """
    arrow = load_pyarrow()
    schema = arrow.schema([arrow.field(name, _type(arrow, kind)) for name, kind in columns.items()])
    beside = path.with_name(f"{path.name}.writing")
    beside.unlink(missing_ok=True)  # of somebody who was killed
    count = 0
    try:
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with arrow.parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
            for rows in batches:
                if rows:
                    writer.write_table(_table(arrow, schema, rows), row_group_size=len(rows))
                    count += len(rows)
            if metadata is not None:
                writer.add_key_value_metadata(dict(metadata()))
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _table(arrow: Any, schema: pyarrow.Schema, rows: Sequence[Sequence[Any]]) -> pyarrow.Table:
    arrays = [arrow.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return arrow.Table.from_arrays(arrays, schema=schema)


def _type(arrow: Any, kind: Kind) -> Any:
    return {
        "text": arrow.string,
        "integer": arrow.int64,
        "real": arrow.float64,
        "boolean": arrow.bool_,
        "bytes": arrow.binary,
        "instant": lambda: arrow.timestamp("ns", tz="UTC"),
    }[kind]()
