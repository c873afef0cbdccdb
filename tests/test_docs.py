"""Every example of README.md and docs/ works: ```python blocks run as one program, then ```console blocks as a shell.

What a console block shows is compared, `...` standing for anything and runs of spaces for one. ```sh blocks need a
network or Docker; they are not run. A block after `<!-- not run: reason -->` is left out too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.demo.server import LoopbackServer

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+ -->\n)?^```(?P<kind>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Block:
    kind: str
    line: int
    text: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(match["kind"], text.count("\n", 0, match.start("text")) + 1, match["text"])
        for match in _BLOCK.finditer(text)
        if not match["skip"]
    ]


def program(found: list[Block]) -> str:
    """The python blocks as one program, each line at the number it has in the document."""
    lines: list[str] = []
    for block in found:
        if block.kind == "python":
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block, continued lines joined, with what is shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = re.sub(r"\\\n\s*(?:> )?", "", part).partition("\n")
        yield command, shown


def matches(shown: str, printed: str) -> bool:
    pattern = r".*?".join(re.escape(piece) for piece in re.split(r"\.\.\.|…", " ".join(shown.split())))
    return re.search(pattern, " ".join(printed.split()), re.DOTALL) is not None


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "work").mkdir()
    with LoopbackServer() as server:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "sk-test-loopback",
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "HOME": str(tmp_path / "home"),
            "NO_COLOR": "1",
            "COLUMNS": "140",
        }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_a_document_run(document: Path, environment: dict[str, str], tmp_path: Path) -> None:
    found, work = blocks(document), tmp_path / "work"
    script = tmp_path / document.with_suffix(".py").name
    script.write_text(program(found))
    done = subprocess.run(
        [sys.executable, script], cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{document.name}: {done.stderr}"
    for block in found:
        if block.kind != "console":
            continue
        for command, shown in commands(block):
            ran = subprocess.run(
                ["bash", "-c", command],
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            place = f"{document.name}:{block.line}: $ {command}\n"
            assert ran.returncode == 0, place + ran.stderr
            assert matches(shown, ran.stdout), f"{place}{ran.stdout}\nis not what is shown:\n{shown}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_a_wrong_example_is_noticed() -> None:
    assert matches("a ... c", "a  b\nc")
    assert not matches("a ... d", "a b c")
    assert list(commands(Block("console", 1, "$ hub ls \\\n>   --json\n[]\n$ hub doctor\n"))) == [
        ("hub ls --json", "[]\n"),
        ("hub doctor", ""),
    ]
