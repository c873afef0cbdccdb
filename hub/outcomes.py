"""What is told of a call and its layers, and what their ends amount to together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

Usage = Mapping[str, int | None]


class ResponseFacts(TypedDict, total=False):
    """What an extractor or a transport read of an answer. What is left out is unknown."""

    model: str | None
    usage: Usage | None
    finish_reasons: Sequence[str] | None
    reported_cost_usd: str | None
    cost_reporter: str | None
    response_id: str | None
    status_code: int | None
    attempts: int | None
    continuation_count: int | None
    response_cached: bool | None
    chunk_count: int | None
    messages: Sequence[Any] | None
    """Output messages; content."""
    body: str | None
    """The wire body; content."""
    streamed: Sequence[str] | None
    """Of a body that is a stream: the texts it holds in pieces, so far as no message has them; content."""
    error_type: str | None
    error_message: str | None
    """Content."""
    retryable: bool | None
    retry_after_ms: float | None
    more: Mapping[str, Any] | None
    """Further keys for the data of llm:response; never text."""
    raw: Any
    """What else there is of the answer; content."""


class AttemptFacts(TypedDict, total=False):
    """An attempt within a call that was not the last."""

    max_retries: int | None
    delay_ms: float | None
    duration_ms: float | None
    error_type: str | None
    status_code: int | None
    retry_after_ms: float | None
    provider: str | None
    model: str | None
    """The one that served, if it is known."""
    request_model: str | None
    """The one asked for, where another served."""
    usage: Usage | None
    reported_cost_usd: str | None


class RequestFacts(TypedDict, total=False):
    """What `start` was told, kept until the request event leaves."""

    source: str
    provider: str | None
    model: str | None
    operation: str
    messages: Sequence[Any] | None
    tools: Sequence[Any] | None
    params: Mapping[str, Any] | None
    stream: bool
    tier: str | None
    server_address: str | None
    from_config: Sequence[str]
    causation_id: str | None
    replay: Mapping[str, str] | None
    """replay_of, replay_run, replay_of_trace_id, replay_of_span_id: what is sent again."""
    more: Mapping[str, Any] | None
    """Further keys for the data of llm:request; never text."""
    raw: Any
    """What else there is of the request; content."""


class Failure(NamedTuple):
    """What is kept of an exception: never itself, which keeps its frames and all that they hold alive."""

    type: str
    text: str | None
    """Content."""
    identity: int

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        return cls(error_type_of(error), text_of(error), id(error))

    def is_same(self, other: Failure | None) -> bool:
        """Whether both are of one exception; what took the place of one that is gone has mostly another type."""
        return other is not None and (self.identity, self.type) == (other.identity, other.type)


class Outcome:
    """How a call or layer ended."""

    __slots__ = ("ended_ns", "error", "facts", "status")

    def __init__(self, facts: ResponseFacts, error: Failure | None, status: str, ended_ns: int) -> None:
        self.facts, self.error, self.status, self.ended_ns = facts, error, status, ended_ns


def status_of(error: BaseException | None) -> str:
    """The status of a call that raised *error*."""
    if error is None:
        return "ok"
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "error" if isinstance(error, Exception) else "cancelled"


def error_type_of(error: BaseException) -> str:
    """The qualified name of its class, builtins without module: OpenTelemetry's rule for error.type."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException | None) -> str | None:
    """The message of *error*; None if it has none, or will not tell."""
    if error is None:
        return None
    try:
        return str(error) or None
    except Exception:
        return None


def from_cache(facts: ResponseFacts) -> ResponseFacts:
    """*facts* of an answer nobody was asked for: whatever its usage says was spent by another call."""
    nothing: ResponseFacts = {"usage": {"input_tokens": 0, "output_tokens": 0}}
    return {**facts, **nothing, "reported_cost_usd": "0", "cost_reporter": "cache"}


def answering(own: Outcome, inner: Sequence[Outcome]) -> int:
    """Which of the *inner* outcomes, in the order they began, is what *own* ended with."""
    if len(inner) == 1:
        return 0
    late = [place for place, one in enumerate(inner) if one.ended_ns > own.ended_ns]
    if late:  # streams that were handed out
        return late[-1]
    if own.status == "ok":
        return next((place for place in reversed(range(len(inner))) if inner[place].status == "ok"), len(inner) - 1)
    return len(inner) - 1


