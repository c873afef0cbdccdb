"""What a layer was as an attempt of the call around it."""

from __future__ import annotations

from hub.calls import Call
from hub.outcomes import AttemptFacts, error_type_of


def attempt_of(layer: Call) -> tuple[int | None, AttemptFacts]:
    """When the last attempt within *layer* ended, by the monotonic clock, and what is known of it. None: it goes on."""
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
        "error_type": facts.get("error_type") or (None if error is None else error_type_of(error)),
    }
    return outcome.ended_ns, {key: value for key, value in told.items() if value is not None}  # type: ignore[return-value]


def names_of(layer: Call) -> AttemptFacts:
    """Provider and model of an attempt: as the outermost layer within the call has them. A transport, which knows no
    more than a host, is asked last."""
    chain = [layer]
    while (outer := chain[-1].parent) is not None:
        chain.append(outer)
    inner = chain[-2::-1]
    asked = sorted(inner, key=lambda one: one.facts.get("source") == "transport")
    named = AttemptFacts()
    for one in asked:
        if one.facts.get("source") == "transport" and chain[-1].facts.get("provider"):
            break
        if (provider := one.facts.get("provider")) is not None:
            named["provider"] = provider
            break
    if (model := next((m for one in asked if (m := one.facts.get("model")) is not None), None)) is not None:
        named["model"] = model
    return named
