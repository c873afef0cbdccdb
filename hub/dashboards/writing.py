"""Dashboards as files, in a folder that may hold other people's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from hub.dashboards.catalog import ALERTS, DASHBOARDS
from hub.dashboards.grafana import Place, alert_rules, dashboard, jaeger_ui
from hub.dashboards.sql import Engine
from hub.errors import FileRefused

LIST: Final = ".llm-hub-export"
"""Has the digest of each file that an export wrote, as sha256sum prints them."""


def files(engine: Engine, place: Place) -> Iterator[tuple[str, bytes]]:
    """Names and contents, the same at every run."""
    for one in DASHBOARDS:
        yield f"dashboards/{one.name}.json", _text(dashboard(one, engine, place))
    yield "alerting/rules.json", _text(alert_rules(ALERTS, engine, place))
    yield "jaeger/ui.json", _text(jaeger_ui(place))


def write(folder: Path, engine: Engine, place: Place, *, replace: bool = False) -> list[Path]:
    """Write the files into *folder*, made where it is missing. Nothing is written when one of them must not be.

    Args:
        replace: Files that no export wrote, or that were changed since, as well.
    Raises:
        FileRefused: *folder* is none, or a file of such a name is not as an export left it.
        OSError
    """
    if folder.exists() and not folder.is_dir():
        raise FileRefused(str(folder), "this is a file", "name a folder")
    made = dict(files(engine, place))
    kept = _listed(folder / LIST)
    for name in () if replace else made:
        path = folder / name
        if path.exists() and (path.is_dir() or kept.get(name) != _digest(path.read_bytes())):
            why = "it was not written by an export, or changed since"
            raise FileRefused(str(path), why, "name another folder, or add --replace")
    for name, content in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    lines = [f"{_digest(content)}  {name}\n" for name, content in made.items()]
    (folder / LIST).write_text("".join(lines), encoding="utf-8")
    return [folder / name for name in made]


def _listed(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.partition("  ") for line in path.read_text("utf-8", errors="replace").splitlines())
    return {name: digest for digest, _, name in lines}


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _text(what: dict[str, Any]) -> bytes:
    return json.dumps(what, indent=2, ensure_ascii=False).encode() + b"\n"
