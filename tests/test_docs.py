"""Every example of README.md and docs/ works: ```python and ```console blocks are run, in order.

What a console block shows is compared, `...` standing for anything and runs of spaces for one. ```sh blocks need a
network or Docker; they are not run. A block after `<!-- not run: reason -->` is left out too.
"""

from __future__ import annotations

import json
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
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


_PROGRAM = """
import json, sys
answers, sys.stdout = sys.stdout, sys.stderr
names = {"__name__": "__main__"}
for request in sys.stdin:
    block = json.loads(request)
    exec(compile("\\n" * (block["line"] - 1) + block["text"], block["file"], "exec"), names)
    left = sys.modules["hub"].flush() if "hub" in sys.modules else 0
    print(left, file=answers, flush=True)
"""
"""Runs python blocks as they come; a line after each says how many events are not in the store yet."""


class Program:
    """The document's python blocks, as one program that stays alive between them."""

    def __init__(self, document: Path, cwd: Path, environment: dict[str, str]) -> None:
        self.name, self.errors = document.name, cwd.parent / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                cwd=cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def run(self, block: Block) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = json.dumps({"file": self.name, "line": block.line, "text": block.text})
        print(request, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "0\n", self.errors.read_text()

    def end(self) -> None:
        """End the program as its user would, by its end."""
        try:
            self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, self.errors.read_text()


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block, continued lines joined, with what is shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = re.sub(r"\\\n>?\s*", "", part).partition("\n")
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
def test_the_examples_of_a_document_run(
    document: Path, environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    work = tmp_path / "work"
    if "$DATABASE_URL" in document.read_text():
        url = request.getfixturevalue("postgres_url")
        environment |= {"DATABASE_URL": url, "READER": f"{url.rpartition('/')[2]}_reader"}
    program = Program(document, work, environment)
    try:
        for block in blocks(document):
            if block.kind == "python":
                program.run(block)
            elif block.kind == "console":
                for command, shown in commands(block):
                    run_command(command, shown, f"{document.name}:{block.line}: $ {command}\n", work, environment)
    finally:
        program.end()


def run_command(command: str, shown: str, place: str, cwd: Path, environment: dict[str, str]) -> None:
    ran = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, place + ran.stderr
    assert matches(shown, ran.stdout), f"{place}{ran.stdout}\nis not what is shown:\n{shown}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_what_is_not_run_names_files_and_targets_that_are_there() -> None:
    told = "".join(block.text for document in DOCUMENTS for block in blocks(document) if block.kind == "sh")
    targets = set(re.findall(r"^(?:\S+=\S+ )*make (\w+)", told, re.MULTILINE))
    assert targets >= {"demo"}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert all((ROOT / path).exists() for path in re.findall(r"compose -f (\S+)", told))


def test_a_wrong_example_is_noticed() -> None:
    assert matches("a ... c", "a  b\nc")
    assert not matches("a ... d", "a b c")
    assert list(commands(Block("console", 1, "$ hub ls \\\n>   --json\n[]\n$ hub doctor\n"))) == [
        ("hub ls --json", "[]\n"),
        ("hub doctor", ""),
    ]
