"""The examples of contract_kits/examples, each with one line added, as their users would add it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLES = Path(__file__).parent / "examples"


def example(name: str, *, traced: Any = None, above: str = "", spine: str = "tests.contract_kits.spine") -> Any:
    """The example module *name* as it stands; or with the line `@traced` in front of the one that begins with *above*.

    Args:
        traced: What the added line calls.
        spine: The module that spine's names come from.
    """
    path = EXAMPLES / f"{name}.py"
    lines = path.read_text().replace("tests.contract_kits.spine", spine).splitlines()
    if traced is not None:
        (place,) = (number for number, line in enumerate(lines) if line.startswith(above))
        lines.insert(place, "@traced")
    module = ModuleType(f"{name}_with_one_line_added")
    module.__dict__["traced"] = traced
    sys.modules[module.__name__] = module  # where dataclasses and pydantic look up what annotations name
    exec(compile("\n".join(lines), str(path), "exec"), module.__dict__)
    return module
