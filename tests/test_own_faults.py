"""Whatever of ours fails, a traced call gives the result, the exception and the time it gives untraced."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import hub as hub_package
from hub import Event, ManualCall, traced
from hub.demo.server import LoopbackServer
from hub.runtime import Hub
from hub.span_sink import SpanSink
from hub.store import AppendResult
from hub.telemetry import Tracing
from hub.writer import Clock
from tests.calls_of import durable_hub
from tests.openai_kit import demo, each, play, value
from tests.spools import ListStore

SECRET = "a word that only the fault knows"
PROMPT = "a prompt that nobody else may read"
ANSWER = "an answer that nobody else may read"
ASK: Any = [{"role": "user", "content": PROMPT}]
HUB = str(Path(hub_package.__file__).parent)


class Boom(Exception):
    """The fault of ours."""


class Sour(Exception):
    """What the program itself raises."""


class Fault:
    """Raises whenever it is called, and counts how often that was."""

    def __init__(self, error: Callable[[], BaseException] = lambda: Boom(SECRET)) -> None:
        self.error = error
        self.raised = 0

    def __call__(self, *_args: Any, **_more: Any) -> Any:
        self.raised += 1
        raise self.error()


def cancelled() -> BaseException:
    """What a handler gets from a future of its own that was cancelled: no `Exception`, and not ours to pass on."""
    return asyncio.CancelledError(SECRET)


class BrokenIn:
    """An object of which one method is broken."""

    def __init__(self, whole: Any, method: str, fault: Fault) -> None:
        self._whole = whole
        setattr(self, method, fault)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class Store(ListStore):
    def close(self) -> None:
        return


class BrokenStore(Store):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def append(self, events: Sequence[Any]) -> AppendResult:
        return self.fault()  # type: ignore[no-any-return]


class BrokenExporter:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def export(self, spans: Sequence[ReadableSpan]) -> int:
        self.fault()
        return 0

    def close(self) -> None:
        return


class BrokenProcessor(SpanProcessor):
    """Of the program's own SDK, which lets its exceptions through."""

    def __init__(self, fault: Fault) -> None:
        self.on_end = fault  # type: ignore[method-assign]


class BrokenHandler(logging.Handler):
    """Of the program's own logging: it raises where it should call handleError."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def emit(self, record: logging.LogRecord) -> None:
        self.fault()


@dataclass
class Rig:
    """A hub with one broken part."""

    fault: Fault
    folder: Path
    stack: ExitStack
    later: bool = False
    """The fault comes in a thread of the hub's, not in the call."""
    options: dict[str, Any] = field(default_factory=dict)
    """For `traced`."""
    hub: Any = None

    def patch(self, name: str, value: Any) -> None:
        self.stack.enter_context(pytest.MonkeyPatch.context()).setattr(name, value)

    def start(self, **parts: Any) -> Any:
        parts.setdefault("store", Store())
        self.hub = Hub(db_url=str(self.folder / "calls.db"), spool_dir=self.folder / "spool", otel="off", **parts)
        self.stack.callback(self.hub.shutdown)
        return self.hub


def in_extractor(rig: Rig) -> None:
    rig.start()
    rig.options["extract"] = rig.fault


def in_redactor(rig: Rig) -> None:
    rig.start(redact=rig.fault)


def in_subscriber(rig: Rig) -> None:
    hub = rig.start()
    hub.subscribe(Event, rig.fault)
    hub.subscribe("llm:*", rig.fault)


def in_spool(rig: Rig) -> None:
    recorder = rig.start().recorder
    recorder.log = BrokenIn(recorder.log, "append", rig.fault)


def in_store(rig: Rig) -> None:
    rig.later = True
    rig.start(store=BrokenStore(rig.fault))


def in_exporter(rig: Rig) -> None:
    rig.later = True
    rig.start(sinks=[SpanSink({}, exporter=lambda: BrokenExporter(rig.fault))])


def in_sink(rig: Rig) -> None:
    rig.later = True
    rig.start(sinks=[BrokenIn(SpanSink({}), "write", rig.fault)])


def in_tracing(rig: Rig) -> None:
    recorder = rig.start().recorder
    recorder.tracing = BrokenIn(recorder.tracing, "begin", rig.fault)


def in_native_spans(rig: Rig) -> None:
    recorder = rig.start().recorder
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BrokenProcessor(rig.fault))
    recorder.tracing = Tracing("native", {}, provider=provider)


def in_syncer(rig: Rig) -> None:
    """What durable mode waits for."""
    recorder = rig.start(durability="durable").recorder
    recorder.log = BrokenIn(recorder.log, "syncer", rig.fault)
    recorder.log.syncer = BrokenIn(recorder.log, "wait", rig.fault)
    recorder.log.syncer.future = rig.fault


