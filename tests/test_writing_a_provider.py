"""What docs/writing-a-provider.md says beside its examples: the package whose pyproject.toml it shows works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

PAGE = Path(__file__).parents[1] / "docs" / "writing-a-provider.md"
ACME = """
class AcmeProvider:
    name = "acme"

    def __init__(self, config):
        self.config = config

    async def complete(self, request, **kwargs): ...
"""
ASKS = """
import sys
from providers import get_provider, list_providers

assert "acme" in list_providers()
assert "acme_llm" not in sys.modules
config = get_provider("acme:acme-pro").config
print(config.model, config.api_key, config.base_url)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The wheel of the package that the page shows."""
    project = tmp_path / "acme"
    project.mkdir()
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (project / "pyproject.toml").write_text(shown)
    (project / "acme_llm.py").write_text(ACME)
    (wheel,) = WheelBuilder(str(project)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    return Path(wheel)


def test_an_installed_package_of_the_pages_shape_is_found_by_name_and_loaded_when_it_is_asked_for(
    installed: Path,
) -> None:
    variables = {"PYTHONPATH": str(installed), "ACME_API_KEY": "key-1", "ACME_BASE_URL": "http://127.0.0.1:9/v1"}
    ran = subprocess.run(
        [sys.executable, "-c", ASKS], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("acme-pro key-1 http://127.0.0.1:9/v1\n", "")
