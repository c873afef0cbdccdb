"""Draws the pictures of README.md and docs/ from a run of the demo: `make pictures`."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hub.cli.calls import table_of
from hub.reader import Reader, open_reader

DOCS = Path(__file__).parents[1] / "docs"
ROWS, WIDTH = 14, 112

_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="hub calls in a terminal">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, monospace; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#0c0c0c"/>
<g transform="translate({terminal_x}, 18)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Rich's terminal without window buttons, and without the font that its own frame loads from another host."""


def calls(reader: Reader) -> str:
    """`hub calls` over the store that *reader* reads, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    newest = reader.calls(limit=ROWS)
    ids = reader.shortest_ids([call.id for call in newest])
    console.print(Text("$ hub calls", style="bold"))
    console.print(table_of(newest, ids, datetime.now().astimezone()))
    drawn = console.export_svg(code_format=_FRAME, unique_id="calls")
    return re.sub(r"<text[^>]*>\n</text>", "", drawn)


def shape(svg: str) -> tuple[str, int]:
    """The letters of the table's header, and how many rows there are: what stays the same from run to run."""
    texts = re.findall(r'<text[^>]* y="([^"]*)"[^>]*>([^<]*)</text>', svg)
    rows = sorted({float(y) for y, _ in texts})
    header = "".join(text for y, text in texts if float(y) == rows[1])
    return "".join(header.replace("&#160;", " ").split()), len(rows)


def main() -> None:
    from hub.demo import day

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HUB_SPOOL_DIR"] = f"{folder}/spool"
        day.run(f"{folder}/demo.db")
        drawn = calls(open_reader(f"{folder}/demo.db"))
    (DOCS / "calls.svg").write_text(drawn)
    print(DOCS / "calls.svg", file=sys.stderr)


if __name__ == "__main__":
    main()