def in_readers(rig: Rig) -> None:
    """Of requests and answers as they go over the wire."""
    rig.start()
    for name in ("hub.exchange.body_facts", "hub.exchange.StreamReader.feed", "hub.transport.asked"):
        rig.patch(name, rig.fault)


def in_views(rig: Rig) -> None:
    rig.start()
    rig.patch("hub.openai_client.recording_view", rig.fault)


def in_cleaner(rig: Rig) -> None:
    recorder = rig.start().recorder
    cleaner = BrokenIn(recorder.cleaner, "clean", rig.fault)
    cleaner.facts = rig.fault  # type: ignore[attr-defined]
    recorder.cleaner = cleaner


def in_bus(rig: Rig) -> None:
    hub = rig.start()
    hub.subscribe(Event, lambda event: None)
    hub.recorder.bus = BrokenIn(hub.bus, "publish", rig.fault)


def in_clock(rig: Rig) -> None:
    recorder = rig.start().recorder
    recorder.clock = Clock(wall=rig.fault)


def in_ids(rig: Rig) -> None:
    rig.start().recorder.new_id = rig.fault


def in_notes(rig: Rig) -> None:
    """Work that a finaliser left."""
    rig.start().spool.notes.extend([rig.fault] * 3)


def in_programs_log(rig: Rig) -> None:
    """The program's own log handler, as it is told of a fault of ours."""
    recorder = rig.start().recorder
    recorder.tracing = BrokenIn(recorder.tracing, "begin", Fault())
    handler = BrokenHandler(rig.fault)
    logging.getLogger("hub").addHandler(handler)
    rig.stack.callback(logging.getLogger("hub").removeHandler, handler)


def in_making_files(rig: Rig) -> None:
    """No file may become longer than it is: the spool has no room for a segment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    rig.stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
    hub = rig.start()
    assert hub.spool.shelf.folder is None, "there was room"
    rig.fault.raised = 1


EVERYWHERE = (
    in_redactor,
    in_subscriber,
    in_spool,
    in_store,
    in_exporter,
    in_sink,
    in_tracing,
    in_native_spans,
    in_syncer,
    in_cleaner,
    in_bus,
    in_clock,
    in_ids,
    in_notes,
    in_programs_log,
    in_making_files,
)
FUNCTIONS = [(place, Fault) for place in (*EVERYWHERE, in_extractor)] + [
    (place, lambda: Fault(cancelled)) for place in (in_extractor, in_redactor, in_subscriber)
]
SDKS = [(place, Fault) for place in (*EVERYWHERE, in_readers, in_views)] + [
    (place, lambda: Fault(cancelled)) for place in (in_redactor, in_subscriber)
]


BY_HAND = [(place, Fault) for place in EVERYWHERE]


def named(fault: Any) -> str:
    return f"{fault[0].__name__}{'' if fault[1] is Fault else '_cancelled'}"


@pytest.fixture
def rig(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Rig]:
    place, fault = request.param
    with ExitStack() as stack:
        rig = Rig(fault(), tmp_path, stack)
        place(rig)
        yield rig
        deadline = time.monotonic() + 5
        while rig.later and not rig.fault.raised and time.monotonic() < deadline:
            time.sleep(0.005)
        assert rig.fault.raised, "nothing failed, so nothing was shown"
    said = caplog.text + "".join(capfd.readouterr())
    assert not [word for word in (SECRET, PROMPT, ANSWER) if word in said], said


# Functions.


@dataclass
class Outcome:
    """What the caller of a function saw."""

    items: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    frames: list[str] = field(default_factory=list)
    """Of the error's traceback, those of the hub apart."""
    ours: int = 0
    """Frames of the hub's."""
    seconds: float = 0.0


@contextmanager
def observing() -> Iterator[Outcome]:
    outcome = Outcome()
    started = time.perf_counter()
    try:
        yield outcome
    except Sour as error:
        outcome.error = error
        found = traceback.extract_tb(error.__traceback__)
        outcome.frames = [f"{frame.name}:{frame.lineno}" for frame in found if not frame.filename.startswith(HUB)]
        outcome.ours = len(found) - len(outcome.frames)
    outcome.seconds = time.perf_counter() - started


RESULT = {"content": ANSWER}
CHUNKS = [{"content": ANSWER}, {"content": "and more"}, object()]


def plain(messages: Any, error: Sour | None) -> Any:
    if error is not None:
        raise error
    return RESULT


async def coroutine(messages: Any, error: Sour | None) -> Any:
    await asyncio.sleep(0)
    return plain(messages, error)


