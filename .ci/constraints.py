"""Print the versions of a uv.lock as pip constraints, so that pip installs what uv would."""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from pathlib import Path


def constraints(lock: str) -> list[str]:
    """One `name==version` for each package of an index; those locked at several versions are left to pip."""
    versions: dict[str, set[str]] = defaultdict(set)
    for package in tomllib.loads(lock)["package"]:
        if "registry" in package["source"]:
            versions[package["name"]].add(package["version"])
    return [f"{name}=={found.pop()}" for name, found in sorted(versions.items()) if len(found) == 1]


if __name__ == "__main__":
    print("\n".join(constraints(Path(sys.argv[1]).read_text())))
