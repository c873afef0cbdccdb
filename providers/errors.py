"""Everything a provider raises on purpose, under Amplifier's names.

LLMError                         also a HubError
├── AbortError                   the caller called it off
├── AuthenticationError          no key, or a wrong one (401)
│   └── AccessDeniedError        the key is good, but not for this (403)
├── ConfigurationError           the provider cannot work as it is set up
│   └── UnknownProviderError     no provider of this name (also a LookupError)
├── ContentFilterError           the vendor's filter refused request or answer
├── ContextLengthError           more than the model takes (413, or said in the answer)
├── InvalidRequestError          the vendor refused the request as it is (400, 422, other 4xx)
├── InvalidToolCallError         the model asked for a tool in a way that cannot be read
├── LLMTimeoutError              no answer in time (408): may succeed when tried again
├── NotFoundError                no such model or address (404)
├── ProviderUnavailableError     the vendor cannot answer now (409, 5xx): may succeed when tried again
│   └── NetworkError             no answer at all: refused, reset, no such host
├── RateLimitError               too many requests (429): may succeed when tried again
│   └── QuotaExceededError       nothing left to spend (402, or said in the answer)
└── StreamError                  a stream broke off or cannot be read: may succeed when tried again

Messages hold no credentials and no query of a URL, as far as those can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hub.errors import HubError


class LLMError(HubError):
    """A call to a model failed. `retryable`: the same request may succeed later; `retry_after`: in how many seconds
    the vendor says; None where that is not known."""

    usually_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status_code: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.provider, self.model, self.status_code = provider, model, status_code
        self.retryable = self.usually_retryable if retryable is None else retryable
        self.retry_after = retry_after


class AbortError(LLMError):
    """The caller called the request off."""


class AuthenticationError(LLMError):
    """No API key, or one the vendor does not accept."""


class AccessDeniedError(AuthenticationError):
    """The key is good, but not for this model, project or region."""


class ConfigurationError(LLMError):
    """The provider cannot work as it is set up."""


class UnknownProviderError(ConfigurationError, LookupError):
    """No provider has this name."""


class ContentFilterError(LLMError):
    """The vendor's filter refused the request, or its answer."""


class ContextLengthError(LLMError):
    """The request is longer than the model takes."""


class InvalidRequestError(LLMError):
    """The vendor refused the request as it is."""


class InvalidToolCallError(LLMError):
    """The model asked for a tool in a way that cannot be read. `raw_arguments` is what it wrote."""

    def __init__(
        self, message: str, *, tool_name: str | None = None, raw_arguments: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.tool_name, self.raw_arguments = tool_name, raw_arguments


class LLMTimeoutError(LLMError):
    """No answer in time."""

    usually_retryable = True


class NotFoundError(LLMError):
    """The vendor has no such model, or the address is wrong."""


class ProviderUnavailableError(LLMError):
    """The vendor cannot answer now."""

    usually_retryable = True


class NetworkError(ProviderUnavailableError):
    """There was no answer at all: the connection was refused or reset, or there is no such host."""


class RateLimitError(LLMError):
    """Too many requests, or too many tokens, in too short a time."""

    usually_retryable = True


class QuotaExceededError(RateLimitError):
    """The account has nothing left to spend: waiting does not help."""

    usually_retryable = False


class StreamError(LLMError):
    """A stream broke off, or holds what cannot be read."""

    usually_retryable = True


_BY_STATUS: Mapping[int, type[LLMError]] = {
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AccessDeniedError,
    404: NotFoundError,
    408: LLMTimeoutError,
    409: ProviderUnavailableError,
    413: ContextLengthError,
    429: RateLimitError,
}


def class_for(status_code: int) -> type[LLMError]:
    """What an HTTP status alone says, from 300 on. A redirect is a matter of configuration, as none is followed."""
    if status_code < 400:
        return ConfigurationError
    otherwise = ProviderUnavailableError if status_code >= 500 else InvalidRequestError
    return _BY_STATUS.get(status_code, otherwise)
