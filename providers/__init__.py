"""Ways to call models: a contract for providers, a registry, retries, and providers over HTTP.

    provider = get_provider("openai:gpt-5-mini")
    response = await provider.complete(ChatRequest(messages=[Message(role="user", content="Hello")]))

See docs/providers/index.md. Modules are loaded when a name of theirs is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from providers.config import ProviderConfig
    from providers.contract import (
        ChatRequest,
        ChatResponse,
        ContentBlock,
        Degradation,
        HasTiers,
        ImageBlock,
        Message,
        ModelTier,
        OtherBlock,
        Provider,
        ReasoningBlock,
        RedactedThinkingBlock,
        ResponseFormat,
        ResponseFormatJson,
        ResponseFormatJsonSchema,
        ResponseFormatText,
        StreamChunk,
        TextBlock,
        ThinkingBlock,
        ToolCall,
        ToolCallBlock,
        ToolCallDelta,
        ToolResultBlock,
        ToolSpec,
        Usage,
        as_request,
        tool_calls_of,
    )
    from providers.errors import (
        AbortError,
        AccessDeniedError,
        AuthenticationError,
        ConfigurationError,
        ContentFilterError,
        ContextLengthError,
        InvalidRequestError,
        InvalidToolCallError,
        LLMError,
        LLMTimeoutError,
        NetworkError,
        NotFoundError,
        ProviderUnavailableError,
        QuotaExceededError,
        RateLimitError,
        StreamError,
        UnknownProviderError,
    )
    from providers.http_errors import error_from_response
    from providers.mock import MockProvider, Scripted
    from providers.models import ConfigField, ModelInfo, Pricing, ProviderInfo
    from providers.registry import get_provider, list_providers, register_provider
    from providers.retry import is_retryable, retry_settings, with_retry, with_retry_sync

_NAMES = {
    "providers.config": ("ProviderConfig",),
    "providers.contract": (
        *("ChatRequest", "ChatResponse", "ContentBlock", "Degradation", "HasTiers", "ImageBlock", "Message"),
        *("ModelTier", "OtherBlock", "Provider", "ReasoningBlock", "RedactedThinkingBlock", "ResponseFormat"),
        *("ResponseFormatJson", "ResponseFormatJsonSchema", "ResponseFormatText", "StreamChunk", "TextBlock"),
        *("ThinkingBlock", "ToolCall", "ToolCallBlock", "ToolCallDelta", "ToolResultBlock", "ToolSpec", "Usage"),
        *("as_request", "tool_calls_of"),
    ),
    "providers.errors": (
        *("AbortError", "AccessDeniedError", "AuthenticationError", "ConfigurationError", "ContentFilterError"),
        *("ContextLengthError", "InvalidRequestError", "InvalidToolCallError", "LLMError", "LLMTimeoutError"),
        *("NetworkError", "NotFoundError", "ProviderUnavailableError", "QuotaExceededError", "RateLimitError"),
        *("StreamError", "UnknownProviderError"),
    ),
    "providers.http_errors": ("error_from_response",),
    "providers.mock": ("MockProvider", "Scripted"),
    "providers.models": ("ConfigField", "ModelInfo", "Pricing", "ProviderInfo"),
    "providers.registry": ("get_provider", "list_providers", "register_provider"),
    "providers.retry": ("is_retryable", "retry_settings", "with_retry", "with_retry_sync"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'providers' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "AbortError",
    "AccessDeniedError",
    "AuthenticationError",
    "ChatRequest",
    "ChatResponse",
    "ConfigField",
    "ConfigurationError",
    "ContentBlock",
    "ContentFilterError",
    "ContextLengthError",
    "Degradation",
    "HasTiers",
    "ImageBlock",
    "InvalidRequestError",
    "InvalidToolCallError",
    "LLMError",
    "LLMTimeoutError",
    "Message",
    "MockProvider",
    "ModelInfo",
    "ModelTier",
    "NetworkError",
    "NotFoundError",
    "OtherBlock",
    "Pricing",
    "Provider",
    "ProviderConfig",
    "ProviderInfo",
    "ProviderUnavailableError",
    "QuotaExceededError",
    "RateLimitError",
    "ReasoningBlock",
    "RedactedThinkingBlock",
    "ResponseFormat",
    "ResponseFormatJson",
    "ResponseFormatJsonSchema",
    "ResponseFormatText",
    "Scripted",
    "StreamChunk",
    "StreamError",
    "TextBlock",
    "ThinkingBlock",
    "ToolCall",
    "ToolCallBlock",
    "ToolCallDelta",
    "ToolResultBlock",
    "ToolSpec",
    "UnknownProviderError",
    "Usage",
    "as_request",
    "error_from_response",
    "get_provider",
    "is_retryable",
    "list_providers",
    "register_provider",
    "retry_settings",
    "tool_calls_of",
    "with_retry",
    "with_retry_sync",
]
