"""Erasing and pruning in a SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.sql_store import SqlStore
from storage.sqlite import SQLiteStore
from tests.contracts.retention import RetentionContract


class TestSQLiteRetention(RetentionContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], SqlStore]:
        return lambda: SQLiteStore(tmp_path / "calls.db")
