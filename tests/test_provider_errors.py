"""Which error an HTTP answer is, in the shapes vendors and proxies send; and what its message says, and what not."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import errors
from providers.errors import LLMError
from providers.http_errors import MAX_BODY, error_from_response

KEY = "sk-" + "d4" * 20


def of(status: int, body: Any = b"", headers: dict[str, str] | None = None, **more: Any) -> LLMError:
    raw = body if isinstance(body, bytes | str) else orjson.dumps(body)
    return error_from_response(status, raw, httpx.Headers(headers or {}), **{"provider": "acme", **more})


def said(**error: Any) -> dict[str, Any]:
    return {"error": {"message": "the vendor's words", **error}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, said(code="invalid_api_key", type="invalid_request_error"), errors.AuthenticationError),
        (400, said(code="invalid_api_key"), errors.AuthenticationError),
        (403, said(code="unsupported_country_region_territory"), errors.AccessDeniedError),
        (403, said(type="invalid_request_error"), errors.AccessDeniedError),
        (404, said(code="model_not_found"), errors.NotFoundError),
        (429, said(code="rate_limit_exceeded", type="tokens"), errors.RateLimitError),
        (429, said(code="insufficient_quota", type="insufficient_quota"), errors.QuotaExceededError),
        (402, said(message="Insufficient Balance"), errors.QuotaExceededError),
        (400, said(code="context_length_exceeded", type="invalid_request_error"), errors.ContextLengthError),
        (400, said(message="This model's maximum context length is 4096 tokens."), errors.ContextLengthError),
        (500, said(message="the request exceeds the available context size"), errors.ContextLengthError),
        (413, b"<html>Request Entity Too Large</html>", errors.ContextLengthError),
        (
            400,
            said(code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
            errors.ContentFilterError,
        ),
        (400, said(type="invalid_request_error"), errors.InvalidRequestError),
        (422, {"detail": "temperature: too hot"}, errors.InvalidRequestError),
        (408, b"", errors.LLMTimeoutError),
        (409, b"", errors.ProviderUnavailableError),
        (500, said(type="invalid_request_error"), errors.ProviderUnavailableError),
        (503, b"<html>", errors.ProviderUnavailableError),
        (
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
            errors.ProviderUnavailableError,
        ),
        (400, [{"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT"}}], errors.InvalidRequestError),
        (429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], errors.RateLimitError),
        (404, {"error": "model 'x' not found"}, errors.NotFoundError),
        (302, b"", errors.ConfigurationError),
        (200, said(code=429), errors.RateLimitError),
        (200, said(code="503"), errors.ProviderUnavailableError),
        (200, said(type="overloaded_error"), errors.ProviderUnavailableError),
        (200, said(type="invalid_request_error"), errors.InvalidRequestError),
        (200, said(code="rate_limit_exceeded"), errors.RateLimitError),
    ],
)
def test_status_and_body_together_say_which_error_it_is(status: int, body: Any, expected: type[LLMError]) -> None:
    error = of(status, body, model="m-1")
    assert type(error) is expected
    assert error.retryable == expected.usually_retryable
    assert (error.provider, error.model) == ("acme", "m-1")
    assert error.status_code == (status if status >= 300 else error.status_code)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "told so"}}, "told so"),
        ({"error": "told so"}, "told so"),
        ({"message": "told so"}, "told so"),
        ({"detail": "told so"}, "told so"),
        ([{"error": {"message": "told so"}}], "told so"),
        ({"detail": [{"loc": ["body", "n"], "msg": "told so"}]}, "body.n: told so"),
        ({"errors": [{"message": "told"}, {"message": "so"}]}, "told, so"),
        (b"told so", "told so"),
        ("told so", "told so"),
    ],
)
def test_the_vendors_words_are_in_the_message_and_what_to_do(body: Any, words: str) -> None:
    text = str(of(404, body, model="m-1"))
    assert text == f"acme answered 404 for m-1: {words}; check the model's name, and base_url"


def test_pages_for_browsers_are_not_quoted() -> None:
    assert str(of(503, b"\n<!DOCTYPE html><p>nginx")) == "acme answered 503; try again later"


def test_a_wrong_key_is_told_with_the_variable_that_holds_it() -> None:
    assert "MY_LLM_API_KEY" in str(of(401, provider="my-llm"))


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], wait: float | None) -> None:
    error = of(429, b"", headers)
    assert error.retry_after == wait
    assert ("wait 7 s" in str(error)) == (wait == 7.0)


def test_a_server_that_says_whether_to_try_again_is_believed() -> None:
    assert of(400, b"", {"x-should-retry": "true"}).retryable
    assert not of(503, b"", {"x-should-retry": "false"}).retryable
    assert of(503, b"", {"x-should-retry": "perhaps"}).retryable


def test_no_message_repeats_a_secret_or_the_query_of_a_url() -> None:
    body = said(message=f"key odd_key_42 or {KEY} for https://u:pass1234@h.example/v1?key={KEY}&api-version=1")
    text = str(of(401, body, secrets=(None, "odd_key_42")))
    for secret in ("odd_key", "d4d4", "pass1234", "api-version"):
        assert secret not in text


def test_of_a_huge_body_the_beginning_is_read() -> None:
    error = of(500, b'{"error": {"message": "' + b"x" * (10 * MAX_BODY))
    assert isinstance(error, errors.ProviderUnavailableError)
    assert len(str(error)) < 700


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "status", "type", "innererror"]), inner, max_size=4
        )
    ),
)


@given(status=st.integers(200, 599), body=json.map(orjson.dumps) | st.binary(max_size=50) | st.text(max_size=50))
def test_any_answer_is_some_error(status: int, body: bytes | str) -> None:
    error = of(status, body)
    assert isinstance(error, LLMError)
    assert 200 <= (error.status_code or 0) < 600
    assert "\n" not in str(error)
