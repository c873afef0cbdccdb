"""Sends what was planned, has it recorded, and judges what left by what was seen of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from hub.calls import Call
from hub.extractors.requests import asked
from hub.recorder import Replayed
from hub.replays.answers import Answer, asked_of, of_body
from hub.replays.fidelity import differences
from hub.replays.original import REDACTED, Original, redacted
from hub.replays.plan import Plan, opened
from hub.replays.rebuild import UNSURE
from hub.replays.witness import Testimony, Witness
from hub.session import labels, session

Fidelity = Literal["exact", "lossy"]

_CHANGED = "changed by you"
_UNSEEN = "its bytes were not recorded, so that nobody can compare them"
_CUT = "its bytes were cut before they were kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A call that was sent again."""

    id: str | None
    """Of the new call, as `hub show` takes it; None when nothing was recorded."""
    of: str
    """The call it repeats."""
    fidelity: Fidelity
    """exact: the bytes that left are the original's. lossy: see `lost`."""
    lost: Mapping[str, str]
    """What was not sent, or not so, by its place in the request, with the reason. Empty when exact."""
    answer: Any = field(repr=False)
    """As the provider gave it; of a stream the list of its chunks. Of a body sent again as it was the answer's JSON,
    or the text of its event stream."""
    text: str = field(repr=False)
    """Of the answer; empty when it only calls tools, which nobody runs."""
    tool_calls: list[dict[str, Any]] = field(repr=False)
    """id, name and arguments of each."""


async def send(plan: Plan) -> Replay:
    """Send what is planned, once. Raises: whatever the provider raises; the failure is recorded."""
    try:
        return await _Sending(plan).replay()
    finally:
        await plan.target.close()


class _Sending:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.original, self.recorder = plan, plan.original, plan.recorder

    async def replay(self) -> Replay:
        if self.recorder is None:
            answer = await self._ask()
            return self._replay(None, answer, Testimony([]))
        origin = self.original
        witness = Witness(self.recorder, self.plan.run)
        with ExitStack() as stack:
            stack.callback(witness.stop)
            stack.enter_context(_belonging_to(origin))
            of = Replayed(call_id=origin.call_id, trace_id=origin.trace_id, span_id=origin.span_id, run=self.plan.run)
            group = self.recorder.group(replay=of)
            tokens = group.enter()
            try:
                answer = await self._ask()
            except BaseException as error:
                group.leave(tokens)
                group.end(error=error)
                if isinstance(error, Exception) and group.recording:
                    error.add_note(f"The replay of {origin.call_id} is recorded as {group.id}.")
                raise
            group.leave(tokens)
            group.end()
            seen = witness.testimony()
        return self._replay(group.id if seen.recorded else None, answer, seen)

    async def _ask(self) -> Answer:
        if self.plan.body is not None:
            return await self._resend(self.plan.body)
        assert self.plan.asking is not None
        return await asked_of(self.plan.asking.method, self.plan.asking.args, self.plan.asking.kwargs)

    async def _resend(self, body: bytes) -> Answer:
        resend = self.plan.target.resend
        assert resend is not None
        stream = self.plan.streams
        with self._recorded(body, stream) as call:
            given = await resend(body, path=self.plan.path, stream=stream)
            answer = of_body(given, stream=stream)
            if call is not None:
                call.end(answer.facts)
        return answer

    @contextmanager
    def _recorded(self, body: bytes, stream: bool) -> Iterator[Call | None]:
        """A layer that says who is asked for what; the transport within adds the bytes."""
        if self.recorder is None:
            yield None
            return
        wants = asked(opened(body))
        call = self.recorder.start(
            source="replay",
            provider=self.plan.target.name or self.original.provider,
            model=wants.model,
            operation=self.original.operation,
            messages=wants.messages,
            tools=wants.tools,
            params=wants.params,
            stream=stream,
            server_address=self.plan.target.host,
        )
        tokens = call.enter()
        try:
            yield call
        except BaseException as error:
            call.leave(tokens)
            call.end(error=error)
            raise
        call.leave(tokens)

    def _replay(self, call_id: str | None, answer: Answer, seen: Testimony) -> Replay:
        fidelity, lost = self._judged(seen)
        return Replay(
            id=call_id,
            of=self.original.call_id,
            fidelity=fidelity,
            lost=lost,
            answer=answer.given,
            text=answer.text,
            tool_calls=answer.tool_calls,
        )

    def _judged(self, seen: Testimony) -> tuple[Fidelity, dict[str, str]]:
        """Whether the bytes that left are the original's, by the bytes themselves where they were seen."""
        origin, left = self.original, seen.body()
        if left is None and self.plan.body is not None and self.plan.target.vouched:
            left = self.plan.body
        if origin.body_json() is not None and left is not None:
            if left == origin.body and origin.untouched:
                return "exact", {}
            lost = differences(origin.body or b"", left)
            lost.update(self._touched(lost))
            lost.update((name, _CHANGED) for name in self._changed() if name in lost)
            return "lossy", lost or {"body": "it was changed before it was kept"}
        kept = {name: why for name, why in origin.lost.items() if name not in self.plan.wanted.params}
        made = self.plan.asking.lost if self.plan.asking is not None else {}
        lost = {**kept, **made, **dict.fromkeys(self._changed(), _CHANGED)}
        told = seen.asked
        for name in list(lost):
            if (
                name not in self.plan.wanted.changed
                and not lost[name].startswith(UNSURE)
                and self._is_asked(name, told)
            ):
                del lost[name]
        lost["body"] = _UNSEEN if origin.body is None or origin.body_json() is not None else _CUT
        return "lossy", lost

    def _touched(self, found: Mapping[str, str]) -> dict[str, str]:
        """What of the stored body is no longer as it was sent."""
        if self.original.untouched:
            return {}
        known = redacted(self.original.body_json() or {})
        known = known or {name: why for name, why in self.original.lost.items() if why == REDACTED}
        return known or ({} if found else {"body": "changed before it was kept, in a place that nobody knows"})

    def _changed(self) -> list[str]:
        return sorted(self.plan.wanted.changed)

    def _is_asked(self, name: str, told: Mapping[str, Any]) -> bool:
        """Whether the new call asked for the same, in whatever way the target came to it."""
        if name == "model":
            return told.get("model") is not None and told.get("model") == self.plan.wanted.model
        if name not in self.plan.wanted.params:
            return False
        params = told.get("params")
        return isinstance(params, Mapping) and name in params and params[name] == self.plan.wanted.params[name]


@contextmanager
def _belonging_to(original: Original) -> Iterator[None]:
    """The original's session and user, unless the caller says others: who has them erased means this call too."""
    known = labels()
    with session(known.get("session_id") or original.session_id, user_id=known.get("user_id") or original.user_id):
        yield
