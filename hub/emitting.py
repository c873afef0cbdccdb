"""What `hub.emit` takes: events of the program's own, and those of a call by a provider that tells of it itself."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from typing import Any

from hub.calls import Call, SilentCall, current_call
from hub.errors import InvalidEvent
from hub.events import Event, LLMRequest, LLMResponse, check_type, payload
from hub.extractors import response_facts
from hub.extractors.requests import PARAMS, allowed, asked
from hub.extractors.usage import cost_of, usage_of
from hub.extractors.values import text
from hub.outcomes import AttemptFacts, RequestFacts, ResponseFacts, text_of
from hub.recorder import Recorder


def emit_to(recorder: Recorder | None, event: Event | str, fields: Mapping[str, Any]) -> None:
    """What `hub.emit` does, on a given recorder; None records nothing. Raises: InvalidEvent: It is no event type, or
    one that only the hub writes."""
    event_type = event if isinstance(event, str) else event.event_type
    if not event_type:
        raise InvalidEvent(
            type(event).__qualname__, 'the class has no type; declare it as class X(hub.Event, type="a:b")'
        )
    tells_of_a_call = isinstance(event, LLMRequest | LLMResponse)
    if not tells_of_a_call:
        check_type(event_type)
    if recorder is None:
        return
    try:
        if isinstance(event, LLMRequest):
            _asks(recorder, event)
        elif isinstance(event, LLMResponse):
            _answers(recorder, event)
        elif event_type != "provider:retry" or not _tries_again(recorder, event, fields):
            recorder.emit(event, fields)
    except Exception as error:
        recorder.trouble("emit", error)
    if recorder.durable and not _on_a_loop():
        recorder.sync()


def _on_a_loop() -> bool:
    """Whether an asyncio loop runs here, which a wait would hold up."""
    events = sys.modules.get("asyncio.events")  # 50 ms to import; nobody runs a loop without it
    return events is not None and events._get_running_loop() is not None


class Unsampled(SilentCall):
    """Of an emitted request that sampling left out: its response is to be left out too, but nothing else."""

    def takes_in(self, facts: RequestFacts) -> bool:
        return False


class EmittedCall(Call):
    """From an emitted request to its response; between the two it is the current call of its context. Whether the
    response comes, nobody can say: who is cancelled emits none."""

    waits_for_outer = True

    def takes_in(self, facts: RequestFacts) -> bool:
        """Not those of another model: they may have begun long after this one was given up without a word."""
        mine, theirs = self.facts.get("model"), facts.get("model")
        return self.parent is not None or mine is None or theirs is None or mine == theirs

    def _finish(self) -> None:
        if self.parent is not None and self.parent.facts.get("stream") and not self.layers:
            self._adopt(self.parent)
        super()._finish()

    def _adopt(self, outer: Call) -> None:
        """Generators do not keep what was current in them: what began since in that of *outer* began in this one."""
        for layer in [one for one in outer.untold if one is not self and one.started_ns >= self.started_ns]:
            outer.layers.remove(layer)
            outer.untold.remove(layer)
            layer.parent = self
            self.layers.append(layer)
            self.untold.append(layer)

    def __del__(self) -> None:
        try:
            if self.parent is None and self.recording and self.open:  # its context is gone, and its response with it
                self.recorder.defer(functools.partial(self.end, status="abandoned"))
        except Exception:  # at the interpreter's end
            pass


def _asks(recorder: Recorder, event: LLMRequest) -> None:
    pending = _pending(recorder)
    if pending is not None and pending.parent is None:
        pending.end(status="abandoned")
    call = recorder.begin(_request_facts(recorder, event), EmittedCall)
    call.sent()
    if call.recording:
        current_call.set(call)
    elif call.parent is None:
        current_call.set(Unsampled(recorder, {}))


def _answers(recorder: Recorder, event: LLMResponse) -> None:
    facts, status, duration_ms = _response_facts(recorder, event)
    call = _pending(recorder)
    if call is None:
        outer = recorder.outer()
        if outer is not None and outer.began:
            outer.noted = {**(outer.noted or {}), **facts}
            return
        provider = text((event.model_extra or {}).get("provider"))
        call = recorder.begin({"source": "emitted", "provider": provider, "operation": "chat"}, EmittedCall)
        call.began_at -= round((duration_ms or 0.0) * 1e6)
    if current_call.get() is call:
        current_call.set(call.parent)
    now = recorder.clock.monotonic()
    if duration_ms is not None:
        call.started_ns, call.ends_ns = now - round(duration_ms * 1e6), now
    if event.ttft_ms is not None:
        call.first_chunk_ns = call.started_ns + round(event.ttft_ms * 1e6)
    call.end(facts, status=status)


def _pending(recorder: Recorder) -> Call | None:
    """The call of this context whose response is yet to be emitted. Generators do not keep what was current in them, so
    it may have to be looked for among the layers of the call around."""
    call = recorder.outer()
    found = call if isinstance(call, EmittedCall | Unsampled) else None
    while call is not None:
        call = next((one for one in reversed(call.layers) if isinstance(one, EmittedCall) and one.open), None)
        found = call or found
    return found


def _tries_again(recorder: Recorder, event: Event | str, fields: Mapping[str, Any]) -> bool:
    """An emitted provider:retry is an attempt of the open call. Returns: Whether there is one."""
    outer = recorder.outer()
    if outer is None or not outer.began:
        return False
    said = dict(fields) if isinstance(event, str) else payload(event)
    error_type, error = _error(said)
    facts = AttemptFacts(error_type=error_type, max_retries=_whole(said.pop("max_retries", None)))
    facts["delay_ms"] = _milliseconds(said, "delay")
    facts["retry_after_ms"] = _milliseconds(said, "retry_after")
    facts["status_code"] = _whole(said.pop("status_code", None))
    facts["provider"], facts["model"] = text(said.pop("provider", None)), text(said.pop("model", None))
    facts["usage"] = usage_of(said.pop("usage", None))
    said.pop("attempt", None)  # we count them all, whoever tells
    told: Any = _plain(recorder, said) | {key: value for key, value in facts.items() if value is not None}
    outer.retry_follows(told, error=error)
    return True


def _request_facts(recorder: Recorder, event: LLMRequest) -> RequestFacts:
    said = dict(event.model_extra or {})
    raw = said.pop("raw", None)
    read = asked(raw) if isinstance(raw, Mapping) else asked({})
    messages, tools = said.pop("messages", None), said.pop("tools", None)
    more = {key: value for key in _COUNTED if (value := getattr(event, key)) is not None}
    unknown = {key: value for key, value in event.params.items() if key not in PARAMS}
    facts: RequestFacts = {
        "source": "emitted",
        "provider": event.provider,
        "model": event.model or read.model,
        "operation": event.operation,
        "messages": read.messages if messages is None else messages,
        "tools": read.tools if tools is None else tools,
        "params": {**(read.params or {}), **(allowed(event.params) or {})} or None,
        "stream": event.stream or read.stream,
        "tier": event.tier,
        "server_address": event.server_address,
        "from_config": list(event.from_config),
        "more": {**_plain(recorder, said), **more},
        "raw": _raw(raw, {**said, "params": unknown} if unknown else said),
    }
    return facts


_COUNTED = ("message_count", "has_system", "tool_count")


def _response_facts(recorder: Recorder, event: LLMResponse) -> tuple[ResponseFacts, str, float | None]:
    """Facts, status, and how long it took as far as the event says."""
    said = dict(event.model_extra or {})
    said.pop("provider", None)
    raw = said.pop("raw", None)
    facts: ResponseFacts = dict(response_facts(raw)) if isinstance(raw, Mapping) else {}  # type: ignore[assignment]
    usage = event.usage.model_dump() if event.usage is not None else None
    costs = (event.reported_cost_usd, said.pop("cost_usd", None), (usage or {}).get("cost_usd"))
    cost = next((one for one in costs if one is not None), None)
    error_type, error = _error(said)
    duration_ms = event.duration_ms if event.duration_ms is not None else _milliseconds(said, "duration")
    finish = text(said.pop("finish_reason", None))
    answer = next((a for key in ("messages", "content", "text") if (a := said.pop(key, None)) is not None), None)
    told: dict[str, Any] = {key: getattr(event, key) for key in _TOLD}
    told |= {
        "usage": {key: count for key, count in (usage_of(usage) or {}).items() if count is not None} or None,
        "finish_reasons": list(event.finish_reasons or ()) or ([finish] if finish else None),
        "reported_cost_usd": cost_of(cost),
        "cost_reporter": event.cost_reporter or ("provider" if cost is not None else None),
        "error_type": event.error_type or error_type,
        "error_message": error,
        "messages": _messages(answer),
        "more": _plain(recorder, said) or None,
        "raw": _raw(raw, said),
    }
    facts.update({key: value for key, value in told.items() if value is not None})  # type: ignore[typeddict-item]
    status = event.status
    if status not in ("ok", "error", "cancelled", "abandoned"):
        status = "error" if error_type or error else "ok"
    return facts, status, duration_ms


_TOLD = (
    *("model", "response_id", "status_code", "attempts", "chunk_count", "continuation_count", "response_cached"),
    *("retryable", "retry_after_ms"),
)


def _messages(answer: Any) -> list[Any] | None:
    if answer is None or isinstance(answer, list):
        return answer
    return [{"role": "assistant", "content": answer} if isinstance(answer, str) else answer]


def _error(said: dict[str, Any]) -> tuple[str | None, str | None]:
    """Type and text of the error that *said* tells of, both taken out of it."""
    found, message = said.pop("error", None), said.pop("error_message", None)
    kind = said.pop("error_type", None)
    if isinstance(found, Mapping):
        kind = kind or found.get("type")
        found = found.get("msg", found.get("message"))
    elif isinstance(found, BaseException):
        kind, found = kind or type(found).__qualname__, text_of(found)
    return text(kind), text(message) or text(found)


def _milliseconds(said: dict[str, Any], name: str) -> float | None:
    """`name_ms`, or *name* in seconds; both taken out of *said*."""
    seconds, exact = said.pop(name, None), said.pop(f"{name}_ms", None)
    value = exact if _is_number(exact) else seconds * 1e3 if _is_number(seconds) else None
    return None if value is None else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


_TEXTS = frozenset({"prompt", "input", "output", "message", "content", "text", "request", "response", "body", "answer"})
_OURS = frozenset({"redacted", "sanitised", "shed", "unkept", "source", "capture", "last_attempt", "replay_run"})
_OURS |= {"replay_of", "replay_of_trace_id", "replay_of_span_id"}
_NAME = re.compile(r"[\w.:/@+-]{1,64}")


_CONTENT = _TEXTS | _OURS


def _plain(recorder: Recorder, said: dict[str, Any]) -> dict[str, Any]:
    """What of *said* may stand in an event's data, taken out of it: numbers, switches, and names of one word."""
    plain = {key: value for key, value in said.items() if key not in _CONTENT and _is_plain(value)}
    for key in plain:
        del said[key]
    return recorder.cleaner.clean(plain)[0]  # type: ignore[no-any-return]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    if isinstance(value, dict):  # rate limits, budgets
        return all(_is_plain(key) and (one is None or isinstance(one, int | float)) for key, one in value.items())
    return value is None or isinstance(value, int | float)


def _raw(raw: Any, rest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is content and has no other place."""
    return {**rest, **({} if raw is None else {"raw": raw})} or None
