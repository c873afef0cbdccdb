"""One call's life as events."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import orjson
import pytest

from hub import LLMResponse, session
from hub.calls import Call
from hub.events import Event, decode
from hub.log import Pressure
from hub.recorder import Recorder
from tests.listlog import ListLog, recorder_on

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me a joke"}]
FOUR = ["llm:request", "llm:request:debug", "llm:response", "llm:response:debug"]


def begin(recorder: Recorder, **facts: Any) -> Call:
    return recorder.start(**{"source": "traced", "provider": "acme", "model": "acme-1", "messages": MESSAGES, **facts})


def test_a_call_is_four_events_of_one_stream_with_versions_from_one(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.end({"messages": [{"role": "assistant", "content": "No."}], "usage": {"input_tokens": 9}})
    assert log.types() == FOUR
    assert [record["version"] for record in log.records] == [1, 2, 3, 4]
    assert {record["stream_id"] for record in log.records} == {call.id} == {r["call_id"] for r in log.records}
    request, response = log.only("llm:request"), log.only("llm:response")
    assert (request["data"]["message_count"], request["data"]["has_system"]) == (2, True)
    assert response["data"]["status"] == "ok"
    assert response["data"]["duration_ms"] > 0
    assert log.only("llm:request:debug")["content"] == {"messages": MESSAGES}


def test_no_text_of_prompt_or_answer_is_in_data(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.end({"messages": [{"role": "assistant", "content": "a punchline"}]}, error=ValueError("Tell me more"))
    data = orjson.dumps([record["data"] for record in log.records]).decode()
    assert "joke" not in data
    assert "punchline" not in data
    assert "Tell me" not in data


def test_capture_none_writes_no_content_at_all(log: ListLog) -> None:
    begin(recorder_on(log, capture="none")).end(error=ValueError("secret text"))
    assert log.types() == ["llm:request", "llm:response"]
    assert [record["content"] for record in log.records] == [None, None]


def test_capture_summary_keeps_previews_only(log: ListLog) -> None:
    long = "word " * 500
    begin(recorder_on(log, capture="summary"), messages=[{"role": "user", "content": long}]).end(
        {"messages": [{"role": "assistant", "content": long}]}
    )
    for kind in ("llm:request:debug", "llm:response:debug"):
        content = log.only(kind)["content"]
        assert content is not None
        assert set(content) == {"summary"}
    assert long not in orjson.dumps([record["content"] for record in log.records]).decode()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "error"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (GeneratorExit(), "abandoned"),
    ],
)
def test_what_was_raised_gives_the_status(log: ListLog, recorder: Recorder, error: BaseException, status: str) -> None:
    begin(recorder).end(error=error)
    assert log.only("llm:response")["data"]["status"] == status


def test_the_first_end_wins(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    call.end()
    call.end(error=ValueError())
    assert log.only("llm:response")["data"]["status"] == "ok"


def test_an_inner_layer_fills_what_the_outer_did_not_see(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder, provider=None, model=None, messages=None)
    with outer.active():
        inner = begin(recorder)
        inner.end({"usage": {"input_tokens": 5, "output_tokens": 2}, "model": "acme-1-mini", "response_id": "r1"})
    outer.end({"messages": ["done"]})
    assert log.types() == ["llm:request", "llm:request:debug", *FOUR]
    data = log.only("llm:response")["data"]
    assert (data["usage"]["input_tokens"], data["model"], data["response_id"]) == (5, "acme-1-mini", "r1")
    assert data["attempts"] == 1
    assert log.records[2]["data"]["provider"] == "acme"


def test_an_inner_layer_that_knows_nothing_new_writes_nothing(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end()
    outer.end()
    assert log.types() == FOUR


def test_inner_calls_of_a_fallback_are_attempts_with_their_tokens_added_up(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        begin(recorder, provider="first").end({"usage": {"input_tokens": 3}}, error=TimeoutError("late"))
        begin(recorder, provider="second").end({"usage": {"input_tokens": 4, "output_tokens": 1}})
    outer.end()
    attempt = log.only("provider:retry")
    assert (attempt["data"]["attempt"], attempt["data"]["provider"]) == (1, "first")
    assert attempt["data"]["error_type"] == "TimeoutError"
    assert attempt["content"] == {"error": "late"}
    response = log.only("llm:response")["data"]
    assert response["attempts"] == 2
    assert response["usage"] == {"input_tokens": 7, "output_tokens": 1}


def test_an_agent_in_a_call_of_its_own_holds_the_content_of_its_newest_answer_only(
    log: ListLog, recorder: Recorder
) -> None:
    outer = begin(recorder)
    with outer.active():
        for number, failure in enumerate([None, None, ValueError("no"), None, ValueError("no")]):
            inner = begin(recorder, source="transport", messages=[{"role": "user", "content": f"question {number}"}])
            inner.wire_request(b"{}")
            answer = [{"role": "assistant", "content": f"answer {number}"}]
            inner.end({"messages": answer, "body": "{}", "usage": {"output_tokens": 1}}, error=failure)
            assert (inner.raw_request, inner.facts["messages"]) == (None, None)
        held = [layer.outcome.facts.get("body") for layer in outer.layers if layer.outcome and not layer.outcome.error]
        outer.end()
    assert held.count("{}") == 2  # of the one that failed too, whose error was told
    assert log.only("llm:response:debug")["content"] == {
        "messages": [answer[0] | {"content": "answer 3"}],
        "wire": {"body": "{}"},
    }
    assert log.only("llm:response")["data"]["usage"] == {"output_tokens": 5}


def test_a_call_that_returned_an_inner_stream_ends_with_that_stream(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        stream = begin(recorder, stream=True)
    outer.end()
    assert "llm:response" not in log.types()
    stream.end({"usage": {"output_tokens": 8}}, error=GeneratorExit())
    data = log.only("llm:response")["data"]
    assert (data["status"], data["usage"]) == ("abandoned", {"output_tokens": 8})


def test_a_call_begun_after_its_outer_one_ended_is_a_call_of_its_own(log: ListLog, recorder: Recorder) -> None:
    outer = begin(recorder)
    with outer.active():
        outer.end()
        begin(recorder).end()
    assert log.types() == FOUR * 2


def test_the_request_bytes_are_kept_as_what_stands_around_the_messages(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder, defer=True)
    wire = orjson.dumps({"model": "acme-1", "messages": MESSAGES, "temperature": 0})
    call.wire_request(wire)
    call.sent()
    content = log.only("llm:request:debug")["content"]
    assert content is not None
    rebuilt = content["wire"]["head"].encode() + orjson.dumps(content["messages"]) + content["wire"]["tail"].encode()
    assert rebuilt == wire


def test_request_bytes_that_the_messages_do_not_rebuild_are_kept_whole(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder, defer=True)
    call.wire_request(b'{ "messages": "in another form" }')
    call.sent()
    content = log.only("llm:request:debug")["content"]
    assert content is not None
    assert content["wire"] == {"body": '{ "messages": "in another form" }'}


def test_a_deferred_request_is_written_at_the_latest_by_the_end(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder, defer=True)
    assert log.types() == []
    call.end(error=ValueError())
    assert log.types() == FOUR


def test_sessions_label_calls_and_inherit(log: ListLog, recorder: Recorder) -> None:
    with session("chat-1", user_id="u1", tags={"a": 1}), session(tags={"b": "2"}):
        begin(recorder).end()
    record = log.records[0]
    assert (record["session_id"], record["user_id"], record["tags"]) == ("chat-1", "u1", {"a": "1", "b": "2"})
    begin(recorder).end()
    assert log.records[-1]["session_id"] is None


def test_an_emitted_event_joins_the_open_call_and_afterwards_the_producer(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    with call.active():
        recorder.emit("acme:rate_limit", {"retry_after_ms": 3})
        call.end()
        recorder.emit("acme:rate_limit", {"retry_after_ms": 4})
    within, after = [record for record in log.records if record["type"] == "acme:rate_limit"]
    assert within["stream_id"] == call.id
    assert after["stream_id"] not in (call.id, "")
    assert (within["data"], after["version"]) == ({"retry_after_ms": 3}, 1)


def test_the_producers_stream_is_a_new_one_each_day(log: ListLog, recorder: Recorder) -> None:
    day = 86_400 * 10**9
    assert recorder.producer_stream(0) is recorder.producer_stream(day - 1)
    assert recorder.producer_stream(day).id != recorder.producer_stream(0).id


def test_an_emit_from_a_signal_handler_in_the_middle_of_another_is_kept(log: ListLog, recorder: Recorder) -> None:
    ids, handled = recorder.new_id, iter(["once"])

    def interrupted() -> str:
        if len(log.records) == 0 and inspect.stack()[1].function == "producer_stream" and next(handled, None):
            recorder.emit("acme:signal", {})
        return ids()

    recorder.new_id = interrupted
    emitting = threading.Thread(target=recorder.emit, args=("acme:tick", {}), daemon=True)
    emitting.start()
    emitting.join(5)
    assert not emitting.is_alive()
    assert log.types() == ["acme:signal", "acme:tick"]


def test_an_event_goes_to_the_hub_it_was_given_to_though_a_call_of_another_is_open(
    log: ListLog, recorder: Recorder
) -> None:
    other = ListLog()
    with begin(recorder_on(other)).active():
        recorder.emit("acme:tick", {})
    assert log.types() == ["acme:tick"]
    assert "acme:tick" not in other.types()


class Blob(Event, type="recorder:blob"):
    data: bytes


class Loose(Event, type="recorder:loose"):
    """Takes whatever it is given."""


def test_an_event_that_pydantic_makes_no_json_of_is_kept_and_its_loss_marked(log: ListLog, recorder: Recorder) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    recorder.emit(Blob(data=b"\xff\xfe"), {})
    recorder.emit(Loose(lock=threading.Lock(), cycle=cycle, n=1), {})  # type: ignore[call-arg]  # extra ones are kept
    blob, loose = (record["data"] for record in log.records if record["type"].startswith("recorder:"))
    assert blob == {"data": {"bytes": 2}, "sanitised": {"bytes": 1}}
    assert loose == {"lock": "<_thread.lock>", "cycle": [None], "n": 1, "sanitised": {"unserialisable": 1, "cycle": 1}}


def test_the_level_of_a_contributed_event_is_told_by_its_type(log: ListLog, recorder: Recorder) -> None:
    for event_type in ("acme:tick", "acme:tick:debug", "acme:tick:raw", "acme:debug"):
        recorder.emit(event_type, {})
    assert [record["level"] for record in log.records] == ["info", "debug", "info", "info"]


def test_a_typed_subscriber_sees_the_event_with_its_version(log: ListLog, recorder: Recorder) -> None:
    seen: list[Event] = []
    stop = recorder.bus.subscribe(LLMResponse, seen.append)
    begin(recorder).end()
    (event,) = seen
    assert isinstance(event, LLMResponse)
    assert (event.status, event.envelope.version) == ("ok", 3)
    stop()
    begin(recorder).end()
    assert len(seen) == 1


def test_a_failing_subscriber_harms_nobody_and_its_message_is_not_logged(
    log: ListLog, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(event: Event) -> None:
        raise RuntimeError("prompt text")

    recorder.bus.subscribe("llm:*", explode)
    begin(recorder).end()
    assert log.types() == FOUR
    assert "RuntimeError" in caplog.text
    assert "prompt text" not in caplog.text


def test_under_pressure_content_is_shed_and_the_event_says_how_much(log: ListLog, recorder: Recorder) -> None:
    log.pressure = Pressure.SHED_CONTENT
    begin(recorder).end({"messages": ["x" * 1000]})
    assert log.types() == FOUR
    assert all(record["content"] is None for record in log.records)
    assert log.only("llm:response")["data"]["shed"] == {"reason": "spool_pressure", "bytes": 1000}


def test_what_sampling_leaves_out_is_counted_with_its_inner_calls_silent(log: ListLog) -> None:
    recorder = recorder_on(log, sample_rate=0.0)
    outer = begin(recorder)
    with outer.active():
        begin(recorder).end()
    outer.end()
    assert (log.records, log.unsampled) == ([], 1)


def test_hostile_messages_are_recorded_with_their_loss_marked(log: ListLog, recorder: Recorder) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    hostile = [{"role": "user", "content": "nul \0 and \ud800", "n": float("nan"), "big": 2**70, "c": cycle}]
    begin(recorder, messages=hostile).end()
    assert log.types() == FOUR
    marks = log.only("llm:request")["data"]["sanitised"]
    assert {"nul", "surrogate", "nan", "bigint", "cycle"} <= set(marks)


def test_a_call_begun_before_a_fork_is_not_written_by_the_child(log: ListLog, recorder: Recorder) -> None:
    call = begin(recorder)
    recorder.log = ListLog()
    call.end()
    begin(recorder).end()
    assert isinstance(recorder.log, ListLog)
    assert recorder.log.types() == FOUR
    assert log.types() == FOUR[:2]


def test_every_recorded_event_decodes_to_its_class(log: ListLog, recorder: Recorder) -> None:
    begin(recorder).end()
    assert [decode(record).envelope.type for record in log.records] == FOUR
