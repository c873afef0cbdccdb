"""Calls as newer versions of llm log them: a turn between two messages of a tree in which each stands once."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from hub.outcomes import RequestFacts, ResponseFacts
from hub.transfer.lines import json_in
from hub.transfer.llm_messages import Row, speaker, tool, tool_call, tool_result
from hub.transfer.llm_rows import Related

_LONGEST_CHAIN = 10_000
_REMEMBERED = 5_000

Messages = list[dict[str, Any]]


class Turns:
    """Reads rows of the table `turns`, those of a page after `load`."""

    def __init__(self, database: sqlite3.Connection, tables: Collection[str]) -> None:
        self._database = database
        self._related = Related(database, tables)
        self._parents: dict[str, str | None] = {}
        self._messages: dict[str, Messages] = {}

    def load(self, page: Sequence[Row]) -> None:
        """Fetch what other tables say of *page*, but for the messages."""
        self._schemas = self._related.schemas(page)
        self._tools = self._related.by(
            "turn_id",
            (row["id"] for row in page),
            "SELECT turn_id, name, description, input_schema FROM turn_tools JOIN tools ON tools.id = tool_id"
            " WHERE turn_id {} ORDER BY tools.id",
            *("turn_tools", "tools"),
        )

    def facts(self, row: Row) -> tuple[RequestFacts, ResponseFacts]:
        """What was asked and answered. Raises: ValueError: The messages do not hang together."""
        sent, got = self._between(row["parent_message_hash"], row["tip_message_hash"])
        schema = self._schemas.get(row.get("schema_id"))
        request: RequestFacts = {
            "messages": sent,
            "tools": [tool(each) for each in self._tools.get(row["id"], ())] or None,
            "raw": schema and {"schema": schema},
        }
        return request, {"messages": got}

    def _between(self, parent: str | None, tip: str | None) -> tuple[Messages, Messages]:
        """The messages up to *parent*, and those from there to *tip*."""
        sent = self._chain(parent)
        whole = self._chain(tip)
        if whole[: len(sent)] != sent:
            raise ValueError("its answer does not follow its request in the tree of messages")
        self._read([key for key in whole if key not in self._messages])
        return (
            [message for key in sent for message in self._messages[key]],
            [message for key in whole[len(sent) :] for message in self._messages[key]],
        )

    def _chain(self, tip: str | None) -> list[str]:
        chain: list[str] = []
        while tip is not None:
            if len(chain) > _LONGEST_CHAIN:
                raise ValueError(f"its messages are a circle, or more than {_LONGEST_CHAIN:,}")
            if tip not in self._parents:
                row = self._database.execute("SELECT parent_hash FROM messages WHERE hash = ?", (tip,)).fetchone()
                if row is None:
                    raise ValueError(f"its message {tip} is not there")
                self._parents[tip] = row[0]
            chain.append(tip)
            tip = self._parents[tip]
        return chain[::-1]

    def _read(self, keys: Sequence[str]) -> None:
        if len(self._messages) > _REMEMBERED:
            wanted = set(keys)
            self._messages = {key: value for key, value in self._messages.items() if key in wanted}
        roles = self._related.by("hash", keys, "SELECT hash, role FROM messages WHERE hash {}", "messages")
        parts = self._related.by(
            "message_hash", keys, "SELECT * FROM parts WHERE message_hash {} ORDER BY message_hash, position", "parts"
        )
        read = {key: [_part(row) for row in parts.get(key, ())] for key in keys}
        loaded = _Loaded(self._related, [part for some in read.values() for part in some])
        for key in keys:
            self._messages[key] = loaded.messages(str(roles[key][0]["role"]), read[key])


def _part(row: Row) -> dict[str, Any]:
    """A part as llm has it in memory, but for its references."""
    payload = json_in(row["payload"])
    part = dict(payload) if isinstance(payload, dict) else {}
    part["type"] = row["type"]
    if row["text"] is not None:
        part["text"] = row["text"]
    return part


class _Loaded:
    """What the parts of some messages refer to."""

    def __init__(self, related: Related, parts: Sequence[Mapping[str, Any]]) -> None:
        fragments = [piece.get("fragment") for part in parts for piece in _dicts(part.get("text_ref"))]
        rows = related.by("id", fragments, "SELECT id, content FROM fragments WHERE id {}", "fragments")
        self._fragments = {key: str(found[0]["content"]) for key, found in rows.items()}
        self._notes = related.attachments(key for part in parts for key in _attached(part))

    def messages(self, role: str, parts: Sequence[Mapping[str, Any]]) -> Messages:
        """The messages that one of llm's is: each tool's result is one of its own."""
        texts, notes, calls, results = list[str](), list[dict[str, Any]](), list[dict[str, Any]](), Messages()
        reasoning = ""
        for part in parts:
            kind = part["type"]
            attached = [self._notes[key] for key in _attached(part) if key in self._notes]
            if kind == "text":
                texts.append(self._text(part))
            elif kind == "reasoning":
                reasoning += self._text(part)
            elif kind == "tool_call":
                arguments = orjson.dumps(part.get("arguments")).decode()
                calls.append(tool_call(part.get("name"), arguments, part.get("tool_call_id")))
            elif kind == "tool_result":
                result = (part.get("name"), part.get("output"), part.get("tool_call_id"))
                results.append(tool_result(*result, attached))
            else:
                notes += attached or [dict(part)]
        if results and not (texts or notes or calls or reasoning):
            return results
        return [speaker(role, texts, notes=notes, reasoning=reasoning, calls=calls), *results]

    def _text(self, part: Mapping[str, Any]) -> str:
        pieces = part.get("text_ref")
        if pieces is None:
            return str(part.get("text") or "")
        return "".join(
            str(piece["literal"]) if "literal" in piece else self._fragments.get(piece.get("fragment"), "")
            for piece in _dicts(pieces)
        )


def _attached(part: Mapping[str, Any]) -> list[Any]:
    """Ids of the attachments that *part* refers to."""
    found = part.get("attachments") if part.get("type") == "tool_result" else [part.get("attachment")]
    return [each["id"] for each in _dicts(found) if isinstance(each.get("id"), str)]


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
