"""A provider that says what a script says: for tests, demos, and programs without a key.

provider = MockProvider(answers=["Hello", 429, ToolCall(id="1", name="find", arguments={})])
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from providers.config import ProviderConfig
from providers.contract import (
    ChatRequest,
    ChatResponse,
    ContentBlock,
    ModelTier,
    StreamChunk,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolCallBlock,
    ToolCallDelta,
    Usage,
    as_request,
    tool_calls_of,
)
from providers.errors import ConfigurationError, LLMError, LLMTimeoutError, StreamError, class_for
from providers.models import ModelInfo, ProviderInfo
from providers.retry import retry_settings, with_retry

Failure = int | BaseException | type[BaseException]
"""An HTTP status, or what is raised."""
Content = str | ToolCall | Sequence[ToolCall] | ChatResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """One answer of a script, in full. Without `error` it comes as a whole."""

    content: Content = ""
    delay: float = 0.0
    """Seconds before anything comes; longer than the request's timeout is a timeout."""
    chunks: Sequence[str] | None = None
    """The text in the pieces a stream gives it in; word by word when None."""
    chunk_delay: float = 0.0
    """Seconds before each further chunk of a stream."""
    error: Failure | None = None
    after_chunks: int | None = None
    """How many chunks a stream gives before it breaks off with *error*, a StreamError when that is None."""
    usage: Usage | None = None


Answer = Content | Failure | Scripted | Callable[[ChatRequest], Any]
"""What a script consists of; a callable gets the request and returns, or awaits, one of the others."""

_TIERS = {
    ModelTier.LOCAL_SMALL: "mock-local",
    ModelTier.HOSTED_SMALL: "mock-small",
    ModelTier.HOSTED_LARGE: "mock-large",
}


class MockProvider:
    """Gives the answers of a script, one for each request, and keeps the requests in `requests`.

    The same script and requests give the same answers, ids and usage; tokens are counted as words.

    Args:
        answers: A callable answers every request; None repeats what the user said. Also `extra["answers"]`.
        tiers: Also `extra["tiers"]`.
        sleep: Takes seconds; asyncio's when None.
    """

    def __init__(
        self,
        config: ProviderConfig | None = None,
        *,
        answers: Iterable[Answer] | Callable[[ChatRequest], Any] | None = None,
        name: str = "mock",
        tiers: Mapping[ModelTier, str] | None = None,
        sleep: Callable[[float], Awaitable[Any]] | None = None,
    ) -> None:
        self.config = config or ProviderConfig()
        self._name = name
        self.requests: list[ChatRequest] = []
        """Every request that came, in order; one that was tried again is there again."""
        self._retry, extra = retry_settings(self.config.extra, max_retries=0)
        script = answers if answers is not None else extra.get("answers")
        self._script: Iterator[Answer] = _script(script)
        self._tiers: dict[ModelTier, str] = {**_TIERS, **(tiers or extra.get("tiers") or {})}
        self._sleep = sleep
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_model(self) -> str:
        """The model asked when a request names none."""
        return self.config.model or "mock-1"

    def get_info(self) -> ProviderInfo:
        return ProviderInfo(
            id=self._name,
            display_name="Mock",
            capabilities=["streaming", "tools", "vision", "json_mode"],
            defaults={"model": self.default_model},
        )

    async def list_models(self) -> list[ModelInfo]:
        names = dict.fromkeys((self.default_model, *self._tiers.values()))
        return [
            ModelInfo(id=name, display_name=name, context_window=1_000_000, max_output_tokens=100_000) for name in names
        ]

    def get_model_for_tier(self, tier: ModelTier) -> str:
        """The model the script's tiers name. Raises: ConfigurationError: There is no such tier."""
        try:
            return self._tiers[ModelTier(tier)]
        except ValueError:
            known = ", ".join(tier.value for tier in ModelTier)
            raise ConfigurationError(
                f"{self._name} has no model for tier {str(tier)!r}; there are {known}", provider=self._name
            ) from None

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        return tool_calls_of(response)

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        asked = as_request(request, kwargs)

        async def attempt() -> ChatResponse:
            scripted, response = await self._answer(asked)
            if scripted.error is not None or scripted.after_chunks is not None:
                raise self._failure(scripted, response)
            return response

        return await with_retry(attempt, sleep=self._sleep, **self._retry)

    async def stream(self, request: ChatRequest, **kwargs: Any) -> AsyncIterator[StreamChunk]:
        asked = as_request(request, kwargs)

        async def attempt() -> tuple[Scripted, ChatResponse]:
            scripted, response = await self._answer(asked)
            if scripted.error is not None and not scripted.after_chunks:
                raise self._failure(scripted, response)
            return scripted, response

        scripted, response = await with_retry(attempt, sleep=self._sleep, **self._retry)
        for number, chunk in enumerate(_chunks(response, scripted.chunks)):
            if number == scripted.after_chunks:
                raise self._failure(scripted, response)
            if number and scripted.chunk_delay:
                await self._wait(scripted.chunk_delay)
            yield chunk
        if scripted.after_chunks is not None:
            raise self._failure(scripted, response)
        yield StreamChunk(response=response)

    async def close(self) -> None:
        self._closed = True

    async def _answer(self, asked: ChatRequest) -> tuple[Scripted, ChatResponse]:
        """The next answer of the script, when its time has come."""
        if self._closed:
            raise ConfigurationError(f"{self._name} is closed; make a new provider", provider=self._name)
        self.requests.append(asked.model_copy(deep=True))
        number = len(self.requests)
        answer: Any = next(self._script, None)
        if answer is None:
            raise ConfigurationError(
                f"the script of {self._name} has {number - 1} answers, and this is request {number}; add answers, or "
                "give a callable that answers every request",
                provider=self._name,
            )
        while callable(answer) and not isinstance(answer, type):
            answer = answer(asked)
            if inspect.isawaitable(answer):
                answer = await answer
        scripted = _scripted(answer)
        limit = asked.timeout if asked.timeout is not None else self.config.timeout
        if scripted.delay:
            await self._wait(scripted.delay if limit is None else min(scripted.delay, limit))
            if limit is not None and scripted.delay > limit:
                raise LLMTimeoutError(
                    f"{self._name} did not answer within {limit:g} s; try again, or with a longer timeout",
                    provider=self._name,
                    model=asked.model or self.default_model,
                )
        return scripted, self._response(scripted, asked, number)

    async def _wait(self, seconds: float) -> None:
        if self._sleep is None:
            import asyncio  # 50 ms, and who awaits has loaded it

            await asyncio.sleep(seconds)
        else:
            await self._sleep(seconds)

    def _response(self, scripted: Scripted, asked: ChatRequest, number: int) -> ChatResponse:
        content = scripted.content
        if isinstance(content, ChatResponse):
            return content
        model = asked.model or self.default_model
        calls = [content] if isinstance(content, ToolCall) else [] if isinstance(content, str) else list(content)
        text = "".join(scripted.chunks or ()) or (content if isinstance(content, str) else "")
        blocks: list[ContentBlock] = [TextBlock(text=text)] if text or not calls else []
        blocks += [ToolCallBlock(id=call.id, name=call.name, input=call.arguments) for call in calls]
        return ChatResponse(
            content=blocks,
            tool_calls=calls or None,
            usage=scripted.usage or _usage(asked, blocks),
            finish_reason="tool_calls" if calls else "stop",
            model=model,
            id=f"{self._name}-{number}",
        )

    def _failure(self, scripted: Scripted, response: ChatResponse) -> BaseException:
        error, model = scripted.error, response.model
        if isinstance(error, BaseException):
            return error
        if error is None:
            return StreamError(f"{self._name} broke off; try again", provider=self._name, model=model)
        if isinstance(error, int):
            text = f"{self._name} answered {error}, as its script says"
            return class_for(error)(text, provider=self._name, model=model, status_code=error)
        if issubclass(error, LLMError):
            return error(f"{self._name} failed, as its script says", provider=self._name, model=model)
        return error()


