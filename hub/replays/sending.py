"""Sends what was planned, and has it recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from hub.calls import Call
from hub.extractors.requests import asked
from hub.recorder import Replayed
from hub.replays.answers import Answer, asked_of, of_body
from hub.replays.fidelity import Fidelity, judged
from hub.replays.original import Original
from hub.replays.plan import Plan, opened
from hub.replays.witness import Testimony, Witness
from hub.session import labels, session


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
            try:
                with group.active():
                    answer = await self._ask()
            except BaseException as error:
                group.end(error=error)
                if isinstance(error, Exception) and group.recording:
                    error.add_note(f"The replay of {origin.call_id} is recorded as {group.id}.")
                raise
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
        try:
            with call.active():
                yield call
        except BaseException as error:
            call.end(error=error)
            raise

    def _replay(self, call_id: str | None, answer: Answer, seen: Testimony) -> Replay:
        fidelity, lost = judged(self.plan, seen)
        return Replay(
            id=call_id,
            of=self.original.call_id,
            fidelity=fidelity,
            lost=lost,
            answer=answer.given,
            text=answer.text,
            tool_calls=answer.tool_calls,
        )


@contextmanager
def _belonging_to(original: Original) -> Iterator[None]:
    """The original's session and user, unless the caller says others: who has them erased means this call too."""
    known = labels()
    with session(known.get("session_id") or original.session_id, user_id=known.get("user_id") or original.user_id):
        yield
