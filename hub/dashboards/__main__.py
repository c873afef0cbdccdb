"""Write anew what the repository has in dashboards/: `python -m hub.dashboards`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hub.dashboards.grafana import Place, store_uid
from hub.dashboards.sql import ENGINES
from hub.dashboards.writing import files

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"


def committed() -> Iterator[tuple[Path, bytes]]:
    """Each file with what has to be in it."""
    for engine in ENGINES:
        for name, content in files(engine, Place(store_uid=store_uid(engine))):
            kind, _, file = name.partition("/")
            yield FOLDER / (f"jaeger/{file}" if kind == "jaeger" else f"grafana/{kind}/{engine}/{file}"), content


def main() -> None:
    if not (FOLDER / "compose.yaml").is_file():
        raise SystemExit("this writes the repository's own files; use hub export dashboards")
    for path, content in committed():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
