"""The log of simonw/llm, logs.db: each response or turn is a call.

Its two schemas are read: `responses` and what belongs to them, which older versions wrote, and `turns` over a store of
messages. A database that was upgraded has both, with different calls in each
(https://github.com/simonw/llm, llm/models.py of 0.27, llm/migrations.py and llm/logs.py of 0.36, read 2026-11-27).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from hub.config import Settings
from hub.errors import FileRefused
from hub.extractors.requests import PARAMS, allowed
from hub.outcomes import RequestFacts, ResponseFacts
from hub.retelling import Retelling, Told
from hub.transfer.found import Broken, Found
from hub.transfer.lines import json_in
from hub.transfer.llm_messages import Row, began_ns, counts
from hub.transfer.llm_responses import Responses
from hub.transfer.llm_turns import Turns

_PAGE = 200


class LlmLogs:
    """The calls of a logs.db."""

    form = "llm"

    def __init__(self, path: Path, settings: Settings) -> None:
        """Raises: FileRefused: It is another program's database."""
        self._path, self.done = path, 0
        self._retelling = Retelling(settings, service="llm", producer="import:llm")
        with closing(_connect(path)) as database:
            try:
                tables = _tables(database)
            except sqlite3.Error as error:
                raise FileRefused(str(path), f"it cannot be read ({error})", "check that it is a logs.db") from None
            self.total = sum(_count(database, name) for name in ("responses", "turns") if name in tables)
        if "hub_events" in tables:
            raise FileRefused(
                str(path), "it is a store of the hub", f"run: hub export jsonl - --db {path} | hub import -"
            )
        if not tables & {"responses", "turns"}:
            old = ": llm before 0.5 wrote it" if "log" in tables or "logs" in tables else ""
            raise FileRefused(str(path), f"it has no responses of llm{old}", "llm logs path says where your log is")
        self._tables = tables

    def __iter__(self) -> Iterator[Found | Broken]:
        with closing(_connect(self._path)) as database:
            database.execute("BEGIN")
            if "responses" in self._tables:
                yield from self._calls(database, "responses", Responses(database, self._tables))
            if "turns" in self._tables:
                yield from self._calls(database, "turns", Turns(database, self._tables))
            if "logs" in self._tables and (count := _count(database, "logs")):
                yield Broken("table logs", f"{count} responses from llm before 0.5 are not read")

    def _calls(self, database: sqlite3.Connection, table: str, schema: Responses | Turns) -> Iterator[Found | Broken]:
        try:
            rows = database.execute(f"SELECT * FROM {table} ORDER BY id")
            while page := [dict(row) for row in islice(rows, _PAGE)]:
                schema.load(page)
                for row in page:
                    self.done += 1
                    yield from self._call(row, schema)
        except sqlite3.Error as error:
            yield Broken(f"table {table}", f"what follows cannot be read ({error})")

    def _call(self, row: Row, schema: Responses | Turns) -> Iterator[Found | Broken]:
        key = str(row.get("id"))
        place = f"response {key}"
        try:
            events = self._retelling.events(_told(row, key, *schema.facts(row)))
        except sqlite3.Error:
            raise
        except Exception as error:  # whoever made this row
            yield Broken(place, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
            return
        for record in events:
            yield Found(place, record, len(orjson.dumps(record)))


def _told(row: Row, key: str, request: RequestFacts, response: ResponseFacts) -> Told:
    """The call of *row*, with what both schemas say of it in the same way."""
    options, details, payload = (json_in(row.get(name)) for name in ("options_json", "token_details", "response_json"))
    options = options if isinstance(options, dict) else {}
    others = {name: value for name, value in options.items() if name not in PARAMS}
    asked = {"options": others, "prompt_json": json_in(row.get("prompt_json")), **(request.get("raw") or {})}
    request = {
        **request,
        "more": _unkept(request, [*others, *(request.get("raw") or {})]),
        "source": "import",
        "operation": "chat",
        "model": _text(row.get("model")),
        "params": allowed(options),
        "raw": {name: value for name, value in asked.items() if value} or None,
    }
    response = {
        **response,
        "model": _text(row.get("resolved_model")),
        "usage": counts(row, details),
        "raw": None if payload is None else {"response_json": payload},
    }
    if isinstance(payload, dict):
        response["response_id"] = _text(payload.get("id"))
        if (reason := _text(payload.get("finish_reason"))) is not None:
            response["finish_reasons"] = [reason]
    duration = row.get("duration_ms")
    session = row.get("conversation_id") or row.get("thread_id")
    return Told(
        key=f"simonw/llm {key}",
        began_ns=began_ns(row.get("datetime_utc"), key),
        duration_ms=float(duration) if type(duration) is int and 0 <= duration < 2**40 else None,
        session_id=None if session is None else str(session),
        request=request,
        response=response,
    )


def _unkept(request: RequestFacts, names: list[str]) -> Mapping[str, Any] | None:
    """What was given and is not among the facts of a request, for whoever wants to send it again."""
    already = (request.get("more") or {}).get("unkept") or ()
    return {"unkept": sorted({*already, *names})} if already or names else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _connect(path: Path) -> sqlite3.Connection:
    """For reading, whoever made the database."""
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
    database.row_factory = sqlite3.Row
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for pragma in ("query_only = 1", "trusted_schema = 0", "mmap_size = 0"):
        database.execute(f"PRAGMA {pragma}")
    return database


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _count(database: sqlite3.Connection, table: str) -> int:
    """0 where it cannot be counted."""
    try:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.Error:
        return 0
