"""Spans per second from an OTLP request to committed rows, beside decoding alone.

    python tests/benchmarks/bench_collect.py [--quick] [--store sqlite|postgres] [--rounds 5]

One sender posts requests of 512 spans in protobuf: one in four is a call with a prompt of 1 kB and an answer of 2 kB,
the others are work around it with 8 attributes. The yardstick reads the same requests into spans and stores nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from hub.config import load
from hub.polite import no_rest
from hub.received.intake import Intake
from hub.received.server import Receiver
from hub.received.spans import from_protobuf
from storage import open_store
from tests.benchmarks.report import Figure, show_figures
from tests.benchmarks.stores import STORES, Emptied
from tests.factories import Factory

BATCH, LEAST, START = 512, 2_000, 1_780_000_000_000_000_000


def _said(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _attributes(number: int, factory: Factory) -> dict[str, object]:
    if number % 4:
        return {f"work.attribute.{key}": f"value {key}" for key in range(8)}
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": f"chatcmpl-{number}",
        "gen_ai.usage.input_tokens": 250,
        "gen_ai.usage.output_tokens": 500,
        "gen_ai.input.messages": _said("user", factory.text(1_000)),
        "gen_ai.output.messages": _said("assistant", factory.text(2_000)),
    }


def requests(count: int) -> list[bytes]:
    factory, made = Factory(), []
    for first in range(0, count * BATCH, BATCH):
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in range(first, first + BATCH):
            span = spans.add(
                name="work", start_time_unix_nano=START + number, end_time_unix_nano=START + number + 10**8
            )
            span.trace_id, span.span_id = (number // 4 + 1).to_bytes(16, "big"), (number + 1).to_bytes(8, "big")
            for key, value in _attributes(number, factory).items():
                kind = {"int_value": value} if isinstance(value, int) else {"string_value": str(value)}
                span.attributes.append(KeyValue(key=key, value=AnyValue(**kind)))
        made.append(request.SerializeToString())
    return made


def measured(emptied: Emptied, bodies: list[bytes]) -> tuple[float, float]:
    """Spans per second, stored and only read."""
    spans = len(bodies) * BATCH
    with emptied() as url, closing(open_store(url, rest=no_rest)) as store:
        receiver = Receiver(Intake(store, load({"db_url": url, "project": "bench"}, {}, Path.cwd())), port=0)
        receiver.start()
        with closing(http.client.HTTPConnection(*receiver.address, timeout=60)) as connection:
            started = time.perf_counter()
            for body in bodies:
                connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, b"")
            took = time.perf_counter() - started
        receiver.close()
        assert receiver.taken == spans
    started = time.perf_counter()
    for body in bodies:
        from_protobuf(body)
    return spans / took, spans / (time.perf_counter() - started)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="small numbers, for CI")
    options.add_argument("--store", choices=STORES, action="append", help="both, unless given")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    bodies, rounds = (requests(1), 1) if given.quick else (requests(20), given.rounds)
    table = []
    for name in given.store or STORES:
        with STORES[name]() as emptied:
            runs = [measured(emptied, bodies) for _ in range(rounds)]
        ours, alone = [one for one, _ in runs], [one for _, one in runs]
        ratio = statistics.median(mine / other for mine, other in runs)
        table.append(Figure(f"into {name}", ours, f">= {LEAST:,}", f"{ratio:.2f} x decoding alone"))
        table.append(Figure("  decoding alone", alone, "", "the yardstick"))
    show_figures(f"OTLP in, requests of {BATCH} spans, spans a second", table)


if __name__ == "__main__":
    main()
