"""The data of server-sent events, from bytes cut anywhere."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


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
        lines = piece.split(b"\n")
        if self._line:
            self._keep(lines[0])
            lines[0] = self._kept()
        if rest := lines.pop():
            self._keep(rest)
        events: list[bytes] = []
        for line in lines:
            if line.startswith(_BOM):
                line = line[len(_BOM) :]
            if line.startswith(b"data:"):
                self._data_size += len(line)
                if self._data_size <= self._max_event:
                    self._data.append(line[5:].strip())
            elif self._data_size and line in (b"", b"\r"):
                if self._data_size <= self._max_event:
                    events.append(b"\n".join(self._data))
                self._data.clear()
                self._data_size = 0
        return events

    def _keep(self, piece: bytes) -> None:
        """Of a line that is too long its beginning tells what it is."""
        room = self._max_event - self._line_size
        self._line_size += len(piece)
        if room > 0:
            self._line.append(piece[:room])

    def _kept(self) -> bytes:
        line = b"".join(self._line)
        if line.startswith(b"data:"):
            self._data_size += self._line_size - len(line)
        self._line.clear()
        self._line_size = 0
        return line
