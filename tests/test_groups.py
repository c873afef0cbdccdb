"""Calls made of the calls in them: what is tried again, and what is sent again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hub import session
from hub.calls import Call, current_call
from hub.recorder import Recorder, Replayed
from hub.spans import Origin, spans_of
from hub.telemetry import Tracing
from hub.tries import Tries, current_tries
from storage.sqlite import SQLiteStore
from tests.listlog import ListLog, recorder_on
from tests.store_rows import rows

MESSAGES = [{"role": "user", "content": "Where is my order?"}]
FOUR = ["llm:request", "llm:request:debug", "llm:response", "llm:response:debug"]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ORIGINAL = Replayed(call_id="0190aaaa-0000-7000-8000-0000000000aa", trace_id=TRACE, span_id=SPAN, run="run-1")


def begin(recorder: Recorder, **facts: Any) -> Call:
    return recorder.start(**{"source": "traced", "provider": "acme", "model": "m-1", "messages": MESSAGES, **facts})


def response(log: ListLog) -> dict[str, Any]:
    return log.only("llm:response")["data"]


def test_a_group_is_the_call_that_its_first_layer_tells_of(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        begin(recorder, params={"seed": 1}).end({"usage": {"input_tokens": 3}, "model": "m-1-1124"})
    group.end()
    assert log.types() == FOUR
    request = log.only("llm:request")["data"]
    assert (request["source"], request["provider"], request["model"]) == ("traced", "acme", "m-1")
    assert (request["params"], request["message_count"]) == ({"seed": 1}, 1)
    assert log.only("llm:request:debug")["content"] == {"messages": MESSAGES}
    assert (response(log)["usage"], response(log)["attempts"]) == ({"input_tokens": 3}, 1)
    assert group.id == log.records[0]["call_id"]


def test_a_group_that_nothing_began_in_is_no_call(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        group.retry_follows({"delay_ms": 1.0}, error="x", began_ns=0)
        recorder.emit("acme:tick", {})
    group.end(error=ValueError())
    outer = begin(recorder)
    with outer.active():
        recorder.group().end()
    outer.end()
    assert log.types() == ["acme:tick", *FOUR]
    assert log.records[0]["call_id"] is None
    assert (group.id, response(log)["attempts"]) == ("", 1)


def test_a_call_begun_after_the_group_is_a_call_of_its_own(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        begin(recorder).end()
        group.end()
        begin(recorder).end()
    assert log.types() == FOUR * 2


def test_layers_of_a_group_are_attempts(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        for number in range(3):
            call = begin(recorder)
            if number < 2:
                call.end({"status_code": 429}, error=ValueError("busy"))
                group.retry_follows({"delay_ms": 10.0, "max_retries": 2}, error="busy", began_ns=call.started_ns)
            else:
                call.end()
    group.end()
    retries = [record["data"] for record in log.records if record["type"] == "provider:retry"]
    assert [(one["attempt"], one["max_retries"], one["delay_ms"]) for one in retries] == [(1, 2, 10.0), (2, 2, 10.0)]
    assert {one["status_code"] for one in retries} == {429}
    assert (response(log)["attempts"], response(log)["status"]) == (3, "ok")


@pytest.mark.parametrize(("error", "status"), [(ValueError("busy"), "error"), (KeyboardInterrupt(), "cancelled")])
def test_a_group_that_ends_as_its_last_layer_did_has_one_end(
    log: ListLog, recorder: Recorder, error: BaseException, status: str
) -> None:
    group = recorder.group()
    with group.active():
        begin(recorder).end({"status_code": 429, "retryable": True, "retry_after_ms": 2000.0}, error=error)
    group.end(error=error)
    data = response(log)
    assert (data["status"], data["error_type"]) == (status, type(error).__name__)
    assert (data["status_code"], data["retryable"], data["retry_after_ms"], data["attempts"]) == (429, True, 2000.0, 1)
    assert log.only("llm:response")["content"] == ({"error": "busy"} if status == "error" else None)


def test_an_answer_still_read_when_the_group_is_left_ends_the_call(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        stream = begin(recorder, stream=True)
    group.end()
    assert "llm:response" not in log.types()
    stream.first_chunk()
    stream.chunk_count = 7
    stream.end({"usage": {"output_tokens": 8}}, error=GeneratorExit())
    data = response(log)
    assert (data["status"], data["chunk_count"], data["usage"]) == ("abandoned", 7, {"output_tokens": 8})
    assert data["ttft_ms"] > 0


def test_a_request_put_off_is_written_with_the_bytes_that_left(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group()
    with group.active():
        layer = begin(recorder, source="transport", defer=True)
        assert log.types() == []
        layer.wire_request(b'{"model": "m-1"}')
        layer.sent()
        layer.end()
    group.end()
    content = log.only("llm:request:debug")["content"]
    assert content == {"messages": MESSAGES, "wire": {"body": '{"model": "m-1"}'}}


def test_a_group_within_a_call_tells_that_calls_attempts(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        for error in (ValueError("no"), None):
            group = recorder.group()
            with group.active():
                begin(recorder, source="transport").end(error=error)
            group.end(error=error)
    outer.end()
    assert len({record["stream_id"] for record in log.records}) == 1
    assert response(log)["attempts"] == 2
    assert log.only("provider:retry")["data"]["error_type"] == "ValueError"


def test_retries_side_by_side_in_one_call_are_told_apart(log: ListLog, recorder: Recorder) -> None:
    async def tried(name: str, fails: bool) -> None:
        group = recorder.group()
        with group.active():
            for last in (False, True):
                call = begin(recorder, provider=name, source="transport")
                await asyncio.sleep(0)
                call.end(error=ValueError() if fails and not last else None)
                if fails and not last:
                    group.retry_follows({"delay_ms": 1.0, "max_retries": 1}, error=None, began_ns=0)
                else:
                    break
        group.end()

    async def main() -> None:
        with outer.active():
            await asyncio.gather(*(tried(f"p{number}", number % 2 == 1) for number in range(6)))

    outer = begin(recorder, provider=None)
    asyncio.run(main())
    outer.end()
    retries = [record["data"] for record in log.records if record["type"] == "provider:retry"]
    assert sorted(one["provider"] for one in retries) == ["p1", "p3", "p5"]
    assert {one["max_retries"] for one in retries} == {1}
    assert response(log)["attempts"] == 9


def test_a_group_left_out_by_sampling_is_counted_once_and_silent(
    log: ListLog, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recorder_on(log, sample_rate=0.0)
    group = recorder.group()
    with group.active():
        begin(recorder).end()
        inner = recorder.group()
        with inner.active():
            begin(recorder).end()
        inner.end()
        group.retry_follows({"delay_ms": 1.0}, error=None, began_ns=0)
    group.end()
    assert (log.records, log.unsampled, current_call.get(), caplog.text) == ([], 1, None, "")


def test_layers_that_begin_in_several_threads_are_one_call(log: ListLog, recorder: Recorder) -> None:
    group, ready = recorder.group(), threading.Barrier(8)

    def one() -> None:
        with group.active():
            ready.wait(5)
            begin(recorder).end()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    group.end()
    assert len({record["stream_id"] for record in log.records}) == 1
    assert log.types().count("llm:request") == 1
    assert response(log)["attempts"] == 8


def test_sessions_label_the_group(log: ListLog, recorder: Recorder) -> None:
    with session("chat-1"):
        group = recorder.group()
        with group.active():
            begin(recorder).end()
        group.end()
    assert {record["session_id"] for record in log.records} == {"chat-1"}


def test_tries_are_one_call_of_whichever_hub_records_in_them(log: ListLog, recorder: Recorder) -> None:
    other_log = ListLog()
    other = recorder_on(other_log)
    tries = Tries()
    token = current_tries.set(tries)
    begin(recorder).end(error=ValueError())
    begin(recorder).end()
    begin(other).end()
    current_tries.reset(token)
    tries.end(None)
    assert (response(log)["attempts"], response(other_log)["attempts"]) == (2, 1)


# Replays.


def replayed(recorder: Recorder, **facts: Any) -> None:
    group = recorder.group(replay=ORIGINAL)
    with group.active():
        begin(recorder, **facts).end({"usage": {"input_tokens": 3, "output_tokens": 1}})
    group.end()


def test_a_replay_names_what_it_repeats_and_is_a_call_in_a_trace_of_its_own(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    parent = trace.NonRecordingSpan(trace.SpanContext(int(TRACE, 16), int(SPAN, 16), False, trace.TraceFlags(1)))
    with outer.active(), trace.use_span(parent):
        replayed(recorder)
        assert trace.get_current_span() is parent
    outer.end()
    request = next(record for record in log.records if record["data"].get("source") == "replay")
    assert request["call_id"] != outer.id
    assert request["trace_id"] not in (TRACE, log.records[0]["trace_id"])
    assert request["parent_span_id"] is None
    data = request["data"]
    assert (data["replay_of"], data["replay_run"]) == (ORIGINAL.call_id, "run-1")
    assert (data["replay_of_trace_id"], data["replay_of_span_id"]) == (TRACE, SPAN)
    assert (data["provider"], data["model"]) == ("acme", "m-1")


def test_a_replay_in_tries_or_around_them_is_one_call(log: ListLog, recorder: Recorder) -> None:
    group = recorder.group(replay=ORIGINAL)
    with group.active():
        inner = recorder.group()
        with inner.active():
            begin(recorder).end(error=ValueError())
            begin(recorder).end()
        inner.end()
    group.end()
    assert log.only("llm:request")["data"]["source"] == "replay"
    assert response(log)["attempts"] == 2


def test_a_replays_span_links_to_the_call_it_repeats(log: ListLog, recorder: Recorder) -> None:
    replayed(recorder)
    origin = Origin(Resource({}), InstrumentationScope("llm-hub"))
    (span,) = spans_of(log.records, origin=origin)
    (link,) = span.links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE, SPAN)
    assert span.parent is None
    assert (span.attributes or {})["hub.replay.of_call_id"] == ORIGINAL.call_id


@pytest.mark.parametrize("ids", [("nonsense", SPAN), (TRACE, "12"), ("0" * 32, SPAN), (TRACE, None)])
def test_a_link_to_nowhere_is_none(log: ListLog, recorder: Recorder, ids: Any) -> None:
    group = recorder.group(replay=Replayed(call_id=ORIGINAL.call_id, trace_id=ids[0], span_id=ids[1]))
    with group.active():
        begin(recorder).end()
    group.end()
    (span,) = spans_of(log.records, origin=Origin(Resource({}), InstrumentationScope("llm-hub")))
    assert span.links == ()


def test_a_replays_native_span_is_the_root_of_a_new_trace_and_links_too(log: ListLog, recorder: Recorder) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder.tracing = Tracing("native", {}, provider=provider)
    with provider.get_tracer("program").start_as_current_span("around"):
        replayed(recorder)
    span, around = exporter.get_finished_spans()
    assert span.parent is None
    assert span.context.trace_id != around.context.trace_id
    (link,) = span.links
    assert f"{link.context.trace_id:032x}" == TRACE
    assert (span.attributes or {})["hub.replay.run"] == "run-1"


def test_the_views_know_a_replay(log: ListLog, recorder: Recorder, tmp_path: Any) -> None:
    replayed(recorder)
    store = SQLiteStore(tmp_path / "calls.db")
    store.append(log.records)
    (call,) = rows(store.path, "SELECT source, replay_of, replay_run, provider, counted FROM llm_calls")
    store.close()
    assert call == {
        "source": "replay",
        "replay_of": ORIGINAL.call_id,
        "replay_run": "run-1",
        "provider": "acme",
        "counted": 1,
    }
