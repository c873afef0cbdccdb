"""Names of span attributes and of metrics. `gen_ai.*` as in open-telemetry/semantic-conventions-genai, read 2026-11-20;
PyPI's own constants of these names are marked deprecated, hence this table. `hub.*` are the hub's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"

RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds."""

USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS_CODE: Final = "http.response.status_code"
USER_ID: Final = "user.id"
SERVICE_NAME: Final = "service.name"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"

CALL_ID: Final = "hub.call.id"
STATUS: Final = "hub.status"
PROJECT: Final = "hub.project"
SESSION_ID: Final = "hub.session.id"
TIER: Final = "hub.tier"
TAG_PREFIX: Final = "hub.tag."
COST_USD: Final = "hub.cost.usd"
ATTEMPTS: Final = "hub.attempts"
"""On the call's span: how many there were, when more than one."""
ATTEMPT: Final = "hub.attempt"
"""On an attempt's span: which one it is, from 1."""
DELAY_MS: Final = "hub.attempt.delay_ms"
"""On an attempt's span: how long the next one waited."""
REPLAY_OF_CALL_ID: Final = "hub.replay.of_call_id"
REPLAY_RUN: Final = "hub.replay.run"
CONTENT_SHED: Final = "hub.content.shed"
"""True where content was asked for and the span would have become too large to send."""

OLD_SYSTEM: Final = "gen_ai.system"
OLD_SYSTEMS: Final = {"azure.ai.openai": "az.ai.openai", "azure.ai.inference": "az.ai.inference", "x_ai": "xai"}
"""Providers whose names were others."""
OLDER: Final[Mapping[str, tuple[str, ...]]] = {
    PROVIDER_NAME: (OLD_SYSTEM,),
    USAGE_INPUT_TOKENS: (USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens"),
    USAGE_OUTPUT_TOKENS: (USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens"),
    USAGE_CACHE_READ: (USAGE_CACHE_READ, "gen_ai.usage.cache_read_input_tokens"),
    USAGE_CACHE_WRITE: ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
    USAGE_REASONING: ("gen_ai.usage.reasoning_tokens",),
    INPUT_MESSAGES: ("gen_ai.prompt",),
    OUTPUT_MESSAGES: ("gen_ai.completion",),
    **{
        name: (name,)
        for name in (
            OPERATION_NAME, CONVERSATION_ID, OUTPUT_TYPE, REQUEST_MODEL, REQUEST_CHOICE_COUNT, REQUEST_SEED,
            REQUEST_TOP_K, REQUEST_TOP_P, REQUEST_TEMPERATURE, REQUEST_MAX_TOKENS, REQUEST_FREQUENCY_PENALTY,
            REQUEST_PRESENCE_PENALTY, REQUEST_STOP_SEQUENCES, RESPONSE_MODEL, RESPONSE_ID, RESPONSE_FINISH_REASONS,
            SYSTEM_INSTRUCTIONS, TOOL_DEFINITIONS,
        )
    },
}  # fmt: skip
"""What went by another name before, or by several, and what has kept its name: that of versions up to 1.36."""

OI_KIND: Final = "openinference.span.kind"
OI_KINDS: Final = {
    "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "execute_tool": "TOOL",
    "create_agent": "AGENT",
    "invoke_agent": "AGENT",
    "invoke_workflow": "CHAIN",
    "plan": "CHAIN",
}
"""Of operations; those of all others are LLM."""
OI_MODEL: Final = "llm.model_name"
OI_EMBEDDING_MODEL: Final = "embedding.model_name"
OI_TOTAL_TOKENS: Final = "llm.token_count.total"
OI_PARAMETERS: Final = "llm.invocation_parameters"
OI_FINISH_REASON: Final = "llm.finish_reason"
OI_INPUT: Final = "input.value"
OI_OUTPUT: Final = "output.value"
OI_INPUT_MESSAGES: Final = "llm.input_messages"
OI_OUTPUT_MESSAGES: Final = "llm.output_messages"
OI_TOOLS: Final = "llm.tools"
OPENINFERENCE: Final[Mapping[str, tuple[str, ...]]] = {
    PROVIDER_NAME: ("llm.provider", "llm.system"),
    REQUEST_MODEL: ("llm.request.model_name",),
    RESPONSE_MODEL: ("llm.response.model_name",),
    USAGE_INPUT_TOKENS: ("llm.token_count.prompt",),
    USAGE_OUTPUT_TOKENS: ("llm.token_count.completion",),
    USAGE_CACHE_READ: ("llm.token_count.prompt_details.cache_read",),
    USAGE_CACHE_WRITE: ("llm.token_count.prompt_details.cache_write",),
    USAGE_REASONING: ("llm.token_count.completion_details.reasoning",),
    CONVERSATION_ID: ("session.id",),
    COST_USD: ("llm.cost.total",),
}

METRIC_DURATION: Final = "gen_ai.client.inference.duration"
METRIC_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
METRIC_USAGE: Final = {
    "input_tokens": "gen_ai.client.inference.usage.input_tokens",
    "output_tokens": "gen_ai.client.inference.usage.output_tokens",
    "cache_read_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""Counters, by our name of the usage."""
METRIC_TOKENS: Final = {
    "input_tokens": "gen_ai.client.inference.operation.input_tokens",
    "output_tokens": "gen_ai.client.inference.operation.output_tokens",
}
"""Histograms, by our name of the usage."""
SECONDS_BUCKETS: Final = [0.01 * 2**power for power in range(14)]
TOKEN_BUCKETS: Final = [float(4**power) for power in range(14)]
OLD_METRIC_DURATION: Final = "gen_ai.client.operation.duration"
OLD_METRIC_USAGE: Final = "gen_ai.client.token.usage"
TOKEN_TYPE: Final = "gen_ai.token.type"

METRIC_EMITTED: Final = "hub.events.emitted"
METRIC_STORED: Final = "hub.events.stored"
METRIC_EXPORTED: Final = "hub.events.exported"
METRIC_DROPPED: Final = "hub.events.dropped"
METRIC_WAITING: Final = "hub.events.waiting"
METRIC_LAG: Final = "hub.sink.lag"
METRIC_WAITING_BYTES: Final = "hub.spool.waiting"
SINK: Final = "hub.sink"
REASON: Final = "hub.reason"

PROVIDER_NAMES: Final = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""Short names in use for providers, and what the conventions call them. Other names stand as they are."""
