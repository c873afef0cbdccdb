"""A hub's beginning and end in surroundings that are not as they should be."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub_kit import running, select


def closed() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


class Unread(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stderr", [None, closed(), Unread()], ids=["none", "closed", "unread"])
def test_a_store_is_made_though_nobody_hears_where_it_is(
    tmp_path: Path, stderr: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with running(tmp_path) as hub:
        hub.emit("acme:said")
        assert hub.flush(10) == 0
    assert select(tmp_path, "SELECT count(*) FROM llm_events WHERE type = 'acme:said'") == [(1,)]
    assert capsys.readouterr().out == ""


def test_the_end_is_quiet_when_the_spool_was_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as hub:
        hub.emit("acme:said")
        assert hub.flush(10) == 0
        shutil.rmtree(tmp_path / "spool")
    assert select(tmp_path, "SELECT count(*) FROM llm_events WHERE type = 'acme:said'") == [(1,)]
