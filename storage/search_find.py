"""What a full-text search finds: calls, newest first, and the place in a message.

Nothing is ranked, and everything has a bound: of words that are common the messages written last are looked at, and of
calls those recorded last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hub.errors import SearchOff
from hub.polite import no_rest
from storage.append import read_counters
from storage.engine import Connection, Lookup
from storage.projections import instant
from storage.reading import one_moment
from storage.search import bodies, carried, is_current, place
from storage.search_indexes import indexes
from storage.search_words import Query, has_all, parsed, role_word, snippet

MESSAGES = 500
"""Messages whose calls are looked for; twice as many as calls wanted, if that is more."""
EVENTS = 5_000
"""Events that are looked at for the calls that a filter admits."""
PHRASES = 1_000
"""Messages that are read for whether words stand side by side."""
_PAGE = 200
_NEWEST = 2**63 - 1

_CALL = ("call_id", "started_ns", "project", "session_id", "provider", "request_model", "response_model", "status")
_CALLS = Lookup(f"SELECT {','.join(_CALL)} FROM hub_calls WHERE call_id {{}}")
_EVENTS = Lookup("SELECT position, call_id, content FROM hub_events WHERE position {} AND content IS NOT NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched for."""

    words: str
    """See `search_words.parsed`."""
    model: str | None = None
    """Asked for, or served."""
    role: str | None = None
    since_ns: int | None = None
    """Of calls begun from then on, UTC Unix ns."""
    limit: int = 20
    repeats: bool = False
    """Every call that carries a message found, not only the newest."""


class Hit(NamedTuple):
    """A call, and the newest of its messages that was searched for."""

    call: dict[str, Any]
    """call_id, started_at (text, UTC), and columns of llm_calls."""
    role: str | None
    type: str | None
    snippet: str
    marks: tuple[tuple[int, int], ...]
    """Where in the snippet the words stand, each once."""


class Found(NamedTuple):
    """What a search came to."""

    hits: list[Hit]
    is_complete: bool
    """False: there may be more that was not looked at, as the words are common."""
    waiting: int
    """Messages and events that are not indexed yet."""


def find(connection: Connection, what: Search) -> Found:
    """Search what is indexed.

    Raises:
        SearchOff: There is no index.
        QueryRefused: There is no word to search for.
    """
    query = parsed(what.words)
    with one_moment(connection):
        here = place(connection)
        if here is None:
            raise SearchOff
        counters = read_counters(connection)
        waiting = counters["content"] + counters["position"]
        if not is_current(here):
            return Found([], False, waiting)
        work = _Finding(connection, query, what)
        return Found(work.run(), work.is_complete, waiting - here.content - here.position)


class _Call(NamedTuple):
    """A call that carries messages that were found."""

    row: dict[str, Any]
    messages: list[int]
    """In the call's order."""


class _Finding:
    def __init__(self, connection: Connection, query: Query, what: Search) -> None:
        self._connection, self._query, self._what = connection, query, what
        self._indexes = indexes(connection.engine)
        self.is_complete = True

    def run(self) -> list[Hit]:
        messages = self._messages()
        found: list[tuple[_Call, int]] = []
        shown: set[int] = set()
        known: set[str] = set()
        for calls in self._calls(messages):
            for call in calls:
                fresh = call.messages if self._what.repeats else [one for one in call.messages if one not in shown]
                if fresh and call.row["call_id"] not in known:
                    found.append((call, fresh[-1]))
                    known.add(call.row["call_id"])
                shown.update(call.messages)
            if not self._what.repeats:
                messages -= shown
            if len(found) >= self._what.limit:
                break
        found.sort(key=lambda one: _newest(one[0].row), reverse=True)
        return self._hits(found[: self._what.limit])

    # Messages.

    def _messages(self) -> set[int]:
        most = max(MESSAGES, 2 * self._what.limit)
        found: set[int] = set()
        looked, below = 0, _NEWEST
        while len(found) < most:
            page = self._indexes.messages.with_all(self._connection, self._wanted(), below, most)
            found.update(self._with_phrases(page))
            if len(page) < most:
                return found
            looked, below = looked + len(page), page[-1]
            if looked >= PHRASES and self._query.phrases:
                break
        self.is_complete = False
        return found

    def _wanted(self) -> list[tuple[str, bool]]:
        wanted = dict.fromkeys(
            (word, term.is_prefix and index == len(term.words) - 1)
            for term in self._query.terms
            for index, word in enumerate(term.words)
        )
        if self._what.role is not None:
            wanted[role_word(self._what.role), False] = None
        return list(wanted)

    def _with_phrases(self, page: Sequence[int]) -> Iterator[int]:
        phrases = self._query.phrases
        if not phrases:
            yield from page
            return
        for content_id, message in bodies(self._connection, page):
            if has_all(message, phrases):
                yield content_id

    # Calls.

    def _calls(self, messages: set[int]) -> Iterator[list[_Call]]:
        """Pages of calls that carry any of *messages*, newest first; the caller takes out what it needs no more."""
        looked, below = 0, _NEWEST
        while messages:
            page = self._indexes.carriers.with_any(self._connection, sorted(messages), below, _PAGE)
            yield self._admitted(page, messages)
            if len(page) < _PAGE:
                return
            looked, below = looked + len(page), page[-1]
            if looked >= EVENTS:
                self.is_complete = False
                return

    def _admitted(self, positions: Sequence[int], messages: Collection[int]) -> list[_Call]:
        events = sorted(self._connection.lookup(_EVENTS, positions, no_rest))
        call_of = {position: call_id for position, call_id, _ in events if call_id is not None}
        carrying: dict[str, list[int]] = {}
        for position, ids in carried(self._connection, ((position, content) for position, _, content in events)):
            if position in call_of:
                carrying.setdefault(call_of[position], []).extend(one for one in ids if one in messages)
        found = []
        for values in self._connection.lookup(_CALLS, carrying, no_rest):
            row = dict(zip(_CALL, values, strict=True))
            if carrying[row["call_id"]] and self._admits(row):
                found.append(_Call(row, carrying[row["call_id"]]))
        return sorted(found, key=lambda call: _newest(call.row), reverse=True)

    def _admits(self, row: dict[str, Any]) -> bool:
        model, since = self._what.model, self._what.since_ns
        return (model is None or model in (row["request_model"], row["response_model"])) and (
            since is None or (row["started_ns"] is not None and row["started_ns"] >= since)
        )

    # What is shown.

    def _hits(self, found: Sequence[tuple[_Call, int]]) -> list[Hit]:
        wanted = sorted({content_id for _, content_id in found})
        snippets = {
            content_id: snippet(message, self._query) for content_id, message in bodies(self._connection, wanted)
        }
        hits = []
        for call, content_id in found:
            if content_id in snippets:
                part, text, marks = snippets[content_id]
                role, kind = (None, None) if part is None else (part.role, part.type)
                hits.append(Hit(_shown(call.row), role, kind, text, marks))
        return hits


def _newest(row: dict[str, Any]) -> tuple[int, str]:
    return row["started_ns"] or 0, row["call_id"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "response_model"}
    started_ns = shown.pop("started_ns")
    return {"call_id": shown.pop("call_id"), "started_at": None if started_ns is None else instant(started_ns), **shown}
