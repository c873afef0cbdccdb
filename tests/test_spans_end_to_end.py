"""Real calls and the spans that arrive: exported by the hub over both protocols, or made live on a program's tracer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, use_span

import hub as api
from hub.demo.server import LoopbackServer
from hub.runtime import Hub
from hub.span_shape import attempt_span_id
from hub.telemetry import Tracing
from tests.hub_kit import KEY, MODEL, TOOL, Traffic, ask, demo, running, select
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, receiving


@dataclass
class Scene:
    """A program with a tracer of its own and a hub, whose spans arrive at one place."""

    folder: Path
    hub: Hub
    receiver: OtlpReceiver
    tracer: Tracer
    mode: str

    @contextmanager
    def client(self, server: LoopbackServer, **settings: Any) -> Iterator[Any]:
        with openai.OpenAI(base_url=server.base_url, api_key=KEY, **settings) as plain:
            yield self.hub.traced(plain)

    def spans(self) -> list[ReceivedSpan]:
        """Of the calls, by start; the program's own left out."""
        assert self.hub.flush() == 0
        mine = [span for span in self.receiver.spans if span.scope[0] == "llm-hub"]
        return sorted(mine, key=lambda span: span.start)

    def span(self) -> ReceivedSpan:
        (span,) = self.spans()
        return span

    def own(self, name: str) -> ReceivedSpan:
        """A span of the program's."""
        (span,) = [span for span in self.receiver.spans if span.name == name]
        return span


