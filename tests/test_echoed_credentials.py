"""Servers that quote the key they were sent: it is in nothing that is recorded, whoever sent it and however."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI

from hub import traced
from hub.credentials import Mask
from hub.transport import httpx_client
from providers.config import ProviderConfig
from providers.openai import OpenAIProvider
from tests.calls_of import ListHub
from tests.fault_kit import ASK, REQUEST, QuickOpenAI, Sleeps, serving
from tests.hub_kit import running
from tests.otlp_receiver import receiving
from tests.raw_server import CHUNKS, Play, completion, plain, streamed
from tests.test_canary import bytes_of

CANARY = "canary7f3a9c/lakeside"
"""Of no vendor's form."""
QUOTED = f"Incorrect API key provided: {CANARY}."
REFUSAL = json.dumps({"error": {"message": QUOTED, "code": "invalid_api_key"}}).encode()
ANSWERS = {
    "refused": (Play(plain(REFUSAL, status="401 Unauthorized"), "keep"),),
    "out of order, then refused": (
        Play(plain(REFUSAL, status="500 Internal Server Error"), "keep"),
        Play(plain(REFUSAL, status="401 Unauthorized"), "keep"),
    ),
    "out of order, then well": (
        Play(plain(REFUSAL, status="500 Internal Server Error"), "keep"),
        Play(plain(completion()), "keep"),
    ),
    "in plain words": (Play(plain(QUOTED.encode(), status="403 Forbidden", kind="text/plain"), "keep"),),
    "as the code": (
        Play(plain(json.dumps({"error": {"message": "No.", "code": QUOTED}}).encode(), status="401 Unauthorized")),
    ),
    "as PHP writes it": (Play(plain(REFUSAL.replace(b"/", rb"\/"), status="401 Unauthorized"), "keep"),),
    "with a good status": (Play(plain(REFUSAL), "keep"),),
    "within a stream": (Play(streamed(CHUNKS[0], REFUSAL), "keep"),),
    "cut off": (Play(plain(REFUSAL, status="401 Unauthorized")[:-2], "reset"),),
}
Caller = Callable[[str, bool, Any], Any]


def sdk(address: str, streaming: bool, hub: Any) -> None:
    with QuickOpenAI(
        base_url=address, api_key=CANARY, max_retries=1, http_client=httpx2.Client(verify=False)
    ) as client:
        made = traced(client, hub=hub).chat.completions.create(model="m-1", messages=ASK, stream=streaming)
        list(made)


def async_sdk(address: str, streaming: bool, hub: Any) -> None:
    async def main() -> None:
        http = httpx2.AsyncClient(verify=False)
        async with AsyncOpenAI(base_url=address, api_key=CANARY, max_retries=0, http_client=http) as client:
            create: Any = traced(client, hub=hub).chat.completions.create
            made = await create(model="m-1", messages=ASK, stream=streaming)
            if streaming:
                [chunk async for chunk in made]

    asyncio.run(main())


def our_provider(address: str, streaming: bool, hub: Any) -> None:
    async def main() -> None:
        config = ProviderConfig(api_key=CANARY, base_url=address, model="m-1", extra={"max_retries": 1})
        async with OpenAIProvider(config, sleep=Sleeps()) as provider:
            watched = traced(provider, hub=hub)
            if streaming:
                [piece async for piece in watched.stream(REQUEST)]
            else:
                await watched.complete(REQUEST)

    asyncio.run(main())


def bare(address: str, streaming: bool, hub: Any) -> None:
    body = {"model": "m-1", "messages": ASK, "stream": streaming}
    with httpx_client(hub=hub, headers={"x-api-key": CANARY}, verify=False) as client:
        client.post(f"{address}/chat/completions", json=body)


def a_function(address: str, streaming: bool, hub: Any) -> None:
    """Raises what the server says, in words of its own, with the answer still open."""

    @traced(hub=hub)
    def ask(messages: Any) -> Iterator[str]:
        with httpx_client(hub=hub, headers={"authorization": f"Bearer {CANARY}"}, verify=False) as client:
            body = {"model": "m-1", "messages": messages, "stream": streaming}
            request = client.build_request("POST", f"{address}/chat/completions", json=body)
            for piece in client.send(request, stream=True).iter_text():
                if "error" in piece:
                    raise RuntimeError(f"it says {piece}")
                yield piece

    list(ask(ASK))


def one_that_tells(address: str, streaming: bool, hub: Any) -> None:
    """Has what went wrong for its answer."""
    with closing(OpenAI(base_url=address, api_key=CANARY, max_retries=0, http_client=httpx2.Client(verify=False))) as c:
        client = traced(c, hub=hub)

        @traced(hub=hub)
        def ask(messages: Any) -> str:
            try:
                return str(client.chat.completions.create(model="m-1", messages=messages))
            except Exception as error:
                return f"I cannot say: {error}"

        ask(ASK)


CALLERS = (sdk, async_sdk, our_provider, bare, a_function, one_that_tells)


def play(hub: Any) -> None:
    for caller in CALLERS:
        for answer in ANSWERS.values():
            for streaming in (False, True):
                with serving(*answer) as (address, _), suppress(Exception):
                    caller(address, streaming, hub)


