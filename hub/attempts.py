"""What a layer was as an attempt of the call around it."""

from __future__ import annotations

from hub.calls import Call
from hub.outcomes import AttemptFacts, Outcome


def last_attempt_of(call: Call) -> AttemptFacts | None:
    """What is known of the last attempt of *call*, a root that ended; None where that is what is known of *call*."""
    last = call.last_attempt() if call.failed_attempts else call
    if last is call and _names_another(call, call.facts.get("provider")):
        last = call.answering() or call
    return None if last is call else attempt_of(last)[1]


def _names_another(call: Call, provider: str | None) -> bool:
    """Whether a layer that knows more than a host asks another than *provider*."""
    for layer in call.layers:
        facts = layer.facts
        named = facts.get("provider")
        if named is not None and named != provider and facts.get("source") != "transport":
            return True
        if layer.layers and _names_another(layer, provider):
            return True
    return False


def attempt_of(layer: Call) -> tuple[Outcome | None, AttemptFacts]:
    """How the last attempt within *layer* ended, and what is known of it. None: it goes on."""
    if layer.outcome is None:
        return None, names_of(layer)
    last = layer.last_attempt()
    outcome = last.result()
    facts, error = outcome.facts, outcome.error
    began = last.attempt_began_ns if last.attempt_began_ns is not None else last.started_ns
    named = names_of(last)
    asked, served = named.get("model"), facts.get("model")
    told: AttemptFacts = {
        "provider": named.get("provider"),
        "model": served or asked,
        "request_model": asked if served is not None and served != asked else None,
        "duration_ms": max(outcome.ended_ns - began, 0) / 1e6,
        "usage": facts.get("usage"),
        "reported_cost_usd": facts.get("reported_cost_usd"),
        "status_code": facts.get("status_code"),
        "retry_after_ms": facts.get("retry_after_ms"),
        "error_type": facts.get("error_type") or (None if error is None else error.type),
    }
    return outcome, {key: value for key, value in told.items() if value is not None}  # type: ignore[return-value]


def names_of(layer: Call) -> AttemptFacts:
    """Provider and model of an attempt, as those nearest to the wire name them; but for the transport, which knows no
    more than a host."""
    inner, root = [layer], layer.root
    while (answering := inner[-1].answering()) is not None:
        inner.append(answering)
    inner.reverse()
    outer = layer.parent
    while outer is not None and outer is not root:
        inner.append(outer)
        outer = outer.parent
    inner.sort(key=lambda one: one.facts.get("source") == "transport")
    named = AttemptFacts()
    for one in inner:
        provider, model = one.facts.get("provider"), one.facts.get("model")
        if one.facts.get("source") == "transport" and root.facts.get("provider"):
            provider = None
        if provider and "provider" not in named:
            named["provider"] = provider
        if model and "model" not in named:
            named["model"] = model
    return named
