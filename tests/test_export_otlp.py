"""hub export otlp: the spans of stored calls, sent again, through whatever befalls the endpoint and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli.main import app
from hub.demo.server import LoopbackServer
from hub.events import EventRecord
from storage import open_store
from storage.sqlite import SQLiteStore
from tests.factories import START, Factory
from tests.hub_kit import Traffic, running, store_path
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, receiving
from tests.transfer_kit import prices, written

HUB = str(Path(sys.executable).parent / "hub")
HOUR = 3600 * 10**9

Command = Callable[..., Result]


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver) -> Command:
    """Runs `hub export otlp` in this process, towards the receiver."""
    for name in os.environ:
        if name.startswith(("HUB_", "OTEL_")) and name != "HUB_TEST_POSTGRES_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HUB_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    to = f"http://127.0.0.1:{receiver.port}"
    return lambda db, *more, to=to: CliRunner().invoke(app, ["export", "otlp", "--db", str(db), "--to", to, *more])


def calls(count: int, factory: Factory | None = None) -> list[EventRecord]:
    return (factory or Factory()).calls(count, messages=[{"role": "user", "content": "Hi"}], answer="Fine.")


def ids_in(spans: list[ReceivedSpan]) -> list[str]:
    return [span.attributes["hub.call.id"] for span in spans]


def call_ids(records: list[EventRecord]) -> list[str]:
    return [record["stream_id"] for record in records if record["type"] == "llm:response"]


def without_cost(span: ReceivedSpan) -> dict[str, Any]:
    attributes = {name: value for name, value in span.attributes.items() if name != "hub.cost.usd"}
    return {**vars(span), "attributes": attributes}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_spans_are_those_that_a_live_export_sends_with_the_computed_cost(
    engine: str,
    command: Command,
    receiver: OtlpReceiver,
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    url = str(store_path(tmp_path))
    if engine == "postgresql":
        url = request.getfixturevalue("migrated_postgres_url")
    with receiving() as live:
        with monkeypatch.context() as patch:
            for name, value in live.environ.items():
                patch.setenv(name, value)
            with running(tmp_path, db_url=url, otel="export", environment="test") as hub:
                Traffic(hub, server).everything()
                assert hub.flush(10.0) == 0
        told = json.loads(command(url).stdout)
    assert told["spans"] == len(receiver.spans)
    at_once, later = (
        {span.span_id: without_cost(span) for span in spans if span.attributes.get("hub.status") != "lost"}
        for spans in (live.spans, receiver.spans)
    )
    assert at_once == later
    assert len(later) >= 30
    costs = [sum("hub.cost.usd" in span.attributes for span in spans) for spans in (live.spans, receiver.spans)]
    assert costs[1] > costs[0]


def test_computed_costs_are_those_of_the_store(command: Command, receiver: OtlpReceiver, tmp_path: Path) -> None:
    written(tmp_path / "calls.db", calls(1), prices=prices(7, "1"))
    command(tmp_path / "calls.db")
    (span,) = receiver.spans
    assert span.attributes["hub.cost.usd"] == pytest.approx(750 * 7e-9)


def test_a_second_export_sends_what_has_come_since_and_again_sends_all(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    factory, db = Factory(), tmp_path / "calls.db"
    written(db, first := calls(3, factory))
    told = json.loads(command(db).stdout)
    expected = {"endpoint": f"http://127.0.0.1:{receiver.port}", "calls": 3, "spans": 3, "refused": 0, "resumed": False}
    assert told == expected
    told = json.loads(command(db).stdout)
    assert (told["calls"], told["resumed"]) == (0, True)
    written(db, second := calls(2, factory))
    assert json.loads(command(db).stdout)["calls"] == 2
    receiver.spans.clear()
    command(db, "--again")
    assert ids_in(receiver.spans) == call_ids(first + second)


def test_since_leaves_out_what_ended_earlier_and_nothing_that_was_not_sent(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    db, old, new = tmp_path / "calls.db", Factory(seed=1), Factory(seed=2, start=START + 2 * HOUR)
    written(db, calls(3, old) + (late := calls(2, new)))
    hour = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((START + HOUR) / 1e9))
    assert command(db, "--since", hour).exit_code == 0
    assert ids_in(receiver.spans) == call_ids(late)
    written(db, more := calls(1, new))
    command(db, "--since", "1s")
    assert ids_in(receiver.spans) == call_ids(late + more)
    assert json.loads(command(db, "--since", "2020-01-01").stdout)["calls"] == 6, "an older start begins anew"


def test_another_store_under_the_same_url_is_sent_from_its_start(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    db = tmp_path / "calls.db"
    written(db, calls(3))
    command(db)
    for path in tmp_path.glob("calls.db*"):
        path.unlink()
    written(db, other := calls(4, Factory(seed=5)))
    receiver.spans.clear()
    assert json.loads(command(db).stdout)["resumed"] is False
    assert ids_in(receiver.spans) == call_ids(other)


def test_calls_from_elsewhere_and_calls_that_the_sampler_left_out_stay(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    factory = Factory()
    records = [*factory.call(request={"source": "otlp"}), *factory.call(trace_flags=2), *factory.call()]
    written(tmp_path / "calls.db", records)
    assert json.loads(command(tmp_path / "calls.db").stdout)["calls"] == 1
    assert ids_in(receiver.spans) == [records[-1]["stream_id"]]


def test_a_producer_that_is_pruned_is_still_the_service_that_its_calls_name(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    factory, other = Factory(), Factory("p2")
    started = other.event(
        "hub:started", stream=other.new_id(), version=1, call_id=None, data={"resource": {"service.name": "known"}}
    )
    written(tmp_path / "calls.db", [started, *factory.call(), *other.call()])
    command(tmp_path / "calls.db")
    services = [span.resource.get("service.name") for span in receiver.spans]
    assert services == ["till", "known"]


def test_prompts_stay_in_the_store_unless_they_are_asked_for(
    command: Command, receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "calls.db", calls(1))
    command(tmp_path / "calls.db")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    command(tmp_path / "calls.db", "--again")
    without, with_content = receiver.spans
    assert "gen_ai.input.messages" not in without.attributes
    assert '"Hi"' in with_content.attributes["gen_ai.input.messages"]
    assert '"Fine."' in with_content.attributes["gen_ai.output.messages"]


def test_a_span_that_is_refused_for_good_holds_up_no_other_and_is_told(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    factory = Factory()
    bad = factory.call(request={"model": "cursed"})
    written(tmp_path / "calls.db", [*calls(5, factory), *bad, *calls(5, factory)])
    receiver.refuse_if = "chat cursed"
    done = command(tmp_path / "calls.db")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["calls"], told["refused"], len(receiver.spans)) == (10, 1, 10)


def test_spans_of_a_request_that_the_endpoint_says_it_refused_are_counted(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    written(tmp_path / "calls.db", calls(5))
    receiver.rejects = 2
    done = command(tmp_path / "calls.db")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["spans"], told["refused"]) == (3, 2)


# An endpoint in trouble.


@pytest.mark.parametrize(("trouble", "words"), [(503, "answered 503"), (404, "answered 404"), ("reset", "Connection")])
def test_an_export_that_is_not_taken_ends_with_the_reason_and_goes_on_later(
    trouble: Any, words: str, command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    written(tmp_path / "calls.db", records := calls(20))
    receiver.answer = trouble
    begun = time.monotonic()
    done = command(tmp_path / "calls.db")
    assert time.monotonic() - begun < 8
    assert done.exit_code == 4
    assert words in done.stderr
    assert "goes on where it was" in done.stderr
    receiver.recover()
    assert command(tmp_path / "calls.db").exit_code == 0
    assert ids_in(receiver.spans) == call_ids(records)


def test_without_an_endpoint_it_says_what_to_name(command: Command, tmp_path: Path) -> None:
    written(tmp_path / "calls.db", calls(1))
    done = CliRunner().invoke(app, ["export", "otlp", "--db", str(tmp_path / "calls.db")])
    assert (done.exit_code, "OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr) == (2, True)
    assert command(tmp_path / "calls.db", to="nonsense").exit_code == 2


@contextmanager
def following(db: Path, receiver: OtlpReceiver, timeout: str = "1") -> Iterator[subprocess.Popen[str]]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "OTEL_"))}
    environ |= receiver.environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": timeout, "HUB_SPOOL_DIR": str(db.parent / "spool")}
    process = subprocess.Popen(
        [HUB, "export", "otlp", "--follow", "--interval", "0.05", "--db", str(db)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupted(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Seconds that Ctrl-C takes, and what was said on stderr."""
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    return time.monotonic() - begun, errors


