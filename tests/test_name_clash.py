"""`storage` and `providers` are common names: a folder of the program's that has one is named, and harms nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import HubError, NameClash
from hub.own_packages import check

ROOT = Path(__file__).parents[1]

PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s")
import hub

@hub.traced(provider="acme", model="acme-1")
def ask(prompt):
    return prompt.upper()

with hub.session("chat-1"):
    for _ in range(3):
        print(ask("hello"))
with hub.call(provider="acme", model="acme-1", messages=[]) as call:
    call.response("hi")
hub.emit("acme:note", n=1)
print(hub.flush(), [name for name in ("sqlalchemy", "sqlite3") if name in sys.modules])
hub.shutdown()
import storage
print("theirs" if hasattr(storage, "Bucket") else "ours")
"""


def a_package(folder: Path) -> Path:
    (folder / "storage").mkdir()
    (folder / "storage" / "__init__.py").write_text("class Bucket: ...\n")
    return folder / "storage"


def a_module(folder: Path) -> Path:
    (folder / "storage.py").write_text("class Bucket: ...\n")
    return folder / "storage.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in *folder*, which is before the hub on the path, as it is where the hub is installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HUB_DB_URL": str(folder / "calls.db"), "HUB_OTEL": "off"}
        | {"HUB_SPOOL_DIR": str(folder / "spool")},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("make", [a_package, a_module])
def test_a_program_with_a_storage_of_its_own_goes_on_unrecorded_and_says_so_once(
    folder: Path, make: Callable[[Path], Path]
) -> None:
    theirs = make(folder)
    done = run(folder, "program.py")
    assert done.stdout.splitlines() == ["HELLO"] * 3 + ["0 []", "theirs"], done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("hub: nothing is recorded: `import storage` gives ")
    assert str(theirs) in line
    assert str(ROOT / "storage") in line
    assert "rename" in line
    assert not (folder / "calls.db").exists()


def test_a_folder_of_that_name_that_is_no_package_is_in_nobodys_way(folder: Path) -> None:
    (folder / "storage").mkdir()
    (folder / "storage" / "notes.txt").write_text("")
    done = run(folder, "program.py")
    assert done.stdout.splitlines()[-1] == "ours", done.stderr
    assert (folder / "calls.db").exists()


def test_a_program_that_sets_the_hub_up_gets_the_error_there(folder: Path) -> None:
    theirs = a_package(folder)
    ways = ("hub.init()", "hub.Hub()", "hub.open()", "hub.subscribe('*', print)")
    tries = "\n".join(f"try: {way}\nexcept hub.NameClash as clash: print(clash.found)" for way in ways)
    done = run(folder, "-c", f"import hub\n{tries}")
    assert done.stdout.splitlines() == [str(theirs)] * len(ways), done.stderr


@pytest.mark.parametrize("command", [["calls"], ["sql", "select 1"], ["demo"]])
def test_commands_say_whose_package_is_in_the_way_without_a_traceback(folder: Path, command: list[str]) -> None:
    theirs = a_package(folder)
    done = run(folder, "-c", "from hub.cli.main import main; main()", *command)
    assert done.returncode == 4
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hub: `import storage` gives ")
    assert str(theirs) in line


def test_a_package_imported_before_is_recognised_too(folder: Path) -> None:
    theirs = a_package(folder)
    done = run(folder, "-c", "import storage, hub\ntry: hub.init()\nexcept hub.NameClash as clash: print(clash.found)")
    assert done.stdout.strip() == str(theirs), done.stderr


@pytest.mark.parametrize("name", ["storage", "providers"])
def test_our_own_packages_pass_without_being_imported(name: str, folder: Path) -> None:
    program = f"import sys; from hub.own_packages import check; check({name!r}); print({name!r} in sys.modules)"
    done = run(folder, "-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_module_without_a_place_is_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.own_packages._found", set())
    monkeypatch.setitem(sys.modules, "providers", types.ModuleType("providers"))
    with pytest.raises(NameClash, match="gives nothing") as clash:
        check("providers")
    assert isinstance(clash.value, HubError)
    assert isinstance(clash.value, ImportError)
