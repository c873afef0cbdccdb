"""The data of server-sent events, from bytes cut anywhere."""

from __future__ import annotations


class SSEData:
    """Feed it bytes; it gives the data of each event that is complete.

    Lines end in LF or CRLF; bare CR, which the format allows and no vendor sends, is not taken for a line's end.
    Only data matters here: the vendors repeat the event's name in it. See
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation (read 2026-11-20).
    """

    def __init__(self, max_event: int) -> None:
        """*max_event*: an event with more bytes is left out."""
        self._max_event = max_event
        self._line: list[bytes] = []
        self._line_size = 0
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that *piece* completes, oldest first."""
        if b"\n" not in piece:
            self._keep(piece)
            return []
        if self._line:
            piece = b"".join([*self._line, piece])
            self._line.clear()
        lines = piece.split(b"\n")
        rest = lines.pop()
        self._line_size = 0
        if rest:
            self._keep(rest)
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data_size += len(line)
                if self._data_size <= self._max_event:
                    self._data.append(line[5:].strip())
            elif self._data and line in (b"", b"\r"):
                events.append(self._take())
        return events

    def _take(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_size = 0
        return data

    def _keep(self, piece: bytes) -> None:
        self._line_size += len(piece)
        if self._line_size <= self._max_event:
            self._line.append(piece)
