"""OpenAI's answers: chat completions, text completions, responses, embeddings. From the wire or as objects."""

from __future__ import annotations

from typing import Any

from hub.extractors.usage import cost_of, usage_of
from hub.extractors.values import get, plain, reader, text
from hub.outcomes import ResponseFacts


def openai_facts(answer: Any) -> ResponseFacts | None:
    """What *answer* says; None when it is none of OpenAI's shapes."""
    if isinstance(get(answer, "choices"), list):
        return _of_choices(answer)
    kind = get(answer, "object")
    if kind == "response" and isinstance(get(answer, "output"), list):
        return of_response(answer)
    if kind == "list" and isinstance(get(answer, "data"), list) and get(answer, "usage") is not None:
        return _heading(answer)
    return None


def _heading(answer: Any) -> ResponseFacts:
    said = reader(answer)
    usage = said("usage")
    facts: ResponseFacts = {
        "model": text(said("model")),
        "response_id": text(said("id")),
        "usage": usage_of(usage),
    }
    charged = None if usage is None else get(usage, "cost")  # OpenRouter's
    if charged is not None and (cost := cost_of(charged)) is not None:
        facts["reported_cost_usd"], facts["cost_reporter"] = cost, "provider"
    return facts


def _of_choices(answer: Any) -> ResponseFacts:
    facts = _heading(answer)
    choices = get(answer, "choices")
    facts["finish_reasons"] = [reason for one in choices if (reason := text(get(one, "finish_reason")))] or None
    facts["messages"] = [_said(one) for one in choices]
    return facts


def _said(choice: Any) -> Any:
    message = get(choice, "message")
    return plain(message) if message is not None else {"role": "assistant", "content": get(choice, "text")}


def of_response(answer: Any) -> ResponseFacts:
    """What an object of the responses endpoint says; it may be unfinished."""
    facts = _heading(answer)
    status = text(get(answer, "status"))
    reason = text(get(get(answer, "incomplete_details"), "reason")) or status
    if reason is not None and status not in ("in_progress", "queued"):
        facts["finish_reasons"] = [reason]
    facts["messages"] = [plain(item) for item in get(answer, "output") or ()]
    if status == "failed":
        facts.update(error_facts(answer) or {"error_type": "failed"})
    return facts


def error_facts(answer: Any) -> ResponseFacts | None:
    """The vendor's code and text of an answer that is an error; None when it is none."""
    error = get(answer, "error")
    if isinstance(error, str) and error:
        return {"error_message": error}
    if not error:  # some send an empty one with every chunk
        return None
    facts: ResponseFacts = {"error_message": text(get(error, "message"))}
    if (kind := text(get(error, "code")) or text(get(error, "type"))) is not None:
        facts["error_type"] = kind
    return facts
