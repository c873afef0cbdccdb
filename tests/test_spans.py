"""What the spans of a call say, whoever makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, StatusCode

from hub.events import EventRecord
from hub.span_limits import Limits, limits_from
from hub.span_shape import split_address
from hub.spans import Origin, origin_of, spans_of
from tests.call_events import MS, PARENT, SECRET, SPAN, T0, TRACE, CallEvents, whole_call

ORIGIN = Origin(Resource({"service.name": "till"}), InstrumentationScope("llm-hub", "1"))


def only_span(records: Sequence[EventRecord], **options: Any) -> ReadableSpan:
    (span,) = spans_of(records, **{"origin": ORIGIN, **options})
    return span


def attributes_of(records: Sequence[EventRecord], **options: Any) -> dict[str, Any]:
    return dict(only_span(records, **options).attributes or {})


def test_a_call_becomes_a_client_span_named_by_operation_and_model_that_lasts_as_long() -> None:
    span = only_span(whole_call())
    assert (span.name, span.kind, span.status.status_code) == ("chat gpt-5", SpanKind.CLIENT, StatusCode.UNSET)
    assert (span.start_time, span.end_time) == (T0, T0 + round(250.5 * MS))
    assert span.resource is ORIGIN.resource
    assert span.instrumentation_scope is ORIGIN.scope


def test_a_span_without_a_model_is_named_by_its_operation() -> None:
    assert only_span(CallEvents().request(model=None, operation="embeddings").response().records).name == "embeddings"


def test_the_ids_minted_at_the_request_are_the_spans() -> None:
    span = only_span(whole_call(parent_span_id=PARENT, parent_is_remote=True, tracestate="a=1,b=2", trace_flags=3))
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (TRACE, SPAN)
    assert (span.context.trace_flags, span.context.trace_state.to_header()) == (3, "a=1,b=2")
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (PARENT, True)


def test_a_root_call_has_no_parent() -> None:
    assert only_span(whole_call()).parent is None


def test_request_and_response_become_the_conventions_attributes() -> None:
    call = CallEvents(session_id="chat-42", user_id="u1", tags={"feature": "search"})
    call.request(
        provider="azure",
        stream=True,
        tier="fast",
        server_address="llm.example.com:8443",
        params={"temperature": 0, "max_completion_tokens": 100, "seed": 7, "stop": "END", "n": 2, "json_mode": True},
    )
    call.response(
        model="gpt-5-2026",
        ttft_ms=40.0,
        finish_reasons=["stop", "length"],
        response_id="r-1",
        status_code=200,
        attempts=1,
        reported_cost_usd="0.0125",
        usage={
            "input_tokens": 11,
            "output_tokens": 7,
            "cache_read_tokens": 5,
            "cache_write_tokens": 0,
            "reasoning_tokens": None,
        },
    )
    assert attributes_of(call.records) == {
        "hub.call.id": call.records[0]["call_id"],
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-5",
        "hub.tier": "fast",
        "server.address": "llm.example.com",
        "server.port": 8443,
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.output.type": "json",
        "hub.status": "ok",
        "gen_ai.response.model": "gpt-5-2026",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.response.time_to_first_chunk": 0.04,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "hub.cost.usd": 0.0125,
        "http.response.status_code": 200,
        "hub.project": "shop",
        "hub.session.id": "chat-42",
        "gen_ai.conversation.id": "chat-42",
        "user.id": "u1",
        "hub.tag.feature": "search",
    }


def test_what_is_unknown_is_left_out() -> None:
    assert set(
        attributes_of(CallEvents().add("llm:request").add("llm:response", status="ok", duration_ms=1).records)
    ) == {
        "hub.call.id",
        "gen_ai.operation.name",
        "hub.status",
        "hub.project",
    }


def test_a_computed_cost_goes_before_the_reported_one() -> None:
    records = CallEvents().request().response(reported_cost_usd="1.5").records
    assert attributes_of(records, cost_usd=0.25)["hub.cost.usd"] == 0.25


def test_a_failure_has_a_type_and_no_text() -> None:
    records = CallEvents().request().response(status="error", error_type="openai.RateLimitError", error=SECRET).records
    span = only_span(records)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert (span.attributes or {})["error.type"] == "openai.RateLimitError"


def test_a_lost_call_is_a_failure_that_ends_when_it_was_found() -> None:
    records = CallEvents().request().response(status="lost", duration_ms=None, at_ms=900).records
    span = only_span(records)
    assert (span.status.status_code, span.end_time) == (StatusCode.ERROR, T0 + 900 * MS)
    assert (span.attributes or {})["error.type"] == "lost"


def test_what_the_caller_gave_up_is_no_failure() -> None:
    for status in ("cancelled", "abandoned"):
        span = only_span(CallEvents().request().response(status=status, error_type="CancelledError").records)
        assert span.status.status_code is StatusCode.UNSET
        assert (span.attributes or {})["hub.status"] == status
        assert "error.type" not in (span.attributes or {})


def test_one_attempt_has_no_span_of_its_own() -> None:
    assert len(spans_of(whole_call(), origin=ORIGIN)) == 1


def retried() -> list[EventRecord]:
    call = CallEvents().request(server_address="api.openai.com")
    call.add(
        "provider:retry", at_ms=50, attempt=1, delay_ms=20, error_type="429", status_code=429, content={"error": SECRET}
    )
    call.add(
        "provider:retry", at_ms=100, duration_ms=10, error_type="500", status_code=500, provider="other", model="m2"
    )
    return call.response(attempts=3, status_code=200, usage={"input_tokens": 1}, reported_cost_usd="1").records


def test_an_attempt_names_the_provider_and_the_model_it_asked() -> None:
    call = CallEvents().request(provider="router", model="any")
    call.add("provider:retry", at_ms=50, attempt=1, provider="openai", model="gpt-5")
    last = {"provider": "azure", "model": "gpt-5-mini", "status_code": 200}
    _, *attempts = spans_of(call.response(attempts=2, last_attempt=last).records, origin=ORIGIN)
    named = [dict(span.attributes or {}) for span in attempts]
    assert [one["gen_ai.request.model"] for one in named] == ["gpt-5", "gpt-5-mini"]
    assert [one["gen_ai.provider.name"] for one in named] == ["openai", "azure.ai.openai"]
    assert named[1]["http.response.status_code"] == 200


def test_attempts_are_children_one_after_the_other_without_usage_or_cost() -> None:
    call, *attempts = spans_of(retried(), origin=ORIGIN)
    assert [span.name for span in attempts] == ["attempt 1", "attempt 2", "attempt 3"]
    assert all(span.parent == call.context for span in attempts)
    times = [((span.start_time or 0) - T0, (span.end_time or 0) - T0) for span in attempts]
    assert times == [(0, 50 * MS), (90 * MS, 100 * MS), (100 * MS, round(250.5 * MS))]
    error, unset = StatusCode.ERROR, StatusCode.UNSET
    assert [span.status.status_code for span in attempts] == [error, error, unset]
    first, second, last = (dict(span.attributes or {}) for span in attempts)
    assert (first["error.type"], first["http.response.status_code"], first["hub.attempt.delay_ms"]) == ("429", 429, 20)
    assert (second["gen_ai.provider.name"], second["gen_ai.request.model"]) == ("other", "m2")
    assert last == {
        "hub.call.id": call.attributes["hub.call.id"],  # type: ignore[index]
        "hub.attempt": 3,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "server.address": "api.openai.com",
        "http.response.status_code": 200,
    }
    assert call.attributes["hub.attempts"] == 3  # type: ignore[index]


def test_the_same_events_give_the_same_spans() -> None:
    first, second = (spans_of(retried(), origin=ORIGIN) for _ in range(2))
    assert [span.to_json() for span in first] == [span.to_json() for span in second]
    assert len({span.context.span_id for span in first if span.context}) == 4


def test_events_within_the_call_are_events_on_the_span_without_their_content() -> None:
    call = CallEvents().request()
    call.add("acme:rate_limit", at_ms=10, retry_after_ms=3000, nested={"a": [1]}, none=None)
    call.add("provider:throttle", at_ms=20, delay_ms=5.5, content={"error": SECRET})
    call.add("acme:huge", at_ms=30, blob="x" * 10_000)
    span = only_span(call.response().add("acme:late", at_ms=999).records)
    assert [(event.name, event.timestamp - T0, dict(event.attributes or {})) for event in span.events] == [
        ("acme:rate_limit", 10 * MS, {"retry_after_ms": 3000, "nested": '{"a":[1]}'}),
        ("provider:throttle", 20 * MS, {"delay_ms": 5.5}),
    ]


def test_what_the_outer_layer_did_not_know_the_inner_request_tells() -> None:
    call = (
        CallEvents().request(provider=None, model=None).add("llm:request", provider="openai", model="gpt-5", tier="x")
    )
    span = only_span(call.response().records)
    assert span.name == "chat gpt-5"
    assert (span.attributes or {})["gen_ai.provider.name"] == "openai"


def test_a_replay_links_to_the_call_it_repeats() -> None:
    original = {"replay_of": "01900000-aaaa-7000-8000-000000000001", "replay_run": "r1"}
    call = CallEvents().request(**original, replay_of_trace_id=TRACE, replay_of_span_id=PARENT)
    span = only_span(call.response().records)
    assert [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links] == [
        (TRACE, PARENT)
    ]
    assert (span.attributes or {})["hub.replay.of_call_id"] == original["replay_of"]
    assert (span.attributes or {})["hub.replay.run"] == "r1"


def test_no_text_of_prompt_answer_or_error_is_in_a_span() -> None:
    records = retried()
    records[-2]["content"] = {"error": SECRET}
    assert all(SECRET not in span.to_json() for span in spans_of(records, origin=ORIGIN))


def test_limits_cut_attributes_values_and_events_and_say_how_many() -> None:
    call = CallEvents().request(model="m" * 50).add("acme:a", at_ms=1, b=1, c=2).add("acme:b", at_ms=2)
    limits = limits_from(
        {
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "4",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5",
            "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
        }
    )
    span = only_span(call.response().records, origin=Origin(ORIGIN.resource, ORIGIN.scope, limits))
    assert list(span.attributes or {}) == [
        "hub.call.id",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
    ]
    assert (span.attributes or {})["gen_ai.request.model"] == "mmmmm"
    assert (span.dropped_attributes, span.dropped_events) == (2, 1)
    assert [dict(event.attributes or {}) for event in span.events] == [{"b": 1}]


def test_limits_follow_the_variables_like_the_sdk_and_ignore_nonsense() -> None:
    assert limits_from({}) == Limits()
    assert limits_from({"OTEL_ATTRIBUTE_COUNT_LIMIT": "9"}).attributes == 9
    assert (
        limits_from({"OTEL_ATTRIBUTE_COUNT_LIMIT": "9", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "unset"}).attributes is None
    )
    assert limits_from({"OTEL_SPAN_EVENT_COUNT_LIMIT": "many"}) == Limits()


def test_values_that_cannot_be_encoded_do_not_reach_the_exporter() -> None:
    call = CallEvents(tags={"odd\ud800": "\ud800"}).request(model="m\ud83d", params={"seed": 2**70})
    attributes = attributes_of(call.response().records)
    assert attributes["gen_ai.request.model"] == "m?"
    assert attributes["gen_ai.request.seed"] == str(2**70)
    assert attributes["hub.tag.odd?"] == "?"


def test_a_call_without_an_end_or_a_beginning_has_no_span() -> None:
    records = whole_call()
    assert spans_of(records[:2], origin=ORIGIN) == []
    assert spans_of(records[2:], origin=ORIGIN) == []


def test_what_hub_started_recorded_is_enough_to_make_the_spans_again() -> None:
    started = {
        "resource": {"service.name": "till", "x": [1, 2]},
        "scope": {"name": "llm-hub", "version": "0.9"},
        "limits": Limits(attributes=3).as_data(),
    }
    origin = origin_of(started)
    assert dict(origin.resource.attributes) == {"service.name": "till", "x": (1, 2)}
    assert (origin.scope.name, origin.scope.version, origin.limits) == ("llm-hub", "0.9", Limits(attributes=3))
    assert origin_of({}).limits == Limits()


def test_addresses_are_split_into_host_and_port() -> None:
    assert split_address("api.openai.com") == ("api.openai.com", None)
    assert split_address("localhost:8080") == ("localhost", 8080)
    assert split_address("[::1]:8080") == ("::1", 8080)
    assert split_address("::1") == ("::1", None)
    assert split_address(None) == (None, None)
