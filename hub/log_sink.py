"""The logs sink: what the program emits and no span can carry becomes log records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hub.events import EventRecord
from hub.forking import undivided
from hub.harmless import log
from hub.polite import Rest, rest
from hub.span_sender import Producer
from hub.span_shape import MAX_EVENT_BYTES

MAX_RECORDS = 64
"""In one request, as with spans."""
_NOT_CONTRIBUTED = ("llm:", "provider:", "hub:")
_NO_USE = ("answered 404", "answered 405", "answered 501")


class LogSink:
    """Sends contributed events that are outside of any call, or too large for an event of a span.

    Args:
        started: The data of this producer's `hub:started`, for a batch that comes without it.
    """

    name = "logs"
    linger = 0.5

    def __init__(self, started: Mapping[str, Any], *, rest: Rest = rest) -> None:
        self._producer, self._rest = Producer(started), rest
        self._exporter: Any = None
        self._useless = False

    def write(self, records: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Raises: ExportFailed: Write the same batch again."""
        wanted: list[EventRecord] = []
        for record in records:
            self._rest()
            if record["type"] == "hub:started":
                self._producer = Producer(record["data"])
            elif _is_for_logs(record):
                wanted.append(record)
        for start in range(0, len(wanted), MAX_RECORDS):
            self._export(wanted[start : start + MAX_RECORDS])
        return ()

    def _export(self, records: Sequence[EventRecord]) -> None:
        if self._useless:
            return
        with undivided():
            from hub.log_records import log_record_of
            from hub.otlp import ExportFailed, OtlpExporter

            if self._exporter is None:
                self._exporter = OtlpExporter(signal="logs")
        try:
            self._exporter.export([log_record_of(record, self._producer.origin) for record in records])
        except ExportFailed as failed:
            if failed.reason in _NO_USE:
                self._useless = True
                log.info("hub: the OTLP endpoint takes no logs (%s); none are sent", failed.reason)
            elif failed.refused:
                log.warning("hub: the OTLP endpoint refuses %d log records for good: %s", len(records), failed.reason)
            else:
                raise

    def close(self) -> None:
        """End an export under way as soon as its protocol allows."""
        if self._exporter is not None:
            self._exporter.close()


def _is_for_logs(record: EventRecord) -> bool:
    if record["type"].startswith(_NOT_CONTRIBUTED):
        return False
    return record["call_id"] != record["stream_id"] or len(orjson.dumps(record["data"])) > MAX_EVENT_BYTES
