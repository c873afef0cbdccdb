"""What goes wrong in an HTTP exchange, as errors of `providers.errors`.

| what happened | error |
|---|---|
| an answer of 400 or more, or an error within an answer or a stream | by status and code: see providers.errors |
| a redirect, which is never followed | ConfigurationError |
| refused, reset or no such host; an answer that breaks off before its end | NetworkError |
| no whole answer within the timeout; a stream that is silent for as long | LLMTimeoutError |
| what is no answer (an HTML page, broken JSON, no stream), or does not end | ProviderUnavailableError, not retryable |
| a stream that breaks off, stops before its end, or holds what is no JSON | StreamError |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx

from providers.errors import (
    ConfigurationError,
    LLMError,
    LLMTimeoutError,
    NetworkError,
    ProviderUnavailableError,
    StreamError,
)
from providers.http_errors import error_from_response
from providers.scrubbing import LONGEST, bare, scrubbed


@dataclass(frozen=True, slots=True)
class Asking:
    """Who is asked for what: what every error tells."""

    provider: str
    address: str
    """Scheme, host and port."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What no message may repeat; nor do those who show the variables of a traceback."""
    model: str | None = None

    def error(self, kind: type[LLMError], what: str, remedy: str, **facts: Any) -> LLMError:
        """An error that says who, *what* and what to do."""
        about = f" for {self.shown(self.model)}" if self.model else ""
        return kind(f"{self.provider}{about}: {what}; {remedy}", provider=self.provider, model=self.model, **facts)

    def shown(self, text: str) -> str:
        """*text* of somebody else's, fit for a message."""
        return scrubbed(text[: LONGEST * 4], self.secrets)

    def refused(self, status: int, body: bytes, headers: Any = None) -> LLMError:
        """What answered is an error."""
        if 300 <= status < 400:
            place = self._place(headers)
            what = f"{self.address} answered {status}{place and ' and sends on to '}{place}, which is never followed"
            return self.error(ConfigurationError, what, "set base_url to where the API is", status_code=status)
        return error_from_response(
            status, body, headers, provider=self.provider, model=self.model, secrets=self.secrets
        )

    def no_answer(self, error: Exception, timeout: float) -> LLMError:
        """*error*, httpx's, came before the end of an answer."""
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            step = (
                "no connection to" if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout) else "no answer from"
            )
            remedy = "try again, or with a longer timeout"
            return self.error(LLMTimeoutError, f"{step} {self.address} within {timeout:.4g} s", remedy)
        if isinstance(error, httpx.HTTPStatusError):  # raised by a hook of the program's client
            return self.refused(error.response.status_code, b"", error.response.headers)
        if isinstance(error, httpx.ProxyError):
            what = f"the proxy on the way to {self.address} does not let it through ({self._why(error)})"
            return self.error(NetworkError, what, "see HTTPS_PROXY, ALL_PROXY and NO_PROXY")
        if isinstance(error, httpx.ConnectError):
            what = f"cannot connect to {self.address} ({self._why(error)})"
            return self.error(NetworkError, what, "see that the server runs and base_url is right")
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.InvalidURL):
            what = f"the request cannot be sent to {self.address}"  # httpx's text may quote a header
            return self.error(ConfigurationError, what, "see base_url, and headers for what is not printable ASCII")
        if isinstance(error, httpx.DecodingError):
            what = f"the answer from {self.address} cannot be unpacked ({self._why(error)})"
            return self.error(ProviderUnavailableError, what, "see what stands between", retryable=False)
        what = f"the connection to {self.address} broke before the end of the answer ({self._why(error)})"
        return self.error(NetworkError, what, "try again")

    def broke_off(self, error: Exception, status: int) -> LLMError:
        """*error*, httpx's, came in the middle of a stream."""
        if isinstance(error, httpx.TimeoutException):
            what = "the stream fell silent"
            return self.error(LLMTimeoutError, what, "try again, or with a longer timeout", status_code=status)
        return self.error(StreamError, f"the stream broke off ({self._why(error)})", "try again", status_code=status)

    def stopped(self, status: int) -> LLMError:
        """A stream ended as if nothing was wrong, but not all was said."""
        return self.error(StreamError, "the stream stopped before its end", "try again", status_code=status)

    def unreadable(self, status: int) -> LLMError:
        """A stream has an event that makes no sense."""
        what = "the stream has an event that cannot be read"
        return self.error(StreamError, what, "try again; if it stays so, see what stands between", status_code=status)

    def not_an_answer(self, wanted: str, status: int, content_type: str) -> LLMError:
        """What came with a good status is not *wanted*."""
        kind = self.shown(content_type.partition(";")[0]) or "nothing"
        what = f"{self.address} answered {status}, but with no {wanted} (content type: {kind})"
        remedy = "see that base_url is that of an OpenAI-compatible API"
        return self.error(ProviderUnavailableError, what, remedy, status_code=status, retryable=False)

    def packed(self, encoding: str, status: int, headers: Any) -> LLMError:
        """The answer comes in an encoding that was not asked for and is not read."""
        if status >= 300:
            return self.refused(status, b"", headers)
        what = f"{self.address} answered {status}, packed as {self.shown(encoding)}, which is not read"
        remedy = "have it, or what stands between, keep to accept-encoding"
        return self.error(ProviderUnavailableError, what, remedy, status_code=status, retryable=False)

    def too_large(self, limit: int, status: int) -> LLMError:
        """The answer did not end within *limit* bytes."""
        what = f"the answer is larger than {limit >> 20} MiB and was not read on"
        return self.error(ProviderUnavailableError, what, "ask for less", status_code=status, retryable=False)

    def _place(self, headers: Any) -> str:
        """Where a redirect points to, without credentials and query; empty where it does not say."""
        location = headers.get("location", "")
        try:
            return self.shown(bare(urljoin(self.address, location))) if location else ""
        except ValueError:
            return self.shown(bare(location))

    def _why(self, error: Exception) -> str:
        return self.shown(str(error)) or type(error).__name__
