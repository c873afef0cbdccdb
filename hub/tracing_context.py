"""A call's place in its trace: ids minted inside the ambient context, on the caller's path, without the SDK."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import opentelemetry.context
from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    set_value,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
)
from opentelemetry.trace.propagation import _SPAN_KEY

from hub.harmless import log

Sampler = Callable[[int, SpanContext | None], bool]
"""Takes the trace id and the valid parent, if there is one; True: the call's span is to be exported."""

SAMPLED, RANDOM = 1, 2
_FLAGS = tuple(TraceFlags(bits) for bits in range(4))
_NO_STATE = TraceState()
_LOW_64 = (1 << 64) - 1

_ids = random.Random()
os.register_at_fork(after_in_child=_ids.seed)  # a child would mint its parent's ids again


_variable = getattr(getattr(opentelemetry.context, "_RUNTIME_CONTEXT", None), "_current_context", None)
# The two functions around OpenTelemetry's context variable cost as much as the rest of a stream's chunk.
_get: Callable[[], Context]
attach: Callable[[Context], Token[Context]]
detach: Callable[[Token[Context]], None]
_get, attach, detach = (
    (_variable.get, _variable.set, _variable.reset)
    if isinstance(_variable, ContextVar)
    else (opentelemetry.context.get_current, opentelemetry.context.attach, opentelemetry.context.detach)
)


def attach_no_span() -> Token[Context]:
    """Leave the ambient trace: what begins now is the root of another. Undone by `detach`."""
    return attach(Context({key: value for key, value in _get().items() if key != _SPAN_KEY}))


class CallSpan(NonRecordingSpan):
    """Stands for a call's span within the program. Most calls never ask for its context, so it is made when asked."""

    __slots__ = ("_ids",)

    def __init__(self, trace_id: int, span_id: int, flags: int, state: TraceState) -> None:
        self._ids = (trace_id, span_id, flags, state)

    def get_span_context(self) -> SpanContext:
        trace_id, span_id, flags, state = self._ids
        return SpanContext(trace_id, span_id, False, _FLAGS[flags], state)

    def __repr__(self) -> str:
        return f"CallSpan({self.get_span_context()!r})"


class Minted:
    """What `Mint.start` gives."""

    __slots__ = ("context", "envelope")

    def __init__(self, envelope: dict[str, Any], context: Context | None) -> None:
        self.envelope = envelope
        """trace_id, span_id, trace_flags; with a parent parent_span_id and parent_is_remote; tracestate if any."""
        self.context = context
        """To be current during the call's upstream steps; None: leave the ambient one as it is."""


class Mint:
    """Gives each call the ids of its span, as the SDK would: a child of the ambient span, else the root of a new trace.

    Args:
        attach: Make the span current for what happens inside the call, so that its children name it as their parent.
            Only for spans that will be exported: a parent nobody ever sees tears a trace apart.
        bits: Gives random integers of so many bits.
    """

    def __init__(self, sampler: Sampler, *, attach: bool = True, bits: Callable[[int], int] = _ids.getrandbits) -> None:
        self._sampler, self._attach, self._bits = sampler, attach, bits

    def start(self) -> Minted:
        """Mint within the current context."""
        ambient: Context = _get()
        parent = get_current_span(ambient).get_span_context() if _SPAN_KEY in ambient else None
        span_id = self._bits(64) or 1
        if parent is None or not parent.is_valid:
            trace_id = self._bits(128) or 1
            flags = RANDOM | SAMPLED if self._sampler(trace_id, None) else RANDOM
            state = _NO_STATE
            envelope: dict[str, Any] = {
                "trace_id": f"{trace_id:032x}",
                "span_id": f"{span_id:016x}",
                "trace_flags": flags,
            }
        else:
            trace_id, state = parent.trace_id, parent.trace_state
            flags = (parent.trace_flags & RANDOM) | (SAMPLED if self._sampler(trace_id, parent) else 0)
            envelope = {
                "trace_id": f"{trace_id:032x}",
                "span_id": f"{span_id:016x}",
                "trace_flags": flags,
                "parent_span_id": f"{parent.span_id:016x}",
                "parent_is_remote": parent.is_remote,
            }
            if state:
                envelope["tracestate"] = state.to_header()
        if not self._attach:
            return Minted(envelope, None)
        return Minted(envelope, Context({**ambient, _SPAN_KEY: CallSpan(trace_id, span_id, flags, state)}))


def sampler_from(environ: Mapping[str, str]) -> Sampler:
    """The sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name, with the SDK's rules and its defaults."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    base = name.removeprefix("parentbased_")
    if base not in ("always_on", "always_off", "traceidratio"):
        log.warning("OTEL_TRACES_SAMPLER: the hub does not know %r and samples as parentbased_always_on does", name)
        name, base = "parentbased_always_on", "always_on"
    bound = {"always_on": 1 << 64, "always_off": 0}.get(base)
    if bound is None:
        bound = round(_ratio(environ.get("OTEL_TRACES_SAMPLER_ARG")) * (1 << 64))
    return _parent_based(bound) if name != base else _by_trace_id(bound)


def _ratio(text: str | None) -> float:
    try:
        ratio = float(text or "")
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return ratio
    log.warning("OTEL_TRACES_SAMPLER_ARG: %r is no number from 0 to 1; every trace is sampled", text)
    return 1.0


def _by_trace_id(bound: int) -> Sampler:
    def sample(trace_id: int, _parent: SpanContext | None) -> bool:
        return trace_id & _LOW_64 < bound

    return sample


def _parent_based(bound: int) -> Sampler:
    def sample(trace_id: int, parent: SpanContext | None) -> bool:
        if parent is not None:
            return parent.trace_flags & SAMPLED == SAMPLED
        return trace_id & _LOW_64 < bound

    return sample


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """A block in which neither the hub nor OpenTelemetry's instrumentations trace."""
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        yield
    finally:
        detach(token)