def test_following_outlasts_every_trouble_of_the_endpoint_and_loses_no_span(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    factory, db = Factory(), tmp_path / "calls.db"
    expected: list[str] = []
    with closing(SQLiteStore(db)) as store, following(db, receiver) as process:

        def record(count: int) -> None:
            store.append(records := calls(count, factory))
            expected.extend(call_ids(records))

        def all_there(within: float = 10.0) -> None:
            begun = time.monotonic()
            receiver.wait_for(len(expected), timeout=20, different=True)
            assert time.monotonic() - begun < within
            assert set(ids_in(receiver.spans)) == set(expected)

        record(10)
        all_there(within=20)  # the command's own start
        for trouble in ("refused", "silent", 503, "reset"):
            if trouble == "refused":
                receiver.listen(False)
            else:
                receiver.answer = None if trouble == "silent" else trouble  # type: ignore[assignment]
            before = receiver.requests
            record(20)
            if trouble == "refused":
                time.sleep(0.3)
            else:
                receiver.wait_for_requests(before + 2)
            receiver.recover()
            all_there()
        for _ in range(20):
            receiver.listen(False)
            record(3)
            receiver.listen(True)
        all_there()
        took, errors = interrupted(process)
    assert took < 2
    assert "tried again until it works" in errors
    assert "takes spans again" in errors
    assert "hub: sent " in errors


def test_ctrl_c_ends_it_at_once_while_the_endpoint_is_silent(receiver: OtlpReceiver, tmp_path: Path) -> None:
    db = written(tmp_path / "calls.db", calls(5))
    receiver.answer = None
    with following(db, receiver, timeout="30") as process:
        receiver.wait_for_requests(1, timeout=20)
        took, _ = interrupted(process)
    assert took < 2


def test_after_a_kill_it_goes_on_behind_the_last_page_that_was_taken(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    db = tmp_path / "calls.db"
    written(db, records := calls(700))
    receiver.stop_after = 500
    with following(db, receiver, timeout="30") as process:
        receiver.wait_for_requests(2, timeout=20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(receiver.spans) == 500
    receiver.stop_after = None
    receiver.recover()
    assert json.loads(command(db).stdout)["resumed"] is True
    assert ids_in(receiver.spans) == call_ids(records)


def test_two_exports_to_one_endpoint_do_not_run_beside_each_other(
    command: Command, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    db = written(tmp_path / "calls.db", calls(5))
    with following(db, receiver):
        receiver.wait_for(5, timeout=20)
        done = command(db)
    assert (done.exit_code, "is running" in done.stderr) == (2, True)


def test_a_postgresql_store_is_followed_as_calls_come(
    receiver: OtlpReceiver, tmp_path: Path, migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in receiver.environ.items():
        monkeypatch.setenv(name, value)
    with closing(open_store(migrated_postgres_url)) as store:
        environ = {**os.environ, "HUB_SPOOL_DIR": str(tmp_path / "spool")}
        process = subprocess.Popen(
            [HUB, "export", "otlp", "--follow", "--db", migrated_postgres_url], env=environ, stderr=subprocess.PIPE
        )
        try:
            store.append(first := calls(5))
            receiver.wait_for(5, timeout=20)
            store.append(second := calls(5, Factory(seed=2)))
            receiver.wait_for(10)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            assert time.monotonic() - begun < 2
        finally:
            process.kill()
            process.wait()
    assert ids_in(receiver.spans) == call_ids(first + second)
