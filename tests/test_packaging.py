"""What is installed is what the repository has, no more is loaded or depended on than is said."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHIPPED = ("hub", "providers", "storage", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, lazily too; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text())
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def run_python(code: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_has_every_module_and_nothing_of_the_repository_besides(names: set[str]) -> None:
    wanted = {str(path.relative_to(ROOT)) for path in sources("hub", "providers", "storage")}
    wanted |= {f"storage/{path.relative_to(ROOT)}" for path in sources("migrations")}
    found = {name for name in names if name.endswith(".py")}
    assert found == wanted
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hub", "providers", "storage"}


def test_the_wheel_has_what_is_not_python(names: set[str]) -> None:
    assert {"hub/py.typed", "providers/py.typed", "storage/py.typed", "hub/dashboards/compose.yaml"} <= names
    assert {f"hub/{path.relative_to(ROOT)}" for path in (ROOT / "dashboards").rglob("*") if path.is_file()} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_installed_wheel_finds_its_migrations_and_makes_a_store(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = f"""
import hub, hub.runtime, storage
for module in (hub, storage):
    assert module.__file__.startswith({str(site)!r}), module.__file__
hub.init(db_url="sqlite:///{tmp_path}/calls.db", spool_dir={str(tmp_path / "spool")!r})
with hub.call(provider="p", model="m", messages=[]) as call:
    call.response("hello")
print(hub.flush())
hub.shutdown()
print(hub.open("sqlite:///{tmp_path}/calls.db").sql("select count(*) from llm_calls").rows)
"""
    assert run_python(code, empty, site).startswith("0\n")
    assert not list(empty.iterdir())


def test_import_hub_loads_no_database_no_http_client_no_sdk_and_no_vendor(tmp_path: Path) -> None:
    heavy = [
        *("sqlalchemy", "alembic", "sqlite3", "zstandard", "genai_prices", "httpx", "httpx2", "openai"),
        *("opentelemetry.sdk", "pydantic_settings", "typer", "rich", "hub.runtime", "storage", "providers"),
    ]
    code = f"import sys, hub; print([name for name in {heavy!r} if name in sys.modules])"
    assert run_python(code, tmp_path) == "[]"


def test_only_the_span_modules_import_the_opentelemetry_sdk() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources(*SHIPPED)
        if any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in imports(path))
    }
    assert users <= {"hub/spans.py", "hub/span_sender.py", "hub/otlp.py", "hub/log_records.py", "hub/metrics.py"}


def test_every_dependency_is_used_and_every_third_party_import_is_declared() -> None:
    extras = [line for lines in PROJECT.get("optional-dependencies", {}).values() for line in lines]
    declared = {_distribution(line) for line in (*PROJECT["dependencies"], *extras)}
    owners = packages_distributions()
    used: set[str] = set()
    for path in sources(*SHIPPED):
        for name in imports(path):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in ("hub", "storage", "providers"):
                used |= {_telemetry(name)} if top == "opentelemetry" else {_normal(owners[top][0])}
    # httpx2 is the openai SDK's own client, served where it is; the others are the exporters' own
    optional = {"httpx2", "grpcio", "requests", "prometheus-client"}
    assert used - optional <= declared | {"opentelemetry-api"}  # the SDK's own base
    assert declared <= used


def test_the_version_is_said_once_more_and_the_same() -> None:
    assert f'__version__ = "{PROJECT["version"]}"' in (ROOT / "hub/__init__.py").read_text()
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_gives_pip_one_exact_version_for_each_package() -> None:
    done = subprocess.run(
        [sys.executable, ".ci/constraints.py", "uv.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.split()
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines)
    assert {_distribution(line) for line in PROJECT["dependencies"]} <= {line.partition("==")[0] for line in lines}


@pytest.mark.parametrize("script", [".ci/run", ".ci/setup"])
def test_the_scripts_of_ci_can_be_executed_and_parse(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def _distribution(requirement: str) -> str:
    return _normal(re.split(r"[\[<>=~! ;]", requirement)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _telemetry(module: str) -> str:
    """The distribution of a module of OpenTelemetry's shared namespace."""
    if module.startswith("opentelemetry.exporter.prometheus"):
        return "opentelemetry-exporter-prometheus"
    if module.startswith("opentelemetry.exporter"):
        return "opentelemetry-exporter-otlp"
    return "opentelemetry-sdk" if module.startswith("opentelemetry.sdk") else "opentelemetry-api"
