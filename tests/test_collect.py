"""The OTLP receiver: what it takes, what it refuses, and what senders are told."""

from __future__ import annotations

import gzip
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from typer.testing import CliRunner

from hub.cli.main import app
from hub.cli.trace import lines
from hub.config import Settings, load
from hub.errors import ConfigError, StoreUnavailable
from hub.received.intake import Intake
from hub.received.server import MOST_BYTES, Receiver
from storage.sqlite import SQLiteStore
from tests.store_rows import rows

TRACE, START = "5b8efff798038103d269b633813fc60c", 1_780_000_000_000_000_000
JSON, PROTOBUF = "application/json", "application/x-protobuf"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Sender:
    """A store with a receiver before it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.path = folder / "calls.db"
        self.settings: Settings = load(
            {"db_url": f"sqlite:///{self.path}", "project": "kettles", **settings}, {}, folder
        )
        self.store = SQLiteStore(self.path)
        self.receiver = Receiver(Intake(self.store, self.settings), port=0)
        self.receiver.start()

    def close(self) -> None:
        self.receiver.close()
        self.store.close()

    def post(self, body: bytes, kind: str = JSON, path: str = "/v1/traces", **headers: str) -> Answer:
        with closing(http.client.HTTPConnection(*self.receiver.address, timeout=20)) as connection:
            given = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.request("POST", path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def spans(self, *spans: dict[str, Any], service: str = "till") -> Answer:
        return self.post(request(*spans, service=service))

    def rows(self, select: str) -> list[dict[str, Any]]:
        return rows(self.path, select)


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with closing(Sender(tmp_path)) as made:
        yield made


def request(*spans: dict[str, Any], service: str = "till") -> bytes:
    resource = {"attributes": attributes({"service.name": service, "deployment.environment.name": "test"})}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}).encode()


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue", bool: "boolValue"}
    return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in values.items()]


def span(span_id: str, name: str = "work", parent: str = "", **values: object) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": 3,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 250_000_000),
        "attributes": attributes(values),
    }


def call(span_id: str, parent: str = "", **values: Any) -> dict[str, Any]:
    own = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
    }
    return span(span_id, "chat gpt-4o-mini", parent, **{**own, **values})


ONE, TWO, THREE = "00000000000000a1", "00000000000000a2", "00000000000000a3"


def test_a_span_of_a_call_becomes_a_call_and_another_one_stays_a_span(sender: Sender) -> None:
    answer = sender.spans(span(ONE, "GET /kettles"), call(TWO, ONE, **{"gen_ai.conversation.id": "s1"}))
    assert (answer.status, answer.body) == (200, b"{}")
    (made,) = sender.rows("SELECT * FROM llm_calls")
    assert (made["trace_id"], made["span_id"], made["parent_span_id"]) == (TRACE, TWO, ONE)
    assert (made["source"], made["status"], made["duration_ms"], made["total_tokens"]) == ("otlp", "ok", 250.0, 30)
    assert (made["project"], made["service"], made["environment"]) == ("kettles", "till", "test")
    assert (made["session_id"], made["cost_nanos"]) == ("s1", 13_500)
    (kept,) = sender.rows("SELECT * FROM llm_spans")
    assert (kept["span_id"], kept["name"], kept["kind"], kept["service"]) == (ONE, "GET /kettles", "CLIENT", "till")
    assert (kept["status"], kept["duration_ms"], kept["started_at"]) == ("UNSET", 250.0, made["started_at"])


def test_what_is_sent_again_is_kept_once(sender: Sender) -> None:
    for _ in range(3):
        assert sender.spans(span(ONE), call(TWO, ONE)).status == 200
    assert len(sender.rows("SELECT * FROM llm_calls")) == len(sender.rows("SELECT * FROM llm_spans")) == 1
    assert sender.rows("SELECT * FROM llm_events WHERE type LIKE 'hub:%'") == []


def test_protobuf_and_gzip_are_taken_and_answered_alike(sender: Sender) -> None:
    made = ExportTraceServiceRequest()
    one = made.resource_spans.add().scope_spans.add().spans.add()
    one.trace_id, one.span_id, one.name = bytes.fromhex(TRACE), bytes.fromhex(ONE), "work"
    one.start_time_unix_nano, one.end_time_unix_nano = START, START + 1
    one.attributes.append(KeyValue(key="raw", value=AnyValue(bytes_value=b"\0\1")))
    raw = made.SerializeToString()
    answer = sender.post(gzip.compress(raw), PROTOBUF, Content_Encoding="gzip")
    assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF)
    assert not ExportTraceServiceResponse.FromString(answer.body).HasField("partial_success")
    assert len(sender.rows("SELECT * FROM llm_spans")) == 1


def test_good_spans_beside_bad_ones_are_kept_and_the_sender_is_told_of_the_rest(sender: Sender) -> None:
    bad = [
        {**span(ONE), "traceId": "00" * 16},
        {**span(ONE), "spanId": "xyz"},
        {**span(ONE), "startTimeUnixNano": "0"},
        {**span(ONE), "attributes": [{"key": "a", "value": {"intValue": "twelve"}}]},
        {**span(ONE), "attributes": 7},
        {"name": "nothing else"},
    ]
    answer = sender.spans(*bad, span(TWO))
    told = json.loads(answer.body)["partialSuccess"]
    assert (answer.status, told["rejectedSpans"]) == (200, "6")
    assert "16 bytes" in told["errorMessage"]
    assert [one["span_id"] for one in sender.rows("SELECT span_id FROM llm_spans")] == [TWO]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"\xff\xff\xff", PROTOBUF, 400),
        (request(span(ONE))[:-9], JSON, 400),
        (b"[1, 2]", JSON, 400),
        (b'{"resourceSpans": "many"}', JSON, 200),
        (b"[" * 100_000, JSON, 400),
        (b"hello", "text/plain", 415),
        (b"\xc3\x28", JSON, 400),
    ],
)
def test_what_is_no_request_is_refused_for_good(sender: Sender, body: bytes, kind: str, status: int) -> None:
    assert sender.post(body, kind).status == status
    assert sender.spans(span(ONE)).status == 200


def test_bodies_have_a_bound_packed_or_not(sender: Sender) -> None:
    bomb = gzip.compress(b" " * (MOST_BYTES + 1))
    assert len(bomb) < 100_000
    assert sender.post(bomb, JSON, Content_Encoding="gzip").status == 413
    assert sender.post(b"", JSON, Content_Length=str(MOST_BYTES + 1)).status == 413
    assert sender.post(bomb[:-50], JSON, Content_Encoding="gzip").status in (400, 413)
    assert sender.post(b"no gzip", JSON, Content_Encoding="gzip").status == 400
    assert sender.post(b"{}", JSON, Content_Encoding="br").status == 415
    assert sender.spans(span(ONE)).status == 200


def test_deep_and_wide_attributes_are_kept_within_bounds(sender: Sender) -> None:
    deep: dict[str, Any] = {"stringValue": "bottom"}
    for _ in range(200):
        deep = {"arrayValue": {"values": [deep]}}
    many: dict[str, Any] = {f"key{number}": number for number in range(100_000)}
    wide = span(TWO, **many)
    answer = sender.spans({**span(ONE), "attributes": [{"key": "deep", "value": deep}]}, wide)
    assert answer.status == 200
    kept = {one["span_id"]: json.loads(one["attributes"]) for one in sender.rows("SELECT * FROM llm_spans")}
    assert "bottom" not in json.dumps(kept[ONE])
    assert len(kept[TWO]) == 1_000


def test_other_paths_and_methods_are_not_there(sender: Sender) -> None:
    assert sender.post(request(span(ONE)), path="/v1/logs").status == 404
    with closing(http.client.HTTPConnection(*sender.receiver.address, timeout=20)) as connection:
        connection.request("GET", "/v1/traces")
        assert connection.getresponse().status == 501


def test_a_store_that_takes_nothing_has_the_sender_wait(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(_events: object) -> None:
        raise StoreUnavailable("calls.db", "it is locked", "wait")

    monkeypatch.setattr(sender.store, "append", append)
    answer = sender.spans(call(ONE))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    monkeypatch.undo()
    assert sender.spans(call(ONE)).status == 200
    assert len(sender.rows("SELECT * FROM llm_calls")) == 1


def test_beyond_this_machine_it_listens_with_a_token_alone(tmp_path: Path) -> None:
    sender = Sender(tmp_path)
    intake = Intake(sender.store, sender.settings)
    with pytest.raises(ConfigError, match="token"):
        Receiver(intake, host="0.0.0.0", port=0)
    guarded = sender.receiver = Receiver(intake, host="0.0.0.0", port=0, token="s3cret")
    guarded.start()
    assert sender.post(request(span(ONE))).status == 401
    assert sender.post(request(span(ONE)), Authorization="Bearer wrong").status == 401
    assert sender.post(request(span(ONE)), Authorization="Bearer s3cret").status == 200
    sender.close()


def test_of_spans_around_one_inference_the_innermost_counts(sender: Sender) -> None:
    sender.spans(call(ONE), span(TWO, "retry", ONE), call(THREE, TWO))
    assert [one["span_id"] for one in sender.rows("SELECT span_id FROM llm_calls")] == [THREE]
    assert {one["span_id"] for one in sender.rows("SELECT span_id FROM llm_spans")} == {ONE, TWO}


def test_a_call_that_a_hub_exported_is_that_call(sender: Sender) -> None:
    call_id = "019e6e6e-7000-7000-8000-0000000000aa"
    assert sender.spans(call(ONE, **{"hub.call.id": call_id})).status == 200
    assert sender.spans(call(TWO, **{"hub.call.id": call_id})).status == 200
    (made,) = sender.rows("SELECT call_id, span_id FROM llm_calls")
    assert (made["call_id"], made["span_id"]) == (call_id, ONE)


@pytest.mark.parametrize(("capture", "kept"), [("full", True), ("summary", False), ("none", False)])
def test_prompts_are_kept_as_the_settings_say(tmp_path: Path, capture: str, kept: bool) -> None:
    canary = "tell nobody of the golden teapot, of its lid and of its long and crooked spout " * 9
    with closing(Sender(tmp_path, capture=capture)) as sender:
        messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": canary}]}])
        sender.spans(
            call(ONE, **{"gen_ai.input.messages": messages}), span(TWO, **{"input.value": canary, "plain": "x"})
        )
        assert len(sender.rows("SELECT * FROM llm_calls")) == len(sender.rows("SELECT * FROM llm_spans")) == 1
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("calls.db*"))
    assert (canary.encode()[-200:] in raw) is kept


def test_secrets_in_attributes_are_blacked_out(sender: Sender) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    sender.spans(span(ONE, name=f"GET ?key={secret}", header=f"Bearer {secret}"), call(TWO, **{"error.type": secret}))
    sender.store.checkpoint("x")
    raw = b"".join(path.read_bytes() for path in sender.path.parent.glob("calls.db*"))
    assert secret.encode() not in raw


def test_an_erasure_takes_spans_of_the_session_too(sender: Sender) -> None:
    from hub.store import Erasure

    sender.spans(span(ONE, **{"session.id": "s1", "note": "of s1"}), span(TWO, note="of others"))
    sender.store.erase(Erasure(project="kettles", before_ns=2**62, session_id="s1"))
    kept = {one["span_id"]: one for one in sender.rows("SELECT * FROM llm_spans")}
    assert (kept[ONE]["name"], kept[ONE]["attributes"]) == (None, None)
    assert json.loads(kept[TWO]["attributes"])["note"] == "of others"


def test_the_command_takes_spans_until_it_is_stopped(tmp_path: Path) -> None:
    hub = Path(sys.executable).parent / "hub"
    with subprocess.Popen(
        [hub, "collect", "--db", "calls.db", "--port", "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            address = urlsplit(said.partition("OTEL_EXPORTER_OTLP_ENDPOINT=")[2].split()[0])
            with closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)) as connection:
                connection.request("POST", "/v1/traces", request(call(ONE)), {"Content-Type": JSON})
                assert connection.getresponse().status == 200
        finally:
            process.terminate()
        assert process.wait(20) == 0
        assert "1 spans were taken" in process.stderr.read()
    assert len(rows(tmp_path / "calls.db", "SELECT * FROM llm_calls")) == 1


def test_a_call_is_shown_within_its_trace(sender: Sender) -> None:
    sender.spans(span(ONE, "GET /kettles"), span(TWO, "render", ONE), service="shop")
    sender.spans(call(THREE, ONE), call("00000000000000a4", "00000000000000ff"))
    found = CliRunner().invoke(app, ["show", "--trace", "--db", str(sender.path), "--json", "@last"])
    told = json.loads(found.output)
    assert {one["span_id"]: one["name"] for one in told} == {
        ONE: "GET /kettles",
        TWO: "render",
        THREE: "chat gpt-4o-mini",
        "00000000000000a4": "chat gpt-4o-mini",
    }
    drawn = [(line.branches, line.span["span_id"]) for line in lines(sorted(told, key=lambda one: one["span_id"]))]
    assert drawn == [("", ONE), ("├─ ", TWO), ("└─ ", THREE), ("", "00000000000000a4")]


def test_a_trace_that_goes_in_circles_is_drawn_all_the_same() -> None:
    circle = [{"span_id": one, "parent_span_id": two} for one, two in (("a", "b"), ("b", "a"), ("c", "c"))]
    assert [line.span["span_id"] for line in lines(circle)] == ["c", "a", "b"]