def _script(answers: Any) -> Iterator[Answer]:
    if answers is None:
        answers = _echo
    if callable(answers):
        return iter(lambda: answers, None)
    if isinstance(answers, str | int | BaseException | ChatResponse | ToolCall | Scripted):
        raise ConfigurationError("answers is one answer; give a list of them, or a callable that answers every request")
    return iter(answers)


def _echo(request: ChatRequest) -> str:
    said = [message for message in request.messages if message.role == "user"]
    return f"You said: {_text_of(said[-1].content)}" if said else "You said nothing."


def _scripted(answer: Any) -> Scripted:
    if isinstance(answer, Scripted):
        return answer
    if isinstance(answer, int | BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        return Scripted(error=answer)
    return Scripted(content=answer)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(getattr(block, "text", None) or getattr(block, "output", "")) for block in content)


def _usage(asked: ChatRequest, blocks: Sequence[Any]) -> Usage:
    given = sum(len(_text_of(message.content).split()) for message in asked.messages)
    gave = sum(
        len(block.text.split()) if isinstance(block, TextBlock) else len(orjson.dumps(block.input).split())
        for block in blocks
    )
    return Usage(input_tokens=given, output_tokens=gave, total_tokens=given + gave)


def _chunks(response: ChatResponse, pieces: Sequence[str] | None) -> Iterator[StreamChunk]:
    """*response* in the pieces a vendor would stream it in; *pieces* are those of its text."""
    calls = 0
    for index, block in enumerate(response.content):
        part = StreamChunk(block_index=index, block_type=block.type)
        if isinstance(block, TextBlock):
            words = pieces if pieces is not None else re.findall(r"\s*\S+\s*$|\s*\S+|\s+", block.text)
            yield from (part.model_copy(update={"delta": word}) for word in words)
            pieces = None
        elif isinstance(block, ThinkingBlock):
            yield part.model_copy(update={"thinking": block.thinking})
        elif isinstance(block, ToolCallBlock):
            written = orjson.dumps(block.input).decode()
            middle = len(written) // 2
            for piece in (
                ToolCallDelta(index=calls, id=block.id, name=block.name),
                ToolCallDelta(index=calls, arguments=written[:middle]),
                ToolCallDelta(index=calls, arguments=written[middle:]),
            ):
                yield part.model_copy(update={"tool_calls": [piece]})
            calls += 1