Stage = Callable[..., Scene]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Makes scenes of a mode, and clears them away."""
    undo: list[Any] = []

    def make(mode: str, **settings: Any) -> Scene:
        protocol = "grpc" if mode == "export grpc" else "http/protobuf"
        receiver = undo_later(receiving(protocol))
        for name, value in receiver.environ.items():
            monkeypatch.setenv(name, value)
        own = receiver if protocol != "grpc" else undo_later(receiving())
        own.spans = receiver.spans
        provider = TracerProvider(resource=Resource({"service.name": "program"}))
        provider.add_span_processor(
            SimpleSpanProcessor(OTLPSpanExporter(endpoint=own.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces"))
        )
        otel = "export" if mode.startswith("export") else "off"
        hub = undo_later(running(tmp_path, service="till", environment="test", otel=otel, **settings))
        if mode == "native":
            hub.recorder.tracing = Tracing("native", provider=provider)
        return Scene(tmp_path, hub, receiver, provider.get_tracer("program"), mode)

    def undo_later(manager: Any) -> Any:
        undo.append(manager)
        return manager.__enter__()

    yield make
    for manager in reversed(undo):
        manager.__exit__(None, None, None)


@pytest.fixture(params=["export http", "export grpc", "native"])
def scene(request: pytest.FixtureRequest, stage: Stage) -> Scene:
    return stage(request.param)


def test_a_call_is_a_client_span_with_the_conventions_names(scene: Scene, server: LoopbackServer) -> None:
    asked: Any = {"temperature": 0, "max_tokens": 64, "top_p": 0.9, "seed": 7, "stop": ["END", "STOP"], "n": 2}
    asked |= {"frequency_penalty": 0.5, "presence_penalty": 0.25, "response_format": {"type": "json_object"}}
    with (
        api.session("chat-1", user_id="u1", tags={"feature": "search"}),
        scene.client(server) as client,
    ):
        answer = client.chat.completions.create(model=MODEL, messages=ask("Hello"), **asked)
    span = scene.span()
    ((call_id,),) = select(scene.folder, "SELECT call_id FROM llm_calls")
    assert (span.name, span.kind, span.status, span.description) == (f"chat {MODEL}", "CLIENT", "UNSET", "")
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["END", "STOP"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": 0.25,
        "gen_ai.output.type": "json",
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["stop", "stop"],
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.conversation.id": "chat-1",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": 200,
        "user.id": "u1",
        "hub.call.id": call_id,
        "hub.status": "ok",
        "hub.project": "shop",
        "hub.session.id": "chat-1",
        "hub.tag.feature": "search",
    }
    assert isinstance(span.attributes["gen_ai.request.temperature"], float)
    assert span.resource["service.name"] == ("program" if scene.mode == "native" else "till")


def test_the_span_lasts_as_long_as_the_call(scene: Scene, server: LoopbackServer) -> None:
    with scene.client(server) as client:
        create = client.chat.completions.create  # which imports much, the first time
        before = time.time_ns()
        options: Any = {"include_usage": True}
        slow = demo("latency=0.06 delay=0.004 chunks=6")
        asked = {"model": MODEL, "messages": ask("Slowly"), "stream": True, "stream_options": options}
        chunks = create(**asked, extra_headers=slow)
        next(chunks)
        first = time.time_ns()
        list(chunks)
        after = time.time_ns()
    span = scene.span()
    ((duration, ttft),) = select(scene.folder, "SELECT duration_ms, ttft_ms FROM llm_calls")
    assert before <= span.start <= before + 50_000_000
    assert span.start + 60_000_000 <= span.end <= after + 1_000_000
    assert (span.end - span.start) / 1e6 == pytest.approx(duration, abs=0.01)
    assert span.attributes["gen_ai.request.stream"] is True
    assert 0.06 <= span.attributes["gen_ai.response.time_to_first_chunk"] <= (first - before) / 1e9
    assert span.attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(ttft / 1000)


def test_a_call_is_a_child_of_the_ambient_span_and_the_parent_of_what_happens_in_it(
    scene: Scene, server: LoopbackServer
) -> None:
    class Instrumented(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            with scene.tracer.start_as_current_span("POST"):
                return super().handle_request(request)

    @scene.hub.traced(provider="acme", model="a-1")
    def function(messages: Any) -> str:
        with scene.tracer.start_as_current_span("inner"):
            return "Fine."

    http_client = httpx2.Client(transport=Instrumented())
    with scene.client(server, http_client=http_client) as client, scene.tracer.start_as_current_span("handler"):
        client.chat.completions.create(model=MODEL, messages=ask("Hello"))
        function(ask("Hello"))
        scene.tracer.start_span("afterwards").end()
    sdk, plain = scene.spans()
    handler = scene.own("handler")
    assert {span.trace_id for span in scene.receiver.spans} == {handler.trace_id}
    assert sdk.parent_span_id == plain.parent_span_id == handler.span_id
    assert scene.own("POST").parent_span_id == sdk.span_id
    assert scene.own("inner").parent_span_id == plain.span_id
    assert scene.own("afterwards").parent_span_id == handler.span_id
    rows = select(scene.folder, "SELECT trace_id, span_id, parent_span_id FROM llm_calls ORDER BY started_at")
    assert rows == [(span.trace_id, span.span_id, span.parent_span_id) for span in (sdk, plain)]


def test_between_two_chunks_the_consumer_is_in_its_own_trace(scene: Scene, server: LoopbackServer) -> None:
    def words(messages: Any) -> Iterator[str]:
        for word in ("one", "two"):
            with scene.tracer.start_as_current_span(f"inside {word}"):
                yield word

    traced = scene.hub.traced(words, provider="acme", model="a-1")
    with scene.client(server) as client, scene.tracer.start_as_current_span("handler"):
        for number, _ in enumerate(client.chat.completions.create(model=MODEL, messages=ask("Hi"), stream=True)):
            if number < 2:
                scene.tracer.start_span(f"between {number}").end()
        list(traced(ask("Hi")))
    handler = scene.own("handler")
    _, generator = scene.spans()
    assert {scene.own(f"between {number}").parent_span_id for number in range(2)} == {handler.span_id}
    assert scene.own("inside one").parent_span_id == generator.span_id


def test_failures_have_a_status_and_a_type_and_what_the_caller_gave_up_has_none(
    scene: Scene, server: LoopbackServer
) -> None:
    def broken(prompt: str) -> None:
        raise ValueError("the model is on fire")

    def words(prompt: str) -> Generator[str, None, None]:
        yield from "abc"

    with scene.client(server, max_retries=0) as client:
        create = client.chat.completions.create
        with suppress(openai.RateLimitError):
            create(model=MODEL, messages=ask("Hi"), extra_headers=demo("fail=429"))
        with suppress(ValueError):
            scene.hub.traced(broken)("Hi")
        list(create(model=MODEL, messages=ask("Hi"), stream=True, extra_headers=demo("end_early=2")))
        generator = scene.hub.traced(words)("Hi")
        next(generator)
        generator.close()
    found = [
        (span.status, span.description, span.attributes.get("error.type"), span.attributes["hub.status"])
        for span in scene.spans()
    ]
    assert found == [
        ("ERROR", "", "rate_limit_exceeded", "error"),
        ("ERROR", "", "ValueError", "error"),
        ("ERROR", "", "incomplete_stream", "error"),
        ("UNSET", "", None, "abandoned"),
    ]
    assert scene.spans()[0].attributes["http.response.status_code"] == 429


def test_attempts_are_children_of_the_call_one_after_the_other_without_usage(
    scene: Scene, server: LoopbackServer
) -> None:
    with scene.client(server) as client:
        again = demo("fail=503 times=2 retry_ms=20")
        client.chat.completions.create(model=MODEL, messages=ask("Again"), extra_headers=again)
    spans = {span.name: span for span in scene.spans()}
    call = spans.pop(f"chat {MODEL}")
    assert list(spans) == ["attempt 1", "attempt 2", "attempt 3"]
    assert call.attributes["hub.attempts"] == 3
    assert {span.parent_span_id for span in spans.values()} == {call.span_id}
    attempts = list(spans.values())
    assert [span.status for span in attempts] == ["ERROR", "ERROR", "UNSET"]
    assert [span.attributes["http.response.status_code"] for span in attempts] == [503, 503, 200]
    for earlier, later in pairwise(attempts):
        assert earlier.start < earlier.end <= later.start
    assert call.start <= attempts[0].start
    assert call.end - 1_000_000 <= attempts[-1].end <= call.end
    for number, span in enumerate(attempts, 1):
        assert span.attributes["hub.attempt"] == number
        assert not any("usage" in name or "cost" in name for name in span.attributes)
        if scene.mode != "native":  # a tracer gives ids of its own
            assert int(span.span_id, 16) == attempt_span_id(call.span_id, number)


def test_the_programs_events_within_a_call_are_events_of_its_span(scene: Scene) -> None:
    with scene.hub.call(provider="acme", model="a-1") as call:
        scene.hub.emit("acme:cache_miss", key="k-1", size=3, share=0.5, tried=["a", "b"])
        call.response("Fine.", cost_usd="0.0125")
    scene.hub.emit("acme:later", key="k-2")
    span = scene.span()
    ((name, at, attributes),) = span.events
    assert (name, attributes) == ("acme:cache_miss", {"key": "k-1", "size": 3, "share": 0.5, "tried": '["a","b"]'})
    assert span.start <= at <= span.end
    assert span.attributes["hub.cost.usd"] == 0.0125


def test_interleaved_calls_have_each_the_parent_of_their_own_context(scene: Scene) -> None:
    @scene.hub.traced(provider="acme", model="a-1")
    async def answer(prompt: str) -> str:
        await asyncio.sleep(0.001)
        scene.tracer.start_span(f"inside {prompt}").end()
        return prompt

    async def handle(number: int) -> None:
        with scene.tracer.start_as_current_span(f"handler {number}"), api.session(str(number)):
            await answer(str(number))

    async def main() -> None:
        await asyncio.gather(*(handle(number) for number in range(30)))

    asyncio.run(main())
    calls = scene.spans()
    assert len(calls) == 30
    for call in calls:
        number = call.attributes["hub.session.id"]
        assert call.parent_span_id == scene.own(f"handler {number}").span_id
        assert scene.own(f"inside {number}").parent_span_id == call.span_id


def test_no_text_of_prompts_answers_tools_and_errors_is_in_any_span(scene: Scene, server: LoopbackServer) -> None:
    traffic = Traffic(scene.hub, server)
    traffic.everything()
    with suppress(openai.APIError), scene.client(server, max_retries=0) as client:
        client.chat.completions.create(model=MODEL, messages=ask("Hi"), tools=[TOOL], extra_headers=demo("fail=401"))
    assert len(scene.spans()) >= 30
    sent = b"".join(scene.receiver.raw)
    texts = ["Be brief", "Hello", "Where is order", "find_order", "the model is on fire", "Incorrect API key", "Yes."]
    for (content,) in select(scene.folder, "SELECT DISTINCT content FROM llm_messages WHERE length(content) > 12"):
        texts.append(content[:30])
    assert len(texts) > 20
    assert [text for text in texts if text.encode() in sent] == []


# Sampling.


def test_calls_left_out_by_the_samplers_ratio_are_stored_and_have_no_span(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    scene = stage("export http")

    def fine(prompt: str) -> str:
        return "Fine."

    answer = scene.hub.traced(fine, provider="acme")
    for number in range(60):
        answer(str(number))
    sent = {span.span_id for span in scene.spans()}
    stored = select(scene.folder, "SELECT span_id, trace_flags & 1 FROM hub_events WHERE type = 'llm:request'")
    assert len(stored) == 60
    assert 10 <= len(sent) <= 50
    assert {span_id for span_id, sampled in stored if sampled} == sent


def test_a_parent_that_is_not_sampled_keeps_its_calls_out_of_the_trace_and_in_the_store(stage: Stage) -> None:
    scene = stage("export http")
    inside: list[int] = []
    ambient = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(0)))

    def function(prompt: str) -> str:
        span = scene.tracer.start_span("inside")
        inside.append(span.get_span_context().trace_id)
        return "Fine."

    with use_span(ambient):
        scene.hub.traced(function, provider="acme")("Hi")
    assert scene.spans() == []
    assert inside == [0xABC]
    rows = select(scene.folder, "SELECT trace_id, parent_span_id FROM llm_calls")
    assert rows == [(f"{0xABC:032x}", f"{0xDEF:016x}")]


@pytest.mark.parametrize("mode", ["export http", "native"])
def test_the_hubs_own_sampling_keeps_traces_whole_and_counts_what_it_leaves_out(mode: str, stage: Stage) -> None:
    scene = stage(mode, sample_rate=0.5)
    inside: dict[str, str] = {}

    def function(prompt: str) -> str:
        span: Any = scene.tracer.start_span("inside")
        inside[prompt] = f"{span.parent.span_id:016x}"
        return "Fine."

    answer = scene.hub.traced(function, provider="acme")
    handlers: dict[str, str] = {}
    for number in range(40):
        with scene.tracer.start_as_current_span("handler") as handler, api.session(str(number)):
            handlers[f"{number} b"] = f"{handler.get_span_context().span_id:016x}"
            answer(f"{number} a")
            answer(f"{number} b")
    spans = scene.spans()
    by_trace: dict[str, list[ReceivedSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    assert 5 <= len(by_trace) <= 35
    assert {len(calls) for calls in by_trace.values()} == {2}
    assert scene.hub.spool.counters().unsampled == 80 - len(spans)
    stored = select(scene.folder, "SELECT span_id FROM llm_calls")
    assert {span_id for (span_id,) in stored} == {span.span_id for span in spans}
    recorded = {span.attributes["hub.session.id"] for span in spans}
    for name, handler_id in handlers.items():
        if name.split()[0] not in recorded:
            assert inside[name] == handler_id, "what is not recorded is nobody's parent"


# A program with a tracer provider of its own.

PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import hub

hub.init(db_url=sys.argv[1], spool_dir=sys.argv[2], project="shop")
provider = TracerProvider(resource=Resource({"service.name": "program"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

@hub.traced(provider="acme", model="a-1")
def answer(prompt):
    with trace.get_tracer("program").start_as_current_span("inner"):
        return "Fine."

with trace.get_tracer("program").start_as_current_span("handler"):
    answer("Hi")
provider.shutdown()
assert hub.flush() == 0
"""


