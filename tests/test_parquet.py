"""Rows as Parquet: types, row groups, and a file that is whole or not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub.errors import MissingExtra
from hub.parquet import Kind, write_parquet

COLUMNS: dict[str, Kind] = {
    "name": "text",
    "count": "integer",
    "share": "real",
    "is_ok": "boolean",
    "raw": "bytes",
    "at": "instant",
}
ROW = ("ä\0", 2**63 - 1, 0.1, True, b"\xff", 1_790_000_000_123_456_789)


def test_each_kind_has_its_type_and_nothing_is_rounded(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert write_parquet(path, COLUMNS, [[ROW, (None,) * 6]]) == 2
    found = pq.read_table(path)
    assert [str(kind) for kind in found.schema.types] == [
        "string",
        "int64",
        "double",
        "bool",
        "binary",
        "timestamp[ns, tz=UTC]",
    ]
    whole = found.set_column(5, "at", found["at"].cast(pa.int64()))
    assert [tuple(row.values()) for row in whole.to_pylist()] == [ROW, (None,) * 6]


def test_each_batch_is_a_row_group_and_an_empty_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    left = [[("a",)], [], [("b",), ("c",)]]
    batches = iter(lambda: left.pop(0) if left else None, None)
    assert write_parquet(path, {"x": "text"}, batches, metadata=lambda: {"left": str(len(left))}) == 3
    found = pq.ParquetFile(path)
    assert [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)] == [1, 2]
    assert found.metadata.metadata[b"left"] == b"0", "it is asked when all batches are written"


def test_no_rows_make_a_file_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert write_parquet(path, COLUMNS, []) == 0
    assert pq.read_table(path).column_names == list(COLUMNS)


def test_what_fails_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, {"x": "integer"}, [[(1,)]])

    def batches() -> Iterator[Sequence[Sequence[Any]]]:
        yield [(2,)]
        yield [("no number",)]

    with pytest.raises(ValueError, match="no number"):
        write_parquet(path, {"x": "integer"}, batches())
    assert pq.read_table(path).to_pylist() == [{"x": 1}]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]


def test_without_its_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'llm-hub\[parquet\]'"):
        write_parquet(tmp_path / "rows.parquet", {"x": "text"}, [])
    assert list(tmp_path.iterdir()) == []
