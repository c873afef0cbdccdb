"""Whether `storage` and `providers` are the hub's: many programs have folders of these names."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from hub.errors import NameClash

_FOLDER = Path(__file__).parents[1]
_found: set[str] = set()


def check(name: str) -> None:
    """Make sure that `import name` gives the package beside this one. Imports nothing.

    Raises: NameClash: It gives another.
    """
    if name in _found:
        return
    place = _place(name)
    if place is None or os.path.realpath(place) != os.path.realpath(_FOLDER / name):
        raise NameClash(name, found=place, wanted=str(_FOLDER / name))
    _found.add(name)


def _place(name: str) -> str | None:
    """The folder, or the file of a module that is no package, that `import name` would take or has taken."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file, folders = getattr(loaded, "__file__", None), getattr(loaded, "__path__", None)
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        file, folders = spec.origin, spec.submodule_search_locations
    return next(iter(folders), None) if folders else file
