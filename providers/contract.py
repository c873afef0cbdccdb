"""What a provider is, and what goes in and comes out: requests, responses and their blocks, usage.

Structurally the same as the models of amplifier-core 2.0.2 (read 2026-11-20): what `model_dump` gives of one side
`model_validate` of the other takes, and nothing of either is lost. Keys that no field names are kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_serializer,
    field_validator,
    model_serializer,
)

from providers.models import ModelInfo, ProviderInfo

Role = Literal["system", "developer", "user", "assistant", "function", "tool"]
Visibility = Literal["internal", "developer", "user"]
M = TypeVar("M", bound=BaseModel)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Block(_Open):
    visibility: Visibility | None = None
    """Whom it is meant for; None leaves that to the program."""


class TextBlock(_Block):
    """Text of a message."""

    type: Literal["text"] = "text"
    text: str


class ThinkingBlock(_Block):
    """The model's thoughts, to be sent back as they came: the signature vouches for them."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str | None = None
    content: list[Any] | None = None
    """State of a reasoning model: [encrypted content, id]."""


class RedactedThinkingBlock(_Block):
    """Thoughts that only the vendor can read, to be sent back as they came."""

    type: Literal["redacted_thinking"] = "redacted_thinking"
    data: str


class ToolCallBlock(_Block):
    """The model asks for a tool."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(_Block):
    """What a tool gave."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    output: Any


class ImageBlock(_Block):
    """A picture: `source` is {"type": "base64", "media_type", "data"} or {"type": "url", "url"}."""

    type: Literal["image"] = "image"
    source: dict[str, Any]


class ReasoningBlock(_Block):
    """What a reasoning model tells of its thoughts."""

    type: Literal["reasoning"] = "reasoning"
    content: list[Any]
    summary: list[Any]


class OtherBlock(_Open):
    """A block of a type this version does not know, kept as it is."""

    type: str


_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_call", "tool_result", "image", "reasoning"})


def _block_tag(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    if not isinstance(kind, str):
        return None
    return kind if kind in _BLOCKS and not isinstance(value, OtherBlock) else "other"


ContentBlock = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[ToolCallBlock, Tag("tool_call")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[ReasoningBlock, Tag("reasoning")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(
        _block_tag,
        custom_error_type="block_type",
        custom_error_message="a content block needs a type, as in {'type': 'text', 'text': '...'}",
    ),
]


class Message(_Open):
    """One message of a conversation."""

    role: Role
    content: str | list[ContentBlock]
    name: str | None = None
    tool_call_id: str | None = None
    """Which call a message of role tool answers."""
    metadata: dict[str, Any] | None = None
    """A provider's own state; no text for the model."""


class ToolSpec(_Open):
    """A tool the model may ask for; `parameters` is a JSON schema."""

    name: str
    parameters: dict[str, Any]
    description: str | None = None


class ResponseFormatText(_Open):
    """Plain text, the default."""

    type: Literal["text"] = "text"


class ResponseFormatJson(_Open):
    """Any JSON."""

    type: Literal["json"] = "json"


class ResponseFormatJsonSchema(_Open):
    """JSON of this schema. Read from `json_schema` or `schema`, and by_alias written as `schema`."""

    type: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any] = Field(
        validation_alias=AliasChoices("json_schema", "schema"), serialization_alias="schema"
    )
    strict: bool | None = None


ResponseFormat = Annotated[
    ResponseFormatText | ResponseFormatJson | ResponseFormatJsonSchema, Field(discriminator="type")
]


class ChatRequest(_Open):
    """What a model is asked. None leaves a parameter to the provider's configuration, then to the vendor."""

    messages: list[Message]
    tools: list[ToolSpec] | None = None
    response_format: ResponseFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    conversation_id: str | None = None
    stream: bool | None = False
    """Said for observers: whether to stream is decided by calling `complete` or `stream`."""
    metadata: dict[str, Any] | None = None
    """Of the program; never sent."""
    model: str | None = None
    tool_choice: str | dict[str, Any] | None = None
    """auto, none, required, or a vendor's object that names a tool."""
    stop: list[str] | None = None
    reasoning_effort: str | None = None
    timeout: float | None = None
    """Seconds."""


class ToolCall(_Open):
    """A tool the model asks for, its arguments read."""

    id: str
    name: str
    arguments: dict[str, Any]


class Usage(_Open):
    """Tokens of one call. Output contains reasoning tokens; input contains what a cache gave, while what was written
    to a cache comes on top of it. None is unknown, never zero."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: Decimal | None = None
    """What the call cost. Dumped as a string."""

    @field_validator("cost_usd", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        if isinstance(value, float):
            raise ValueError(
                f"cost_usd is a float, which cannot hold most amounts; pass Decimal('{value}') or the string '{value}'"
            )
        return value

    @field_serializer("cost_usd")
    def _as_text(self, value: Decimal | None) -> str | None:
        return None if value is None else str(value)


class Degradation(_Open):
    """A provider could not do what was asked, and did something near it."""

    requested: str
    actual: str
    reason: str


class ChatResponse(_Open):
    """What the model answered. `model` and `id` are dumped only where they were given: Amplifier's has neither."""

    content: list[ContentBlock]
    tool_calls: list[ToolCall] | None = None
    usage: Usage | None = None
    """None: the provider did not say."""
    degradation: Degradation | None = None
    finish_reason: str | None = None
    metadata: dict[str, Any] | None = None
    model: str | None = None
    """The model that answered, which may be another than the one asked for."""
    id: str | None = None
    """The vendor's id of this response."""

    @model_serializer(mode="wrap")
    def _what_was_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = cast(dict[str, Any], dump(self))
        for name in ("model", "id"):
            if name not in self.model_fields_set:
                data.pop(name, None)
        return data

    @property
    def text(self) -> str:
        """The text blocks, joined; empty when there are none."""
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))


