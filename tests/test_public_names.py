"""The names of `hub` are those it says it has, and they come from where a reader looks for them."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import hub

PROMISED = (
    *("areplay", "replay", "Replay", "ReplayImpossible"),
    *("Event", "Hub", "LLMRequest", "LLMResponse", "RecordingTransport", "async_httpx_client", "call", "emit", "flush"),
    *("httpx_client", "init", "open", "read_events", "session", "shutdown", "subscribe", "traced"),
)


def test_every_public_name_is_there_documented_and_listed_in_order() -> None:
    assert hub.__all__ == sorted(hub.__all__)
    for name in hub.__all__:
        assert (getattr(hub, name).__doc__ or "").strip(), name


def test_what_the_hub_defines_is_either_listed_or_private() -> None:
    own = {
        name
        for name, value in vars(hub).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "")).startswith("hub")
    }
    assert own <= set(hub.__all__)


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_name_is_public(name: str) -> None:
    assert name in hub.__all__
    assert getattr(hub, name) is not None


def test_all_names_can_be_imported_at_once() -> None:
    program = "from hub import *; print(*(name for name in dir() if not name.startswith('__')))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == hub.__all__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = hub.nonsense
