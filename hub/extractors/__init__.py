"""Readers of request and response shapes, one file for each family. They know shapes, never libraries: nothing of a
vendor is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hub.extractors.anthropic import anthropic_facts
from hub.extractors.contracts import CACHE_MARKS, contract_facts, says_cached
from hub.extractors.openai import openai_facts
from hub.extractors.usage import cost_of
from hub.extractors.values import has_fixed_fields, text
from hub.outcomes import ResponseFacts

__all__ = ["Extractor", "ResponseFacts", "checked", "response_facts"]

_NUMBERS = (
    *("status_code", "attempts", "continuation_count", "response_cached", "chunk_count"),
    *("retryable", "retry_after_ms"),
)
_NO_ANSWERS = (bytes, int, float)
_TEXTS = ("model", "response_id", "cost_reporter", "error_type", "error_message", "body")


class Extractor(Protocol):
    """Reads what a traced function's result says where `hub.traced` cannot know."""

    def __call__(self, arguments: Mapping[str, Any], result: Any, /) -> ResponseFacts:
        """What *result* says, given the function's *arguments* by name, defaults included.

        Called once for each call that ended well, in the caller's thread, before the caller has the result: be quick,
        and leave both as they are. For a generator *result* is the list of what it yielded. The answer's keys are
        those of `ResponseFacts`, all optional: model, usage (input_tokens and so on, inclusive totals), finish_reasons,
        response_id, reported_cost_usd, messages, ... What is left out is filled from the result's shape, if that is
        known. Raising is harmless: the call is recorded without.
        """
        ...


def response_facts(result: Any) -> ResponseFacts:
    """What *result* says of the answer, whatever its shape; empty when it says nothing we know."""
    if isinstance(result, str):
        return {"messages": [{"role": "assistant", "content": result}]}
    if result is None or isinstance(result, _NO_ANSWERS):
        return {}
    if type(result) is dict or hasattr(result, "__dict__") or hasattr(result, "__slots__"):
        found = _answer_facts(result)
        if found is not None:
            if "response_cached" not in found and _may_say_cached(result) and says_cached(result):
                found["response_cached"] = True
            return found
    if isinstance(result, dict):
        return {"messages": [{"role": "assistant", "content": result}]}
    return {}


def _may_say_cached(result: Any) -> bool:
    """False for most: a dict without any such key."""
    return type(result) is not dict or not CACHE_MARKS.isdisjoint(result)


_Family = Callable[[Any], ResponseFacts | None]
_FAMILIES: tuple[_Family, ...] = (openai_facts, anthropic_facts, contract_facts)
_family_of: dict[type, _Family] = {}
_MOST_KINDS = 1024


def _answer_facts(result: Any) -> ResponseFacts | None:
    """What the family says that *result* is of. Models and dataclasses are of the one that knew the first of them."""
    kind = type(result)
    family = _family_of.get(kind)
    if family is not None and (found := family(result)) is not None:
        return found
    for family in _FAMILIES:
        if (found := family(result)) is not None:
            if kind is not dict and has_fixed_fields(kind) and len(_family_of) < _MOST_KINDS:
                _family_of[kind] = family
            return found
    return None


def checked(found: ResponseFacts) -> ResponseFacts:
    """What a program's own extractor *found*, without what is not of the kind it should be."""
    facts: Any = {}
    for key, value in found.items():
        if key in _NUMBERS:
            if isinstance(value, int | float):
                facts[key] = value
        elif key in _TEXTS:
            if (said := text(value)) is not None:
                facts[key] = said
        elif key == "usage":
            if isinstance(value, Mapping):
                facts[key] = {name: number for name, number in value.items() if isinstance(number, int | float)}
        elif key == "finish_reasons":
            facts[key] = [said for each in _several(value) if (said := text(each)) is not None]
        elif key == "reported_cost_usd":
            facts[key] = cost_of(value)
        elif key == "messages":
            facts[key] = None if value is None else _several(value)
    return facts  # type: ignore[no-any-return]


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
