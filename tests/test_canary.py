"""Secrets planted wherever a program may have them come to light nowhere the hub writes to."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from typer.testing import CliRunner

import hub as api
from hub.cli.main import app
from hub.content import Cleaner
from hub.events import EventRecord
from hub.telemetry import Tracing
from tests.canaries import MARK, SECRET_NAMES, Canaries
from tests.canary_program import plant_everywhere, plant_in_environment
from tests.hub_kit import running, select, store_path
from tests.otlp_receiver import receiving

OTHERS = ("openai", "httpx", "httpcore", "urllib3", "grpc", "asyncio", "h2", "hpack")
"""Loggers that are not ours: an SDK at debug level prints its requests."""
OWN_DATA = "SELECT data FROM hub_events WHERE type LIKE 'llm:%' OR type LIKE 'provider:%' OR type LIKE 'hub:%'"


@dataclass(repr=False)
class Aftermath:
    """Everything the hub wrote."""

    canaries: Canaries
    store: bytes = b""
    """The database and its WAL as they stand on the disk, and what is packed in it, unpacked."""
    spool: bytes = b""
    logs: bytes = b""
    spans: bytes = b""
    shown: bytes = b""
    """What commands print."""
    data: bytes = b""
    """The data of the hub's own events, which erasure leaves alone."""


