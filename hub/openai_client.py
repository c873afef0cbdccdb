"""The openai SDK's clients, traced: a copy whose every request to a model is a call.

All resource methods (create, stream, parse, with their raw and streaming forms) send through the client's `request`, so
that one method bounds the call; the bytes are the transport's, which sits in a view of the client's own http client.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from hub import recorder as recorders
from hub.exchange import WireCall, enter, leave
from hub.extractors.requests import asked
from hub.extractors.wire import address_of, operation_of, provider_of
from hub.transport import is_recording, recording_view
from hub.views import subclass
from hub.watch import HasRecorder, async_sync, sync, trouble


def traced_client(target: Any, *, provider: str | None = None, hub: HasRecorder | None = None) -> Any:
    """A copy of *target*, a client of the openai SDK, that records; None when it is no such client.

    *target* is left as it was and shares its connections with the copy. A traced client is returned as it is, unless it
    is to be traced otherwise.
    """
    bases = {cls.__name__ for cls in type(target).__mro__ if cls.__module__ == "openai._base_client"}
    if not bases & {"SyncAPIClient", "AsyncAPIClient"}:
        return None
    traced_before = isinstance(target, _Traced)
    if traced_before and provider is None and hub is None:
        return target
    kind: Any = type(target)
    client: Any = object.__new__(kind if traced_before else _class(kind, "AsyncAPIClient" in bases))
    client.__dict__.update(
        (name, value)
        for name, value in target.__dict__.items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)  # a resource knows who made it
    )
    client.__dict__.update(_hub=hub, _hub_provider=provider, _hub_original=target)
    return client


@functools.lru_cache(maxsize=64)
def _class(cls: type, is_async: bool) -> type:
    return subclass(cls, {}, _TracedAsync if is_async else _TracedSync)


class _Traced:
    """What both forms share: state that `copy` and `with_options` lose is found again in the http client's view."""

    _hub: HasRecorder | None = None
    _hub_provider: str | None = None

    def _hub_begin(self, options: Any, stream: Any) -> WireCall | None:
        recorder = None
        try:
            self._hub_look_through()
            operation = operation_of(options.method, options.url)
            if operation is None:
                return None
            recorder = recorders.default() if self._hub is None else self._hub.recorder
            if recorder is None:
                return None
            return self._hub_start(recorder, options, operation, bool(stream))
        except Exception as error:
            trouble(recorder, "reading a client's request", error)
            return None

    def _hub_look_through(self) -> None:
        """Have the http client's bytes recorded, also that of a copy with an http client of its own."""
        client: Any = self
        if not is_recording(client._client):
            client._client = recording_view(client._client, self._hub)

    def _hub_start(self, recorder: recorders.Recorder, options: Any, operation: str, stream: bool) -> WireCall:
        client: Any = self
        body: Any = options.json_data if isinstance(options.json_data, Mapping) else {}
        if isinstance(extra := getattr(options, "extra_json", None), Mapping):
            body = {**body, **extra}
        wanted = asked(body)
        host = client.base_url.host
        azure = any(cls.__name__ == "BaseAzureClient" for cls in type(self).__mro__)
        call = recorder.start(
            source="traced",
            provider=self._hub_provider or provider_of(host, "azure.ai.openai" if azure else "openai"),
            model=wanted.model,
            operation=operation,
            messages=wanted.messages,
            tools=wanted.tools,
            params=wanted.params,
            stream=stream or wanted.stream,
            server_address=address_of(client.base_url),
            defer=True,
        )
        return WireCall(call, max_retries=options.get_max_retries(client.max_retries))

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        twin = super().copy(*args, **kwargs)  # type: ignore[misc]
        twin.__dict__.update(_hub=self._hub, _hub_provider=self._hub_provider)
        return twin

    with_options = copy


class _TracedSync(_Traced):
    def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        send: Any = super().request  # type: ignore[misc]
        wire = self._hub_begin(options, kwargs.get("stream"))
        if wire is None:
            return send(cast_to, options, *args, **kwargs)
        tokens = enter(wire.call, wire)
        try:
            result = send(cast_to, options, *args, **kwargs)
        except BaseException as error:
            leave(wire.call, tokens)
            wire.failed(error)
            raise
        leave(wire.call, tokens)
        wire.returned(result)
        if not wire.call.open:
            sync(wire.call.recorder)
        return result


class _TracedAsync(_Traced):
    async def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        send: Any = super().request  # type: ignore[misc]
        wire = self._hub_begin(options, kwargs.get("stream"))
        if wire is None:
            return await send(cast_to, options, *args, **kwargs)
        tokens = enter(wire.call, wire)
        try:
            result = await send(cast_to, options, *args, **kwargs)
        except BaseException as error:
            leave(wire.call, tokens)
            wire.failed(error)
            raise
        leave(wire.call, tokens)
        wire.returned(result)
        if not wire.call.open:
            await async_sync(wire.call.recorder)
        return result
