"""A transport for httpx, and for httpx2, that records the calls of whatever SDK sends through it.

It hands on what it is given, and copies the bytes on their way. Neither library is imported here: SDKs bring their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize
from zlib import crc32

from hub import recorder as recorders
from hub.calls import Call, current_call
from hub.exchange import SEEN, Reception, WireCall, enter, leave, wire_call
from hub.extractors.requests import Asked, asked
from hub.extractors.wire import address_of, operation_of, provider_of, request_body
from hub.recorder import Recorder
from hub.views import subclass
from hub.watch import HasRecorder, async_sync, sync, trouble

if TYPE_CHECKING:
    import httpx

    class _Base(httpx.BaseTransport, httpx.AsyncBaseTransport): ...

else:
    _Base = object


class _From(NamedTuple):
    """What a transport or client was told about recording."""

    hub: HasRecorder | None = None
    alone: bool = True
    provider: str | None = None


class RecordingTransport(_Base):
    """Around another transport, sync or async: pass it as `transport=` to a client.

    Under a client that `hub.traced` gave, an exchange is an attempt of the method's call. Alone, each exchange with a
    path that calls a model is a call of its own; one that repeats a failed one names its cause. What else is sent
    passes unrecorded. Headers, cookies and the URL's query are never recorded, nor what an error quotes of the
    request's credentials.
    """

    def __init__(
        self, inner: Any, *, hub: HasRecorder | None = None, alone: bool = True, provider: str | None = None
    ) -> None:
        """
        Args:
            hub: Where exchanges that are calls of their own are recorded; the default hub where None.
            alone: False: only exchanges within an open call are recorded, wherever that one is, as attempts of it.
            provider: Who answers, where the host does not tell.
        """
        self._inner = inner
        self._from = _From(hub, alone, provider)

    def handle_request(self, request: Any) -> Any:
        exchange = _begin(request, self._from)
        if exchange is None:
            return self._inner.handle_request(request)
        tokens = enter(exchange.call, SEEN)
        try:
            sync(exchange.call.recorder)
            response = self._inner.handle_request(request)
        except BaseException as error:
            leave(exchange.call, tokens)
            exchange.broke(error)
            raise
        leave(exchange.call, tokens)
        _tap(exchange, request, response, _SyncTee, "SyncByteStream")
        return response

    async def handle_async_request(self, request: Any) -> Any:
        exchange = _begin(request, self._from)
        if exchange is None:
            return await self._inner.handle_async_request(request)
        tokens = enter(exchange.call, SEEN)
        try:
            await async_sync(exchange.call.recorder)
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            leave(exchange.call, tokens)
            exchange.broke(error)
            raise
        leave(exchange.call, tokens)
        _tap(exchange, request, response, _AsyncTee, "AsyncByteStream")
        return response

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __enter__(self) -> Any:
        self._inner.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._inner.__exit__(*problem)

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *problem: Any) -> None:
        await self._inner.__aexit__(*problem)


class LoneExchange(WireCall):
    """An exchange that is a call of its own."""

    alone = True

    def __init__(self, call: Call, key: int) -> None:
        super().__init__(call)
        self._key = key

    def broke(self, error: BaseException) -> None:
        super().broke(error)
        self.failed(error)
        self._remember()

    def _over(self, reception: Reception, conclusion: Any) -> None:
        super()._over(reception, conclusion)
        if reception.status_code >= 400:
            self._remember()

    def _remember(self) -> None:
        if self.call.response_event_id is not None:
            _failed.set((self._key, self.call.response_event_id))


_failed: ContextVar[tuple[int, str] | None] = ContextVar("hub_failed_exchange", default=None)
"""What the last failed exchange of this context sent, and the event that says so."""


def _begin(request: Any, source: _From) -> WireCall | None:
    """What records *request*; None when nothing does."""
    wire = wire_call.get()
    if wire is SEEN:
        return None
    try:
        url = request.url
        operation = operation_of(request.method, url.path)
        if operation is None:
            return None
        raw = _content(request)
        if wire is None or not wire.call.open:
            wire = _alone(url, operation, raw, source)
        if wire is not None and wire.call.recording:
            wire.leaves(raw, request.headers)
            return wire  # type: ignore[no-any-return]
    except Exception as error:
        trouble(None, "reading a request", error)
    return None


def _content(request: Any) -> bytes | None:
    try:
        content = request.content
    except Exception:  # a stream, and not ours to read
        return None
    return content if isinstance(content, bytes) else None


def _recorder(source: _From) -> Recorder | None:
    """Who records an exchange that no traced client bounds; None when nobody does."""
    if source.alone:
        return recorders.default() if source.hub is None else source.hub.recorder
    outer = current_call.get()
    while outer is not None and not outer.open:
        outer = outer.parent
    return outer.recorder if outer is not None and outer.recording else None


def _alone(url: Any, operation: str, raw: bytes | None, source: _From) -> WireCall | None:
    recorder = _recorder(source)
    if recorder is None or raw is None:
        return None
    body = request_body(raw)
    wanted = Asked() if body is None else asked(body)
    if body is not None and wanted.messages is None:
        return None
    key = crc32(raw, crc32(f"{url.host}:{url.port}{url.path}".encode()))
    failed = _failed.get()
    call = recorder.start(
        source="transport",
        provider=source.provider or provider_of(url.host),
        model=wanted.model,
        operation=operation,
        messages=wanted.messages,
        tools=wanted.tools,
        params=wanted.params,
        stream=wanted.stream,
        server_address=address_of(url),
        causation_id=failed[1] if failed is not None and failed[0] == key else None,
        defer=True,
    )
    if failed is not None:
        _failed.set(None)
    return LoneExchange(call, key)


def _tap(exchange: WireCall, request: Any, response: Any, tee: Any, library_class: str) -> None:
    """Have the answer's bytes copied as they pass."""
    try:
        reception = exchange.answers(response, request.headers)
        content = getattr(response, "_content", None)
        if content is not None:  # made by a mock: nobody will read its stream
            reception.whole(content)
            exchange.exhausted(reception)
            return
        stream = response.stream
        base = next(cls for cls in type(stream).__mro__ if cls.__name__ == library_class)
        response.stream = _tee_class(tee, base)(stream, exchange, reception)
    except Exception as error:
        trouble(exchange.call.recorder, "reading an answer's head", error)
        exchange.unreadable()