def together(own: Outcome, inner: Sequence[Outcome]) -> Outcome:
    """What a call ended with, its layers' outcomes considered: they fill what it left open, and what they spent is
    spent whatever became of it."""
    last = inner[answering(own, inner)]
    late = last.ended_ns > own.ended_ns
    status, error, ended_ns = own.status, own.error, own.ended_ns
    known: ResponseFacts = last.facts
    if status == "ok" and last.status != "ok":
        if late:
            status, error, ended_ns = last.status, last.error, last.ended_ns
        elif last.facts.get("error_type") == "incomplete_stream":  # which raises nothing in those who read it
            status = last.status
        else:  # the call went well without it
            known = without_failure(known)
    elif late:
        ended_ns = last.ended_ns if status == "ok" else ended_ns
    facts: ResponseFacts = {**known, **{k: v for k, v in own.facts.items() if v is not None}}  # type: ignore[typeddict-item]
    if own.error is not None and not own.error.is_same(last.error) and not own.facts.get("error_type"):
        facts["error_type"] = own.error.type  # it may have been made of another one
    _count(facts, own.facts, inner)
    return Outcome(facts, error, status, ended_ns)


def without_failure(facts: ResponseFacts) -> ResponseFacts:
    """*facts* but for what only those of a call that failed tell."""
    return {key: value for key, value in facts.items() if key not in _OF_A_FAILURE}  # type: ignore[return-value]


_OF_A_FAILURE = frozenset({"error_type", "error_message", "retryable", "retry_after_ms", "status_code"})


def _count(facts: ResponseFacts, own: ResponseFacts, inner: Sequence[Outcome]) -> None:
    """Set usage and reported cost: at least what the layers spent together. Of an answer from a cache, just that: its
    own usage was spent by another call."""
    spent, cost = sum_usage(one.facts.get("usage") for one in inner), _sum_cost(inner)
    if facts.get("response_cached"):
        facts["usage"] = spent
        facts["reported_cost_usd"], facts["cost_reporter"] = cost, facts.get("cost_reporter") if cost else None
        return
    facts["usage"] = most(own.get("usage"), spent)
    if cost is not None and _more(cost, facts.get("reported_cost_usd")):
        facts["reported_cost_usd"] = cost


def sum_usage(usages: Iterable[Usage | None]) -> dict[str, int] | None:
    """Token counts added up; what none of them knows stays unknown."""
    total: dict[str, int] = {}
    for usage in usages:
        for key, value in _counts(usage):
            total[key] = total.get(key, 0) + value
    return total or None


def most(one: Usage | None, other: Usage | None) -> Usage | None:
    """Of each token count the larger one; the known one where one is unknown."""
    if not one or not other:
        return one or other
    found = dict(_counts(one))
    for key, value in _counts(other):
        if value > found.get(key, -1):
            found[key] = value
    return found


def _counts(usage: Any) -> Iterator[tuple[str, Any]]:
    """Those that are counts: a program's own may be anything."""
    if type(usage) is dict or isinstance(usage, Mapping):
        for key, value in usage.items():
            if isinstance(value, int | float):
                yield key, value


def _sum_cost(outcomes: Sequence[Outcome]) -> str | None:
    """What they reported together; None when one of them spent tokens and does not say for how much."""
    costs = [one.facts.get("reported_cost_usd") for one in outcomes]
    if not any(costs):
        return None
    if len(costs) == 1:
        return costs[0]
    try:
        total = sum(Decimal(cost) for cost in costs if cost is not None)
    except (ArithmeticError, TypeError, ValueError):
        return None
    for one, cost in zip(outcomes, costs, strict=True):
        if cost is None and any(count for _, count in _counts(one.facts.get("usage"))):
            return None
    return format(total, "f")


def _more(cost: str, than: str | None) -> bool:
    try:
        return than is None or Decimal(cost) > Decimal(than)
    except (ArithmeticError, TypeError, ValueError):
        return False