LOGFIRE_PROGRAM = """
import sys
import logfire

import hub

hub.init(db_url=sys.argv[1], spool_dir=sys.argv[2], project="shop")
logfire.configure(send_to_logfire=False, console=False, service_name="program", inspect_arguments=False)
logfire.instrument_openai()

@hub.traced(provider="acme", model="a-1")
def answer(prompt):
    with logfire.span("inner"):
        return "Fine."

with logfire.span("handler"):
    answer("Hi")
logfire.force_flush()
assert hub.flush() == 0
"""


@pytest.mark.parametrize("program", ["plain", "logfire"])
def test_a_program_with_a_provider_of_its_own_gets_each_span_once_from_it(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "logfire":
        pytest.importorskip("logfire", reason="logfire is not installed")
    text = PROGRAM if program == "plain" else LOGFIRE_PROGRAM
    with receiving() as receiver:
        for name, value in receiver.environ.items():
            monkeypatch.setenv(name, value)
        arguments = [sys.executable, "-c", text, str(tmp_path / "calls.db"), str(tmp_path / "spool")]
        done = subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True)
        warned = "logfire.instrument_openai traces the same calls"
        assert done.stderr.count(warned) == (program == "logfire"), done.stderr
        spans = {span.name: span for span in receiver.spans}
        assert len(receiver.spans) == 3
    assert spans["chat a-1"].parent_span_id == spans["handler"].span_id
    assert spans["inner"].parent_span_id == spans["chat a-1"].span_id
    assert {span.resource["service.name"] for span in spans.values()} == {"program"}
    ((span_id,),) = select(tmp_path, "SELECT span_id FROM llm_calls")
    assert span_id == spans["chat a-1"].span_id
