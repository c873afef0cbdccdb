"""Calls recorded by hand: what no wrapper sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from hub.calls import Call, Tokens
from hub.outcomes import ResponseFacts
from hub.recorder import Recorder


class ManualCall:
    """A call to a model from the start of a `with` block to its end; `async with` is the same.

    An exception that leaves the block is recorded with its status and goes on. A block that ends well without
    `response` is a call whose answer is unknown.
    """

    def __init__(self, recorder: Recorder | None, facts: Mapping[str, Any]) -> None:
        self._recorder, self._facts = recorder, facts
        self._call: Call | None = None
        self._tokens: Tokens | None = None
        self._response: ResponseFacts = {}

    @property
    def id(self) -> str | None:
        """The call's id, as `hub show` takes it; None outside the block, and when nothing is recorded."""
        return self._call.root.id or None if self._call is not None else None

    def response(
        self,
        answer: Any = None,
        *,
        usage: Mapping[str, int | None] | None = None,
        model: str | None = None,
        finish_reason: str | None = None,
        response_id: str | None = None,
        cost_usd: str | None = None,
    ) -> None:
        """What came back.

        Args:
            answer: Text, a message, or a list of messages.
            usage: input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens; input contains
                the cached ones, output the reasoning ones. What is left out is unknown.
            model: The model that served, where it is not the one asked for.
            cost_usd: What the provider charged, as a decimal number in text.
        """
        self._response = {
            "usage": usage,
            "model": model,
            "finish_reasons": None if finish_reason is None else [finish_reason],
            "response_id": response_id,
            "reported_cost_usd": None if cost_usd is None else str(cost_usd),
            "messages": None if answer is None else answer_messages(answer),
        }

    def first_chunk(self) -> None:
        """The first piece of a streamed answer is here."""
        if self._call is not None:
            self._call.first_chunk()

    def __enter__(self) -> ManualCall:
        self._begin()
        if self._recorder is not None and self._recorder.durable:
            self._recorder.sync()
        return self

    def _begin(self) -> None:
        if self._recorder is not None:
            self._call = self._recorder.start(source="emitted", **self._facts)
            self._tokens = self._call.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)
        if self._recorder is not None and self._recorder.durable:
            self._recorder.sync()

    def _end(self, error: BaseException | None) -> None:
        if self._call is not None and self._tokens is not None:
            self._call.leave(self._tokens)
            self._call.end(self._response, error=error)

    async def __aenter__(self) -> ManualCall:
        self._begin()
        if self._recorder is not None and self._recorder.durable:
            try:
                await self._recorder.async_sync()
            except BaseException as error:  # cancelled: the block is never entered, nor left
                self._end(error)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)
        if self._recorder is not None and self._recorder.durable and (error is None or isinstance(error, Exception)):
            await self._recorder.async_sync()  # not after a cancellation, which nothing is to hold up


def answer_messages(answer: Any) -> Sequence[Any]:
    """*answer* as a list of messages; plain text is the assistant's."""
    if isinstance(answer, str):
        return [{"role": "assistant", "content": answer}]
    return answer if isinstance(answer, list | tuple) else [answer]
