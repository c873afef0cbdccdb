"""Attributes of the dialects that instrumentations speak, under one name each: the newest gen_ai, what it was before,
OpenInference's and Traceloop's. Of several names the first one that a span has counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from hub import semconv
from hub.extractors.usage import usage_of as vendors_usage

Names = tuple[str, ...]

PROVIDER: Final[Names] = (semconv.PROVIDER_NAME, "gen_ai.system", "llm.provider", "llm.system")
REQUEST_MODEL: Final[Names] = (semconv.REQUEST_MODEL, "llm.request.model_name")
RESPONSE_MODEL: Final[Names] = (
    semconv.RESPONSE_MODEL,
    "llm.response.model_name",
    "llm.model_name",
    "embedding.model_name",
)
RESPONSE_ID: Final[Names] = (semconv.RESPONSE_ID,)
STREAM: Final[Names] = (semconv.REQUEST_STREAM, "gen_ai.is_streaming", "llm.is_streaming")
FINISH_REASONS: Final[Names] = (
    semconv.RESPONSE_FINISH_REASONS,
    "gen_ai.response.finish_reason",
    "llm.finish_reason",
    "stop_reason",
)
SESSION: Final[Names] = (
    semconv.SESSION_ID,
    semconv.CONVERSATION_ID,
    "session.id",
    "traceloop.association.properties.session_id",
)
USER: Final[Names] = (semconv.USER_ID, "enduser.id", "traceloop.association.properties.user_id")
BASE_URL: Final[Names] = ("gen_ai.openai.api_base", "openai.api_base")
ERROR_TYPE: Final[Names] = (semconv.ERROR_TYPE,)
STATUS_CODE: Final[Names] = (semconv.HTTP_STATUS_CODE, "http.status_code")
TTFT_SECONDS: Final[Names] = (semconv.RESPONSE_TIME_TO_FIRST_CHUNK, "gen_ai.server.time_to_first_token")

USAGE: Final[dict[str, Names]] = {
    "input_tokens": (semconv.USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": (semconv.USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cache_read_tokens": (
        semconv.USAGE_CACHE_READ,
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write_tokens": (
        semconv.USAGE_CACHE_WRITE,
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        semconv.USAGE_REASONING,
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}

PARAMS: Final[dict[str, Names]] = {
    "max_tokens": (semconv.REQUEST_MAX_TOKENS,),
    "max_completion_tokens": ("gen_ai.request.max_completion_tokens",),
    "temperature": (semconv.REQUEST_TEMPERATURE, "llm.temperature"),
    "top_p": (semconv.REQUEST_TOP_P, "llm.top_p"),
    "top_k": (semconv.REQUEST_TOP_K, "llm.top_k"),
    "seed": (semconv.REQUEST_SEED,),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, "llm.frequency_penalty"),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, "llm.presence_penalty"),
    "stop": (semconv.REQUEST_STOP_SEQUENCES, "llm.chat.stop_sequences"),
    "n": (semconv.REQUEST_CHOICE_COUNT,),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL,),
    "previous_response_id": (semconv.REQUEST_PREVIOUS_RESPONSE_ID,),
}

OPERATIONS: Final[Names] = (
    semconv.OPERATION_NAME,
    "llm.request.type",
    "openinference.span.kind",
    "traceloop.span.kind",
)
OPERATION_OF: Final = {
    "llm": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "retriever": "retrieval",
    "rerank": "rerank",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "chain": "invoke_workflow",
    "workflow": "invoke_workflow",
    "task": "invoke_workflow",
}
"""What other dialects call gen_ai.operation.name's values, in lower case. Other names stand as they are."""
INFERENCES: Final = frozenset({"chat", "generate_content", "text_completion", "embeddings"})
"""The operations that are calls of a model."""


def first(attributes: Mapping[str, Any], names: Names) -> Any:
    """The value under the first of *names* that there is one under."""
    for name in names:
        if (found := attributes.get(name)) is not None:
            return found
    return None


def decoded(value: Any) -> Any:
    """What a string of JSON stands for; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def operation_of(attributes: Mapping[str, Any]) -> str | None:
    """What the span's work is by the newest gen_ai's names; None when nothing says so."""
    found = first(attributes, OPERATIONS)
    if isinstance(found, str) and found:
        return OPERATION_OF.get(found.lower(), found.lower())
    has_model = first(attributes, REQUEST_MODEL) is not None and first(attributes, PROVIDER) is not None
    return "chat" if has_model else None


def nested(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """A list that was taken apart, {prefix}.0.a.b, {prefix}.1.c ..., as lists and dicts."""
    root: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] == ".":
            here = root
            *way, last = name[len(prefix) + 1 :].split(".")
            for step in way:
                below = here.setdefault(step, {})
                if not isinstance(below, dict):
                    break
                here = below
            else:
                here[last] = value
    found = _listed(root)
    return found if isinstance(found, list) else []


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(each) for key, each in value.items()}


def usage_of(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    """Inclusive token counts, as all dialects have them; None when nothing is known. What is left out is taken from
    the vendor's own usage, of which Logfire keeps a copy."""
    found = {key: first(attributes, names) for key, names in USAGE.items()}
    known = {key: value for key, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}
    raw = vendors_usage(decoded(attributes.get("gen_ai.usage.raw"))) or {}
    return {**{key: count for key, count in raw.items() if count is not None}, **known} or None


def params_of(attributes: Mapping[str, Any], invocation: Mapping[str, Any]) -> dict[str, Any]:
    """The request's parameters. *invocation*: OpenInference's llm.invocation_parameters."""
    own = {key: value for key, names in PARAMS.items() if (value := first(attributes, names)) is not None}
    return {**invocation, **own}


_CONTENT = re.compile(
    r"(gen_ai\.(prompt|completion|input|output|system_instructions|tool\.(call\.)?(arguments|result|definitions)))"
    r"|(llm\.(input|output)_messages|llm\.prompts|llm\.completions|input\.value|output\.value)"
    r"|(traceloop\.entity\.(input|output)|tool\.parameters|retrieval\.documents|embedding\.embeddings)"
)


def named_content(name: str) -> bool:
    """Whether prompts, answers or what tools were given stands under *name*."""
    return _CONTENT.match(name) is not None


CHUNKS: Final = frozenset(
    {"First Token Stream Event", "gen_ai.content.completion.chunk", "llm.content.completion.chunk"}
)
"""Span events that tell of a piece of a streamed answer."""