class ToolCallDelta(_Open):
    """A piece of a tool call in a stream."""

    index: int
    """Which of the answer's calls it belongs to, from 0."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    """The next characters of the arguments' JSON, which is complete only at the end."""


class StreamChunk(_Open):
    """A piece of an answer. The last one of a stream that came to its end carries the whole `response`."""

    delta: str = ""
    """The next characters of the answer's text; joined they are the answer."""
    thinking: str = ""
    """The next characters of the model's thoughts."""
    block_index: int | None = None
    """Which block of the response it belongs to, from 0."""
    block_type: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    response: ChatResponse | None = None


class ModelTier(StrEnum):
    """How capable a model a task needs, so that a program need not name one."""

    LOCAL_SMALL = "local_small"
    HOSTED_SMALL = "hosted_small"
    HOSTED_LARGE = "hosted_large"


@runtime_checkable
class HasTiers(Protocol):
    """A provider that knows a model for each tier."""

    def get_model_for_tier(self, tier: ModelTier) -> str:
        """Raises: ConfigurationError: It has none for *tier*."""


@runtime_checkable
class Provider(Protocol):
    """A way to call models. One object serves any number of calls at once, in one event loop."""

    @property
    def name(self) -> str:
        """As in the registry, such as openai."""

    def get_info(self) -> ProviderInfo: ...

    async def list_models(self) -> list[ModelInfo]:
        """The models that can be asked. Raises: LLMError"""

    async def complete(self, request: ChatRequest, **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer.

        Args:
            kwargs: Fields of the request that are to be others in this call.
        Raises:
            LLMError: After the retries that the provider was configured to make.
            pydantic.ValidationError: *request* or *kwargs* are no request; nothing was sent.
        """

    def stream(self, request: ChatRequest, **kwargs: Any) -> AsyncIterator[StreamChunk]:
        """Ask, and get the answer in pieces, the last with the whole response. Only a request that has given nothing
        yet is tried again.

        Raises: LLMError: On the way; StreamError where the stream breaks off.
        """

    def parse_tool_calls(self, response: ChatResponse) -> list[ToolCall]:
        """The tools a response asks for; empty when it asks for none."""

    async def close(self) -> None:
        """Let go of connections. May be called again; calls made afterwards raise ConfigurationError."""


def tool_calls_of(response: Any) -> list[ToolCall]:
    """What `Provider.parse_tool_calls` gives: `tool_calls`, or where there are none the blocks of type tool_call."""
    if response.tool_calls:
        return [call if isinstance(call, ToolCall) else _converted(ToolCall, call) for call in response.tool_calls]
    blocks = (block for block in response.content if getattr(block, "type", None) == "tool_call")
    return [ToolCall(id=block.id, name=block.name, arguments=block.input) for block in blocks]


def as_request(request: Any, changes: Mapping[str, Any] | None = None) -> ChatRequest:
    """*request* with *changes*: ours as it is, Amplifier's and mappings converted, all of it validated.

    Raises: pydantic.ValidationError: It is no request.
    """
    asked = request if isinstance(request, ChatRequest) else _converted(ChatRequest, request)
    if not changes:
        return asked
    changed = ChatRequest.model_validate({"messages": [], **changes})
    return asked.model_copy(update={name: getattr(changed, name) for name in changes})


def _converted(cls: type[M], value: Any) -> M:
    return cls.model_validate(value.model_dump() if hasattr(value, "model_dump") else value)
