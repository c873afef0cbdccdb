"""OpenAI, and every server that speaks its Chat Completions.

    provider = OpenAIProvider(ProviderConfig(api_key="...", model="gpt-5-mini"))
    response = await provider.complete(ChatRequest(messages=[Message(role="user", content="Hello")]))

What becomes of a request on the wire says `providers.openai_request`, of an answer `providers.openai_response`, of a
fault `providers.http_faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import httpx
import orjson

from hub.extractors.wire import StreamReader
from providers.config import ProviderConfig, variable_prefix
from providers.contract import ChatRequest, ChatResponse, ModelTier, StreamChunk, ToolCall, as_request
from providers.errors import AuthenticationError, ConfigurationError, InvalidRequestError, InvalidToolCallError
from providers.http import HTTP, MAX_ANSWER, Answer, is_error
from providers.http_faults import Asking
from providers.models import ConfigField, ModelInfo, ProviderInfo
from providers.openai_models import listed, models_of
from providers.openai_request import body_of, encode
from providers.openai_response import Assembly, calls_of, response_of
from providers.retry import Sleep, retry_settings, with_retry

BASE_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-5-mini"
TIERS: Mapping[ModelTier, str] = {ModelTier.HOSTED_SMALL: "gpt-5-mini", ModelTier.HOSTED_LARGE: "gpt-5"}
"""Of OpenAI itself, which has none for local_small. Other servers' are for `extra["tiers"]` to say."""

RESENDABLE = frozenset({"/chat/completions", "/completions", "/responses", "/embeddings"})
"""The paths `resend` sends to."""

_CHAT = "/chat/completions"
_OWN = frozenset({"headers", "tiers", "max_tokens_field", "include_usage", "stream"})

T = TypeVar("T")