def generator(messages: Any, error: Sour | None) -> Iterator[Any]:
    yield from CHUNKS
    plain(messages, error)


async def async_generator(messages: Any, error: Sour | None) -> AsyncIterator[Any]:
    for chunk in CHUNKS:
        yield chunk
    plain(messages, error)


def call(function: Any, error: Sour | None) -> Outcome:
    with observing() as outcome:
        outcome.items.append(function(ASK, error))
    return outcome


def call_coroutine(function: Any, error: Sour | None) -> Outcome:
    async def main() -> Outcome:
        with observing() as outcome:
            outcome.items.append(await function(ASK, error))
        return outcome

    return asyncio.run(main())


def read(function: Any, error: Sour | None) -> Outcome:
    with observing() as outcome:
        for item in function(ASK, error):
            outcome.items.append(item)  # what came before the error is kept
    return outcome


def read_async(function: Any, error: Sour | None) -> Outcome:
    async def main() -> Outcome:
        with observing() as outcome:
            async for item in function(ASK, error):
                outcome.items.append(item)
        return outcome

    return asyncio.run(main())


KINDS: list[tuple[Any, Callable[[Any, Sour | None], Outcome]]] = [
    (plain, call),
    (coroutine, call_coroutine),
    (generator, read),
    (async_generator, read_async),
]
AT_MOST = 0.02
"""Seconds a call may take that does nothing: less than any wait for a lock, a disk or a backend."""


@pytest.mark.parametrize("rig", FUNCTIONS, ids=named, indirect=True)
@pytest.mark.parametrize(("function", "use"), KINDS, ids=lambda each: each.__name__)
def test_a_fault_of_ours_changes_nothing_for_the_caller_of_a_function(
    rig: Rig, function: Any, use: Callable[[Any, Sour | None], Outcome]
) -> None:
    wrapped = traced(function, provider="acme", model="acme-1", hub=rig.hub, **rig.options)
    bare, ours = use(function, None), [use(wrapped, None) for _ in range(5)]
    for outcome in ours:
        assert all(got is wanted for got, wanted in zip(outcome.items, bare.items, strict=True))
    assert min(outcome.seconds for outcome in ours) < AT_MOST


@pytest.mark.parametrize("rig", FUNCTIONS, ids=named, indirect=True)
@pytest.mark.parametrize(("function", "use"), KINDS, ids=lambda each: each.__name__)
def test_a_fault_of_ours_changes_nothing_of_what_a_function_raises(
    rig: Rig, function: Any, use: Callable[[Any, Sour | None], Outcome]
) -> None:
    wrapped = traced(function, provider="acme", model="acme-1", hub=rig.hub, **rig.options)
    bare = use(function, Sour(ANSWER))
    for _ in range(3):
        error = Sour(ANSWER)
        outcome = use(wrapped, error)
        assert outcome.error is error
        assert (error.__context__, error.__cause__, error.args) == (None, None, (ANSWER,))
        assert outcome.frames == bare.frames
        assert outcome.ours == 1, "the wrapper's own frame and no other"
        assert all(got is wanted for got, wanted in zip(outcome.items, bare.items, strict=True))
    traced(plain, hub=rig.hub, **rig.options)(ASK, None)  # a call that ends well, for faults that wait for one


# By hand.


@pytest.mark.parametrize("rig", BY_HAND, ids=named, indirect=True)
def test_a_fault_of_ours_changes_nothing_within_a_block_recorded_by_hand(rig: Rig) -> None:
    error = Sour(ANSWER)
    with observing() as outcome, rig.hub.call(provider="acme", model="acme-1", messages=ASK) as call:
        call.response(ANSWER, usage={"input_tokens": 12, "output_tokens": 3})
        rig.hub.emit("acme:note", text=PROMPT)
        raise error
    assert outcome.error is error
    assert (error.__context__, error.__cause__) == (None, None)


# The openai SDK.


async def create(client: Any, **more: Any) -> Any:
    answer = await value(client.chat.completions.create(model="gpt-4o-mini", messages=ASK, **more))
    return type(answer), answer.choices[0].message.content


async def stream(client: Any, **more: Any) -> Any:
    chunks = await value(client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True, **more))
    return type(chunks), [chunk.choices[0].delta.content async for chunk in each(chunks) if chunk.choices]


UNTRACED: dict[str, Any] = {}


def failed(error: Any) -> tuple[Any, ...]:
    """An SDK's exception, without the hub's own frames."""
    frames = traceback.extract_tb(error.__traceback__)
    kept = [frame.name for frame in frames if not frame.filename.startswith(HUB)]
    return type(error), str(error), kept, type(error.__cause__), type(error.__context__)


