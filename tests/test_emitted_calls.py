"""Providers that tell of their calls themselves, with `hub.emit`."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from hub import LLMRequest, LLMRequestDebug, LLMResponse, LLMResponseDebug, ProviderRetry, traced
from hub.calls import current_call
from hub.emitting import emit_to
from hub.errors import InvalidEvent
from hub.tries import Tries, current_tries
from storage.sqlite import SQLiteStore
from tests.calls_of import ListHub, durable_hub
from tests.listlog import ListLog, recorder_on
from tests.store_rows import rows

MESSAGES = [{"role": "user", "content": "Where is my order?"}]
FOUR = ["llm:request", "llm:request:debug", "llm:response", "llm:response:debug"]


def emit(hub: ListHub, event: Any, **fields: Any) -> None:
    emit_to(hub.recorder, event, fields)


def ask(hub: ListHub, model: str | None = "m-1", **more: Any) -> None:
    emit(hub, LLMRequest(**{"provider": "acme", "model": model, "messages": MESSAGES, **more}))


def answer(hub: ListHub, **more: Any) -> None:
    emit(hub, LLMResponse(**{"status": "ok", "usage": {"input_tokens": 3, "output_tokens": 2}, **more}))


def begin(hub: ListHub, **facts: Any) -> Any:
    assert hub.recorder is not None
    return hub.recorder.start(**{"source": "traced", "provider": "acme", "model": "m-1", "messages": MESSAGES, **facts})


# Alone.


def test_a_request_and_its_response_are_a_call(hub: ListHub) -> None:
    ask(hub, message_count=7, thinking_enabled=True, thinking_budget=1024, params={"temperature": 0.5})
    answer(
        hub, model="m-1-1124", content="At home.", finish_reasons=("stop",), response_id="r-1", rate_limits={"left": 4}
    )
    assert hub.log.types() == FOUR
    call = hub.call
    assert (call.request["source"], call.request["provider"], call.request["model"]) == ("emitted", "acme", "m-1")
    assert (call.request["thinking_enabled"], call.request["thinking_budget"]) == (True, 1024)
    assert (call.request["params"], call.request["message_count"]) == ({"temperature": 0.5}, 1)
    assert (call.response["model"], call.response["finish_reasons"]) == ("m-1-1124", ["stop"])
    assert (call.response["usage"]["input_tokens"], call.response["rate_limits"]) == (3, {"left": 4})
    assert (call.sent["messages"], call.text) == (MESSAGES, "At home.")
    assert current_call.get() is None


def test_a_count_of_messages_that_are_not_told_is_kept(hub: ListHub) -> None:
    emit(hub, LLMRequest(provider="acme", model="m-1", message_count=7, has_system=True))
    answer(hub)
    assert (hub.call.request["message_count"], hub.call.request["has_system"]) == (7, True)


def test_parameters_nobody_knows_are_content(hub: ListHub) -> None:
    ask(hub, params={"temperature": 0.5, "persona": "a cat that ate homework", "stop": ["END"]})
    assert hub.call.request["params"] == {"temperature": 0.5, "stop": ["END"]}
    assert hub.call.sent["raw"] == {"params": {"persona": "a cat that ate homework"}}


def test_names_that_the_hub_gives_a_meaning_are_not_taken_from_others(hub: ListHub) -> None:
    ask(hub, replay_of="c-1", shed={"bytes": 1}, sanitised="much")
    answer(hub, last_attempt={"cost": 3}, redacted=7)
    assert hub.call.sent["raw"] == {"replay_of": "c-1", "shed": {"bytes": 1}, "sanitised": "much"}
    assert hub.call.answer["raw"] == {"last_attempt": {"cost": 3}, "redacted": 7}
    assert "replay_of" not in hub.call.request
    assert "last_attempt" not in hub.call.response


def test_an_error_that_will_not_tell_its_text_ends_its_call(hub: ListHub) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    ask(hub)
    answer(hub, status="error", error=Mute())
    assert (hub.call.status, hub.call.response["error_type"].rpartition(".")[2]) == ("error", "Mute")


def test_text_is_content_and_never_data(hub: ListHub) -> None:
    secret = "the cat ate my homework"
    ask(
        hub,
        messages=[{"role": "user", "content": secret}],
        tools=[{"name": "look"}],
        raw={"note": secret},
        prompt=secret,
    )
    answer(hub, messages=[{"role": "assistant", "content": secret}], raw={"text": secret}, note=f"{secret}\n{secret}")
    data = orjson.dumps([record["data"] for record in hub.log.records]).decode()
    assert secret not in data
    assert hub.call.sent["tools"] == [{"name": "look"}]
    assert hub.call.sent["raw"] == {"prompt": secret, "raw": {"note": secret}}
    assert hub.call.answer["raw"]["raw"] == {"text": secret}


@pytest.mark.parametrize("capture", ["none", "summary"])
def test_no_more_is_kept_than_asked_for(capture: Any) -> None:
    log = ListLog()
    hub = ListHub(log, recorder_on(log, capture=capture))
    ask(hub, raw={"note": "homework"})
    answer(hub, content="homework", error="homework", raw={"note": "homework"})
    assert [
        record["content"] for record in log.records if record["content"] and "summary" not in record["content"]
    ] == ([] if capture == "none" else [{"error": "homework"}])


def test_a_raw_request_and_a_raw_answer_are_read(hub: ListHub) -> None:
    ask(hub, model=None, messages=None, raw={"model": "gpt-5", "messages": MESSAGES, "temperature": 0})
    choice = {"message": {"role": "assistant", "content": "Here."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    answer(hub, usage=None, raw={"id": "r-1", "model": "gpt-5-1", "choices": [choice], "usage": usage})
    call = hub.call
    assert (call.request["model"], call.request["params"], call.sent["messages"]) == (
        "gpt-5",
        {"temperature": 0},
        MESSAGES,
    )
    assert (call.response["model"], call.response["usage"]["input_tokens"], call.text) == ("gpt-5-1", 5, "Here.")


@pytest.mark.parametrize(
    "given",
    [
        {"usage": {"input_tokens": 3, "output_tokens": 2, "cost_usd": "0.0125"}},
        {"cost_usd": "0.0125"},
        {"reported_cost_usd": "0.0125"},
    ],
)
def test_what_it_cost_is_kept_wherever_it_stands(hub: ListHub, given: dict[str, Any]) -> None:
    ask(hub)
    answer(hub, **given)
    data = hub.call.response
    assert (data["reported_cost_usd"], data["cost_reporter"]) == ("0.0125", "provider")
    assert "cost_usd" not in data["usage"]


@pytest.mark.parametrize("given", [{"duration_ms": 1234.5}, {"duration": 1.2345}])
def test_the_duration_that_is_told_is_kept(hub: ListHub, given: dict[str, Any]) -> None:
    ask(hub)
    answer(hub, ttft_ms=17.0, **given)
    assert (hub.call.response["duration_ms"], hub.call.response["ttft_ms"]) == (1234.5, 17.0)


def test_without_one_it_is_the_time_between_the_two(hub: ListHub) -> None:
    ask(hub)
    answer(hub)
    assert 0 < hub.call.response["duration_ms"] < 60_000


@pytest.mark.parametrize(
    ("given", "error_type"),
    [
        ({"error": "it burns"}, None),
        ({"error": {"type": "Overloaded", "msg": "it burns"}}, "Overloaded"),
        ({"error_message": "it burns", "error_type": "Overloaded"}, "Overloaded"),
        ({"error": OSError("it burns")}, "OSError"),
    ],
)
def test_an_error_is_told_with_its_type_and_its_text_is_content(
    hub: ListHub, given: dict[str, Any], error_type: str | None
) -> None:
    ask(hub)
    emit(hub, LLMResponse(status="error", duration_ms=5.0, retryable=True, status_code=529, **given))
    emit(hub, "provider:error", provider="acme", error={"type": "Overloaded", "msg": "it burns"}, retryable=True)
    (call,) = [one for one in hub.calls if one.of("llm:response")]
    assert (call.status, call.response.get("error_type"), call.error) == ("error", error_type, "it burns")
    assert (call.response["retryable"], call.response["status_code"]) == (True, 529)
    assert "it burns" not in str(call.response)


def test_a_response_alone_is_a_call_whose_request_is_unknown(hub: ListHub) -> None:
    answer(hub, provider="acme", model="m-1", duration_ms=250.0)
    call = hub.call
    assert (call.request["source"], call.request["provider"], call.request["model"]) == ("emitted", "acme", None)
    assert (call.response["model"], call.response["duration_ms"], call.status) == ("m-1", 250.0, "ok")
    assert call.of("llm:response")[0]["occurred_at"] - call.of("llm:request")[0]["occurred_at"] >= 250_000_000


def test_a_request_without_a_response_is_abandoned_by_the_next(hub: ListHub) -> None:
    ask(hub)
    ask(hub, model="m-2")
    answer(hub)
    assert [(call.request["model"], call.status) for call in hub.calls] == [("m-1", "abandoned"), ("m-2", "ok")]


def test_a_request_whose_task_was_cancelled_is_abandoned(hub: ListHub) -> None:
    async def provider() -> None:
        ask(hub)
        await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(provider())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    gc.collect()
    assert hub.call.status == "abandoned"


def test_an_unknown_status_is_ok_unless_an_error_is_told(hub: ListHub) -> None:
    ask(hub)
    answer(hub, status="completed")
    ask(hub)
    answer(hub, status="failed", error="x")
    assert [call.status for call in hub.calls] == ["ok", "error"]


def test_interleaved_tasks_each_pair_their_own(hub: ListHub) -> None:
    async def provider(number: int) -> None:
        ask(hub, model=f"m-{number}")
        for _ in range(number % 5):
            await asyncio.sleep(0)
        answer(hub, model=f"served-{number}")

    async def main() -> None:
        await asyncio.gather(*(provider(number) for number in range(100)))

    asyncio.run(main())
    pairs = {(call.request["model"], call.response["model"], call.status) for call in hub.calls}
    assert pairs == {(f"m-{number}", f"served-{number}", "ok") for number in range(100)}


def test_threads_each_pair_their_own(hub: ListHub) -> None:
    ready = threading.Barrier(8)

    def provider(number: int) -> None:
        ask(hub, model=f"m-{number}")
        ready.wait(5)
        answer(hub, model=f"served-{number}")

    threads = [threading.Thread(target=provider, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert all(call.request["model"][2:] == call.response["model"][7:] for call in hub.calls)
    assert len(hub.calls) == 8


def test_what_begins_in_between_is_part_of_the_call(hub: ListHub) -> None:
    ask(hub)
    begin(hub, source="transport").end({"usage": {"input_tokens": 3, "output_tokens": 2}, "response_id": "r-1"})
    answer(hub)
    call = hub.call
    assert (call.response["response_id"], call.response["attempts"]) == ("r-1", 1)
    assert call.response["usage"] == {"input_tokens": 3, "output_tokens": 2}


def test_a_call_of_another_model_is_no_part_of_one_that_was_given_up(hub: ListHub) -> None:
    ask(hub)
    begin(hub, model="m-2").end()
    assert [call.request["model"] for call in hub.calls] == ["m-1", "m-2"]
    assert hub.calls[1].status == "ok"


def test_what_sampling_leaves_out_stays_out_with_its_response(hub: ListHub) -> None:
    assert hub.recorder is not None
    silent = ListHub(hub.log, recorder_on(hub.log, sample_rate=0.0))
    ask(silent)
    answer(silent)
    assert (hub.log.records, hub.log.unsampled, current_call.get()) == ([], 1, None)


# Inside a traced call.


@pytest.mark.parametrize("form", ["sync", "async", "generator", "async generator"])
def test_inside_a_traced_call_they_tell_more_of_it(hub: ListHub, form: str) -> None:
    def told() -> Iterator[str]:
        ask(hub, thinking_budget=9)
        yield "At "
        begin(hub, source="transport").end({"usage": {"input_tokens": 3, "output_tokens": 2}, "status_code": 200})
        yield "home."
        answer(hub, model="m-1-1124", cost_usd="0.5")

    @traced(provider="wrapper", hub=hub)
    def sync(messages: Any) -> str:
        return "".join(told())

    @traced(provider="wrapper", hub=hub)
    async def coroutine(messages: Any) -> str:
        return "".join(told())

    @traced(provider="wrapper", hub=hub)
    def generator(messages: Any) -> Iterator[str]:
        yield from told()

    @traced(provider="wrapper", hub=hub)
    async def async_generator(messages: Any) -> AsyncIterator[str]:
        for piece in told():
            yield piece

    async def read() -> list[str]:
        return [piece async for piece in async_generator(MESSAGES)]

    match form:
        case "sync":
            sync(MESSAGES)
        case "async":
            asyncio.run(coroutine(MESSAGES))
        case "generator":
            list(generator(MESSAGES))
        case _:
            asyncio.run(read())
    call = hub.call
    assert (call.request["source"], call.request["provider"]) == ("traced", "wrapper")
    assert (call.response["model"], call.response["reported_cost_usd"]) == ("m-1-1124", "0.5")
    assert (call.response["attempts"], call.response["usage"]["input_tokens"]) == (1, 3)
    assert (call.text, call.response["status_code"]) == ("At home.", 200)


def test_a_response_alone_inside_a_traced_call_tells_more_of_it(hub: ListHub) -> None:
    call = begin(hub)
    with call.active():
        begin(hub, source="transport").end({"usage": {"input_tokens": 3, "output_tokens": 2}})
        answer(hub, response_id="r-9")
    call.end()
    data = hub.call.response
    assert (data["response_id"], data["attempts"]) == ("r-9", 1)
    assert data["usage"] == {"input_tokens": 3, "output_tokens": 2}


@pytest.mark.parametrize("answered", [True, False])
def test_an_exception_after_an_emitted_error_is_one_failed_call(hub: ListHub, answered: bool) -> None:
    call = begin(hub)
    with call.active():
        ask(hub)
        if answered:
            answer(hub, status="error", error="busy", error_type="RateLimited", retryable=True, usage=None)
            emit(hub, "provider:error", provider="acme", error={"type": "RateLimited", "msg": "busy"})
    call.end(error=ValueError("busy"))
    data = hub.call.response
    assert (data["status"], data["error_type"], data["attempts"]) == ("error", "ValueError", 1)
    assert data.get("retryable") is (True if answered else None)


def test_a_request_emitted_twice_is_one(hub: ListHub) -> None:
    call = begin(hub)
    with call.active():
        ask(hub)
        ask(hub)
        answer(hub)
    call.end()
    assert (hub.call.response["attempts"], hub.call.response["usage"]["input_tokens"]) == (1, 3)


def test_an_emitted_call_tried_again_is_two_attempts(hub: ListHub) -> None:
    call = begin(hub)
    with call.active():
        for status in ("error", "ok"):
            ask(hub)
            answer(hub, status=status)
    call.end()
    data = hub.call.response
    assert (data["attempts"], data["status"], data["usage"]["input_tokens"]) == (2, "ok", 6)


def test_emitted_calls_in_tries_are_attempts_of_one_call(hub: ListHub) -> None:
    assert hub.recorder is not None
    tries = Tries()
    token = current_tries.set(tries)
    ask(hub)
    (group,) = tries.failed()
    group.retry_follows({"delay_ms": 1.0, "error_type": "Broken"}, error="broken", began_ns=0)
    ask(hub)
    answer(hub)
    current_tries.reset(token)
    tries.end(None)
    call = hub.call
    assert (call.status, call.response["attempts"], call.retries[0]["error_type"]) == ("ok", 2, "Broken")


# Retries.


RETRY: dict[str, Any] = {
    "provider": "acme",
    "attempt": 1,
    "max_retries": 3,
    "delay": 1.5,
    "error_type": "Busy",
    "error_message": "busy",
}


@pytest.mark.parametrize("typed", [True, False])
def test_an_emitted_retry_is_an_attempt(hub: ListHub, typed: bool) -> None:
    ask(hub)
    if typed:
        emit(hub, ProviderRetry(**RETRY))
    else:
        emit(hub, "provider:retry", **RETRY)
    answer(hub)
    (retry,) = hub.call.retries
    assert (retry["attempt"], retry["max_retries"], retry["delay_ms"], retry["error_type"]) == (1, 3, 1500.0, "Busy")
    assert "busy" not in str(retry)
    assert hub.call.of("provider:retry")[0]["content"] == {"error": "busy"}
    assert hub.call.response["attempts"] == 2


def test_an_emitted_retry_of_an_attempt_that_a_transport_saw_is_not_told_twice(hub: ListHub) -> None:
    call = begin(hub)
    with call.active():
        ask(hub)
        begin(hub, source="transport").end({"status_code": 429}, status="error")
        emit(hub, "provider:retry", **RETRY)
        begin(hub, source="transport").end({"usage": {"input_tokens": 3, "output_tokens": 2}})
        answer(hub)
    call.end()
    (retry,) = hub.call.retries
    assert (retry["status_code"], retry["delay_ms"], retry["max_retries"]) == (429, 1500.0, 3)
    assert hub.call.response["attempts"] == 2


def test_an_emitted_retry_outside_of_any_call_is_an_event_of_its_own(hub: ListHub) -> None:
    emit(hub, "provider:retry", **RETRY)
    (record,) = hub.log.records
    assert (record["call_id"], record["data"]["delay"]) == (None, 1.5)


# What is refused, and the rest.


@pytest.mark.parametrize(
    "event", ["llm:request", "llm:response", "llm:whatever", "hub:started", LLMRequestDebug(), LLMResponseDebug()]
)
def test_other_events_of_the_hubs_own_are_refused(hub: ListHub, event: Any) -> None:
    with pytest.raises(InvalidEvent):
        emit(hub, event)


def test_nothing_is_recorded_without_a_recorder() -> None:
    emit_to(None, LLMRequest(model="m"), {})
    assert current_call.get() is None


def test_what_cannot_be_read_harms_nobody(hub: ListHub) -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    ask(hub, messages=Hostile(), raw={"messages": Hostile()}, odd=Hostile())
    answer(hub, raw={"choices": Hostile()}, usage={"input_tokens": -5, "output_tokens": 2**70}, cost_usd="much")
    assert hub.call.status == "ok"


def test_durable_emits_wait_for_the_disk() -> None:
    hub = durable_hub()
    ask(hub)
    answer(hub)
    assert hub.log.syncer.counts == [2, 4]


def test_the_views_show_an_emitted_call_like_any_other(hub: ListHub, tmp_path: Any) -> None:
    ask(hub)
    answer(hub, content="At home.", cost_usd="0.5", duration_ms=10.0)
    answer(hub, provider="other", model="m-2")
    store = SQLiteStore(tmp_path / "calls.db")
    store.append(hub.log.records)
    found = rows(
        store.path,
        "SELECT source, provider, request_model, response_model, cost_nanos, attempts, response_summary, counted"
        " FROM llm_calls ORDER BY cost_nanos DESC",
    )
    store.close()
    assert [tuple(row.values()) for row in found] == [
        ("emitted", "acme", "m-1", None, 500_000_000, 1, "At home.", 1),
        ("emitted", "other", None, "m-2", None, 1, None, 1),
    ]