class OpenAIProvider:
    """Speaks Chat Completions with the server at `base_url`.

    Of `ProviderConfig.extra` it reads, and sends on everything else with each request:

    - `max_retries`, `base_delay`, `max_delay`, `deadline`: see `with_retry`; two retries by default
    - `headers`: sent with each request, such as {"api-key": ...} for Azure; with an authorization of their own, or an
      `api-key`, the key is not sent as a bearer token
    - `tiers`: models by tier, {"hosted_large": "gpt-5"}
    - `max_tokens_field`: what `max_output_tokens` is called: max_completion_tokens for OpenAI and Azure, max_tokens for
      other servers, unless given
    - `include_usage`: False for servers that refuse `stream_options`; streams then may lack usage

    A query in `base_url` goes with every request, such as Azure's api-version. Nothing is recorded of an exchange
    unless a traced call is open around it, of which it then is an attempt.
    """

    def __init__(
        self,
        config: ProviderConfig | None = None,
        *,
        name: str = "openai",
        http_client: httpx.AsyncClient | None = None,
        auth: httpx.Auth | None = None,
        sleep: Sleep | None = None,
    ) -> None:
        """
        Args:
            name: As in the registry. Only under its own does the provider know OpenAI's address and models.
            http_client: For proxies, certificates, limits; it is neither changed nor closed here. It belongs to one
                event loop; without it the provider may be used in any number of them.
            auth: Signs requests instead of the key: tokens that expire, AWS, Azure's Entra ID.
            sleep: Between attempts, in seconds; asyncio's where None.
        Raises: ConfigurationError: Something of it cannot be used.
        """
        self.config = config or ProviderConfig()
        self._name = name
        self._retry, extra = retry_settings(self.config.extra, max_retries=2)
        self._sleep = sleep
        self._params = {key: value for key, value in extra.items() if key not in _OWN}
        self._include_usage = extra.get("include_usage", True) is not False
        own = name == "openai"
        base_url = self.config.base_url or (BASE_URL if own else None)
        if base_url is None:
            raise ConfigurationError(
                f"{name} has no address; set {variable_prefix(name)}_BASE_URL or ProviderConfig(base_url=...)",
                provider=name,
            )
        self._tiers = _tiers(name, extra.get("tiers"), TIERS if own else {})
        self._default_model = self.config.model or (DEFAULT_MODEL if own else None)
        headers = _headers(name, extra.get("headers"))
        key = (self.config.api_key or "").strip()
        signed = auth is not None or not headers.keys().isdisjoint({"authorization", "api-key"})
        if key and not signed:
            headers["authorization"] = f"Bearer {key}"
        self._http = HTTP(
            provider=name,
            base_url=base_url,
            headers=headers,
            secrets=(key, *headers.values()),
            auth=auth,
            timeout=self.config.timeout,
            http_client=http_client,
        )
        self._lacks_key = not (key or signed or http_client) and _is_at(self._http.host, "openai.com")
        openais = _is_at(self._http.host, "openai.com", "azure.com")
        self._max_tokens_field = extra.get("max_tokens_field") or ("max_completion_tokens" if openais else "max_tokens")

    @property
    def name(self) -> str:
        return self._name

    @property
    def address(self) -> str:
        """Scheme, host and port of whom it asks."""
        return self._http.address

    @property
    def default_model(self) -> str | None:
        """The model asked when a request names none; None: then it must."""
        return self._default_model

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, {self._http.address!r}, model={self._default_model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of connections. May be called again; calls made afterwards raise ConfigurationError."""
        await self._http.close()

    def get_info(self) -> ProviderInfo:
        prefix = variable_prefix(self._name)
        title = "OpenAI" if self._name == "openai" else self._name
        return ProviderInfo(
            id=self._name,
            display_name=title,
            credential_env_vars=[f"{prefix}_API_KEY"],
            capabilities=["streaming", "tools", "json_mode", "vision", "thinking"],
            defaults={} if self._default_model is None else {"model": self._default_model},
            config_fields=[
                ConfigField(
                    id="api_key",
                    display_name="API key",
                    field_type="secret",
                    prompt=f"{title} API key",
                    env_var=f"{prefix}_API_KEY",
                ),
                ConfigField(
                    id="base_url",
                    display_name="Base URL",
                    prompt="Address of the API",
                    env_var=f"{prefix}_BASE_URL",
                    required=self._name != "openai",
                    default=BASE_URL if self._name == "openai" else None,
                ),
            ],
        )

    def get_model_for_tier(self, tier: ModelTier) -> str:
        """The model for *tier*, of `extra["tiers"]` or OpenAI's own. Raises: ConfigurationError: There is none."""
        try:
            return self._tiers[ModelTier(tier)]
        except (KeyError, ValueError):
            raise ConfigurationError(
                f"{self._name} has no model for tier {str(tier)!r}; name one in extra['tiers']",
                provider=self._name,
            ) from None

    async def list_models(self) -> list[ModelInfo]:
        """What the server lists, by name; prices and context windows as far as the server or genai-prices tells them,
        a context window or longest answer of 0 where neither does. Raises: LLMError"""
        asking = self._asking(None)
        answer = await self._again(lambda: self._http.get(asking, "/models"))
        entries = listed(answer.body)
        if entries is None:
            raise asking.not_an_answer("list of models", answer.status, answer.kind)
        return await asyncio.to_thread(models_of, entries, self._name)

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        """The tools a response asks for. Raises: InvalidToolCallError: The arguments of one are no JSON object."""
        try:
            return calls_of(response)
        except InvalidToolCallError as error:
            error.provider = self._name
            raise

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer. *kwargs* are fields of the request, or further ones of the wire, that are
        to be others in this call.

        Raises:
            LLMError: After the retries that the configuration allows.
            pydantic.ValidationError: *request* or *kwargs* are no request; nothing was sent.
        """
        asked = self._asked(request, kwargs, stream=False)

        async def attempt() -> ChatResponse:
            answer = await self._http.post(asked.asking, _CHAT, asked.body, timeout=asked.timeout)
            return _response(asked.asking, answer)

        return await self._again(attempt)

    async def stream(self, request: ChatRequest, **kwargs: Any) -> AsyncGenerator[StreamChunk, None]:
        """Ask, and get the answer in pieces; the last has the whole response. Arguments as of `complete`.

        Raises: LLMError: Tried again only as long as there was no piece yet. StreamError: The stream broke off.
        """
        asked = self._asked(request, kwargs, stream=True)

        async def attempt() -> tuple[AsyncGenerator[StreamChunk, None], StreamChunk]:
            chunks = self._chunks(asked)
            return chunks, await anext(chunks)

        chunks, first = await self._again(attempt)
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    async def resend(self, body: bytes, *, path: str = _CHAT, stream: bool = False) -> bytes:
        """Send exactly these bytes once more, and return the answer's: for replays.

        Args:
            path: One of RESENDABLE.
            stream: Whether *body* asks for server-sent events, which are returned as they came.
        Raises: LLMError: As `complete` and `stream`.
        """
        if path not in RESENDABLE:
            raise InvalidRequestError(
                f"{self._name}: nothing is sent to {path!r}; there are {', '.join(sorted(RESENDABLE))}",
                provider=self._name,
            )
        asking = self._asking(_model_in(body))

        async def attempt() -> bytes:
            if stream:
                return await self._whole_stream(asking, path, body)
            answer = await self._http.post(asking, path, body)
            _document(asking, answer, "JSON document")
            return answer.body

        return await self._again(attempt)

    async def _whole_stream(self, asking: Asking, path: str, body: bytes) -> bytes:
        reader, pieces = StreamReader(MAX_ANSWER), []
        response = await self._http.open(asking, path, body)
        async for piece in self._http.pieces(asking, response):
            pieces.append(piece)
            reader.feed(piece)
        reader.facts()
        whole = b"".join(pieces)
        if reader.error is not None:
            told = {"message": reader.error.get("error_message"), "code": reader.error.get("error_type")}
            raise asking.refused(response.status_code, encode({"error": told}))
        if not reader.whole:
            raise asking.stopped(response.status_code)
        return whole

    async def _again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await with_retry(attempt, sleep=self._sleep, **self._retry)

    def _asking(self, model: str | None) -> Asking:
        if self._lacks_key:
            raise AuthenticationError(
                f"{self._name} has no key; set {variable_prefix(self._name)}_API_KEY or ProviderConfig(api_key=...)",
                provider=self._name,
                model=model,
            )
        return self._http.asking(model)

    def _asked(self, request: ChatRequest, changes: Mapping[str, Any], *, stream: bool) -> _Asked:
        asked = as_request(request, changes)
        given = {
            "model": self._default_model,
            "temperature": self.config.temperature,
            "max_output_tokens": self.config.max_tokens,
        }
        missing = {key: value for key, value in given.items() if value is not None and getattr(asked, key) is None}
        asked = asked.model_copy(update=missing) if missing else asked
        asking = self._asking(asked.model)
        if not asked.model:
            raise ConfigurationError(
                f"{self._name} was asked for no model; name one in the request or in ProviderConfig(model=...)",
                provider=self._name,
            )
        try:
            if asked.timeout is not None and not asked.timeout > 0:
                raise InvalidRequestError(f"timeout is {asked.timeout}; it must be seconds above 0")
            body = body_of(asked, max_tokens_field=self._max_tokens_field)
            body.update((name, value) for name, value in self._params.items() if name not in body)
            if stream:
                body["stream"] = True
                if self._include_usage:
                    body.setdefault("stream_options", {"include_usage": True})
            return _Asked(asking, encode(body), asked.timeout)
        except InvalidRequestError as error:
            error.provider, error.model = self._name, asked.model
            raise

    async def _chunks(self, asked: _Asked) -> AsyncGenerator[StreamChunk, None]:
        asking, assembly = asked.asking, Assembly()
        response = await self._http.open(asking, _CHAT, asked.body, timeout=asked.timeout)
        events = self._http.events(asking, response, end=b"[DONE]", whole=lambda: assembly.whole)
        try:
            async for data in events:
                if (chunk := _added(asking, response.status_code, assembly, data)) is not None:
                    yield chunk
        finally:
            await events.aclose()
        yield StreamChunk(response=_assembled(asking, response.status_code, assembly))


class _Asked(NamedTuple):
    asking: Asking
    body: bytes
    timeout: float | None


def _added(asking: Asking, status: int, assembly: Assembly, data: bytes) -> StreamChunk | None:
    """What an event of a stream adds to *assembly*. Raises: LLMError: It is an error, or cannot be read."""
    try:
        chunk = orjson.loads(data)
        if not is_error(chunk):
            return assembly.add(chunk)
    except _SENSELESS as error:
        raise asking.unreadable(status) from error
    raise asking.refused(status, data)


def _assembled(asking: Asking, status: int, assembly: Assembly) -> ChatResponse:
    try:
        whole = assembly.response()
    except _SENSELESS as error:
        raise asking.unreadable(status) from error
    if whole is None:
        raise asking.unreadable(status)
    return whole


def _response(asking: Asking, answer: Answer) -> ChatResponse:
    document = _document(asking, answer, "chat completion")
    try:
        response = response_of(document)
    except _SENSELESS as error:
        raise asking.not_an_answer("chat completion", answer.status, answer.kind) from error
    if response is None:
        raise asking.not_an_answer("chat completion", answer.status, answer.kind)
    return response


def _document(asking: Asking, answer: Answer, wanted: str) -> dict[str, Any]:
    """Raises: LLMError: It is an error, or no JSON object."""
    try:
        document = orjson.loads(answer.body)
    except ValueError as error:
        raise asking.not_an_answer(wanted, answer.status, answer.kind) from error
    if is_error(document):
        raise asking.refused(answer.status, answer.body)
    if not isinstance(document, dict):
        raise asking.not_an_answer(wanted, answer.status, answer.kind)
    return document


_SENSELESS = (ValueError, TypeError, AttributeError, KeyError, IndexError)
"""What reading a document raises whose parts are not what their names say."""


def _model_in(body: bytes) -> str | None:
    try:
        model = orjson.loads(body)["model"]
    except (ValueError, TypeError, KeyError):
        return None
    return model if isinstance(model, str) else None


def _tiers(name: str, given: Any, usual: Mapping[ModelTier, str]) -> dict[ModelTier, str]:
    try:
        return {**usual, **{ModelTier(tier): str(model) for tier, model in dict(given or {}).items()}}
    except (TypeError, ValueError):
        known = ", ".join(tier.value for tier in ModelTier)
        raise ConfigurationError(
            f"{name}: extra['tiers'] cannot be used; give models by tier, of which there are {known}", provider=name
        ) from None


def _headers(name: str, given: Any) -> dict[str, str]:
    if not isinstance(given or {}, Mapping) or not all(
        isinstance(one, str) for pair in (given or {}).items() for one in pair
    ):
        raise ConfigurationError(f"{name}: extra['headers'] cannot be used; give names and values", provider=name)
    return {key.lower(): value for key, value in (given or {}).items()}


def _is_at(host: str, *domains: str) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
