"""Our models and Amplifier's take what the other dumps and lose nothing; errors and configurations tell no secret."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from decimal import Decimal
from typing import Any

import amplifier_core.llm_errors as their_errors
import amplifier_core.message_models as their_messages
import amplifier_core.models as their_models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import providers
from hub.errors import HubError
from providers import contract, errors, models
from providers.config import ProviderConfig
from providers.contract import (
    ChatRequest,
    ChatResponse,
    Message,
    ModelTier,
    OtherBlock,
    TextBlock,
    ToolCall,
    ToolCallBlock,
    Usage,
    as_request,
    tool_calls_of,
)
from providers.models import ModelInfo
from providers.scrubbing import bare, scrubbed

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
objects = st.dictionaries(st.text(max_size=6), values, max_size=3)
extras = st.dictionaries(st.text("abcdefghij_", min_size=1, max_size=6).map("x_{}".format), values, max_size=2)
texts = st.text(max_size=12)
counts = st.integers(0, 10**9)
costs = st.none() | st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False)
visibilities = st.sampled_from([None, "internal", "developer", "user"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Each of *fields*, or not; with keys nobody knows."""
    optional = st.fixed_dictionaries({}, optional=fields)
    return st.builds(lambda known, more: {**more, **known}, optional, extras)


def both(required: dict[str, st.SearchStrategy[Any]], **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda must, may: {**may, **must}, st.fixed_dictionaries(required), some(**fields))


