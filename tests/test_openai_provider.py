"""The openai provider against a real server."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from hub import traced
from hub.demo.server import LoopbackServer
from hub.transport import async_httpx_client
from providers.config import ProviderConfig
from providers.contract import (
    ChatRequest,
    ImageBlock,
    Message,
    ModelTier,
    Provider,
    StreamChunk,
    TextBlock,
    ToolResultBlock,
    ToolSpec,
)
from providers.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    InvalidToolCallError,
    LLMError,
    NotFoundError,
)
from providers.openai import OpenAIProvider
from providers.registry import Registry
from tests.calls_of import ListHub
from tests.raw_server import CHUNKS, Play, RawServer, body_of, chunk, completion, headers_of, plain, streamed

KEY = "sk-" + "a1" * 20
QUESTION = "Where is order A-1042?"
FIND = ToolSpec(name="find_order", parameters={"type": "object", "properties": {"order": {"type": "string"}}})


def ask(text: str = QUESTION, **more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": text}], **more})


def provider_at(base_url: str, *, switches: str = "", **settings: Any) -> OpenAIProvider:
    """A provider for gpt-5-mini at *base_url*; *switches* tell the loopback server to misbehave."""
    parts = {name: settings.pop(name) for name in ("http_client", "auth", "name", "sleep") if name in settings}
    extra = {"base_delay": 0.0, **settings.pop("extra", {})}
    if switches:
        extra["headers"] = {"x-demo": switches}
    config = ProviderConfig(**{"api_key": KEY, "model": "gpt-5-mini", "base_url": base_url, **settings}, extra=extra)
    return OpenAIProvider(config, **parts)


async def collected(stream: AsyncGenerator[StreamChunk, None]) -> list[StreamChunk]:
    return [chunk async for chunk in stream]


def test_it_is_a_provider() -> None:
    assert isinstance(OpenAIProvider(), Provider)


def test_a_whole_and_a_streamed_answer_are_the_same(server: LoopbackServer) -> None:
    async def main() -> None:
        async with provider_at(server.base_url) as provider:
            whole = await provider.complete(ask())
            chunks = await collected(provider.stream(ask()))
        streamed = chunks[-1].response
        assert streamed is not None
        assert "".join(piece.delta for piece in chunks) == streamed.text == whole.text != ""
        assert streamed.usage == whole.usage
        assert whole.usage is not None
        assert (whole.usage.reasoning_tokens or 0) > 0
        assert whole.model == "gpt-5-mini-2025-08-07"
        assert all(piece.response is None for piece in chunks[:-1])

    asyncio.run(main())


def test_cached_tokens_are_told(server: LoopbackServer) -> None:
    async def main() -> None:
        async with provider_at(server.base_url) as provider:
            usage = (await provider.complete(ask("long " * 2000))).usage
        assert usage is not None
        assert 0 < (usage.cache_read_tokens or 0) < usage.input_tokens

    asyncio.run(main())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_tool_is_called_and_its_result_answered(server: LoopbackServer, streaming: bool) -> None:
    async def respond(provider: OpenAIProvider, request: ChatRequest) -> Any:
        return (
            (await collected(provider.stream(request)))[-1].response if streaming else await provider.complete(request)
        )

    async def main() -> None:
        async with provider_at(server.base_url) as provider:
            request = ask(tools=[FIND])
            first = await respond(provider, request)
            (call,) = provider.parse_tool_calls(first)
            assert (call.name, call.arguments, first.finish_reason) == ("find_order", {"order": "A-1042"}, "tool_calls")
            result = ToolResultBlock(tool_call_id=call.id, output={"state": "sent"})
            more = [Message(role="assistant", content=first.content), Message(role="tool", content=[result])]
            last = await respond(provider, request.model_copy(update={"messages": [*request.messages, *more]}))
        assert (last.finish_reason, provider.parse_tool_calls(last)) == ("stop", [])
        assert last.text != ""

    asyncio.run(main())


def test_json_mode_and_schemas_give_json(server: LoopbackServer) -> None:
    schema = {"title": "verdict", "type": "object", "properties": {"order": {"type": "string"}}}

    async def main() -> None:
        async with provider_at(server.base_url) as provider:
            free = await provider.complete(ask(response_format={"type": "json"}))
            bound = await provider.complete(ask(response_format={"type": "json_schema", "json_schema": schema}))
        assert free.text.startswith("{")
        assert bound.text == '{"order":"A-1042"}'

    asyncio.run(main())


def test_images_reach_the_server(server: LoopbackServer) -> None:
    picture = base64.b64encode(b"\x89PNG").decode()
    blocks: list[Any] = [TextBlock(text="What is this?"), ImageBlock(source={"type": "base64", "data": picture})]

    async def main() -> None:
        async with provider_at(server.base_url) as provider:
            await provider.complete(ChatRequest(messages=[Message(role="user", content=blocks)]))

    asyncio.run(main())
    assert f"data:image/png;base64,{picture}".encode() in server.exchanges()[-1].body


def sent_by(*, request: ChatRequest | None = None, changes: dict[str, Any] | None = None, **settings: Any) -> RawServer:
    """The server that one call was sent to."""
    with RawServer(Play(plain(completion()))) as raw:

        async def main() -> None:
            async with provider_at(raw.base_url + settings.pop("query", ""), **settings) as provider:
                await provider.complete(request or ask(), **(changes or {}))

        asyncio.run(main())
    return raw


def test_the_configuration_fills_what_the_request_leaves_open_and_zero_is_a_value() -> None:
    settings: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": 0,
        "extra": {"seed": 7, "max_retries": 0, "tiers": {}},
    }
    assert body_of(sent_by(**settings).requests[0]) == {
        "model": "gpt-5-mini",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0.0,
        "max_tokens": 0,
        "seed": 7,
    }
    asked = body_of(sent_by(request=ask(temperature=1, seed=8, model="m"), **settings).requests[0])
    assert (asked["temperature"], asked["seed"], asked["model"]) == (1, 8, "m")


def test_arguments_change_the_request_and_what_no_field_names_is_sent() -> None:
    body = body_of(sent_by(changes={"model": "m", "top_k": 3, "max_output_tokens": 9}).requests[0])
    assert (body["model"], body["top_k"], body["max_tokens"]) == ("m", 3, 9)


def test_the_field_for_the_most_tokens_can_be_chosen() -> None:
    extra = {"max_tokens_field": "max_completion_tokens"}
    assert body_of(sent_by(max_tokens=9, extra=extra).requests[0])["max_completion_tokens"] == 9


def test_openai_itself_gets_its_own_field_for_the_most_tokens() -> None:
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, content=completion())

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            provider = OpenAIProvider(ProviderConfig(api_key=KEY, max_tokens=9), http_client=client)
            await provider.complete(ask())

    asyncio.run(main())
    assert b'"max_completion_tokens":9' in bodies[0]
    assert b'"model":"gpt-5-mini"' in bodies[0]


def test_azures_header_query_and_path_are_sent_without_a_bearer_token() -> None:
    raw = sent_by(
        query="/deployments/gpt?api-version=2025-01-01", api_key=None, extra={"headers": {"Api-Key": "azure-key-1"}}
    )
    assert raw.requests[0].startswith(b"POST /v1/deployments/gpt/chat/completions?api-version=2025-01-01 HTTP/1.1\r\n")
    headers = headers_of(raw.requests[0])
    assert headers["api-key"] == "azure-key-1"
    assert "authorization" not in headers


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/acc%2Fount/v1", "/a%20b?x=a%2Fb+c&y="])
def test_an_addresss_path_and_query_are_sent_as_they_are_written(path: str) -> None:
    with RawServer(Play(plain(completion()))) as raw:
        asyncio.run(provider_at(raw.base_url.replace("/v1", path)).complete(ask()))
        target = raw.requests[0].split(b" ")[1].decode()
    base, mark, query = path.partition("?")
    assert target == f"{base.rstrip('/')}/chat/completions{mark}{query}"


def test_an_auth_signs_requests_instead_of_the_key() -> None:
    class Signed(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            request.headers["authorization"] = "Signature 42"
            yield request

    assert headers_of(sent_by(auth=Signed()).requests[0])["authorization"] == "Signature 42"


def test_a_user_and_password_in_the_address_are_basic_auth_and_are_not_shown() -> None:
    with RawServer(Play(plain(b"{}", status="400 Bad Request"))) as raw:
        address = raw.base_url.replace("http://", "http://ann:s3cret@")
        provider = provider_at(address, api_key=None)
        with pytest.raises(InvalidRequestError) as caught:
            asyncio.run(provider.complete(ask()))
    assert headers_of(raw.requests[0])["authorization"] == "Basic " + base64.b64encode(b"ann:s3cret").decode()
    assert "s3cret" not in f"{provider!r} {caught.value!r} {caught.value}"


@pytest.mark.parametrize("key", [f"{KEY}\n", f"  {KEY}"])
def test_blanks_around_a_key_are_not_sent(key: str) -> None:
    assert headers_of(sent_by(api_key=key).requests[0])["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["sk-secret\nx: y", "sk-secretä", "sk-secret\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="'authorization' has characters") as caught:
        OpenAIProvider(ProviderConfig(api_key=key))
    assert "sk-secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "api.shop.test/v1"}, "base_url is no address"),
        ({"base_url": "ftp://shop.test"}, "base_url is no address"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "base_url is no address"),
        ({"base_url": httpx.URL("http://shop.test")}, "base_url is a URL; give a string"),
        ({"api_key": 5}, "api_key is a int; give a string"),
        ({"extra": None}, "extra is a NoneType"),
        ({"extra": {"headers": ["x"]}}, r"extra\['headers'\]"),
        ({"extra": {"headers": {"x": 1}}}, r"extra\['headers'\]"),
        ({"extra": {"tiers": {"enormous": "m"}}}, r"extra\['tiers'\].*hosted_large"),
        ({"extra": {"max_retries": -1}}, "max_retries"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OpenAIProvider(ProviderConfig(**settings))


def test_a_client_of_another_kind_is_refused() -> None:
    with httpx.Client() as client, pytest.raises(ConfigurationError, match=r"pass an httpx\.AsyncClient"):
        OpenAIProvider(http_client=client)  # type: ignore[arg-type]


def test_openai_without_a_key_is_told_before_anything_is_sent() -> None:
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        asyncio.run(OpenAIProvider().complete(ask()))


def test_a_compatible_server_has_a_name_an_address_and_a_model_of_its_own(server: LoopbackServer) -> None:
    registry = Registry(environ={"KETTLE_BASE_URL": server.base_url})
    provider = registry.get("kettle:kettle-7b")
    assert (provider.name, provider.get_info().display_name) == ("kettle", "kettle")
    assert asyncio.run(provider.complete(ask())).model == "kettle-7b"
    assert "authorization" not in server.exchanges()[-1].headers
    with pytest.raises(ConfigurationError, match="asked for no model"):
        asyncio.run(registry.get("kettle").complete(ask()))
    with pytest.raises(ConfigurationError, match="KETTLE_BASE_URL"):
        OpenAIProvider(name="kettle")


def test_models_are_listed_with_windows_and_prices_where_they_are_known(server: LoopbackServer) -> None:
    models = {model.id: model for model in asyncio.run(provider_at(server.base_url).list_models())}
    known = models["gpt-5-mini"]
    assert known.context_window == 400_000
    assert known.pricing is not None
    assert known.pricing.input_per_million == 0.25


@pytest.mark.parametrize("body", [b"{}", b"[1", b'"x"', b'{"data": 7}'])
def test_a_list_of_models_that_is_none_is_an_error(body: bytes) -> None:
    with RawServer(Play(plain(body))) as raw, pytest.raises(LLMError, match="no list of models"):
        asyncio.run(provider_at(raw.base_url).list_models())


def test_windows_that_the_server_tells_count() -> None:
    entries = b'[{"id": "a", "max_model_len": 77, "name": "A", "owned_by": "me"}, {"id": 3}, "x"]'
    with RawServer(Play(plain(entries))) as raw:
        (model,) = asyncio.run(provider_at(raw.base_url).list_models())
    assert (model.id, model.display_name, model.context_window, model.max_output_tokens) == ("a", "A", 77, 0)
    assert model.metadata == {"max_model_len": 77, "owned_by": "me"}


def test_tiers_have_models() -> None:
    provider = OpenAIProvider(ProviderConfig(extra={"tiers": {"hosted_small": "tiny"}}))
    assert provider.get_model_for_tier(ModelTier.HOSTED_SMALL) == "tiny"
    assert provider.get_model_for_tier(ModelTier.HOSTED_LARGE) == "gpt-5"
    with pytest.raises(ConfigurationError, match="local_small"):
        provider.get_model_for_tier(ModelTier.LOCAL_SMALL)


@pytest.mark.parametrize("request_", [None, "Hello", {"messages": 7}, {}])
def test_what_is_no_request_is_refused_before_anything_is_sent(server: LoopbackServer, request_: Any) -> None:
    before = server.served().requests
    with pytest.raises(ValidationError):
        asyncio.run(provider_at(server.base_url).complete(request_))
    with pytest.raises(ValidationError):
        asyncio.run(provider_at(server.base_url).complete(ask(), temperature="warm"))
    assert server.served().requests == before


def test_arguments_that_cannot_be_read_are_told_with_the_provider() -> None:
    broken = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    choice = {"index": 0, "message": {"content": None, "tool_calls": [broken]}, "finish_reason": "length"}
    with RawServer(Play(plain(completion(choices=[choice])))) as raw:
        provider = provider_at(raw.base_url)
        response = asyncio.run(provider.complete(ask()))
    with pytest.raises(InvalidToolCallError) as caught:
        provider.parse_tool_calls(response)
    assert (caught.value.provider, caught.value.model) == ("openai", "m-1")


def test_a_stream_asks_for_usage_unless_told_otherwise() -> None:
    def asked(extra: dict[str, Any], **more: Any) -> Any:
        with RawServer(Play(streamed(*CHUNKS))) as raw:
            asyncio.run(collected(provider_at(raw.base_url, extra=extra).stream(ask(**more))))
        return body_of(raw.requests[0]).get("stream_options")

    assert asked({}) == {"include_usage": True}
    assert asked({"include_usage": False}) is None
    assert asked({}, stream_options={"include_obfuscation": False}) == {"include_obfuscation": False}


def test_a_connection_is_used_again_after_a_stream() -> None:
    with RawServer(Play(streamed(*CHUNKS), "keep")) as raw:

        async def main() -> None:
            async with provider_at(raw.base_url) as provider:
                for _ in range(3):
                    await collected(provider.stream(ask()))

        asyncio.run(main())
        assert (len(raw.requests), raw.connections) == (3, 1)


def test_one_provider_works_in_many_event_loops_and_leaves_no_connection_open() -> None:
    with RawServer(Play(plain(completion()), "keep")) as raw:
        provider = provider_at(raw.base_url)
        for _ in range(3):
            assert asyncio.run(provider.complete(ask())).text == "Hello you"
        threads = [threading.Thread(target=lambda: asyncio.run(provider.complete(ask()))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(raw.requests) == 6
        assert raw.all_closed()


def test_a_provider_that_is_dropped_closes_its_connections() -> None:
    with RawServer(Play(plain(completion()), "keep")) as raw:

        async def main() -> None:
            await provider_at(raw.base_url).complete(ask())
            gc.collect()
            for _ in range(100):
                await asyncio.sleep(0.01)
                if raw.all_closed():
                    break
            assert raw.all_closed()

        asyncio.run(main())


def test_a_closed_provider_says_so_and_may_be_closed_again(server: LoopbackServer) -> None:
    async def main() -> None:
        provider = provider_at(server.base_url)
        await provider.complete(ask())
        await provider.close()
        await provider.close()
        with pytest.raises(ConfigurationError, match="was closed"):
            await provider.complete(ask())

    asyncio.run(main())


def test_a_clients_own_settings_hold_and_it_is_neither_changed_nor_closed(server: LoopbackServer) -> None:
    async def main() -> None:
        seen: list[httpx.Request] = []

        async def note(request: httpx.Request) -> None:
            seen.append(request)

        async with httpx.AsyncClient(headers={"x-mine": "1"}, event_hooks={"request": [note]}) as client:
            before = (type(client), dict(client.__dict__))
            async with provider_at(server.base_url, http_client=client) as provider:
                await traced(provider, hub=ListHub()).complete(ask())
            assert (type(client), dict(client.__dict__)) == before
            assert not client.is_closed
        assert seen[0].headers["x-mine"] == "1"
        with pytest.raises(ConfigurationError, match="http_client was closed"):
            await provider_at(server.base_url, http_client=client).complete(ask())

    asyncio.run(main())


def test_untraced_nothing_is_recorded_and_traced_one_call(server: LoopbackServer) -> None:
    hub = ListHub()

    async def main() -> None:
        async with provider_at(server.base_url, switches="fail=503 times=1 size=41") as provider:
            await provider.complete(ask("untraced"))
            await collected(provider.stream(ask("untraced")))
            assert hub.calls == []
            response = await traced(provider, hub=hub).complete(ask(temperature=0.5))
            chunks = await collected(traced(provider, hub=hub).stream(ask()))
        whole, stream = hub.calls
        for seen, answer in ((whole, response), (stream, chunks[-1].response)):
            assert answer is not None
            assert answer.usage is not None
            assert (seen.status, seen.response["attempts"], seen.response["status_code"]) == ("ok", 2, 200)
            assert (seen.response["model"], seen.response["response_id"]) == (answer.model, answer.id)
            assert seen.response["usage"]["output_tokens"] == answer.usage.output_tokens
            assert seen.response["usage"]["reasoning_tokens"] == answer.usage.reasoning_tokens
            assert [retry["status_code"] for retry in seen.retries] == [503]
            assert answer.text in repr(seen.answer["messages"])
            assert KEY not in repr(seen.records)
        assert whole.request["params"] == {"temperature": 0.5}
        assert stream.response["ttft_ms"] > 0

    asyncio.run(main())


def test_a_client_that_records_by_itself_does_so_untraced_and_once_when_traced(server: LoopbackServer) -> None:
    async def main() -> None:
        hub = ListHub()
        async with async_httpx_client(hub=hub) as client:
            provider = provider_at(server.base_url, http_client=client)
            await provider.complete(ask())
            await traced(provider, hub=hub).complete(ask())
        alone, inside = hub.calls
        assert (alone.request["source"], inside.request["source"]) == ("transport", "traced")
        assert [call.response["attempts"] for call in (alone, inside)] == [1, 1]

    asyncio.run(main())


def test_a_hundred_calls_side_by_side_are_told_apart(server: LoopbackServer) -> None:
    hub = ListHub()

    async def main() -> None:
        async with provider_at(server.base_url) as plain_one:
            provider = traced(plain_one, hub=hub)
            answers = await asyncio.gather(*(provider.complete(ask(f"Question {n}")) for n in range(100)))
        ids = {call.response["response_id"] for call in hub.calls}
        assert ids == {answer.id for answer in answers}

    asyncio.run(main())
    assert len(hub.calls) == 100


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/embeddings"])
def test_bytes_are_sent_again_as_they_are(server: LoopbackServer, path: str) -> None:
    key = {"/chat/completions": b'"messages": [{"role":"user","content":"x"}]'}.get(path, b'"input": "x"')
    body = b'{ "model": "gpt-5-mini",\n ' + key + b" }"
    answer = asyncio.run(provider_at(server.base_url).resend(body, path=path, stream=False))
    assert server.exchanges()[-1].body == body
    assert answer.startswith(b'{"')


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_stream_that_is_sent_again_gives_all_its_bytes(server: LoopbackServer, path: str) -> None:
    key = {"/chat/completions": b'"messages":[{"role":"user","content":"x"}]'}.get(path, b'"input":"x"')
    body = b'{"stream":true,"model":"gpt-5-mini",' + key + b"}"
    answer = asyncio.run(provider_at(server.base_url).resend(body, path=path, stream=True))
    assert answer.endswith(b"data: [DONE]\n\n" if path == "/chat/completions" else b"\n\n")
    broken = provider_at(server.base_url, switches="end_early=2", extra={"max_retries": 0})
    with pytest.raises(LLMError, match="stopped before its end"):
        asyncio.run(broken.resend(body, path=path, stream=True))


@pytest.mark.parametrize(
    "path", ["/files", "", "/chat/completions/../files", "https://elsewhere.test/chat/completions"]
)
def test_bytes_are_sent_again_to_known_paths_only(server: LoopbackServer, path: str) -> None:
    before = server.served().requests
    with pytest.raises(InvalidRequestError, match="nothing is sent to"):
        asyncio.run(provider_at(server.base_url).resend(b"{}", path=path))
    assert server.served().requests == before


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("location: /v2/chat?key=canary\r\n", r"sends on to http://127\.0\.0\.1:\d+/v2/chat, which"),
        ("", "answered 308, which"),
    ],
)
def test_a_redirect_within_a_server_or_to_nowhere_is_told(location: str, told: str) -> None:
    play = Play(plain(b"", status="308 Permanent Redirect", head=location))
    with RawServer(play) as raw, pytest.raises(ConfigurationError, match=told) as caught:
        asyncio.run(provider_at(raw.base_url).complete(ask()))
    assert "canary" not in str(caught.value)


def test_a_status_that_a_clients_hook_raises_is_that_error() -> None:
    async def strict(response: httpx.Response) -> None:
        response.raise_for_status()

    async def main(address: str) -> None:
        async with httpx.AsyncClient(event_hooks={"response": [strict]}) as client:
            with pytest.raises(AuthenticationError) as caught:
                await provider_at(address, http_client=client).complete(ask())
            assert not caught.value.retryable

    with RawServer(Play(plain(b"", status="401 Unauthorized"))) as raw:
        asyncio.run(main(raw.base_url))
        assert len(raw.requests) == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_that_leaves_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"timeout is .* above 0"):
        asyncio.run(provider_at("http://127.0.0.1:9").complete(ask(), timeout=seconds))


def test_who_shows_variables_shows_no_key() -> None:
    assert KEY not in repr(provider_at("http://127.0.0.1:9")._http.asking("m"))


def test_a_redirect_is_never_followed_by_any_client() -> None:
    with RawServer(Play(plain(completion()))) as elsewhere:
        target = elsewhere.base_url.replace("http://", "http://ann:pw@") + "/chat/completions?token=canary"
        head = f"location: {target}\r\n"
        with RawServer(Play(plain(b"", status="307 Temporary Redirect", head=head))) as raw:

            async def main(client: httpx.AsyncClient | None) -> None:
                with pytest.raises(ConfigurationError, match="never followed; set base_url") as caught:
                    await provider_at(raw.base_url, http_client=client).complete(ask())
                assert "canary" not in str(caught.value)
                assert "pw" not in str(caught.value)

            asyncio.run(main(None))
            asyncio.run(main(httpx.AsyncClient(follow_redirects=True)))
        assert elsewhere.requests == []


def test_keys_are_in_no_message_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    echo = f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'.encode()
    with caplog.at_level(logging.DEBUG), RawServer(Play(plain(echo, status="401 Unauthorized"))) as raw:
        provider = provider_at(raw.base_url)
        with pytest.raises(AuthenticationError, match="Incorrect API key provided") as caught:
            asyncio.run(provider.complete(ask()))
    texts = f"{provider!r} {provider.config!r} {caught.value} {caught.value!r}"
    assert KEY not in texts
    assert KEY not in "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")
    )


def test_an_error_says_who_what_and_what_to_do(server: LoopbackServer) -> None:
    provider = provider_at(server.base_url, switches="fail=404")
    with pytest.raises(
        NotFoundError, match=r"openai answered 404 for gpt-5-mini: The model.*; check the model"
    ) as caught:
        asyncio.run(provider.complete(ask()))
    error = caught.value
    assert (error.provider, error.model, error.status_code, error.retryable) == ("openai", "gpt-5-mini", 404, False)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_error_inside_a_good_answer_is_an_error(streaming: bool) -> None:
    error = b'{"error": {"code": 404, "message": "no such model"}}'
    answers = [plain(error), streamed(chunk({"content": "Hel"}), error)]

    async def main(raw: RawServer) -> None:
        provider = provider_at(raw.base_url)
        with pytest.raises(NotFoundError, match="no such model"):
            await (collected(provider.stream(ask())) if streaming else provider.complete(ask()))

    with RawServer(Play(answers[streaming])) as raw:
        asyncio.run(main(raw))
