"""Recorder, spool, pipeline and the otlp sink together, with a backend in trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.bus import EventBus
from hub.content import Cleaner
from hub.pipeline import Pipeline
from hub.recorder import Recorder
from hub.spool import Spool
from hub.telemetry import Tracing
from tests.otlp_receiver import OtlpReceiver, receiving
from tests.spools import Emitter, ListSink, make_spool

CALLS = 20


@pytest.fixture(params=["http/protobuf", "grpc"])
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with receiving(request.param) as running:
        for name, value in {**running.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}.items():
            monkeypatch.setenv(name, value)
        yield running


class Running:
    """A hub without a store of its own."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.tracing = Tracing("export")
        self.store = ListSink()
        self.pipeline = Pipeline(spool, [self.store, *self.tracing.sinks()], Emitter(spool))
        self.recorder = Recorder(spool, bus=EventBus(), cleaner=Cleaner(), tracing=self.tracing)
        self.pipeline.start()

    def call(self, count: int = CALLS) -> None:
        for _ in range(count):
            call = self.recorder.start(source="traced", provider="acme", model="m-1", messages=["hello"])
            call.end({"messages": ["hello yourself"], "usage": {"input_tokens": 1}})


@pytest.fixture
def running(receiver: OtlpReceiver, tmp_path: Path) -> Iterator[Running]:
    hub = Running(make_spool(tmp_path, sinks=("store", "otlp")))
    yield hub
    receiver.recover()
    hub.pipeline.stop(2.0)
    for thread in threading.enumerate():
        if thread.name == "hub-otlp":
            thread.join(5.0)
    hub.spool.close()


def assert_each_call_arrived(running: Running, receiver: OtlpReceiver) -> None:
    receiver.wait_for(CALLS)
    recorded = {record["call_id"] for record in running.store.log if record["type"] == "llm:request"}
    assert len(recorded) == CALLS
    assert {span.attributes["hub.call.id"] for span in receiver.spans} == recorded


def test_calls_arrive_as_spans(running: Running, receiver: OtlpReceiver) -> None:
    running.call()
    assert running.pipeline.flush(5.0) == 0
    assert_each_call_arrived(running, receiver)


@pytest.mark.parametrize("trouble", ["refused", "silent", "503"])
def test_after_trouble_every_span_arrives_without_help(running: Running, receiver: OtlpReceiver, trouble: str) -> None:
    if trouble == "refused":
        receiver.listen(False)
    else:
        receiver.answer = None if trouble == "silent" else 503
    running.call()
    assert running.pipeline.flush(5.0) == 0, "the store does not wait for the backend"
    time.sleep(0.2)
    assert receiver.spans == []
    receiver.recover()
    assert_each_call_arrived(running, receiver)


@pytest.mark.parametrize("trouble", ["refused", "silent"])
def test_a_backend_in_trouble_does_not_hold_up_the_end(running: Running, receiver: OtlpReceiver, trouble: str) -> None:
    if trouble == "refused":
        receiver.listen(False)
    else:
        receiver.answer = None
    running.call()
    began = time.monotonic()
    running.pipeline.stop(2.0)
    assert time.monotonic() - began < 2.5
    assert len([record for record in running.store.log if record["type"] == "llm:response"]) == CALLS