@pytest.mark.parametrize("capture", ["full", "summary", "none"])
def test_a_key_that_a_server_quotes_is_nowhere(capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with receiving() as receiver:
        for name, value in receiver.environ.items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, otel="export", capture=capture) as hub:
            play(hub)
            kept = [bytes_of(tmp_path / "spool")]
            assert hub.flush() == 0
            kept += [bytes_of(tmp_path)]
        kept += [bytes_of(tmp_path), *receiver.raw]
    written = b"\n".join(kept)
    assert b"Incorrect API key provided: [REDACTED]." in written
    assert b"canary7f3a9c" not in written


@pytest.mark.parametrize("caller", CALLERS)
def test_what_else_the_server_says_is_kept_and_the_redaction_counted(caller: Caller) -> None:
    hub = ListHub()
    with serving(*ANSWERS["refused"]) as (address, _), suppress(Exception):
        caller(address, False, hub)
    seen = hub.call
    assert CANARY not in str(seen.records)
    if caller is not one_that_tells:
        assert "Incorrect API key provided: [REDACTED]." in str(seen.error)
    if caller is not a_function:  # its answer is still open when it raises
        body = json.loads(seen.answer["wire"]["body"])
        assert body["error"]["message"] == "Incorrect API key provided: [REDACTED]."
        assert seen.response["redacted"] >= 1


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {CANARY}"},
        {"Authorization": CANARY},
        {"authorization": "Basic " + base64.b64encode(f"ann:{CANARY}".encode()).decode()},
        {"Proxy-Authorization": f"Token  {CANARY}"},
        {"x-api-key": CANARY},
        {"API-Key": CANARY},
        {"x-goog-api-key": CANARY},
        {"cookie": f'theme=dark; session="{CANARY}"'},
    ],
    ids=lambda headers: "".join(headers),
)
def test_it_is_found_in_every_header_that_carries_credentials(headers: dict[str, str]) -> None:
    hub = ListHub()
    told = json.dumps({"error": {"message": f"{QUOTED} {' '.join(headers.values())}"}}).encode()
    with (
        serving(Play(plain(told, status="401 Unauthorized"))) as (address, _),
        httpx_client(hub=hub, headers=headers, verify=False) as client,
    ):
        client.post(f"{address}/chat/completions", json={"model": "m-1", "messages": ASK})
    assert CANARY not in str(hub.call.records)
    assert base64.b64encode(f"ann:{CANARY}".encode()).decode() not in str(hub.call.records)


def test_a_password_in_the_address_is_one_too() -> None:
    hub = ListHub()
    with (
        serving(*ANSWERS["refused"]) as (address, _),
        httpx_client(hub=hub, verify=False) as client,
    ):
        place = address.replace("//", f"//ann:{CANARY.replace('/', '%2F')}@")
        client.post(f"{place}/chat/completions", json={"model": "m-1", "messages": ASK})
    assert CANARY not in str(hub.call.records)


def test_a_client_that_quotes_a_header_it_cannot_send_gives_nothing_away() -> None:
    hub = ListHub()
    with (
        serving(*ANSWERS["refused"]) as (address, _),
        httpx_client(hub=hub, headers={"authorization": f"Bearer {CANARY}\n"}, verify=False) as client,
        pytest.raises(httpx.LocalProtocolError, match=CANARY),
    ):
        client.post(f"{address}/chat/completions", json={"model": "m-1", "messages": ASK})
    assert hub.call.status == "error"
    assert CANARY not in str(hub.call.records)


def test_nothing_is_kept_of_the_headers_and_those_of_good_answers_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Any] = []

    def looking(headers: Any) -> Iterator[str]:
        looked.append(headers)
        yield from ()

    monkeypatch.setattr("hub.credentials.credentials_in", looking)
    hub, kept = ListHub(), []
    assert hub.recorder is not None
    start = hub.recorder.start

    def keeping(**facts: Any) -> Any:
        kept.append(start(**facts))
        return kept[-1]

    monkeypatch.setattr(hub.recorder, "start", keeping)
    with (
        serving(Play(plain(completion()), "keep"), Play(streamed(*CHUNKS), "keep"), *ANSWERS["refused"]) as (
            address,
            _,
        ),
        httpx_client(hub=hub, headers={"x-api-key": CANARY}, verify=False) as client,
    ):
        for count in (0, 0, 1):
            client.post(f"{address}/chat/completions", json={"model": "m-1", "messages": ASK})
            assert len(looked) == count
    assert [call.sent_with for call in kept] == [{}, {}, {}]


@pytest.mark.parametrize("short", ["x-1", "1234567"])
def test_what_is_too_short_to_be_told_from_words_is_left(short: str) -> None:
    mask = Mask([httpx.Headers({"x-api-key": short})])
    assert mask(f"It is {short}.") == f"It is {short}."


@pytest.mark.parametrize("secret", [CANARY, 'quo"ted\\key', "schlüssel-ä-1", "it's <a> key & more"])
def test_it_is_found_however_a_document_writes_it(secret: str) -> None:
    mask = Mask([httpx.Headers([(b"x-api-key", secret.encode())])])
    document = {"error": [secret, f"see {secret}"]}
    for written in (json.dumps(document), json.dumps(document, ensure_ascii=False), str(document), document):
        shown = str(mask(written))
        assert secret not in shown
        assert shown.count("[REDACTED]") == 2
    assert mask.found == 8
