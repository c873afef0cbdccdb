"""Ids minted at the request, and the decision whether their span is exported."""

from __future__ import annotations

import os
import random

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from hub.tracing_context import Mint, Minted, sampler_from


def minted_under(parent: SpanContext, mint: Mint) -> Minted:
    token = attach(set_span_in_context(NonRecordingSpan(parent)))
    try:
        return mint.start()
    finally:
        detach(token)


def parent(
    flags: int, *, remote: bool = False, trace_id: int = 5 << 90, state: TraceState | None = None
) -> SpanContext:
    return SpanContext(trace_id, 7, remote, TraceFlags(flags), state)


def test_outside_of_any_trace_a_call_is_the_root_of_a_new_one() -> None:
    one, other = (Mint(sampler_from({})).start() for _ in range(2))
    assert set(one.envelope) == {"trace_id", "span_id", "trace_flags"}
    assert (len(one.envelope["trace_id"]), len(one.envelope["span_id"]), one.envelope["trace_flags"]) == (32, 16, 3)
    assert one.envelope["trace_id"] != other.envelope["trace_id"]


def test_inside_a_trace_a_call_is_a_child_of_the_ambient_span() -> None:
    state = TraceState([("vendor", "x")])
    minted = minted_under(parent(1, remote=True, state=state), Mint(sampler_from({})))
    assert minted.envelope == {
        "trace_id": f"{5 << 90:032x}",
        "span_id": minted.envelope["span_id"],
        "trace_flags": 1,
        "parent_span_id": f"{7:016x}",
        "parent_is_remote": True,
        "tracestate": "vendor=x",
    }


def test_the_minted_span_is_current_for_what_happens_inside_the_call() -> None:
    minted = minted_under(parent(1), Mint(sampler_from({})))
    assert minted.context is not None
    inner = get_current_span(minted.context).get_span_context()
    assert f"{inner.span_id:016x}" == minted.envelope["span_id"]
    assert (inner.trace_id, inner.is_remote, inner.trace_flags) == (5 << 90, False, 1)


def test_the_programs_own_spans_inside_the_call_become_its_children() -> None:
    minted = minted_under(parent(1), Mint(sampler_from({})))
    child = TracerProvider().get_tracer("app").start_span("child", minted.context)
    assert child.parent is not None  # type: ignore[attr-defined]
    assert f"{child.parent.span_id:016x}" == minted.envelope["span_id"]  # type: ignore[attr-defined]


def test_what_is_not_exported_leaves_the_ambient_span_current() -> None:
    assert minted_under(parent(1), Mint(sampler_from({}), attach=False)).context is None


SAMPLERS = ["always_on", "always_off", "traceidratio"]


@pytest.mark.parametrize("name", [*SAMPLERS, *(f"parentbased_{name}" for name in SAMPLERS), "no_such", ""])
@pytest.mark.parametrize("ratio", ["0", "0.1", "0.5", "1", "7", "nonsense"])
def test_samplers_decide_as_the_sdks_do(name: str, ratio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name or "parentbased_always_on")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    theirs = sampling._get_from_env_or_default()
    ours = sampler_from({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": ratio})
    ids = random.Random(1)
    for flags, remote in ((None, False), (0, False), (1, False), (2, True), (3, True)):
        for _ in range(20):
            trace_id = ids.getrandbits(128)
            above = None if flags is None else parent(flags, remote=remote, trace_id=trace_id)
            context = None if above is None else set_span_in_context(NonRecordingSpan(above))
            decision = theirs.should_sample(context, trace_id, "chat").decision
            assert ours(trace_id, above) is (decision is sampling.Decision.RECORD_AND_SAMPLE)


def test_what_is_not_sampled_has_ids_and_no_sampled_flag() -> None:
    minted = Mint(sampler_from({"OTEL_TRACES_SAMPLER": "always_off"})).start()
    assert minted.envelope["trace_flags"] == 2
    assert get_current_span(minted.context).get_span_context().trace_flags == 2


def test_a_forked_child_mints_other_ids_than_its_parent() -> None:
    mint = Mint(sampler_from({}))
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, mint.start().envelope["trace_id"].encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() != mint.start().envelope["trace_id"]