def block(kind: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return both({"type": st.just(kind), **fields}, visibility=visibilities)


lists = st.lists(values, max_size=2)
blocks = {
    "TextBlock": block("text", text=texts),
    "ThinkingBlock": both(
        {"type": st.just("thinking"), "thinking": texts},
        signature=st.none() | texts,
        content=st.none() | lists,
        visibility=visibilities,
    ),
    "RedactedThinkingBlock": block("redacted_thinking", data=texts),
    "ToolCallBlock": block("tool_call", id=texts, name=texts, input=objects),
    "ToolResultBlock": block("tool_result", tool_call_id=texts, output=values),
    "ImageBlock": block("image", source=objects),
    "ReasoningBlock": block("reasoning", content=lists, summary=lists),
}
any_block = st.one_of(*blocks.values())
message = both(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "function", "tool"]),
        "content": texts | st.lists(any_block, max_size=3),
    },
    name=st.none() | texts,
    tool_call_id=st.none() | texts,
    metadata=st.none() | objects,
)
tool_spec = both({"name": texts, "parameters": objects}, description=st.none() | texts)
formats = {
    "ResponseFormatText": st.just({"type": "text"}),
    "ResponseFormatJson": st.just({"type": "json"}),
    "ResponseFormatJsonSchema": st.fixed_dictionaries(
        {"type": st.just("json_schema"), "json_schema": objects}, optional={"strict": st.none() | st.booleans()}
    ),
}
tool_call = both({"id": texts, "name": texts, "arguments": objects})
usage = both(
    {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
    reasoning_tokens=st.none() | counts,
    cache_read_tokens=st.none() | counts,
    cache_write_tokens=st.none() | counts,
    cost_usd=costs,
)
degradation = both({"requested": texts, "actual": texts, "reason": texts})
ratio = st.none() | st.floats(0, 2)
MESSAGES = {
    **blocks,
    **formats,
    "Message": message,
    "ToolSpec": tool_spec,
    "ToolCall": tool_call,
    "Usage": usage,
    "Degradation": degradation,
    "ChatRequest": both(
        {"messages": st.lists(message, max_size=3)},
        tools=st.none() | st.lists(tool_spec, max_size=2),
        response_format=st.none() | st.one_of(*formats.values()),
        temperature=ratio,
        top_p=ratio,
        max_output_tokens=st.none() | counts,
        conversation_id=st.none() | texts,
        stream=st.none() | st.booleans(),
        metadata=st.none() | objects,
        model=st.none() | texts,
        tool_choice=st.none() | texts | objects,
        stop=st.none() | st.lists(texts, max_size=2),
        reasoning_effort=st.none() | texts,
        timeout=ratio,
    ),
    "ChatResponse": both(
        {"content": st.lists(any_block, max_size=3)},
        tool_calls=st.none() | st.lists(tool_call, max_size=2),
        usage=st.none() | usage,
        degradation=st.none() | degradation,
        finish_reason=st.none() | texts,
        metadata=st.none() | objects,
        model=st.none() | texts,  # extras to Amplifier
        id=st.none() | texts,
    ),
}
price = st.none() | st.floats(0, 10**4)
pricing = st.fixed_dictionaries(
    {"input_per_million": st.floats(0, 10**4), "output_per_million": st.floats(0, 10**4)},
    optional={
        "cache_read_per_million": price,
        "cache_write_per_million": price,
        "currency": st.sampled_from(["USD", "EUR"]),
    },
)
names = st.lists(texts, max_size=3)
config_field = st.fixed_dictionaries(
    {"id": texts, "display_name": texts, "prompt": texts},
    optional={
        "field_type": st.sampled_from(["text", "secret", "choice", "boolean"]),
        "env_var": st.none() | texts,
        "choices": st.none() | names,
        "required": st.booleans(),
        "default": st.none() | texts,
        "show_when": st.none() | st.dictionaries(texts, texts, max_size=2),
        "requires_model": st.booleans(),
    },
)
MODELS = {
    "Pricing": pricing,
    "ConfigField": config_field,
    "ModelInfo": st.fixed_dictionaries(
        {"id": texts, "display_name": texts, "context_window": counts, "max_output_tokens": counts},
        optional={"capabilities": names, "defaults": objects, "pricing": st.none() | pricing},
    ),
    "ProviderInfo": st.fixed_dictionaries(
        {"id": texts, "display_name": texts},
        optional={
            "credential_env_vars": names,
            "capabilities": names,
            "defaults": objects,
            "config_fields": st.lists(config_field, max_size=2),
        },
    ),
}
PAIRS = [
    *((name, getattr(their_messages, name), getattr(contract, name), made) for name, made in MESSAGES.items()),
    *((name, getattr(their_models, name), getattr(models, name), made) for name, made in MODELS.items()),
]
each_model = pytest.mark.parametrize(
    ("theirs", "ours", "made"), [pair[1:] for pair in PAIRS], ids=[x[0] for x in PAIRS]
)


@each_model
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_model_of_amplifiers_survives_the_way_through_ours(
    theirs: type[BaseModel], ours: type[BaseModel], made: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    before = theirs.model_validate(data.draw(made))
    between = ours.model_validate(before.model_dump())
    assert theirs.model_validate(between.model_dump()) == before
    assert theirs.model_validate_json(between.model_dump_json()) == theirs.model_validate_json(before.model_dump_json())


@each_model
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_model_of_ours_survives_the_way_through_amplifiers(
    theirs: type[BaseModel], ours: type[BaseModel], made: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    before = ours.model_validate(data.draw(made))
    assert ours.model_validate(theirs.model_validate(before.model_dump()).model_dump()) == before
    assert pickle.loads(pickle.dumps(before)) == before


def test_every_field_of_amplifiers_is_one_of_ours_with_the_same_default() -> None:
    for name, theirs, ours, _ in PAIRS:
        for field, info in theirs.model_fields.items():
            mine = ours.model_fields[field]
            assert (mine.is_required(), mine.get_default(call_default_factory=True)) == (
                info.is_required(),
                info.get_default(call_default_factory=True),
            ), f"{name}.{field}"


def test_a_block_of_an_unknown_type_is_kept_whole() -> None:
    video = {"type": "video", "url": "https://x/v.mp4", "visibility": {"not": "ours"}, "frames": [1, 2]}
    said = Message.model_validate({"role": "user", "content": [{"type": "text", "text": "see"}, video]})
    assert isinstance(said.content[1], OtherBlock)
    assert said.model_dump()["content"][1] == video
    again = Message.model_validate_json(said.model_dump_json())
    assert again == said
    assert ChatResponse(content=list(said.content)).model_dump()["content"][1] == video  # type: ignore[arg-type]


def test_a_block_without_a_type_is_refused_with_an_example() -> None:
    with pytest.raises(ValidationError, match="needs a type, as in"):
        Message.model_validate({"role": "user", "content": [{"text": "hello"}]})


def test_a_known_block_that_lacks_a_field_is_refused_and_not_taken_for_an_unknown_one() -> None:
    with pytest.raises(ValidationError, match="text"):
        Message.model_validate({"role": "user", "content": [{"type": "text"}]})


def test_a_schema_is_read_under_either_name_and_written_under_the_vendors() -> None:
    for name in ("schema", "json_schema"):
        wanted = contract.ResponseFormatJsonSchema.model_validate({"type": "json_schema", name: {"type": "object"}})
        assert wanted.json_schema == {"type": "object"}
        assert wanted.model_dump(by_alias=True)["schema"] == {"type": "object"}


def test_a_cost_that_is_a_float_is_refused_and_told_how_to_be_written() -> None:
    with pytest.raises(ValidationError, match=r"Decimal\('0.047'\)"):
        Usage(input_tokens=1, output_tokens=1, total_tokens=2, cost_usd=0.047)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="Decimal"):
        Usage.model_validate_json('{"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "cost_usd": 0.047}')


@pytest.mark.parametrize("cost", [Decimal("0.1"), "0.1"])
def test_a_cost_is_exact_and_dumped_as_text(cost: Any) -> None:
    used = Usage(input_tokens=1, output_tokens=1, total_tokens=2, cost_usd=cost)
    assert used.cost_usd == Decimal("0.1")
    assert used.model_dump()["cost_usd"] == used.model_dump(mode="json")["cost_usd"] == "0.1"


def info(**more: Any) -> ModelInfo:
    required = {"id": "m", "display_name": "M", "context_window": 1000, "max_output_tokens": 100}
    return ModelInfo.model_validate({**required, **more})


def test_prices_of_either_form_fill_the_other() -> None:
    by_token = info(cost_per_input_token=3e-6, cost_per_output_token="0.000015")
    assert by_token.pricing is not None
    assert (by_token.pricing.input_per_million, by_token.pricing.output_per_million) == (3.0, 15.0)
    by_million = info(pricing={"input_per_million": 3, "output_per_million": 0.15})
    assert (by_million.cost_per_input_token, by_million.cost_per_output_token) == (
        Decimal("0.000003"),
        Decimal("0.00000015"),
    )


def test_prices_that_are_given_stay_and_those_in_other_money_fill_nothing() -> None:
    stated = info(cost_per_input_token="1", pricing={"input_per_million": 3, "output_per_million": 4})
    assert stated.cost_per_input_token == 1
    assert (
        info(pricing={"input_per_million": 3, "output_per_million": 4, "currency": "EUR"}).cost_per_input_token is None
    )
    assert info(cost_per_input_token="1").pricing is None


def test_the_cost_tier_is_found_in_the_metadata_too() -> None:
    assert info(metadata={"cost_tier": "high"}).cost_tier == "high"
    assert info(cost_tier="low", metadata={"cost_tier": "high"}).cost_tier == "low"
    assert info(metadata={"cost_tier": 3}).cost_tier is None


def test_a_response_tells_model_and_id_only_when_they_were_given() -> None:
    assert not {"model", "id"} & ChatResponse(content=[]).model_dump().keys()
    assert ChatResponse(content=[], model="m-1").model_dump()["model"] == "m-1"


def test_a_response_has_its_text() -> None:
    answer = ChatResponse.model_validate(
        {
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b"},
            ]
        }
    )
    assert answer.text == "ab"


def test_tool_calls_are_found_in_the_list_or_in_the_blocks() -> None:
    call = ToolCall(id="1", name="find", arguments={"order": "A"})
    as_block = ToolCallBlock(id="1", name="find", input={"order": "A"})
    assert tool_calls_of(ChatResponse(content=[TextBlock(text="x"), as_block])) == [call]
    assert tool_calls_of(ChatResponse(content=[as_block], tool_calls=[call])) == [call]
    assert tool_calls_of(ChatResponse(content=[])) == []
    theirs = their_messages.ChatResponse.model_validate({"content": [], "tool_calls": [call.model_dump()]})
    assert tool_calls_of(theirs) == [call]


def test_a_request_is_taken_in_ours_in_amplifiers_and_as_a_mapping() -> None:
    ours = ChatRequest(messages=[Message(role="user", content="hi")])
    assert as_request(ours) is ours
    assert as_request(ours.model_dump()) == ours
    assert as_request(their_messages.ChatRequest.model_validate(ours.model_dump())) == ours


def test_changes_of_a_request_leave_it_as_it_was_and_are_checked() -> None:
    ours = ChatRequest(messages=[Message(role="user", content="hi")], temperature=0.5)
    changed = as_request(ours, {"temperature": 0, "tools": [{"name": "f", "parameters": {}}], "seed": 7})
    assert (changed.temperature, changed.messages, ours.temperature) == (0.0, ours.messages, 0.5)
    assert isinstance((changed.tools or [])[0], contract.ToolSpec)
    assert changed.model_dump()["seed"] == 7
    with pytest.raises(ValidationError, match="temperature"):
        as_request(ours, {"temperature": "warm"})


def test_tiers_are_the_words_that_configurations_use() -> None:
    assert [tier.value for tier in ModelTier] == ["local_small", "hosted_small", "hosted_large"]
    assert ModelTier("hosted_large") is ModelTier.HOSTED_LARGE


# Errors.

ERRORS = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.LLMError)}


