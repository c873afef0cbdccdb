"""Which events an export takes: all, or those of the calls that a condition names, each call whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hub.events import EventRecord
from hub.reader import Reader
from storage.projections import instant
from storage.query import Limits

_PAGE = 20_000
_PATIENT = Limits(seconds=3_600.0, rows=_PAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Calls by their start, project and a condition over llm_calls, with all their events.

    What belongs to no call goes by its own time and project. Where a condition is given it is left out, but for what
    describes contributed events.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    """Exclusive. UTC Unix ns, both."""
    project: str | None = None
    where: str | None = None

    @property
    def is_everything(self) -> bool:
        return not any(value is not None for value in asdict(self).values())

    def as_data(self) -> Mapping[str, Any]:
        """What was asked for, without what was not."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def call_ids(self, reader: Reader) -> Iterator[list[str]]:
        """The calls that are meant, as they stand now, page by page.

        Raises: QueryRefused: `where` is no condition over the columns of llm_calls.
        """
        terms, values = self._condition()
        last = ""
        while True:
            sql = f"SELECT call_id FROM llm_calls WHERE call_id > ? {terms} ORDER BY call_id LIMIT {_PAGE}"
            found = [str(row[0]) for row in reader.sql(sql, (last, *values), limits=_PATIENT).rows]
            if found:
                yield found
            if len(found) < _PAGE:
                return
            last = found[-1]

    def _condition(self) -> tuple[str, list[object]]:
        terms: list[str] = []
        values: list[object] = []
        for comparison, ns in (("started_at >= ?", self.since_ns), ("started_at < ?", self.until_ns)):
            if ns is not None:
                terms.append(f"AND {comparison}")
                values.append(instant(ns))
        if self.project is not None:
            terms.append("AND project = ?")
            values.append(self.project)
        if self.where is not None:
            terms.append(f"AND (\n{self.where}\n)")
        return " ".join(terms), values

    def takes(self, record: EventRecord) -> bool:
        """Of an event that is about no call."""
        if self.project is not None and record["project"] != self.project:
            return False
        if record["type"] == "hub:schema":
            return True
        at = record["occurred_at"]
        return (
            self.where is None
            and (self.since_ns is None or at >= self.since_ns)
            and (self.until_ns is None or at < self.until_ns)
        )