@pytest.mark.parametrize("rig", SDKS, ids=named, indirect=True)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_fault_of_ours_changes_nothing_for_the_users_of_an_sdk(rig: Rig, kind: str, server: LoopbackServer) -> None:
    async def scenario(client: Any) -> Any:
        answers = []
        for use in (create, stream):
            use_: Callable[..., Awaitable[Any]] = use
            answers.append(await use_(client))
            try:
                await use_(client, extra_headers=demo("fail=400"))
            except Exception as error:
                answers.append(failed(error))
        return answers

    if kind not in UNTRACED:
        UNTRACED[kind] = play(kind, server.base_url, scenario, None, max_retries=0)
    started = time.perf_counter()
    ours = play(kind, server.base_url, scenario, rig.hub, max_retries=0)
    assert time.perf_counter() - started < 2.0
    assert len(ours) == 4
    assert ours == UNTRACED[kind]


# What is recorded all the same.


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        rig = Rig(Fault(), tmp_path, stack)
        yield rig


def test_a_call_whose_extractor_fails_is_recorded_without_what_it_would_have_told(healthy: Rig) -> None:
    store = Store()
    in_extractor_of = traced(plain, hub=healthy.start(store=store), extract=healthy.fault)
    in_extractor_of(ASK, None)
    assert healthy.hub.flush(5.0) == 0
    (response,) = store.of_type("llm:response")
    assert response["data"]["status"] == "ok"


def test_a_text_that_the_redactor_fails_on_is_not_kept_and_the_loss_is_counted(healthy: Rig) -> None:
    store = Store()
    traced(plain, hub=healthy.start(store=store, redact=healthy.fault))(ASK, None)
    assert healthy.hub.flush(5.0) == 0
    (request,) = store.of_type("llm:request")
    assert request["data"]["sanitised"]["redactor"] >= 1
    assert PROMPT not in str(store.log)
    assert ANSWER not in str(store.log)


def test_a_subscriber_that_fails_keeps_no_event_from_the_others_nor_from_the_store(healthy: Rig) -> None:
    store = Store()
    seen: list[Event] = []
    hub = healthy.start(store=store)
    hub.subscribe(Event, healthy.fault)
    hub.subscribe(Event, seen.append)
    traced(plain, hub=hub)(ASK, None)
    assert hub.flush(5.0) == 0
    of_call = [event for event in seen if event.event_type.startswith("llm:")]
    assert len(of_call) == 4
    assert len([record for record in store.log if record["type"].startswith("llm:")]) == 4


def test_what_a_finaliser_left_costs_no_other_call_its_record(healthy: Rig) -> None:
    store = Store()
    hub = healthy.start(store=store)
    hub.spool.notes.extend([healthy.fault] * 3)
    traced(plain, hub=hub)(ASK, None)
    assert hub.flush(5.0) == 0
    assert len(store.of_type("llm:response")) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_through_a_subscriber(healthy: Rig, error: type[BaseException]) -> None:
    hub = healthy.start()
    hub.subscribe("llm:request", Fault(error))
    with pytest.raises(error):
        traced(plain, hub=hub)(ASK, None)


def test_a_log_handler_that_fails_ends_no_thread_of_ours(healthy: Rig) -> None:
    handler = BrokenHandler(healthy.fault)
    logging.getLogger("hub").addHandler(handler)
    healthy.stack.callback(logging.getLogger("hub").removeHandler, handler)
    store = Store()
    append, failures = store.append, [OSError(SECRET)] * 2

    def failing_at_first(events: Sequence[Any]) -> AppendResult:
        if failures:
            raise failures.pop()
        return append(events)

    store.append = failing_at_first  # type: ignore[method-assign]
    traced(plain, hub=healthy.start(store=store))(ASK, None)
    assert healthy.hub.flush(5.0) == 0
    assert healthy.fault.raised
    assert len(store.of_type("llm:response")) == 1


class SyncerOffTheLoop:
    """Durable mode's, that a coroutine may only wait for by its future."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[bool]] = []

    def wait(self) -> bool:
        raise AssertionError("the loop is held up")

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        self.futures.append(loop.create_future())
        return self.futures[-1]


def test_an_async_block_waits_for_the_disk_off_the_loop_and_ends_when_it_is_cancelled_there() -> None:
    hub = durable_hub()
    syncer = hub.log.syncer = SyncerOffTheLoop()

    async def block() -> None:
        async with ManualCall(hub.recorder, {"provider": "acme", "model": "acme-1"}):
            raise AssertionError("entered")

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        assert not syncer.futures[0].done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert hub.call.status == "cancelled"
