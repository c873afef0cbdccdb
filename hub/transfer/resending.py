"""Spans of calls that are in the store, to an OTLP endpoint: with the ids they had, and the costs computed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from hub.delivery import backoff
from hub.errors import ConfigError, EndpointUnavailable, StoreUnavailable
from hub.events import EventRecord, upcast
from hub.harmless import log
from hub.otlp import ExportFailed, OtlpExporter
from hub.polite import no_rest
from hub.reader import Reader
from hub.semconv import DEPLOYMENT_ENVIRONMENT, SERVICE_NAME
from hub.span_sender import PendingCall, Producer, SpanSender, has_spans
from hub.telemetry import captures_content
from hub.transfer.checkpoint import Checkpoint, Place
from storage.reading import EndedCalls

MOST_SPANS = 512
"""In one request: here nobody waits for the interpreter."""
TRIES = 6
"""Of an export that does not follow, before it gives up: within some two seconds, or as many timeouts."""
LONGEST_WAIT = 2.0
"""Seconds between two tries, so that what waited is there soon after the endpoint has come back."""
_OF_NO_USE = ("answered 401", "answered 403", "answered 404", "answered 405")
_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def endpoint_of(to: str | None, environ: Mapping[str, str]) -> str:
    """The URL that spans go to. Raises: ConfigError: There is none, or it is no URL."""
    name, value = "--to", to
    if to is None:
        name = next((name for name in _VARIABLES if environ.get(name)), _VARIABLES[1])
        value = environ.get(name)
    try:
        usable = value is not None and urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).hostname)
    except ValueError:
        usable = False
    if not usable or value is None:
        raise ConfigError(name, value, "spans go to the URL of an OTLP endpoint, such as http://localhost:4318")
    return value


@dataclass(slots=True)
class Resent:
    """What an export has done so far."""

    calls: int = 0
    spans: int = 0
    refused: int = 0
    """Calls whose span the endpoint will never take, or whose events make none."""
    resumed: bool = False
    """It went on where another had ended."""


class Resending:
    """Sends the spans of a store's calls in the order in which these ended, each page until it is taken.

    Args:
        to: In place of the variables' endpoint.
        since_ns: What ended earlier is left out, UTC Unix ns; None: nothing is. Another export's place counts more, so
            that nothing is passed over, unless that began later.
        again: Also what another export has sent.
        follow: Wait for further calls, and for an endpoint or a store that is away.
        say: Told when sending fails, and when it works again.
        advance: Told how far the log was gone through, and how far it goes.
    """

    def __init__(
        self,
        reader: Reader,
        checkpoint: Checkpoint,
        *,
        to: str | None,
        environ: Mapping[str, str],
        since_ns: int | None,
        again: bool = False,
        follow: bool = False,
        say: Callable[[str], None] = log.warning,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._reader, self._checkpoint, self._follow = reader, checkpoint, follow
        self._endpoint = endpoint_of(to, environ)
        self._since_ns, self._again = since_ns, again
        self._say, self._advance = say, advance
        self._content = captures_content(environ)
        self._sender = SpanSender(lambda: OtlpExporter(environ, endpoint=to), most=MOST_SPANS, rest=no_rest)
        self._producers = _Producers(reader)
        self._end = 0
        self.done = Resent()

    def run(self, interval: float) -> None:
        """Send what there is; with `follow` until interrupted, looking for more every *interval* seconds.

        Raises:
            EndpointUnavailable: It does not take spans, and `follow` was not asked for.
            StoreError
        """
        place: Place | None = None
        try:
            while True:
                try:
                    place = place or self._start()
                    page = self._reader.ended_calls(place.position, place.since_ns, content=self._content)
                    calls = self._pending(page)
                except StoreUnavailable:
                    if not self._follow:
                        raise
                    self._reader.wait(interval)
                    continue
                if page.last is not None:
                    self._deliver(calls)
                    place = Place(page.next, page.last, place.since_ns)
                    self._checkpoint.write(place)
                    self._advance(place.position, max(place.position, self._end))
                elif self._follow:
                    self._reader.wait(interval)
                else:
                    return
        finally:
            self._sender.close()

    def _start(self) -> Place:
        self._end = int(self._reader.log_state().end)
        known = self._checkpoint.read(self._reader)
        since_ns = self._since_ns or 0
        if known is None or self._again or (self._since_ns is not None and self._since_ns < known.since_ns):
            return Place(0, None, since_ns)
        self.done.resumed = True
        return known

    def _pending(self, page: EndedCalls) -> dict[str, PendingCall]:
        calls: dict[str, PendingCall] = {}
        names = self._reader.settings.otel_names
        self._producers.meet({stream[0]["producer"] for stream in page.streams if stream})
        for stream in page.streams:
            records = list(map(upcast, stream))
            request = next((record for record in records if record["type"] == "llm:request"), None)
            if request is None or not has_spans(request):
                continue
            call_id = request["stream_id"]
            nanos = page.cost_nanos.get(call_id)
            cost_usd = None if nanos is None else nanos / 1e9
            call = PendingCall(self._producers.of(request), content=self._content, cost_usd=cost_usd, names=names)
            for record in records:
                call.take(record, no_rest)
            calls[call_id] = call
        return calls

    def _deliver(self, calls: Mapping[str, PendingCall]) -> None:
        failures = 0
        while True:
            try:
                self._sender.send(calls)
                break
            except ExportFailed as failed:
                failures += 1
                if not self._follow and (failures >= TRIES or failed.reason in _OF_NO_USE):
                    raise EndpointUnavailable(self._endpoint, failed.reason) from failed
                if failures == 1:
                    self._say(f"{self._endpoint}: {failed.reason}; it is tried again until it works")
                time.sleep(backoff(failures, longest=LONGEST_WAIT))
        if failures:
            self._say(f"{self._endpoint} takes spans again")
        self._sender.forget()
        left_out = sum(self._sender.left_out.values())
        self.done.calls += len(calls) - (left_out - self.done.refused)
        self.done.refused, self.done.spans = left_out, self._sender.spans


class _Producers:
    """What the producers of calls said of themselves when they began, read once; the same words are kept once."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._looked = reader, 0
        self._by_words: dict[bytes, Producer] = {}
        self._by_id: dict[str, Producer] = {}

    def meet(self, producers: Set[str]) -> None:
        """These come next."""
        if not self._by_id.keys() >= producers:
            for position, name, data in self._reader.started_facts(self._looked):
                self._looked, self._by_id[name] = position, self._spoken(data)

    def of(self, request: EventRecord) -> Producer:
        producer = self._by_id.get(request["producer"])
        if producer is None:  # pruned: the call itself says as much
            resource = {SERVICE_NAME: request["service"], DEPLOYMENT_ENVIRONMENT: request["environment"]}
            producer = self._spoken({"resource": {name: value for name, value in resource.items() if value}})
        return producer

    def _spoken(self, started: Mapping[str, Any]) -> Producer:
        words = {name: started.get(name) for name in ("resource", "scope", "limits")}
        return self._by_words.setdefault(orjson.dumps(words, option=orjson.OPT_SORT_KEYS), Producer(words))
