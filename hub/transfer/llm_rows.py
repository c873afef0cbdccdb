"""Rows of a logs.db that belong to others, fetched by the page."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from hub.transfer.lines import json_in
from hub.transfer.llm_messages import Row, attachment

_MOST_VALUES = 500


class Related:
    """Looks rows up by a column, in tables that older versions of llm did not have."""

    def __init__(self, database: sqlite3.Connection, tables: Collection[str]) -> None:
        self._database, self._tables = database, frozenset(tables)

    def by(self, column: str, wanted: Iterable[Any], sql: str, *tables: str) -> dict[Any, list[Row]]:
        """The rows of *sql*, a SELECT with {} where *column* is compared, by that column's value; in their order;
        none where one of the *tables* it names is not there."""
        found: dict[Any, list[Row]] = {}
        if not self._tables >= {*tables}:
            return found
        values = list(dict.fromkeys(wanted))
        for start in range(0, len(values), _MOST_VALUES):
            some = values[start : start + _MOST_VALUES]
            for row in self._database.execute(sql.format(f"IN ({','.join('?' * len(some))})"), some):
                found.setdefault(row[column], []).append(dict(row))
        return found

    def schemas(self, page: Iterable[Row]) -> dict[Any, Any]:
        """The JSON schemas that answers were to have, by their id."""
        wanted = (row.get("schema_id") for row in page)
        found = self.by("id", wanted, "SELECT id, content FROM schemas WHERE id {}", "schemas")
        return {key: json_in(rows[0]["content"]) for key, rows in found.items()}

    def attachments(self, wanted: Iterable[Any]) -> dict[Any, dict[str, Any]]:
        """Notes of attachments by their id; their bytes are not read."""
        sql = "SELECT id, type, path, url, length(content) AS bytes FROM attachments WHERE id {}"
        return {key: attachment(rows[0]) for key, rows in self.by("id", wanted, sql, "attachments").items()}
