"""Try again what may succeed the next time, and no sooner than whoever was asked allows."""

from __future__ import annotations

import asyncio
import math
import random as random_numbers
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self, TypedDict, TypeVar

from hub.extractors.failures import is_transient, retry_after_ms, seconds_to_wait, status_of
from hub.extractors.values import get
from hub.tries import Attempts
from providers.errors import ConfigurationError

T = TypeVar("T")


class Sleep(Protocol):
    """How to wait between attempts: takes seconds."""

    def __call__(self, seconds: float, /) -> Awaitable[Any]: ...


class RetrySettings(TypedDict, total=False):
    """Arguments of `with_retry` that a provider's configuration may give."""

    max_retries: int
    base_delay: float
    max_delay: float
    deadline: float | None


_SETTINGS = ("max_retries", "base_delay", "max_delay", "deadline")

_ENDINGS = ("ConnectionError", "ConnectError", "NetworkError", "TimeoutError", "TimeoutException", "RateLimitError")
_NAMES = frozenset({"RemoteProtocolError", "ClientPayloadError", "Timeout", "gaierror"})


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed when it is sent again.

    What *error* says of itself counts first (`retryable`, as an LLMError has it), then its HTTP status (408, 409, 429
    and from 500 on), then whether its class is one for timeouts and broken connections, whatever library's. Never what
    is no Exception: a cancelled call stays cancelled.
    """
    if not isinstance(error, Exception):
        return False
    if isinstance(said := get(error, "retryable"), bool):
        return said
    if (status := status_of(error)) is not None:
        return is_transient(status)
    names = {cls.__name__ for cls in type(error).__mro__}
    return not names.isdisjoint(_NAMES) or any(name.endswith(_ENDINGS) for name in names)


def retry_after(error: BaseException) -> float | None:
    """In how many seconds the one who was asked allows the next attempt, as *error* or its response's headers say."""
    if (wait := seconds_to_wait(error)) is not None:
        return wait
    for source in (get(error, "response"), error):
        if (headers := get(source, "headers")) is not None and (wait := retry_after_ms(headers)) is not None:
            return wait / 1000.0
    return None


def retry_settings(extra: Mapping[str, Any], *, max_retries: int | None = None) -> tuple[RetrySettings, dict[str, Any]]:
    """Of `ProviderConfig.extra` the arguments for `with_retry`, and the rest: what a provider may send on.

    Args:
        max_retries: Where *extra* gives none.
    Raises: ConfigurationError: One of them cannot be used.
    """
    given: dict[str, Any] = {} if max_retries is None else {"max_retries": max_retries}
    given |= {key: extra[key] for key in _SETTINGS if extra.get(key) is not None}
    settings = RetrySettings(**given)  # type: ignore[typeddict-item]
    _Plan(**settings)
    return settings, {key: value for key, value in extra.items() if key not in _SETTINGS}


async def with_retry(
    func: Callable[[], Awaitable[T]],
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    *,
    deadline: float | None = None,
    retryable: Callable[[BaseException], bool] = is_retryable,
    sleep: Sleep | None = None,
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] = random_numbers.random,
) -> T:
    """Await `func()`, again where it fails and may succeed the next time; raises the last error as it came.

    Before retry n it waits a random time of at most base_delay * 2^(n-1) seconds, no longer than *max_delay*, but at
    least what the error asks for (Retry-After). Where that is more than *max_delay*, or goes beyond the *deadline*, it
    gives up at once. What is tried is one call with several attempts, where the hub records it.

    Args:
        func: Called for each attempt.
        max_retries: Attempts after the first; 0 for none.
        deadline: Seconds from now after which no attempt begins. One under way is not cut off: that is its timeout's
            work.
        retryable: Whether to try again after an error; `is_retryable` says how that is known.
        sleep: Awaited with seconds; that of the running loop when None.
        clock: In seconds.
        random: From 0 to 1.
    Raises: ConfigurationError: max_retries, a delay or the deadline cannot be used.
    """
    wait = asyncio.sleep if sleep is None else sleep
    with _Plan(max_retries, base_delay, max_delay, deadline, retryable, clock, random) as plan:
        while True:
            plan.begin()
            try:
                return await func()
            except Exception as error:
                delay = plan.delay_after(error)
                if delay is None:
                    raise
            await wait(delay)


def with_retry_sync(
    func: Callable[[], T],
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    *,
    deadline: float | None = None,
    retryable: Callable[[BaseException], bool] = is_retryable,
    sleep: Callable[[float], Any] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[], float] = random_numbers.random,
) -> T:
    """`with_retry` for a function that is not awaited."""
    with _Plan(max_retries, base_delay, max_delay, deadline, retryable, clock, random) as plan:
        while True:
            plan.begin()
            try:
                return func()
            except Exception as error:
                delay = plan.delay_after(error)
                if delay is None:
                    raise
            sleep(delay)


class _Plan:
    """When to try again, and when to give up. Around the attempts, it is what the hub is told of them by."""

    def __init__(
        self,
        max_retries: int = 3,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        deadline: float | None = None,
        retryable: Callable[[BaseException], bool] = is_retryable,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_numbers.random,
    ) -> None:
        if type(max_retries) is not int or max_retries < 0:
            raise ConfigurationError(f"max_retries {max_retries!r} cannot be used; give a whole number, 0 for none")
        for name, seconds in (("base_delay", base_delay), ("max_delay", max_delay), ("deadline", deadline)):
            if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):
                raise ConfigurationError(f"{name} {seconds!r} cannot be used; give seconds, 0 or more")
        self.max_retries, self.base_delay, self.max_delay = max_retries, base_delay, max_delay
        self.retryable, self.clock, self.random = retryable, clock, random
        self._attempts = Attempts(max_retries, clock)
        self._made = 0
        self._ends_at = math.inf if deadline is None else clock() + deadline

    def __enter__(self) -> Self:
        self._attempts.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._attempts.__exit__(kind, error, traceback)

    def begin(self) -> None:
        """The next attempt begins."""
        self._made += 1
        self._attempts.begin()

    def delay_after(self, error: Exception) -> float | None:
        """Seconds to wait after an attempt that failed with *error*; None: give up."""
        if self._made > self.max_retries or not self.retryable(error):
            return None
        longest = min(self.max_delay, self.base_delay * 2.0 ** min(self._made - 1, 64))
        asked = retry_after(error)
        delay = max(self.random() * longest, asked or 0.0)
        if (asked or 0.0) > self.max_delay or self.clock() + delay > self._ends_at:
            return None
        self._attempts.failed(error, status_of(error), asked, delay)
        return delay