@pytest.fixture(scope="module", params=["export", "native"])
def aftermath(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    folder = tmp_path_factory.mktemp("canary")
    canaries = Canaries()
    found = Aftermath(canaries)
    with pytest.MonkeyPatch.context() as patch, receiving() as receiver, everything_written() as written:
        plant_in_environment(canaries, patch)
        for name, value in {
            **receiver.environ,
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
        }.items():
            patch.setenv(name, value)
        seen = SeenSpans()
        options: dict[str, Any] = {"sinks": [AngrySink(canaries)], "redact": angry_redactor(canaries)}
        with running(folder, otel=request.param.replace("native", "off"), **options) as hub:
            if request.param == "native":
                provider = TracerProvider(resource=Resource.get_empty())  # a program's own resource is its own
                provider.add_span_processor(seen)
                assert hub.recorder is not None
                hub.recorder.tracing = Tracing("native", provider=provider, clean=hub.recorder.cleaner.clean)
            plant_everywhere(hub, canaries)
            found.spool = bytes_of(folder / "spool")
            assert hub.flush() == 0
            found.spool += bytes_of(folder / "spool")
            found.store = bytes_of(folder, "calls.db*") + unpacked(folder)
        found.store += bytes_of(folder, "calls.db*")
        found.spool += bytes_of(folder / "spool")
        found.shown = shown(folder)
    found.data = b"\n".join(data.encode() for (data,) in select(folder, OWN_DATA))
    found.spans = b"\n".join([*receiver.raw, *seen.written])
    found.logs = written().encode()
    return found


def test_no_secret_is_in_the_store(aftermath: Aftermath) -> None:
    missing = [one for one in aftermath.canaries.neighbours if one.encode() not in aftermath.store]
    assert missing == [], "what stood beside them is kept"
    assert "; ".join(aftermath.canaries.found_in(aftermath.store)) == ""


def test_no_secret_is_in_the_spool(aftermath: Aftermath) -> None:
    assert all(one.encode() in aftermath.spool for one in aftermath.canaries.neighbours)
    assert "; ".join(aftermath.canaries.found_in(aftermath.spool)) == ""


def test_no_secret_is_in_a_log(aftermath: Aftermath) -> None:
    assert b"AngrySink" in aftermath.logs or b"sink angry failed" in aftermath.logs
    assert "; ".join(aftermath.canaries.found_in(aftermath.logs)) == ""


def test_no_secret_is_in_a_span_though_they_carry_content(aftermath: Aftermath) -> None:
    assert sum(one.encode() in aftermath.spans for one in aftermath.canaries.neighbours) >= 20
    assert "; ".join(aftermath.canaries.found_in(aftermath.spans)) == ""


def test_no_secret_is_shown(aftermath: Aftermath) -> None:
    assert b"neighbour" in aftermath.shown
    assert "; ".join(aftermath.canaries.found_in(aftermath.shown)) == ""


def test_no_text_of_prompts_answers_errors_and_tools_is_in_data_but_stop_sequences(aftermath: Aftermath) -> None:
    neighbours = enumerate(aftermath.canaries.neighbours)
    found = [aftermath.canaries.beside[place] for place, one in neighbours if one.encode() in aftermath.data]
    assert found
    assert [place for place in found if "stop" not in place] == []
    assert b"among params" not in aftermath.data


@pytest.mark.parametrize("capture", ["summary", "none"])
def test_no_secret_is_kept_however_little_is_captured(
    capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries = Canaries()
    plant_in_environment(canaries, monkeypatch)
    with running(tmp_path, otel="off", capture=capture, redact=angry_redactor(canaries)) as hub:
        plant_everywhere(hub, canaries)
        assert hub.flush() == 0
        written = bytes_of(tmp_path)
    assert "; ".join(canaries.found_in(written + bytes_of(tmp_path))) == ""
    kept = [place for place, one in zip(canaries.beside, canaries.neighbours, strict=True) if one.encode() in written]
    expected = ("session", "user id", "tag", "typed", "bare note", "bare alone", "stop", "SDK stop")
    if capture == "none":
        assert [place for place in kept if not place.startswith(expected)] == []
    else:
        assert len(kept) > 60


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_under_a_key_like_name_goes_from_text_of_every_form(name: str) -> None:
    secret = f"{MARK}000{MARK}A4"
    inner = orjson.dumps({name: secret}).decode()
    forms = (
        *(inner, inner.replace(":", ": "), orjson.dumps({"arguments": inner}).decode(), repr({name: secret})),
        *(orjson.dumps(orjson.dumps({"a": inner}).decode()).decode(), f"{name}={secret}", f"{name} = '{secret}'"),
        f"{name}: {secret}",
    )
    for form in forms:
        assert MARK not in Cleaner().text(f"before {form} after")[0], form


# What the hub writes to.


@contextmanager
def everything_written() -> Iterator[Callable[[], str]]:
    """All that loggers and prints say meanwhile, other libraries' talk of their own work apart."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    handler.addFilter(lambda record: not record.name.startswith(OTHERS))
    root, hubs = logging.getLogger(), logging.getLogger("hub")
    before = root.level, hubs.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    hubs.setLevel(logging.DEBUG)
    try:
        with redirect_stderr(stream), redirect_stdout(stream):
            yield stream.getvalue
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        hubs.setLevel(before[1])


def bytes_of(folder: Path, names: str = "**/*") -> bytes:
    """All files, without the zeros that most of a spool's are."""
    return b"\n".join(path.read_bytes().rstrip(b"\0") for path in folder.glob(names) if path.is_file())


def unpacked(folder: Path) -> bytes:
    """The bodies that the store holds compressed."""
    packed = select(folder, "SELECT packed FROM hub_contents WHERE packed IS NOT NULL")
    assert packed
    return b"\n".join(zstandard.ZstdDecompressor().decompress(body) for (body,) in packed)


def shown(folder: Path) -> bytes:
    """What commands print, the details of every third call among it."""
    runner, db = CliRunner(), str(store_path(folder))
    outputs = [
        runner.invoke(app, [*command, "--db", db]).output for command in (["calls", "--json"], ["show", "--raw"])
    ]
    with api.open(db) as reader:
        for (call_id,) in select(folder, "SELECT call_id FROM llm_calls WHERE rowid % 3 = 0"):
            call = reader.call(call_id)
            outputs += [
                orjson.dumps(call.as_json(), default=str).decode(),
                orjson.dumps(call.content, default=str).decode(),
            ]
    return "\n".join(outputs).encode()


class SeenSpans(SpanProcessor):
    """What a program's own processors see of native spans, at their start already."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.written.append(span.to_json().encode())

    def on_end(self, span: ReadableSpan) -> None:
        self.written.append(span.to_json().encode())


class AngrySink:
    """Raises at first, with a secret in what it says."""

    name = "angry"

    def __init__(self, canaries: Canaries) -> None:
        self._message: str | None = canaries.text_unkept("exception of a sink")

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        message, self._message = self._message, None
        if message is not None:
            raise ValueError(message)
        return ()

    def close(self) -> None:
        return


def angry_redactor(canaries: Canaries) -> Callable[[str], str]:
    message = canaries.text_unkept("exception of a redactor")

    def redact(text: str) -> str:
        if "provoke the redactor" in text:
            raise ValueError(message)
        return text

    return redact
