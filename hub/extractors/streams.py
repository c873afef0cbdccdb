"""What a generator yielded, put together."""

from __future__ import annotations

from typing import Any

from hub.extractors import response_facts
from hub.extractors.openai_stream import OpenAIStream, stream_for
from hub.extractors.usage import usage_of
from hub.extractors.values import get, text
from hub.outcomes import ResponseFacts

FOLD = 64
"""Chunks that may wait to be put together: few, for they stay alive and may be large; more would save nothing."""


class Chunks:
    """Chunks of strings, of OpenAI's streams, or of a contract's StreamChunk; of others nothing is kept.

    Whoever drives the stream appends to `waiting`, and calls `fold` when there are `FOLD` of them.
    """

    def __init__(self, max_bytes: int, keep: int = 0) -> None:
        """*max_bytes*: text beyond is left out; *keep*: that many chunks stay in `kept` as they are."""
        self.waiting: list[Any] = []
        self.kept: list[Any] = []
        self._keep = keep
        self._folded = 0
        self._room = max_bytes
        self._texts: list[str] = []
        self._assembler: OpenAIStream | None = None
        self._last: ResponseFacts = {}

    def fold(self) -> None:
        """Put together what waits."""
        waiting, self.waiting[:] = list(self.waiting), ()
        self._folded += len(waiting)
        self.kept += waiting[: self._keep - len(self.kept)] if self._keep else ()
        if waiting and type(waiting[0]) is str and type(waiting[-1]) is str:
            try:
                self._text("".join(waiting))
                return
            except TypeError:  # there are others between
                pass
        for chunk in waiting:
            if isinstance(chunk, str):
                self._text(chunk)
            elif self._assembler is not None:
                self._assembler.add(chunk)
            elif chunk is not None:
                self._object(chunk)

    def _text(self, piece: str) -> None:
        if self._room > 0 and piece:
            self._texts.append(piece[: self._room])
            self._room -= len(piece)

    def _object(self, chunk: Any) -> None:
        self._assembler = stream_for(chunk)
        if self._assembler is not None:
            self._assembler.add(chunk)
            return
        piece = get(chunk, "delta")
        if isinstance(piece, str):  # spine's, and ours; the last one carries the whole response
            self._text(piece)
        elif isinstance(piece := get(chunk, "content"), str):  # adversarial-debate's; the last one has the usage
            self._text(piece)
            if (reason := text(get(chunk, "finish_reason"))) is not None:
                self._last["finish_reasons"] = [reason]
            if (usage := get(chunk, "usage")) is not None:
                self._last["usage"] = usage_of(usage)
            if (model := text(get(chunk, "model"))) is not None:
                self._last["model"] = model
            return
        if (response := get(chunk, "response")) is not None:
            self._last = response_facts(response)
        elif piece is not None or get(chunk, "message") is not None:  # the whole answer, behind its pieces
            self._last = response_facts(chunk)

    @property
    def count(self) -> int:
        """How many chunks there were."""
        return self._folded + len(self.waiting)

    def facts(self) -> ResponseFacts:
        """What the stream said as far as it came."""
        self.fold()
        if self._assembler is not None:
            return self._assembler.facts()
        facts = self._last
        if self._texts and not facts.get("messages"):
            facts["messages"] = [{"role": "assistant", "content": "".join(self._texts)}]
        return facts
