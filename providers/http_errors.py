"""Which error an HTTP answer is: status, headers, and a body in any vendor's shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hub.extractors.failures import retry_after_ms
from providers.config import variable_prefix
from providers.errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LLMError,
    LLMTimeoutError,
    NotFoundError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
    class_for,
)
from providers.scrubbing import scrubbed

MAX_BODY = 64 * 1024
"""Bytes of a body that are read; what an error has to say is at its beginning."""

_BY_CODE: Mapping[str, type[LLMError]] = {
    "context_length_exceeded": ContextLengthError,
    "string_above_max_length": ContextLengthError,
    "request_too_large": ContextLengthError,
    "insufficient_quota": QuotaExceededError,
    "billing_hard_limit_reached": QuotaExceededError,
    "billing_not_active": QuotaExceededError,
    "billing_error": QuotaExceededError,
    "insufficient_balance": QuotaExceededError,
    "content_filter": ContentFilterError,
    "content_policy_violation": ContentFilterError,
    "moderation_blocked": ContentFilterError,
    "responsibleaipolicyviolation": ContentFilterError,
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "permission_error": AccessDeniedError,
    "permission_denied": AccessDeniedError,
    "unsupported_country_region_territory": AccessDeniedError,
    "model_not_found": NotFoundError,
    "not_found_error": NotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "resource_exhausted": RateLimitError,
    "overloaded_error": ProviderUnavailableError,
    "api_error": ProviderUnavailableError,
    "server_error": ProviderUnavailableError,
    "timeout_error": LLMTimeoutError,
    "invalid_request_error": InvalidRequestError,
    "invalid_argument": InvalidRequestError,
}
"""What OpenAI, Azure, Anthropic, Gemini and DeepSeek write as an error's code or type, lower case (2026-11-20)."""

_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size)|too many (?:input )?tokens|prompt is too long|input is too long|"
    r"maximum (?:number of )?(?:input )?tokens",
    re.IGNORECASE,
)

_REMEDIES: Mapping[type[LLMError], str] = {
    AccessDeniedError: "the key is accepted, but not for this: ask for access to the model, or use another key",
    AuthenticationError: "check the API key: {key_variable}, or ProviderConfig(api_key=...)",
    ConfigurationError: "set base_url to the address that answers itself",
    ContentFilterError: "change what is asked; the same request will be refused again",
    ContextLengthError: "shorten the messages, or choose a model that takes more",
    InvalidRequestError: "correct the request; the same one will be refused again",
    LLMTimeoutError: "try again later",
    NotFoundError: "check the model's name, and base_url",
    ProviderUnavailableError: "try again later",
    QuotaExceededError: "add credit or raise the limit of the account; waiting does not help",
    RateLimitError: "wait, then send less at a time",
}


def error_from_response(
    status_code: int,
    body: bytes | str = b"",
    headers: Any = None,
    *,
    provider: str,
    model: str | None = None,
    secrets: Sequence[str | None] = (),
) -> LLMError:
    """The error that an answer is, to be raised by the caller.

    The vendor's words are part of its message, shortened and without secrets. Also for an error inside an answer of
    status 200, as routers send it: then the body's own code counts.

    Args:
        body: The first 64 KiB are read.
        headers: Any case-insensitive mapping, such as httpx.Headers.
        secrets: Taken out of the message wherever they stand, such as the API key.
    """
    said = _said(body)
    status = status_code if status_code >= 300 else (said.status or status_code)
    kind = _kind(status, said)
    asked = retry_after_ms(headers)
    wait = None if asked is None else asked / 1000.0
    reason = f": {scrubbed(said.message, secrets)}" if said.message else ""
    if kind is RateLimitError and wait is not None:
        remedy = f"wait {wait:g} s, then send less at a time"
    else:
        remedy = _REMEDIES[kind].format(key_variable=f"{variable_prefix(provider)}_API_KEY")
    about = f"{provider} answered {status}" + (f" for {model}" if model else "")
    return kind(
        f"{about}{reason}; {remedy}",
        provider=provider,
        model=model,
        status_code=status,
        retryable=_told_to_retry(headers),
        retry_after=wait,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What a body says of the error."""

    message: str
    codes: tuple[str, ...]
    status: int | None


def _said(body: bytes | str) -> _Said:
    raw = body[:MAX_BODY]
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    try:
        error = orjson.loads(raw)
    except ValueError:
        return _Said("" if text.lstrip().startswith("<") else text, (), None)
    while isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, Mapping) and error.get("error"):
        error = error["error"]
    if not isinstance(error, Mapping):
        return _Said(error if isinstance(error, str) else "", (), None)
    message = next((told for key in _MESSAGES if (told := _told(error.get(key)))), "")
    numbers = (int(code) for code in _values(error, "code", "status") if str(code).isdecimal() and len(str(code)) == 3)
    status = next((number for number in numbers if 400 <= number < 600), None)
    return _Said(message, tuple(str(code).lower() for code in _codes(error)), status)


_MESSAGES = ("message", "detail", "msg", "error_description", "errors")


def _told(words: Any) -> str:
    """FastAPI and others list what is wrong, and where: [{"loc": ["body", "n"], "msg": "..."}]."""
    if isinstance(words, str):
        return words
    listed = [one for one in words[:5] if isinstance(one, Mapping)] if isinstance(words, list) else []
    told = []
    for one in listed:
        said = one.get("msg") or one.get("message")
        if isinstance(said, str):
            place = one.get("loc")
            told.append(f"{'.'.join(map(str, place))}: {said}" if isinstance(place, list) and place else said)
    return ", ".join(told)


def _codes(error: Mapping[str, Any]) -> Iterator[Any]:
    """From the most exact to the most general."""
    yield from _values(error.get("innererror"), "code")
    yield from _values(error, "code", "status", "type")


def _values(error: Any, *keys: str) -> Iterator[Any]:
    if isinstance(error, Mapping):
        yield from (error[key] for key in keys if isinstance(error.get(key), str | int))


def _kind(status: int, said: _Said) -> type[LLMError]:
    coded = next((_BY_CODE[code] for code in said.codes if code in _BY_CODE), None)
    if coded in (None, InvalidRequestError) and status in (400, 413, 422, 500) and _TOO_LONG.search(said.message):
        return ContextLengthError
    by_status = class_for(status) if status >= 300 else ProviderUnavailableError
    if coded is None or (coded is InvalidRequestError and status >= 300):
        return by_status
    exact = issubclass(coded, by_status) or status in (400, 422) or not 300 <= status < 500 or coded in _TELLING
    return coded if exact else by_status


_TELLING = frozenset({ContextLengthError, QuotaExceededError, ContentFilterError})
"""Kinds whose codes say more than any status."""


def _told_to_retry(headers: Any) -> bool | None:
    """What OpenAI's servers say in a header of their own."""
    said = None if headers is None else headers.get("x-should-retry")
    return {"true": True, "false": False}.get(said) if isinstance(said, str) else None
