"""Calls as older versions of llm logged them: a row with prompt and response, and tables around it.

What a conversation had before is not repeated in its later rows: each call's messages are those that it added.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hub.outcomes import RequestFacts, ResponseFacts
from hub.transfer.llm_messages import Row, speaker, tool, tool_call, tool_result
from hub.transfer.llm_rows import Related


class Responses:
    """Reads rows of the table `responses`, those of a page after `load`."""

    def __init__(self, database: sqlite3.Connection, tables: Collection[str]) -> None:
        self._related = Related(database, tables)
        self._begun: set[Any] = set()
        """Conversations that had a response."""

    def load(self, page: Sequence[Row]) -> None:
        """Fetch what other tables say of *page*."""
        self._around = _Around(self._related, [row["id"] for row in page])
        self._schemas = self._related.schemas(page)

    def facts(self, row: Row) -> tuple[RequestFacts, ResponseFacts]:
        """What was asked and answered."""
        around, schema = self._around, self._schemas.get(row.get("schema_id"))
        request: RequestFacts = {
            "messages": list(around.asked(row)),
            "tools": [tool(each) for each in around.tools.get(row["id"], ())] or None,
            "raw": schema and {"schema": schema},
        }
        if (conversation := row.get("conversation_id")) is not None:
            if conversation in self._begun:
                request["more"] = {"unkept": ["earlier messages"]}
            self._begun.add(conversation)
        return request, {"messages": [around.answered(row)]}


class _Around:
    """What other tables say of a page of responses."""

    def __init__(self, related: Related, ids: Sequence[Any]) -> None:
        def of(sql: str, *tables: str) -> dict[Any, list[Row]]:
            return related.by("response_id", ids, sql, *tables)

        fragments = (
            "SELECT response_id, content FROM {table} JOIN fragments ON fragments.id = fragment_id"
            ' WHERE response_id {{}} ORDER BY "order"'
        )
        self.fragments = of(fragments.format(table="prompt_fragments"), "prompt_fragments", "fragments")
        self.system_fragments = of(fragments.format(table="system_fragments"), "system_fragments", "fragments")
        self.tools = of(
            "SELECT response_id, name, description, input_schema FROM tool_responses JOIN tools ON tools.id = tool_id"
            " WHERE response_id {} ORDER BY tools.id",
            *("tool_responses", "tools"),
        )
        self.calls = of("SELECT * FROM tool_calls WHERE response_id {} ORDER BY id", "tool_calls")
        self.results = of("SELECT * FROM tool_results WHERE response_id {} ORDER BY id", "tool_results")
        self.attached = of(
            'SELECT * FROM prompt_attachments WHERE response_id {} ORDER BY "order"', "prompt_attachments"
        )
        results = [row["id"] for rows in self.results.values() for row in rows]
        self.attached_to_results = related.by(
            "tool_result_id",
            results,
            'SELECT * FROM tool_results_attachments WHERE tool_result_id {} ORDER BY "order"',
            "tool_results_attachments",
        )
        attached = (*self.attached.values(), *self.attached_to_results.values())
        self.notes = related.attachments(row["attachment_id"] for rows in attached for row in rows)

    def asked(self, row: Row) -> Iterator[dict[str, Any]]:
        key = row["id"]
        fragments = [str(each["content"]) for each in self.system_fragments.get(key, ())]
        system = [text.strip() for text in (*fragments, str(row.get("system") or "")) if text.strip()]
        if system:
            yield speaker("system", ["\n\n".join(system)])
        for result in self.results.get(key, ()):
            notes = self._notes(self.attached_to_results.get(result["id"], ()))
            yield tool_result(result["name"], result["output"], result["tool_call_id"], notes)
        pieces = [str(each["content"]) for each in self.fragments.get(key, ())]
        if row.get("prompt"):
            pieces.append(str(row["prompt"]))
        notes = self._notes(self.attached.get(key, ()))
        if pieces or notes or key not in self.results:
            yield speaker("user", ["\n".join(pieces)] if pieces else [], notes=notes)

    def answered(self, row: Row) -> dict[str, Any]:
        calls = [
            tool_call(each["name"], each["arguments"], each["tool_call_id"]) for each in self.calls.get(row["id"], ())
        ]
        text = str(row.get("response") or "")
        return speaker("assistant", [text] if text else [], reasoning=str(row.get("reasoning") or ""), calls=calls)

    def _notes(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [self.notes[row["attachment_id"]] for row in rows if row["attachment_id"] in self.notes]