def test_every_error_of_amplifiers_is_one_of_ours_under_the_same_parent_and_as_retryable() -> None:
    theirs = {name: cls for name, cls in vars(their_errors).items() if isinstance(cls, type)}
    for name, cls in theirs.items():
        assert ERRORS[name].__mro__[1].__name__ == ("HubError" if name == "LLMError" else cls.__mro__[1].__name__), name
        assert ERRORS[name]("m").retryable == cls("m").retryable, name


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_error_keeps_its_facts_through_pickling_and_copying(name: str) -> None:
    facts: dict[str, Any] = {"provider": "p", "model": "m", "status_code": 503, "retryable": True, "retry_after": 1.5}
    error = ERRORS[name]("it failed; try again", **facts)
    error.__notes__ = ["a note"]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == "it failed; try again"
        assert vars(again) == vars(error)
    assert isinstance(error, HubError)


def test_a_malformed_tool_call_keeps_what_the_model_wrote() -> None:
    error = errors.InvalidToolCallError("bad", tool_name="find", raw_arguments="{", provider="p")
    again = pickle.loads(pickle.dumps(error))
    assert (again.tool_name, again.raw_arguments, again.provider) == ("find", "{", "p")


def test_the_tree_at_the_top_of_the_module_names_every_error_below_its_parent() -> None:
    lines = (errors.__doc__ or "").splitlines()
    branches = [(len(line) - len(leaf), leaf.split()[0]) for line in lines if (leaf := line.lstrip("│├└─ "))]
    indents = {name: indent for indent, name in branches if name.endswith("Error")}
    assert indents.keys() == ERRORS.keys()
    for name, cls in ERRORS.items():
        parent = indents.get(cls.__mro__[1].__name__)
        assert parent is None or indents[name] == parent + 4, name


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (302, errors.ConfigurationError),
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (402, errors.QuotaExceededError),
        (403, errors.AccessDeniedError),
        (404, errors.NotFoundError),
        (408, errors.LLMTimeoutError),
        (409, errors.ProviderUnavailableError),
        (413, errors.ContextLengthError),
        (418, errors.InvalidRequestError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitError),
        (500, errors.ProviderUnavailableError),
        (503, errors.ProviderUnavailableError),
        (529, errors.ProviderUnavailableError),
    ],
)
def test_a_status_alone_has_an_error(status: int, cls: type) -> None:
    assert errors.class_for(status) is cls


