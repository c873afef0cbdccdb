"""LLM Hub: an event-sourced record of a program's traffic with language models.

    client = hub.traced(OpenAI())

Every call becomes events in a SQL store and, where OpenTelemetry is set up, a span. See README.md.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hub import recorder as _recorder
from hub.emitting import emit_to as _emit_to
from hub.errors import (
    AmbiguousId,
    ConfigError,
    ForeignStore,
    HubError,
    InvalidEvent,
    NameClash,
    NotFound,
    NotTraceable,
    QueryLimit,
    QueryRefused,
    ReplayImpossible,
    SchemaMismatch,
    SearchOff,
    StoreError,
    StoreUnavailable,
)
from hub.events import (
    Envelope,
    Event,
    LLMRequest,
    LLMRequestDebug,
    LLMResponse,
    LLMResponseDebug,
    ProviderRetry,
    Usage,
    upcaster,
)
from hub.extractors.requests import allowed as _allowed
from hub.forking import undivided as _undivided
from hub.harmless import log as _log
from hub.manual import ManualCall
from hub.session import session
from hub.traced import traced

if TYPE_CHECKING:
    from hub.reader import Reader, StoredCall
    from hub.replays import Replay
    from hub.runtime import Hub
    from hub.transport import RecordingTransport, async_httpx_client, httpx_client

__version__ = "0.1.0"

_LAZY = {
    "Hub": "hub.runtime",
    "Reader": "hub.reader",
    "Replay": "hub.replays",
    "RecordingTransport": "hub.transport",
    "async_httpx_client": "hub.transport",
    "httpx_client": "hub.transport",
}

_E = TypeVar("_E", bound=Event)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    return getattr(_load(_LAZY[name]), name)


def _load(module: str) -> Any:
    """A module above the core. Raises: NameClash"""
    if module not in sys.modules:
        from hub.own_packages import check

        check("storage")
        with _undivided():
            return importlib.import_module(module)
    return importlib.import_module(module)


def _runtime() -> Any:
    return _load("hub.runtime")


def _default_recorder() -> _recorder.Recorder | None:
    try:
        runtime = _runtime()
    except Exception as error:
        _recorder.set_default(lambda: None)  # not again at each call
        _log.warning("hub: nothing is recorded: %s", error if isinstance(error, HubError) else type(error).__name__)
        return None
    _recorder.set_default(runtime.default_recorder)
    return _recorder.default()


def init(
    *,
    db_url: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    capture: str | None = None,
    durability: str | None = None,
    redact: Callable[[str], str] | None = None,
    otel: str | None = None,
    **settings: Any,
) -> Hub:
    """Start the default hub with these settings; what is not given comes from HUB_* variables, then hub.toml.

    Not needed: the default hub starts by itself at the first traced call. Calling it again ends the hub before it.
    Recording begins at once; the store is opened beside the program, so a store that is away is no error here.

    Args:
        redact: Called with every text before it is kept, after the built-in rules; must be pure.
        settings: Any other of docs/configuration.md, by its name.
    Raises:
        ConfigError: A setting cannot be used.
        NameClash: `storage` is another package than the hub's.
    """
    given = {
        "db_url": db_url,
        "project": project,
        "environment": environment,
        "capture": capture,
        "durability": durability,
        "otel": otel,
        **settings,
    }
    hub: Hub = _runtime().start_default({k: v for k, v in given.items() if v is not None}, redact=redact)
    return hub


def call(
    *,
    provider: str | None = None,
    model: str | None = None,
    messages: Sequence[Any] | None = None,
    tools: Sequence[Any] | None = None,
    params: Mapping[str, Any] | None = None,
    operation: str = "chat",
    stream: bool = False,
) -> ManualCall:
    """Record by hand a call that no wrapper sees, from the start of a `with` or `async with` block to its end.

    Args:
        params: Of the request, such as temperature. Those that may hold text are not recorded.
        operation: OpenTelemetry's gen_ai.operation.name.
    """
    facts = {
        "provider": provider,
        "model": model,
        "messages": messages,
        "tools": tools,
        "params": _allowed(params),
        "operation": operation,
        "stream": stream,
    }
    return ManualCall(_recorder.default(), facts)


def emit(event: Event | str, /, **fields: Any) -> None:
    """Write an event of your own: an object of a class derived from `Event`, or a bare `family:name` with its fields.

    Within an open call it joins that call's stream. The store being away is no error here. A provider may tell of its
    calls itself: an `LLMRequest` and, in the same context, its `LLMResponse` are a call, or tell more of the one around
    them; `messages`, `tools`, `error` and `raw` given with them are kept as content. A `provider:retry` is an attempt.

    Raises: InvalidEvent: The name is no event type, or is one of the hub's own.
    """
    _emit_to(_recorder.default(), event, fields)


def subscribe(what: type[_E] | str, handler: Callable[[_E], None]) -> Callable[[], None]:
    """Call *handler* inline with each event of a class, or of a type that matches a pattern such as `acme:*`.

    Handlers get events after redaction, when they are kept already. One that raises is logged and harms nobody.

    Returns: A function that ends the subscription.
    """
    stop: Callable[[], None] = _runtime().default_hub().subscribe(what, handler)
    return stop


def flush(timeout: float = 5.0) -> int:
    """Wait until the store has what was emitted so far, at most *timeout* seconds.

    Returns: How many events are not yet in the store; 0 is all. 0 where no hub runs.
    """
    if "hub.runtime" not in sys.modules:
        return 0
    left: int = _runtime().flush_default(timeout)
    return left


def shutdown(timeout: float = 2.0) -> None:
    """End the default hub within *timeout* seconds, whatever the backends do; what is left waits in the spool.

    Calls made afterwards are not recorded until `init` is called again. Runs by itself at exit.
    """
    try:
        _runtime().shutdown_default(timeout)
    except NameClash:  # nothing was recorded, and nothing will be
        pass


def open(db_url: str | None = None) -> Reader:
    """The read side of a store: calls, one call, SQL, events.

    Args:
        db_url: As for `init`; None for the store that the default hub writes to, or would.

    Raises: StoreError: There is no such store, or it is not the hub's.
    """
    reader: Reader = _load("hub.reader").open_reader(db_url)
    return reader


def replay(
    call: str | StoredCall,
    using: Any = None,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    db_url: str | None = None,
    hub: Hub | None = None,
) -> Replay:
    """Send a recorded request again, and record the new call. Keys and addresses come from the environment and from
    *using*, never from the store; redirects are not followed, tools not run.

    Args:
        call: An id or its beginning, @last, @-2, or a call of a `Reader`.
        using: Whom to ask: a provider, a client of the openai SDK, a class, a function, or a name such as
            `openai:gpt-5-mini`. By default the provider that the call went to, by its name.
        model: Another one than the original's.
        params: Changed or added, such as `{"temperature": 0}`.
        db_url: Where the call is looked for; by default where the default hub keeps its own.
        hub: Records there instead of in the default hub.
    Raises:
        ReplayImpossible: Nothing was sent, and why. Also where an event loop runs: there `areplay` is the one to call.
        NotFound, AmbiguousId: *call* names none, or several.
        StoreError: The store cannot be read.
        Exception: Whatever the provider raises; the failed call is recorded.
    """
    done: Replay = _load("hub.replays").replay(call, using, model=model, params=params, db_url=db_url, hub=hub)
    return done


async def areplay(
    call: str | StoredCall,
    using: Any = None,
    *,
    model: str | None = None,
    params: Mapping[str, Any] | None = None,
    db_url: str | None = None,
    hub: Hub | None = None,
) -> Replay:
    """`replay` for programs on an event loop; what is not async in *using* runs in a thread."""
    done: Replay = await _load("hub.replays").areplay(call, using, model=model, params=params, db_url=db_url, hub=hub)
    return done


def read_events(db_url: str | None = None, *, types: Sequence[str] | None = None) -> Iterator[Event]:
    """Every event of a store in the order of its log, as typed objects, for projections of your own.

    Raises: StoreError: There is no such store, or it is not the hub's.
    """
    with open(db_url) as reader:
        yield from reader.events(types=types)


_recorder.set_default(_default_recorder)

__all__ = [
    "AmbiguousId",
    "ConfigError",
    "Envelope",
    "Event",
    "ForeignStore",
    "Hub",
    "HubError",
    "InvalidEvent",
    "LLMRequest",
    "LLMRequestDebug",
    "LLMResponse",
    "LLMResponseDebug",
    "ManualCall",
    "NameClash",
    "NotFound",
    "NotTraceable",
    "ProviderRetry",
    "QueryLimit",
    "QueryRefused",
    "Reader",
    "RecordingTransport",
    "Replay",
    "ReplayImpossible",
    "SchemaMismatch",
    "SearchOff",
    "StoreError",
    "StoreUnavailable",
    "Usage",
    "areplay",
    "async_httpx_client",
    "call",
    "emit",
    "flush",
    "httpx_client",
    "init",
    "open",
    "read_events",
    "replay",
    "session",
    "shutdown",
    "subscribe",
    "traced",
    "upcaster",
]