class _Tee:
    """Passes a body on and shows it to its exchange."""

    def __init__(self, stream: Any, exchange: WireCall, reception: Reception) -> None:
        self._stream, self._exchange, self._reception = stream, exchange, reception
        finalize(self, exchange.forgotten, reception).atexit = False


class _SyncTee(_Tee):
    def __iter__(self) -> Iterator[bytes]:
        exchange, reception = self._exchange, self._reception
        try:
            for piece in self._stream:
                reception.received(piece)
                yield piece
                reception.digest()
        except GeneratorExit:
            raise  # close() or the finaliser tells
        except BaseException as error:
            exchange.broken(reception, error)
            raise
        exchange.exhausted(reception)
        if not reception.streaming:
            sync(exchange.call.recorder)

    def close(self) -> None:
        self._exchange.closed(self._reception)
        self._stream.close()


class _AsyncTee(_Tee):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, reception = self._exchange, self._reception
        try:
            async for piece in self._stream:
                reception.received(piece)
                yield piece
                reception.digest()
        except GeneratorExit:
            raise  # aclose() or the finaliser tells
        except BaseException as error:
            exchange.broken(reception, error)
            raise
        exchange.exhausted(reception)
        if not reception.streaming:
            await async_sync(exchange.call.recorder)

    async def aclose(self) -> None:
        self._exchange.closed(self._reception)
        await self._stream.aclose()


@lru_cache(maxsize=32)
def _tee_class(tee: type[_Tee], base: type) -> type:
    """*tee* as a stream of the library that *base* is from: the library checks."""
    return type(tee.__name__, (tee, base), {})


@lru_cache(maxsize=64)
def recording_class(cls: type) -> type:
    """*cls*, a client of httpx or httpx2, with every transport it picks recorded: proxies and mounts too."""
    pick: Any = cls._transport_for_url  # type: ignore[attr-defined]

    def transport_for_url(self: Any, url: Any) -> RecordingTransport:
        hub, alone, provider = getattr(self, "_hub_from", _From())
        original = getattr(self, "_hub_original", None)  # may record by itself, and to another hub
        inner = pick(self, url) if original is None else original._transport_for_url(url)
        return RecordingTransport(inner, hub=hub, alone=alone, provider=provider)

    members = {"__slots__": ("_hub_from", "_hub_original"), "_transport_for_url": transport_for_url}
    return subclass(cls, members)


def recording_view(client: Any, hub: HasRecorder | None, *, alone: bool = True, provider: str | None = None) -> Any:
    """Another face of *client*, sharing its state, pool and cookies; closing either closes both. The other arguments
    are those of `RecordingTransport`."""
    kind: Any = type(client)
    cls = recording_class(kind)
    twin: Any = object.__new__(cls)
    twin.__dict__ = client.__dict__
    twin._hub_from, twin._hub_original = _From(hub, alone, provider), client
    return twin


def is_recording(client: Any) -> bool:
    """Whether *client* came from `recording_view`."""
    return hasattr(type(client), "_hub_original")


def httpx_client(*, hub: HasRecorder | None = None, **settings: Any) -> httpx.Client:
    """An `httpx.Client` with these *settings* whose exchanges are recorded, as a RecordingTransport alone does."""
    import httpx

    return _recording(httpx.Client, hub, settings)  # type: ignore[no-any-return]


def async_httpx_client(*, hub: HasRecorder | None = None, **settings: Any) -> httpx.AsyncClient:
    """An `httpx.AsyncClient` with these *settings* whose exchanges are recorded, as a RecordingTransport alone does."""
    import httpx

    return _recording(httpx.AsyncClient, hub, settings)  # type: ignore[no-any-return]


def _recording(cls: type, hub: HasRecorder | None, settings: dict[str, Any]) -> Any:
    client = recording_class(cls)(**settings)
    client._hub_from = _From(hub)
    return client
