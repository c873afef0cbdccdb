"""HUB_OTEL_NAMES: spans by the newest names, by older ones, by OpenInference's, or by several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hub import semconv
from hub.runtime import Hub
from hub.telemetry import Tracing
from tests.hub_kit import TOOL, running
from tests.otlp_receiver import receiving

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def a_call(hub: Hub) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is A-1?"}]
    made = {"id": "call_1", "type": "function", "function": {"name": "find_order", "arguments": '{"order": "A-1"}'}}
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "sent"}
    messages = [*asked, {"role": "assistant", "content": None, "tool_calls": [made]}, answered]
    with hub.call(provider="azure_openai", model="m-1", messages=messages, tools=[TOOL], params={"top_p": 0.5}) as call:
        usage = {"input_tokens": 100, "output_tokens": 30, "cache_read_tokens": 60, "cache_write_tokens": 8}
        answer = {"role": "assistant", "content": "On its way."}
        call.response([answer], model="m-1-large", usage=usage | {"reasoning_tokens": 5}, cost_usd="0.25")


def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, *, content: bool = False) -> dict[str, Any]:
    if content:
        monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    with receiving() as receiver:
        for name, value in receiver.environ.items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, otel="export", otel_names=names) as hub:
            a_call(hub)
            hub.flush()
            (span,) = receiver.wait_for(1)
    return span.attributes


def test_older_names_stand_in_the_newest_ones_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = exported(tmp_path, monkeypatch, "older", content=True)
    assert found["gen_ai.system"] == "az.ai.openai"
    assert (found["gen_ai.usage.prompt_tokens"], found["gen_ai.usage.completion_tokens"]) == (100, 30)
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 8
    assert found["gen_ai.request.model"] == "m-1"
    assert "On its way." in found["gen_ai.completion"]
    assert "Where is A-1?" in found["gen_ai.prompt"]
    assert found["hub.status"] == "ok"
    assert not {"gen_ai.provider.name", "gen_ai.usage.cache_write.input_tokens", "gen_ai.input.messages"} & set(found)


def test_openinferences_names_say_what_phoenix_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = exported(tmp_path, monkeypatch, "openinference", content=True)
    assert not any(name.startswith("gen_ai.") for name in found)
    assert found["openinference.span.kind"] == "LLM"
    assert (found["llm.provider"], found["llm.model_name"]) == ("azure.ai.openai", "m-1-large")
    counts = {name.removeprefix("llm.token_count."): found[name] for name in found if "token_count" in name}
    assert counts == {
        "prompt": 100,
        "completion": 30,
        "total": 130,
        "prompt_details.cache_read": 60,
        "prompt_details.cache_write": 8,
        "completion_details.reasoning": 5,
    }
    assert json.loads(found["llm.invocation_parameters"]) == {"top_p": 0.5}
    assert found["llm.cost.total"] == 0.25
    assert (found["input.value"], found["output.value"]) == ("sent", "On its way.")
    sent = {name: value for name, value in found.items() if name.startswith("llm.input_messages.")}
    assert sent == {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "Where is A-1?",
        "llm.input_messages.2.message.role": "assistant",
        "llm.input_messages.2.message.tool_calls.0.tool_call.id": "call_1",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "find_order",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"order": "A-1"}',
        "llm.input_messages.3.message.role": "tool",
        "llm.input_messages.3.message.content": "sent",
        "llm.input_messages.3.message.tool_call_id": "call_1",
    }
    assert found["llm.output_messages.0.message.content"] == "On its way."
    assert "find_order" in found["llm.tools.0.tool.json_schema"]


def test_several_stand_beside_each_other_and_none_tells_text_that_was_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = exported(tmp_path, monkeypatch, "newest, older,openinference")
    assert found["gen_ai.provider.name"] == "azure.ai.openai"
    assert found["gen_ai.system"] == "az.ai.openai"
    assert found["llm.system"] == "azure.ai.openai"
    assert not any("A-1" in str(value) or "On its way" in str(value) for value in found.values())


def test_spans_made_live_have_the_same_names_and_attempts_are_no_calls(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with running(tmp_path, otel="off") as hub:
        assert hub.recorder is not None
        hub.recorder.tracing = Tracing("native", {}, provider=provider, names=("openinference",))
        with hub.call(provider="acme", model="m-1", operation="embeddings") as call:
            hub.emit("provider:retry", error_type="429")
            call.response("Fine.")
    *attempts, span = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["openinference.span.kind"] == "EMBEDDING"
    assert span.attributes["embedding.model_name"] == "m-1"
    assert not any(name.startswith("gen_ai.") for name in span.attributes)
    assert len(attempts) == 2
    assert all("openinference.span.kind" not in (attempt.attributes or {}) for attempt in attempts)


def test_every_attribute_and_metric_of_the_table_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "telemetry.md").read_text()
    constants = [value for name, value in vars(semconv).items() if name.isupper() and not name.startswith("OI_")]
    named = [value for value in constants if isinstance(value, str)]
    for table in (semconv.METRIC_USAGE, semconv.METRIC_TOKENS):
        named += table.values()
    of_the_resource = (semconv.SERVICE_NAME, semconv.DEPLOYMENT_ENVIRONMENT)
    assert [name for name in named if f"`{name}" not in text and name not in of_the_resource] == []
