"""A program whose OpenAI client is instrumented by somebody else's library, or by `hub.traced`.

    python -m tests.instrumented_program NAME BASE_URL

NAME: traced, openinference, traceloop or logfire. Spans go where OTEL_EXPORTER_OTLP_ENDPOINT says, traced calls where
HUB_DB_URL does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import openai

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "Looks an order up",
            "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
        },
    }
]
CASES = ("plain", "stream", "tool call", "tool result", "refused", "embeddings")


def _provider() -> Any:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def _openinference(client: openai.OpenAI) -> Callable[[], object]:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = _provider()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    finish: Callable[[], object] = provider.shutdown
    return finish


def _traceloop(client: openai.OpenAI) -> Callable[[], object]:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider = _provider()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    finish: Callable[[], object] = provider.shutdown
    return finish


def _logfire(client: openai.OpenAI) -> Callable[[], object]:
    import logfire

    logfire.configure(send_to_logfire=False, console=False)  # spans go to OTEL_EXPORTER_OTLP_ENDPOINT all the same
    logfire.instrument_openai(client)
    finish: Callable[[], object] = logfire.shutdown
    return finish


INSTRUMENTATIONS = {"openinference": _openinference, "traceloop": _traceloop, "logfire": _logfire}


def calls(client: Any) -> None:
    """One of each of CASES, in that order."""
    chat = client.chat.completions
    where = {"role": "user", "content": "Where is order 1042?"}
    brief = {"role": "system", "content": "Be brief"}
    chat.create(model="gpt-4o-mini", messages=[brief, where], temperature=0.2, max_tokens=50)
    for _ in chat.create(model="gpt-4o-mini", messages=[where], stream=True, stream_options={"include_usage": True}):
        pass
    asked = chat.create(model="gpt-4o-mini", messages=[where], tools=TOOLS).choices[0].message
    (call,) = asked.tool_calls
    answer = {"role": "tool", "tool_call_id": call.id, "content": "on its way"}
    chat.create(model="gpt-4o-mini", messages=[where, asked.model_dump(exclude_none=True), answer], tools=TOOLS)
    try:
        chat.create(model="gpt-4o-mini", messages=[where], extra_headers={"x-demo": "fail=401"})
    except openai.AuthenticationError:
        pass
    client.embeddings.create(model="text-embedding-3-small", input=["kettle", "teapot"])


def main(name: str, base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="sk-none", max_retries=0)
    if name == "traced":
        import hub

        calls(hub.traced(client))
        hub.flush(30)
        return
    os.environ["TRACELOOP_TRACE_CONTENT"] = "true"
    finish = INSTRUMENTATIONS[name](client)
    calls(client)
    finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