# Configuration.

KEY = "sk-" + "b2" * 20


def test_the_repr_of_a_configuration_tells_no_secret() -> None:
    config = ProviderConfig(
        api_key=KEY,
        base_url=f"https://user:{KEY}@host.example/v1?key={KEY}",
        model="m",
        temperature=0,
        extra={"headers": {"Authorization": KEY}, "max_retries": 0},
    )
    for text in (repr(config), str(config), f"{config}"):
        assert KEY not in text
        assert "https://host.example/v1" in text
        assert "temperature=0" in text
        assert "'headers'" in text
    assert repr(ProviderConfig()) == "ProviderConfig()"
    assert pickle.loads(pickle.dumps(config)) == config


def test_zero_is_a_value_and_what_is_not_given_is_unset() -> None:
    config = ProviderConfig(temperature=0, max_tokens=0)
    assert (config.temperature, config.max_tokens) == (0, 0)
    assert (ProviderConfig().temperature, ProviderConfig().max_tokens, ProviderConfig().timeout) == (None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": "60"},
        {"timeout": True},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"max_tokens": 1.5},
        {"max_tokens": -1},
        {"max_tokens": True},
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match=next(iter(wrong))):
        ProviderConfig(**wrong)


def test_a_configuration_does_not_change_with_the_dict_it_was_made_of() -> None:
    extra = {"a": 1}
    config = ProviderConfig(extra=extra)
    extra["a"] = 2
    assert config.extra == {"a": 1}


