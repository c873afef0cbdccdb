"""docs/sql.md, read: its questions and how each engine is asked them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "sql.md"
ENGINE_OF = {"SQLite": "sqlite", "PostgreSQL": "postgresql"}


class Question(NamedTuple):
    """A question and its SQL, by engine; under "" for all."""

    title: str
    about: str
    sql: dict[str, str]

    def on(self, engine: str) -> str:
        return self.sql.get(engine) or self.sql[""]


def questions() -> list[Question]:
    found = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        blocks = re.findall(r"^```sql\n(?:-- (\w+)\n)?(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        sql = {ENGINE_OF[engine] if engine else "": block for engine, block in blocks}
        found.append(Question(title, text.partition("```")[0].strip(), sql))
    return found
