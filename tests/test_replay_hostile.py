"""A store may be anybody's: what it says sends nothing anywhere but to the provider that is configured here."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub import ReplayImpossible
from hub.demo.server import LoopbackServer
from tests.hub_kit import KEY, MODEL, ask, store_path
from tests.replay_kit import Bench, bench


class Trap:
    """A server nobody may connect to. It answers with a redirect to itself, or whatever *answer* says."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with peer:
                peer.recv(65536)
                peer.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name in os.environ:
        if name.endswith(("_BASE_URL", "_API_KEY")):
            monkeypatch.delenv(name)
    with bench(tmp_path, monkeypatch) as made:
        yield made


def record(at: Bench, **options: Any) -> str:
    with at.client() as client:
        client.chat.completions.create(**{"model": MODEL, "messages": ask("Hello"), **options})
    return at.last.id


@contextmanager
def rewritten(folder: Path, **facts: Any) -> Iterator[None]:
    """The store with these keys in the data of its calls' requests, and in the columns made of them."""
    with closing(sqlite3.connect(store_path(folder))) as connection:
        rows = connection.execute("SELECT position, data FROM hub_events WHERE type = 'llm:request'").fetchall()
        for position, data in rows:
            changed = orjson.dumps({**orjson.loads(data), **facts}).decode()
            connection.execute("UPDATE hub_events SET data = ? WHERE position = ?", (changed, position))
        for column in facts.keys() & {"provider", "server_address", "operation"}:
            connection.execute(f"UPDATE hub_calls SET {column} = ?", (facts[column],))
        connection.commit()
    yield


@pytest.mark.parametrize(
    "name",
    [
        *("os:system", "../x", "/etc/passwd", "os.system", "subprocess", "builtins:eval", "http://127.0.0.1:{port}"),
        *(
            "openai\r\nHost: evil",
            "openai:gpt-4o",
            "",
            " openai",
            "a" * 300,
            "openai;rm",
            "tests.replay_kit",
            "file:///x",
        ),
    ],
)
def test_a_providers_name_is_looked_up_and_nothing_else(at: Bench, tmp_path: Path, trap: Trap, name: str) -> None:
    call = record(at)
    before = set(sys.modules)
    with (
        rewritten(tmp_path, provider=name.format(port=trap.port)),
        pytest.raises(ReplayImpossible) as caught,
    ):
        at.replay(call=call)
    assert "using" in str(caught.value)
    assert (len(at.sent), trap.connections) == (1, 0)
    assert not {module for module in set(sys.modules) - before if module.split(".")[0] in ("subprocess", "pty")}


