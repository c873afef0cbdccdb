"""Prompts and answers in spans, for those who asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hub.span_content import content_attributes
from hub.span_sink import SpanSink
from hub.telemetry import Tracing, captures_content
from tests.call_events import SECRET, CallEvents
from tests.listlog import ListLog, recorder_on
from tests.otlp_receiver import OtlpReceiver, receiving

ASKED = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


def content_of(kind: str, content: dict[str, Any], **options: Any) -> dict[str, Any]:
    (record,) = CallEvents().add(kind, content=content).records
    return {key: orjson.loads(value) for key, value in content_attributes(record, **options).items()}


def parts_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    (shaped,) = content_of("llm:request:debug", {"messages": [message]})["gen_ai.input.messages"]
    return list(shaped["parts"])


@pytest.mark.parametrize(
    ("value", "asked"),
    [("SPAN_ONLY", True), ("span_and_event", True), ("EVENT_ONLY", False), ("NO_CONTENT", False), ("true", False)],
)
def test_only_the_conventions_own_values_let_content_into_spans(value: str, asked: bool) -> None:
    assert captures_content({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value}) is asked
    assert captures_content({}) is False


def test_messages_take_the_conventions_shape() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "look_up", "arguments": '{"city":"Oslo"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    found = content_of("llm:request:debug", {"messages": messages, "tools": tools})
    assert found == {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
        "gen_ai.input.messages": [
            {"role": "user", "name": "ann", "parts": [{"type": "text", "content": "Weather?"}]},
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "c1", "name": "look_up", "arguments": '{"city":"Oslo"}'}],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
        ],
        "gen_ai.tool.definitions": tools,
    }


def test_answers_carry_their_finish_reason() -> None:
    messages = [{"role": "assistant", "content": "Rain."}, {"role": "assistant", "content": "Sun."}]
    found = content_of("llm:response:debug", {"messages": messages}, finish_reasons=["stop", "length"])
    assert [one["finish_reason"] for one in found["gen_ai.output.messages"]] == ["stop", "length"]
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Rain."}]


def test_thoughts_are_reasoning_and_images_are_named_but_not_carried() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
    assert parts_of({"role": "user", "content": [{"type": "text", "text": "see"}, image]}) == [
        {"type": "text", "content": "see"},
        {"type": "image"},
    ]
    assert parts_of({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}) == [
        {"type": "reasoning", "content": "hm"}
    ]


def test_a_shape_nobody_knows_is_carried_as_it_is() -> None:
    assert parts_of({"strange": [1]}) == [{"type": "json", "content": {"strange": [1]}}]


def test_summaries_are_not_messages() -> None:
    assert content_of("llm:request:debug", {"summary": {"text": SECRET}}) == {}


def test_content_is_exported_when_asked_for_and_error_text_with_it(receiver: OtlpReceiver) -> None:
    sink = SpanSink({}, content=captures_content(ASKED))
    sink.write(CallEvents().request().response(status="error", error="it broke").records)
    sink.close()
    (span,) = receiver.wait_for(1)
    assert orjson.loads(span.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    ]
    assert SECRET in span.attributes["gen_ai.system_instructions"]
    assert SECRET in span.attributes["gen_ai.output.messages"]
    assert span.description == "it broke"


def test_content_too_large_to_send_is_left_out_and_said_to_be(receiver: OtlpReceiver) -> None:
    sink = SpanSink({}, content=True)
    huge = {"messages": [{"role": "user", "content": "x" * (4 << 20)}]}
    sink.write(CallEvents().add("llm:request").add("llm:request:debug", content=huge).response().records)
    sink.close()
    (span,) = receiver.wait_for(1)
    assert span.attributes["hub.content.shed"] is True
    assert "gen_ai.input.messages" not in span.attributes


# Through the recorder, inside the caller's ambient trace.


def test_a_recorded_call_is_the_same_child_of_the_ambient_span_live_and_exported(receiver: OtlpReceiver) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    log = ListLog()
    recorder = recorder_on(log)
    recorder.tracing = Tracing("native", ASKED, provider=provider)
    with provider.get_tracer("app").start_as_current_span("handler") as handler:
        call = recorder.start(
            source="traced", provider="openai", model="gpt-5", messages=[{"role": "user", "content": "hi"}]
        )
        call.end({"messages": [{"role": "assistant", "content": "ho"}], "usage": {"input_tokens": 3}})
    live = next(span for span in kept.get_finished_spans() if span.name == "chat gpt-5")
    sink = SpanSink({}, content=True)
    sink.write(log.records)
    sink.close()
    (exported,) = receiver.wait_for(1)
    assert live.context is not None
    assert exported.span_id == f"{live.context.span_id:016x}"
    assert exported.parent_span_id == f"{handler.get_span_context().span_id:016x}"
    assert exported.attributes == dict(live.attributes or {})
    assert (exported.end - exported.start) == (live.end_time or 0) - (live.start_time or 0)
    assert "gen_ai.output.messages" in exported.attributes
