"""Export to a file and import from one: which file it is, and where things go."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hub.config import Settings
from hub.errors import FileRefused
from hub.parquet import load_pyarrow
from hub.reader import Reader
from hub.store import Advance
from hub.transfer.event_table import EventTable, write_table
from hub.transfer.exporting import Exported, export_lines
from hub.transfer.found import Source
from hub.transfer.lines import JsonLines, compression_of
from hub.transfer.llm_logs import LlmLogs
from hub.transfer.selection import Selection

Form = Literal["jsonl", "parquet"]

_SQLITE, _PARQUET = b"SQLite format 3\0", b"PAR1"


def export_file(
    reader: Reader, path: Path, form: Form, selection: Selection, *, replace: bool = False, advance: Advance
) -> Exported:
    """Write what *selection* takes to *path*, which stands there only when it is whole.

    An export of the same to the same file that was interrupted goes on where it was.

    Raises: StoreError, QueryRefused, MissingExtra, OSError
        FileRefused: There is such a file, and it is not to be replaced; or another process is writing it.
    """
    if path.is_dir() or (path.exists() and not replace):
        what = "this is a folder" if path.is_dir() else "there is such a file already"
        raise FileRefused(str(path), what, "name another, or add --force" if path.is_file() else "name a file in it")
    part = path.with_name(path.name + ".part")
    if form == "jsonl":
        return export_lines(reader, part, selection, compression_of(path), advance, lambda: os.replace(part, path))
    load_pyarrow()  # not after all the work

    def finish() -> None:
        write_table(part, path)
        part.unlink()

    return export_lines(reader, part, selection, "zst", advance, finish)


@contextmanager
def opened(path: Path | None, settings: Settings) -> Iterator[Source]:
    """The file to import, by what is in it; None for standard input, which holds lines.

    Raises: MissingExtra, OSError
        FileRefused: It is none that can be imported.
    """
    longest = longest_record(settings)
    if path is None:
        raw: Any = sys.stdin.buffer
        piped = io.BufferedReader(raw)
        if piped.peek(16).startswith((_SQLITE, _PARQUET)):
            raise FileRefused("standard input", "a database or Parquet cannot be read as it comes", "name the file")
        yield JsonLines(piped, 0, longest=longest)
        return
    with path.open("rb") as file:
        start = file.peek(16)
        if start.startswith(_SQLITE):
            yield LlmLogs(path, settings)
        elif start.startswith(_PARQUET):
            yield EventTable(path)
        else:
            yield JsonLines(file, os.fstat(file.fileno()).st_size, longest=longest)


def longest_record(settings: Settings) -> int:
    """Bytes that one record may take, of an event as large as the settings let them become."""
    return 2 * int(settings.max_body_bytes) + (16 << 20)