def test_a_stored_name_does_not_choose_among_the_environments_addresses(
    at: Bench, tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = record(at)
    monkeypatch.setenv("DATABASE_BASE_URL", trap.url)
    monkeypatch.setenv("DATABASE_API_KEY", "k-database-1")
    with rewritten(tmp_path, provider="database"), pytest.raises(ReplayImpossible, match="--using database"):
        at.replay(call=call)
    assert (len(at.sent), trap.connections) == (1, 0)


def test_a_stored_address_is_not_gone_to(at: Bench, tmp_path: Path, trap: Trap) -> None:
    call = record(at)
    with rewritten(
        tmp_path,
        server_address=f"127.0.0.1:{trap.port}",
        params={
            "temperature": 0.3,
            "base_url": trap.url,
            "api_key": "stolen",
            "extra_headers": {"host": "evil"},
            "http_client": "x",
            "timeout": 0.0001,
            "organization": "evil",
        },
        base_url=trap.url,
    ):
        assert at.replay(call=call).fidelity == "exact"
        seen: list[Any] = []

        def takes(messages: list[Any], **more: Any) -> str:
            seen.append(more)
            return "x"

        lossy = at.replay(takes, call=call)
    assert at.sent == [at.sent[0]] * 2
    assert trap.connections == 0
    assert seen == [{"model": MODEL, "temperature": 0.3}]
    assert {"base_url", "api_key", "extra_headers", "http_client", "timeout", "organization"} <= set(lossy.lost)


def test_urls_within_a_body_are_the_providers_business(at: Bench, trap: Trap) -> None:
    image = {"type": "image_url", "image_url": {"url": f"{trap.url}/cat.png"}}
    body: Any = {
        "base_url": trap.url,
        "extra_headers": {"Authorization": "evil"},
        "api_base": trap.url,
        "proxy": trap.url,
    }
    call = record(
        at, messages=[{"role": "user", "content": [{"type": "text", "text": "Look"}, image]}], extra_body=body
    )
    assert at.replay(call=call).fidelity == "exact"
    assert trap.connections == 0
    first, second = at.server.exchanges()
    assert second.body == first.body
    assert second.headers["authorization"] == f"Bearer {KEY}"
    assert second.headers["host"] == f"127.0.0.1:{at.server.port}"


@pytest.mark.parametrize(
    "model", ["gpt\r\nX-Evil: 1", "../../v2/files", "a/b?c=d#e", "http://127.0.0.1/x", "\x00", "\u202egpt", "x" * 5_000]
)
def test_a_models_name_stays_within_the_body(at: Bench, trap: Trap, model: str) -> None:
    call = record(at, model=model)
    with_changes = at.replay(call=call, params={"temperature": 0})
    assert with_changes.fidelity == "lossy"
    again = at.replay(call=call)
    assert again.fidelity == ("exact" if "\x00" not in model else again.fidelity)
    assert {exchange.path for exchange in at.server.exchanges()} == {"/chat/completions"}
    assert all("x-evil" not in exchange.headers for exchange in at.server.exchanges())
    assert trap.connections == 0


def test_a_model_that_could_end_a_line_is_not_put_into_requests(at: Bench) -> None:
    call = record(at, model="gpt\r\nX-Evil: 1")

    def takes(messages: list[Any], model: str) -> str:
        raise AssertionError

    with pytest.raises(ReplayImpossible, match="control characters"):
        at.replay(takes, call=call)


def test_the_path_is_one_of_four_whatever_the_store_says(at: Bench, tmp_path: Path) -> None:
    call = record(at)
    for operation in ("../admin", "/v1/files", "embeddings", "text_completion", "delete"):
        with rewritten(tmp_path, operation=operation):
            try:
                at.replay(call=call)
            except ReplayImpossible:
                continue
    assert {exchange.path for exchange in at.server.exchanges()} == {"/chat/completions"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(at: Bench, monkeypatch: pytest.MonkeyPatch, trap: Trap, status: int) -> None:
    call = record(at)
    head = f"HTTP/1.1 {status} Moved\r\nlocation: {trap.url}/v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
    door = Trap(head.encode())
    monkeypatch.setenv("OPENAI_BASE_URL", f"{door.url}/v1")
    for using in (None, at.plain_client(max_retries=0).with_options(base_url=f"{door.url}/v1")):
        with pytest.raises(Exception):  # noqa: B017, PT011  # ours, and the SDK's own
            at.replay(using, call=call)
    door.close()
    assert door.connections >= 2
    assert trap.connections == 0
    assert (at.last["status"], at.last["replay_of"]) == ("error", call)


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "base_url",
        "extra_headers",
        "headers",
        "http_client",
        "auth",
        "messages",
        "model",
        "tools",
        "a-b",
        "a b",
        "",
    ],
)
def test_keys_addresses_and_texts_cannot_be_set_as_parameters(at: Bench, name: str) -> None:
    call = record(at)
    with pytest.raises(ReplayImpossible, match="cannot be set"):
        at.replay(call=call, params={name: "x"})
    assert len(at.sent) == 1


def test_what_a_store_says_of_its_body_is_no_proof(at: Bench, tmp_path: Path) -> None:
    """Whoever writes the store can forge the original, but not what is said to have left."""
    call = record(at)
    with LoopbackServer() as other:
        done = at.replay(at.plain_client().with_options(base_url=other.base_url), call=call)
        assert done.fidelity == "exact"
        assert other.exchanges()[0].body == at.sent[0]


@pytest.mark.parametrize("depth", [900, 1000])
def test_messages_nested_without_end_are_impossible(at: Bench, depth: int) -> None:
    call = record(at)
    stored = at.reader.call(call)
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    said = {"messages": [{"role": "user", "content": nested}]}
    marks = {"redacted": 1, "bytes": 0}
    stored.__dict__["content"] = [
        {**event, "content": said if event["type"] == "llm:request:debug" else None, "data": {**event["data"], **marks}}
        for event in stored.content
    ]

    def takes(messages: list[Any]) -> str:
        raise AssertionError

    for using in (None, takes):
        with pytest.raises(ReplayImpossible):
            at.replay(using, call=stored)
    assert len(at.sent) == 1


def test_damaged_content_is_impossible_or_named_and_never_a_crash(at: Bench, tmp_path: Path) -> None:
    call = record(at)
    for wire in (
        "null",
        "[]",
        '"x"',
        "{}",
        '{"body": 7}',
        '{"head": 1, "tail": "x"}',
        '{"body": "[1]"}',
        '{"body": "{"}',
    ):
        stored = at.reader.call(call)
        events = [
            {**event, "content": {**(event["content"] or {}), "wire": orjson.loads(wire)}}
            if event["type"] == "llm:request:debug"
            else event
            for event in stored.content
        ]
        stored.__dict__["content"] = events
        try:
            assert at.replay(call=stored).fidelity == "lossy"
        except ReplayImpossible:
            continue
