"""Events are the only truth: what real traffic left in the views and in the spans comes out of its events again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from hub.demo.server import LoopbackServer
from hub.events import EventRecord
from hub.span_content import content_attributes
from hub.spans import origin_of, spans_of
from hub.store import Erasure
from storage.rebuilding import TABLES
from storage.sqlite import SQLiteStore
from tests.hub_kit import Traffic, running, select, store_path
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, decode, receiving

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


def test_every_view_comes_out_of_a_rebuild_row_for_row(tmp_path: Path, server: LoopbackServer) -> None:
    with running(tmp_path, otel="off") as hub:
        traffic = Traffic(hub, server)
        traffic.everything()
        assert hub.flush() == 0
        erase_some(tmp_path)
        live = dump(tmp_path)
        assert_rich(live)
        forget_projections(tmp_path)
        with closing(SQLiteStore(store_path(tmp_path))) as store:
            assert store.rebuild() == len(live["llm_events"])
        rebuilt = dump(tmp_path)
    assert rebuilt.keys() == live.keys()
    for name, rows in live.items():
        assert rebuilt[name] == rows, name


@pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_ONLY"])
def test_spans_made_again_from_the_store_are_those_that_were_sent_live(
    content: str, tmp_path: Path, server: LoopbackServer, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT, content)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.zone=a,team=search")
    with running(tmp_path, service="till", environment="test", otel="export") as hub:
        traffic = Traffic(hub, server)
        traffic.everything()
        assert hub.flush() == 0
        hub.shutdown()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "nothing=more")
    monkeypatch.setenv(CONTENT, "NO_CONTENT")
    again = spans_from_store(tmp_path, with_content=content == "SPAN_ONLY")
    live = {span.span_id: span for span in receiver.wait_for(len(again))}
    assert live == again
    assert len([span for span in live.values() if span.parent_span_id in live]) >= 8, "attempts, under their calls"
    assert {span.status for span in live.values()} == {"UNSET", "ERROR"}
    assert any("gen_ai.input.messages" in span.attributes for span in live.values()) == (content == "SPAN_ONLY")


def erase_some(folder: Path) -> None:
    """The content of one call and of one session goes."""
    (call_id,) = select(folder, "SELECT call_id FROM llm_calls WHERE request_summary LIKE '%Hello%'")[0]
    soon = time.time_ns() + 60 * 10**9
    with closing(SQLiteStore(store_path(folder))) as store:
        assert store.erase(Erasure(project="shop", before_ns=soon, call_id=UUID(call_id))).calls == 1
        assert store.erase(Erasure(project="shop", before_ns=soon, session_id="async-2")).calls == 1


def dump(folder: Path) -> dict[str, list[Any]]:
    """All rows of every view, and of the tables behind them, in an order of their own."""
    with closing(sqlite3.connect(store_path(folder))) as connection:
        named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view' OR name LIKE 'hub_%'").fetchall()
        names = {name for (name,) in named if name.startswith(("llm_", *TABLES, "hub_events"))}
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in sorted(names)}


def assert_rich(live: dict[str, list[Any]]) -> None:
    """Something of everything is there, or equal views say little."""
    empty = {name for name, rows in live.items() if not rows}
    assert empty <= {"llm_models", "llm_spans"}
    assert "llm_event_kit_rate_limited" in live
    assert len(live["llm_calls"]) >= 30
    text = repr(live["llm_calls"])
    for word in ("running", "ok", "error", "cancelled", "abandoned", "incomplete_stream", "genai-prices", "traced"):
        assert repr(word) in text, word
    assert "Hello" not in repr(live["llm_messages"]) + text, "erased"


def forget_projections(folder: Path) -> None:
    """Whatever a rebuild does not make is gone then, not left over."""
    with closing(sqlite3.connect(store_path(folder), isolation_level=None)) as connection:
        for table in (*TABLES, "hub_event_schemas"):
            connection.execute(f"DELETE FROM {table}")


def spans_from_store(folder: Path, *, with_content: bool) -> dict[str, ReceivedSpan]:
    """By id, the spans that the store's events make, as they would arrive."""
    with closing(SQLiteStore(store_path(folder))) as store:
        (started,) = store.read_all(types=["hub:started"]).events
        requests = store.read_all(types=["llm:request"]).events
        streams = [list(store.read_stream(UUID(stream))) for stream in {one["stream_id"] for one in requests}]
    made: list[ReadableSpan] = []
    for records in streams:
        content = text_of(records) if with_content else None
        made += spans_of(records, origin=origin_of(started["data"]), content=content)
    return {span.span_id: span for span in decode(encode_spans(made).SerializeToString())}


def text_of(records: list[EventRecord]) -> dict[str, str]:
    """The attributes that hold a call's prompts and answers."""
    found: dict[str, str] = {}
    reasons = next((one["data"].get("finish_reasons") for one in records if one["type"] == "llm:response"), None)
    for record in records:
        found.update(content_attributes(record, finish_reasons=reasons))
    return found