# Text from elsewhere.


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("two\n lines\tof   text", (), "two lines of text"),
        ("odd-key-1 was refused", ("odd-key-1", None, ""), "[REDACTED] was refused"),
        (f"Incorrect API key provided: {KEY}.", (), "Incorrect API key provided: [REDACTED]."),
        ("GET https://h.example/v1/models?sig=abc&x=1 failed", (), "GET https://h.example/v1/models failed"),
        ("see https://h.example/a#b.", (), "see https://h.example/a"),
        ("a\x1b[31mred", (), "a\N{REPLACEMENT CHARACTER}[31mred"),
        ("is this a question?", (), "is this a question?"),
    ],
)
def test_text_from_elsewhere_is_made_fit_for_a_message(
    text: str, secrets: tuple[str | None, ...], expected: str
) -> None:
    assert scrubbed(text, secrets) == expected


def test_a_long_text_is_cut_behind_its_secrets_only() -> None:
    assert len(scrubbed("x" * 10_000)) == 500
    assert "b2b2" not in scrubbed("y" * 480 + " " + KEY)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.example:8080/v1?k=1#f", "https://h.example:8080/v1"),
        ("nonsense", "(no URL)"),
        ("http://[bad", "(no URL)"),
    ],
)
def test_a_url_is_shown_bare(url: str, shown: str) -> None:
    assert bare(url) == shown


# The package.


def test_every_public_name_is_there_once_and_documented() -> None:
    assert providers.__all__ == sorted(providers.__all__)
    assert {*providers._HOME} == {*providers.__all__}
    for name in providers.__all__:
        value = getattr(providers, name)
        if isinstance(value, type):
            assert (value.__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = providers.nonsense


def test_importing_providers_loads_none_of_them() -> None:
    code = "import sys, providers; print({name.split('.')[0] for name in sys.modules} & {'hub', 'pydantic', 'httpx'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
