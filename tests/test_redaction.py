from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.content import Cleaner
from hub.errors import ConfigError
from hub.redaction import FAILED_MARK, MARK, Redactor, _built_in, secret_name

ALNUM = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"
KEYS = {
    "openai": f"sk-{ALNUM}",
    "openai project": f"sk-proj-{ALNUM}-_{ALNUM}",
    "openai, letters only": "sk-" + "abcdefghij" * 4,
    "anthropic": f"sk-ant-api03-{ALNUM}",
    "openrouter": f"sk-or-v1-{ALNUM}",
    "google": f"AIza{ALNUM[:35]}",
    "google oauth": f"ya29.{ALNUM}",
    "aws": "AKIA" + "Q2W3E4R5T6Y7U8I9",
    "aws session": "ASIA" + "Q2W3E4R5T6Y7U8I9",
    "github": f"ghp_{ALNUM}",
    "github fine-grained": f"github_pat_{ALNUM}",
    "hugging face": f"hf_{ALNUM[:34]}",
    "groq": f"gsk_{ALNUM}",
    "xai": f"xai-{ALNUM}",
    "replicate": f"r8_{ALNUM}",
    "perplexity": f"pplx-{ALNUM}",
    "slack": "xoxb-" + "123456789012-abcdefGHIJ",
    "stripe": f"sk_live_{ALNUM[:24]}",
    "gitlab": f"glpat-{ALNUM[:20]}",
    "npm": f"npm_{ALNUM}",
    "sendgrid": f"SG.{ALNUM[:22]}.{ALNUM}",
    "langsmith": f"lsv2_pt_{ALNUM}",
    "nvidia": f"nvapi-{ALNUM}",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJlLW9mLWl0",
    "jwt with a nested header": "eyJqd2siOnsia3R5IjoeyJFQyJ9fQ.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
}
AROUND = (
    "{}",
    "the key is {}.",
    "first line\\n{}\\nlast line",
    "url https://example.org/a?x=%20{}&y=1",
    "('{}',)",
    "漢字{}漢字",
    "x" * 5000 + " {} " + "y" * 5000,
    "short words " * 340 + "{} " + "short words " * 400,
)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("vendor", KEYS)
def test_a_vendors_key_is_gone_wherever_it_stands(vendor: str, around: str) -> None:
    key = KEYS[vendor]
    redacted, count, _ = Redactor()(around.format(key))
    assert key not in redacted
    assert key[6:20] not in redacted
    assert (redacted, count) == (around.format(MARK), 1)


@pytest.mark.parametrize("vendor", KEYS)
def test_a_key_is_gone_from_values_keys_and_json_in_json(vendor: str) -> None:
    key = KEYS[vendor]
    nested = orjson.dumps({"a": orjson.dumps({"b": key}).decode()}).decode()
    plain, marks = Cleaner().clean({"v": key, key: 1, "list": [{"deep": (nested,)}]})
    assert key[6:20] not in orjson.dumps(plain).decode()
    assert marks is not None
    assert marks.redacted == 3


SECRET = "hunter22x"
NAMED = {
    f"https://host/v1?key={SECRET}&alt=sse": f"https://host/v1?key={MARK}&alt=sse",
    f"https://host/v1?alt=sse&sig={SECRET}": f"https://host/v1?alt=sse&sig={MARK}",
    f"OPENAI_API_KEY={SECRET}": f"OPENAI_API_KEY={MARK}",
    f"export DB_PASSWORD='{SECRET} and more'": f"export DB_PASSWORD='{MARK}'",
    f'{{"api_key": "{SECRET}", "n": 1}}': f'{{"api_key": "{MARK}", "n": 1}}',
    f'{{"apiKey":"{SECRET}"}}': f'{{"apiKey":"{MARK}"}}',
    f'"{{\\"client_secret\\": \\"{SECRET}\\"}}"': f'"{{\\"client_secret\\": \\"{MARK}\\"}}"',
    f'{{"password": "{SECRET}\\"tail"}}': f'{{"password": "{MARK}"}}',
    f"{{'refresh_token': '{SECRET}'}}": f"{{'refresh_token': '{MARK}'}}",
    f"x-api-key: {SECRET}\r\nhost: h": f"x-api-key: {MARK}\r\nhost: h",
    "Authorization: Bearer abcdef\r\nhost: h": f"Authorization: Bearer {MARK}\r\nhost: h",
    "authorization=Basic dXNlcjpwdw==": f"authorization=Basic {MARK}",
    "sent Bearer abcDEF123456789": f"sent Bearer {MARK}",
    "Set-Cookie: sid=1; Path=/\r\nhost: h": f"Set-Cookie: {MARK}\r\nhost: h",
    f"postgresql+psycopg://user:{SECRET}@host/db": f"postgresql+psycopg://user:{MARK}@host/db",
    f"redis://:{SECRET}@host": f"redis://:{MARK}@host",
    f"access_token%3D{SECRET}": f"access_token%3D{MARK}",
    "token=abcdefghijklmnopqrst1": f"token={MARK}",
}
HARMLESS = (
    "the token: a",
    "the password: please ask for it",
    "max_tokens=1000000 and token_count: 123456789",
    '{"token": " responsibilities", "logprob": -0.1}',
    "if password == user.password:",
    "a task-oriented-dialogue-system with risk-adjusted-performance",
    "Basic authentication-mechanisms and bearer certificates",
    "http://localhost:8080/a@b",
    '"signature": "EqQBCkYIBRgCKkBxyz0123456789abcdef"',
    "-----BEGIN CERTIFICATE-----",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
)


