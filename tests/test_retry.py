"""Retries: what is tried again, when and how often, and what is raised."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import aiohttp
import amplifier_core.llm_errors as amplifier
import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import (
    ConfigurationError,
    InvalidRequestError,
    NetworkError,
    QuotaExceededError,
    RateLimitError,
)
from providers.retry import is_retryable, retry_after, retry_settings, with_retry, with_retry_sync
from tests.trial import Trial


def in_sync(trial: Trial, **options: Any) -> str:
    return with_retry_sync(trial, sleep=trial.sleep, clock=trial.clock, **{"random": lambda: 1.0, **options})


def in_async(trial: Trial, **options: Any) -> str:
    async def attempt() -> str:
        return trial()

    async def sleep(seconds: float) -> None:
        trial.sleep(seconds)

    options = {"random": lambda: 1.0, **options}
    return asyncio.run(with_retry(attempt, sleep=sleep, clock=trial.clock, **options))


both = pytest.mark.parametrize("run", [in_sync, in_async])
Run = Callable[..., str]


def slow(**facts: Any) -> RateLimitError:
    return RateLimitError("slow", **facts)


# When, and how often.


@both
def test_what_goes_well_is_tried_once(run: Run) -> None:
    trial = Trial()
    assert (run(trial), trial.tries, trial.waited) == ("done", 1, [])


@both
def test_the_wait_doubles_up_to_its_limit(run: Run) -> None:
    trial = Trial(*[slow() for _ in range(6)])
    assert run(trial, max_retries=6, base_delay=1.0, max_delay=10.0) == "done"
    assert trial.waited == [1, 2, 4, 8, 10, 10]


@both
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_wait_is_any_part_of_that(run: Run, share: float) -> None:
    trial = Trial(slow(), slow(), slow())
    run(trial, base_delay=2.0, random=lambda: share)
    assert trial.waited == [2 * share, 4 * share, 8 * share]


@both
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_last_error_is_raised_as_it_came(run: Run, retries: int) -> None:
    errors = [slow() for _ in range(5)]
    trial = Trial(*errors)
    with pytest.raises(RateLimitError) as caught:
        run(trial, max_retries=retries)
    assert caught.value is errors[retries]
    assert trial.tries == retries + 1
    assert len(trial.waited) == retries
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@both
def test_what_does_not_help_is_not_tried_again(run: Run) -> None:
    for error in (InvalidRequestError("bad"), QuotaExceededError("no money"), ValueError("x"), slow(retryable=False)):
        trial = Trial(error)
        with pytest.raises(type(error)) as caught:
            run(trial)
        assert (caught.value, trial.tries) == (error, 1)


@both
def test_an_error_that_does_not_help_ends_the_retries(run: Run) -> None:
    trial = Trial(slow(), InvalidRequestError("bad"), slow())
    with pytest.raises(InvalidRequestError):
        run(trial)
    assert trial.tries == 2


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("failures_before", [0, 1])
def test_what_is_no_exception_is_never_held_back(run: Run, error: BaseException, failures_before: int) -> None:
    trial = Trial(*[slow() for _ in range(failures_before)], error)
    with pytest.raises(type(error)):  # asyncio.run makes its own of some
        run(trial, retryable=lambda error: True)
    assert trial.tries == failures_before + 1


# What the other side asks for.


@both
def test_the_other_side_is_given_the_time_it_asks_for(run: Run) -> None:
    trial = Trial(slow(retry_after=7.0), slow(retry_after=0.5), slow(retry_after=0.0))
    run(trial)
    assert trial.waited == [7.0, 2.0, 4.0]


@both
def test_who_asks_for_more_time_than_there_is_gets_the_error_at_once(run: Run) -> None:
    trial = Trial(slow(), slow(retry_after=61.0))
    with pytest.raises(RateLimitError) as caught:
        run(trial)
    assert (caught.value.retry_after, trial.tries, trial.waited) == (61.0, 2, [1.0])
    trial = Trial(slow(retry_after=60.0))
    assert run(trial) == "done"


@both
def test_no_attempt_begins_after_the_deadline(run: Run) -> None:
    trial = Trial(*[slow() for _ in range(9)], lasting=1.0)
    with pytest.raises(RateLimitError):
        run(trial, max_retries=9, deadline=9.0)
    assert trial.waited == [1, 2]  # the next wait would end at 3 * 1 + 1 + 2 + 4 = 10 s
    trial = Trial(slow(retry_after=5.0))
    with pytest.raises(RateLimitError):
        run(trial, deadline=4.9)
    assert trial.waited == []


@given(
    errors=st.lists(st.none() | st.floats(0, 100), max_size=6),
    retries=st.integers(0, 5),
    base=st.floats(0, 10),
    longest=st.floats(0, 50),
    share=st.floats(0, 1),
    deadline=st.none() | st.floats(0, 200),
)
def test_waits_are_within_their_bounds_whatever_happens(
    errors: list[float | None], retries: int, base: float, longest: float, share: float, deadline: float | None
) -> None:
    trial = Trial(*[slow(retry_after=wait) for wait in errors])
    with suppress(RateLimitError):
        in_sync(trial, max_retries=retries, base_delay=base, max_delay=longest, random=lambda: share, deadline=deadline)
    assert trial.tries <= retries + 1
    assert all(0 <= wait <= longest for wait in trial.waited)
    for wait, asked in zip(trial.waited, errors, strict=False):
        assert wait >= (asked or 0)
    assert deadline is None or trial.now <= 100 + deadline


@both
@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"base_delay": -1},
        {"max_delay": float("nan")},
        {"base_delay": "1"},
        {"deadline": -0.1},
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(run: Run, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        run(Trial(), **wrong)


def test_the_first_four_arguments_go_by_position() -> None:
    trial = Trial(slow())
    assert with_retry_sync(trial, 1, 0.0, 0.0) == "done"

    async def attempt() -> str:
        return trial()

    trial.errors.append(slow())
    assert asyncio.run(with_retry(attempt, 1, 0.0, 0.0)) == "done"


def test_a_wait_can_be_cancelled() -> None:
    async def main() -> None:
        trial = Trial(slow())

        async def attempt() -> str:
            return trial()

        task = asyncio.create_task(with_retry(attempt, base_delay=60.0, random=lambda: 1.0))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert trial.tries == 1

    asyncio.run(main())


@pytest.mark.parametrize("again", [True, False])
def test_a_raised_error_is_free_when_its_catcher_lets_go(again: bool) -> None:
    def fail() -> weakref.ref[BaseException]:
        try:
            in_sync(Trial(*[slow(retryable=again) for _ in range(4)]))
        except RateLimitError as error:
            return weakref.ref(error)
        raise AssertionError

    async def fail_awaited() -> weakref.ref[BaseException]:
        trial = Trial(*[slow(retryable=again) for _ in range(4)])

        async def attempt() -> str:
            return trial()

        try:
            await with_retry(attempt, base_delay=0)
        except RateLimitError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert fail()() is None
        assert asyncio.run(fail_awaited())() is None
    finally:
        gc.enable()


def test_settings_are_taken_out_of_a_configurations_extra() -> None:
    extra: dict[str, Any] = {"max_retries": 0, "max_delay": 5, "deadline": None, "seed": 7, "headers": {}}
    assert retry_settings(extra, max_retries=2) == ({"max_retries": 0, "max_delay": 5}, {"seed": 7, "headers": {}})
    assert retry_settings({}, max_retries=2) == ({"max_retries": 2}, {})
    with pytest.raises(ConfigurationError, match="max_retries"):
        retry_settings({"max_retries": "many"})


# What is worth trying again, whoever raised it.


def with_status(status: int, **more: Any) -> Exception:
    error = Exception("x")
    vars(error).update(status_code=status, **more)
    return error


def of_openai(status: int, cls: type[openai.APIStatusError]) -> Exception:
    response = httpx2.Response(status, request=httpx2.Request("POST", "http://x"), headers={"retry-after": "3"})
    return cls("x", response=response, body=None)


REQUEST = httpx.Request("POST", "http://x")
WORTH_IT = [
    slow(),
    NetworkError("x"),
    amplifier.ProviderUnavailableError("x"),
    ConnectionResetError(),
    TimeoutError(),
    *(with_status(status) for status in (408, 409, 429, 500, 503, 529)),
    httpx.ConnectError("x"),
    httpx.ReadTimeout("x"),
    httpx.ReadError("x"),
    httpx.RemoteProtocolError("x"),
    httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(503)),
    openai.APIConnectionError(request=httpx2.Request("POST", "http://x")),
    openai.APITimeoutError(request=httpx2.Request("POST", "http://x")),
    of_openai(429, openai.RateLimitError),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
    aiohttp.ServerTimeoutError(),
    aiohttp.ClientConnectionResetError(),
    aiohttp.ClientResponseError(SimpleNamespace(real_url="x"), (), status=502),  # type: ignore[arg-type]
]
IN_VAIN = [
    ValueError(),
    InvalidRequestError("x"),
    amplifier.AuthenticationError("x"),
    with_status(400),
    with_status(429, retryable=False),
    httpx.InvalidURL("x"),
    httpx.UnsupportedProtocol("x"),
    httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(404)),
    of_openai(400, openai.BadRequestError),
    aiohttp.ClientResponseError(SimpleNamespace(real_url="x"), (), status=404),  # type: ignore[arg-type]
    asyncio.CancelledError(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", WORTH_IT, ids=lambda error: type(error).__name__)
def test_errors_of_any_library_that_may_pass_are_worth_another_try(error: BaseException) -> None:
    assert is_retryable(error)


@pytest.mark.parametrize("error", IN_VAIN, ids=lambda error: type(error).__name__)
def test_errors_of_any_library_that_will_not_pass_are_not(error: BaseException) -> None:
    assert not is_retryable(error)


def test_an_error_that_raises_when_it_is_asked_is_not_worth_it() -> None:
    class Odd(Exception):
        @property
        def retryable(self) -> bool:
            raise RuntimeError

        @property
        def status_code(self) -> int:
            raise RuntimeError

    assert not is_retryable(Odd())
    assert retry_after(Odd()) is None


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (slow(retry_after=2), 2.0),
        (with_status(429, retry_after_seconds=4.5), 4.5),
        (of_openai(429, openai.RateLimitError), 3.0),
        (with_status(429, headers={"retry-after": "6"}), 6.0),
        (with_status(429, headers={"retry-after-ms": "250"}), 0.25),
        (with_status(429, headers={"Retry-After": "7"}), 7.0),
        (with_status(429, headers={"retry-after-ms": "soon", "retry-after": "3"}), 3.0),
        (with_status(429, headers={"retry-after-ms": "nan", "retry-after": "3"}), 3.0),
        (with_status(429, headers={"retry-after-ms": "-250"}), 0.0),
        (with_status(429, headers={"retry-after": "soon"}), None),
        (with_status(429, headers=[("retry-after", "3")]), None),
        (with_status(429, retry_after=10**400), None),
        (with_status(429, retry_after=-1), None),
        (with_status(429, retry_after=float("nan")), None),
        (with_status(429, retry_after="5"), None),
        (ValueError(), None),
    ],
)
def test_how_long_to_wait_is_read_from_the_error_or_its_headers(error: Exception, seconds: float | None) -> None:
    assert retry_after(error) == seconds


def test_a_date_to_wait_for_is_read_as_seconds_from_now() -> None:
    wait = retry_after(with_status(429, headers={"retry-after": formatdate(time.time() + 30, usegmt=True)}))
    assert wait is not None
    assert 28 < wait <= 30
    assert retry_after(with_status(429, headers={"retry-after": formatdate(time.time() - 30, usegmt=True)})) == 0.0
