"""What other people's instrumentations report of a call beside what `hub.traced` records of the same call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hub.config import load
from hub.demo.server import LoopbackServer
from hub.received.intake import Intake
from hub.received.server import Receiver
from storage import open_store
from tests.instrumented_program import CASES, INSTRUMENTATIONS
from tests.store_rows import rows

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "collect.md"
TIMES = ("started_at", "started_unix", "ended_at", "ended_unix", "duration_ms", "ttft_ms")
OF_ANOTHER_RUN = {*TIMES, "call_id", "trace_id", "span_id", "parent_span_id", "producer", "source", "service"}

ALL = frozenset(CASES)
GIVEN_OTHERWISE: Mapping[str, Mapping[str, frozenset[str]]] = {
    "openinference": {
        "server_address": ALL,
        "status_code": ALL,
        "error_type": frozenset({"refused"}),
        "chunk_count": frozenset({"stream"}),
        "environment": ALL,
    },
    "traceloop": {
        "status_code": ALL,
        "error_type": frozenset({"refused"}),
        "finish_reason": frozenset({"tool call"}),
        "reasoning_tokens": frozenset({"stream"}),
        "cache_read_tokens": frozenset({"embeddings"}),
        "params": frozenset({"embeddings"}),
        "environment": ALL,
    },
    "logfire": {
        "server_address": ALL,
        "status_code": ALL,
        "error_type": frozenset({"refused"}),
        "chunk_count": frozenset({"stream"}),
        "message_count": frozenset({"embeddings"}),
        "has_system": frozenset({"embeddings"}),
        "params": frozenset({"embeddings"}),
        "request_summary": frozenset({"embeddings"}),
        "environment": ALL,
    },
}
"""Columns of llm_calls, and the calls of which a dialect does not know the value or has another one."""
WITHOUT_FIRST_CHUNK = {"logfire"}
WITHOUT_MESSAGES = {("logfire", "embeddings")}


class Recorded(NamedTuple):
    calls: list[dict[str, Any]]
    messages: list[list[tuple[Any, ...]]]
    tool_calls: list[tuple[Any, ...]]


def recorded(name: str, folder: Path) -> Recorded:
    """What a store has of the calls of `tests.instrumented_program`."""
    url = f"sqlite:///{folder}/calls.db"
    settings = load({"db_url": url, "project": "kettles"}, {"HUB_SPOOL_DIR": str(folder / "spool")}, folder)
    with closing(open_store(url)) as store, LoopbackServer(port=0) as server:
        receiver = Receiver(Intake(store, settings), port=0)
        receiver.start()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("HUB_", "OTEL_"))}
        environment |= {"HUB_DB_URL": url, "HUB_SPOOL_DIR": str(folder / "spool"), "HUB_PROJECT": "kettles"}
        if name != "traced":
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
        done = subprocess.run(
            [sys.executable, "-m", "tests.instrumented_program", name, server.base_url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        receiver.close()
    assert done.returncode == 0, done.stderr
    calls = rows(folder / "calls.db", "SELECT * FROM llm_calls ORDER BY started_at")
    assert len(calls) == len(CASES)
    for call in calls:
        assert call["server_address"] in (None, f"127.0.0.1:{server.port}")
        call["server_address"] = call["server_address"] and "the server's"
    said = "SELECT direction, position, role, type, name, tool_call_id, content, bytes FROM llm_messages"
    tools = "SELECT position, tool_call_id, name, arguments, result FROM llm_tool_calls"
    return Recorded(
        calls,
        [
            [tuple(row.values()) for row in rows(folder / "calls.db", f"{said} WHERE call_id = ? ORDER BY 1, 2", one)]
            for one in (call["call_id"] for call in calls)
        ],
        [tuple(row.values()) for row in rows(folder / "calls.db", tools)],
    )


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return recorded("traced", tmp_path_factory.mktemp("traced"))


@pytest.mark.parametrize("dialect", INSTRUMENTATIONS)
def test_a_dialect_tells_what_the_decorator_records_but_for_what_the_table_says(
    traced: Recorded, dialect: str, tmp_path: Path
) -> None:
    told = recorded(dialect, tmp_path)
    different: dict[str, set[str]] = {}
    for case, ours, theirs in zip(CASES, traced.calls, told.calls, strict=True):
        assert theirs["source"] == "otlp"
        for column in ours.keys() - OF_ANOTHER_RUN:
            if ours[column] != theirs[column]:
                different.setdefault(column, set()).add(case)
    assert different == {column: set(cases) for column, cases in GIVEN_OTHERWISE[dialect].items()}
    for case, own, others in zip(CASES, traced.messages, told.messages, strict=True):
        assert own
        assert others == ([] if (dialect, case) in WITHOUT_MESSAGES else own), case
    assert traced.tool_calls
    assert told.tool_calls == traced.tool_calls
    streamed = told.calls[CASES.index("stream")]
    assert (streamed["ttft_ms"] is None) == (dialect in WITHOUT_FIRST_CHUNK)
    assert all(call["trace_id"] and call["span_id"] and call["duration_ms"] > 0 for call in told.calls)


def test_the_table_in_the_documentation_is_the_one_that_is_checked() -> None:
    lines = [line.strip("| ").split(" | ")[:3] for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    told = {tuple(line) for line in lines if line[0] in INSTRUMENTATIONS}
    assert told == {
        (dialect, column, "all" if cases == ALL else ", ".join(cases))
        for dialect, columns in GIVEN_OTHERWISE.items()
        for column, cases in columns.items()
    }