@pytest.mark.parametrize("text", NAMED)
def test_what_stands_under_a_key_like_name_is_gone_and_the_name_stays(text: str) -> None:
    assert Redactor()(text) == (NAMED[text], 1, False)


@pytest.mark.parametrize("text", HARMLESS)
def test_prose_about_secrets_is_left_alone(text: str) -> None:
    assert Redactor()(text) == (text, 0, False)


@given(
    st.lists(
        st.sampled_from([*KEYS.values(), *NAMED, *HARMLESS, "=", ":", '"', "\\", "é", "password", "api_key", " ", "\n"])
    ).map("".join)
)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once, _, _ = Redactor()(text)
    assert Redactor()(once)[0] == once


PIECES = st.sampled_from(
    [
        *("password", "API_KEY", "secret", "Authorization", "cookie", "access_token", "token", "?key", "&sig", "auth"),
        *("pwd", "Pwd", "api key", "%3Fkey", "%26sig", "\\u0026signature"),
        *("=", ":", '"', "'", "\\", " ", "%3D", "Bearer ", "abc123", "abcdefghij", "://", "@", "/", "eyJ", ".", "sk-"),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_the_quick_matchers_find_wherever_the_exact_patterns_do(text: str) -> None:
    for rule in _built_in():
        assert rule.may_match(text) or rule._exact.search(text) is None


HEADERS = ("X-Api-Key", "Authorization", "proxy-authorization", "cookie", "Set-Cookie", "auth_token")
FIELDS = ("api_key", "apikey", "apiKey", "password", "DB_PASSWORD", "passwd", "secret", "client_secret", "clientSecret")
OTHERS = ("access_token", "refreshToken", "private_key", "aws_secret_access_key", "credentials")


@pytest.mark.parametrize("name", [*HEADERS, *FIELDS, *OTHERS])
def test_a_value_under_a_key_like_name_is_hidden_whatever_it_looks_like(name: str) -> None:
    plain, marks = Cleaner().clean({name: "x", "nested": [{name: ["y", 1]}]})
    assert plain == {name: MARK, "nested": [{name: [MARK, 1]}]}
    assert marks is not None
    assert marks.redacted == 2
    assert secret_name(name)


def test_counts_of_tokens_and_words_called_token_are_kept() -> None:
    value = {
        "max_tokens": "5",
        "tokens": "a",
        "token_count": "7",
        "token": " Hello",
        "bos_token": "<s>",
        "password": "",
    }
    assert Cleaner().clean(value) == (value, None)


def test_a_header_given_as_a_pair_is_hidden() -> None:
    assert Cleaner().clean([("x-api-key", "v"), ("host", "h")])[0] == [["x-api-key", MARK], ["host", "h"]]


def test_a_users_pattern_goes_as_a_whole() -> None:
    cleaner = Cleaner(patterns=[r"(?P<kind>emp)-\d+", r"\bX\d\b"])
    assert cleaner.text("ask emp-1234 about X1") == (f"ask {MARK} about {MARK}", ({}, 2))


@pytest.mark.parametrize(("pattern", "reason"), [("(", "no regular expression"), ("a*", "matches the empty text")])
def test_a_pattern_that_cannot_be_used_is_refused_by_name(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="HUB_REDACT_PATTERNS") as caught:
        Cleaner(patterns=[pattern])
    assert reason in str(caught.value)


def test_a_users_function_runs_after_the_rules() -> None:
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text.replace("Alice", "someone")

    plain, marks = Cleaner(redact=redact).clean(["Alice has password=hunter22"] * 2)
    assert plain == [f"someone has password={MARK}"] * 2
    assert seen == [f"Alice has password={MARK}"]
    assert marks == ({}, 4)


def test_where_a_users_function_fails_the_text_goes_and_the_rest_stays() -> None:
    def redact(text: str) -> str:
        if "bad" in text:
            raise ValueError(text)
        return text

    plain, marks = Cleaner(redact=redact).clean(["good", "bad"])
    assert plain == ["good", FAILED_MARK]
    assert marks == ({"redactor": 1}, 1)


def test_a_users_function_that_returns_no_text_fails() -> None:
    broken = Cleaner(redact=lambda text: None)  # type: ignore[arg-type, return-value]
    assert broken.text("abc")[0] == FAILED_MARK


def test_switched_off_nothing_is_redacted() -> None:
    value = {"api_key": KEYS["openai"], "text": "password=hunter22"}
    assert Cleaner(enabled=False).clean(value) == (value, None)


def test_a_secret_longer_than_every_window_is_gone_to_its_end() -> None:
    text = '{"private_key": "' + "Ab1\\n" * 10_000 + '", "n": 1}'
    assert Redactor()(text)[0] == f'{{"private_key": "{MARK}", "n": 1}}'
