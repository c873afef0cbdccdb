"""What providers tell of themselves and of their models: context windows, prices, capabilities."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MILLION = 1_000_000


def _as_written(value: Any) -> Any:
    """0.000003 is meant, not the binary fraction nearest to it."""
    return repr(value) if isinstance(value, float) else value


Price = Annotated[Decimal, BeforeValidator(_as_written)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Pricing(_Open):
    """Prices of a million tokens, for display; those of a token in ModelInfo are exact."""

    input_per_million: float
    output_per_million: float
    cache_read_per_million: float | None = None
    cache_write_per_million: float | None = None
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")


class ModelInfo(_Open):
    """A model one can ask.

    Prices may be given as `pricing` or for each token; each form fills the other where it can: in US dollars, and
    `pricing` only where input and output are both known.
    """

    id: str
    display_name: str
    context_window: int
    """Tokens."""
    max_output_tokens: int
    capabilities: list[str] = Field(default_factory=list)
    """An open set: tools, streaming, thinking, vision, json_mode, fast, long_context, ..."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    pricing: Pricing | None = None
    cost_per_input_token: Price | None = None
    cost_per_output_token: Price | None = None
    """US dollars."""
    cost_tier: str | None = None
    """free, low, medium, high or extreme; `metadata["cost_tier"]` where that is given instead."""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_either_form(self) -> Self:
        if self.pricing is None:
            if self.cost_per_input_token is not None and self.cost_per_output_token is not None:
                self.pricing = Pricing(
                    input_per_million=float(self.cost_per_input_token * MILLION),
                    output_per_million=float(self.cost_per_output_token * MILLION),
                )
        elif self.pricing.currency == "USD":
            if self.cost_per_input_token is None:
                self.cost_per_input_token = _per_token(self.pricing.input_per_million)
            if self.cost_per_output_token is None:
                self.cost_per_output_token = _per_token(self.pricing.output_per_million)
        if self.cost_tier is None and isinstance(tier := self.metadata.get("cost_tier"), str):
            self.cost_tier = tier
        return self


def _per_token(per_million: float) -> Decimal | None:
    price = Decimal(repr(per_million))
    return price / MILLION if price.is_finite() else None


class ConfigField(_Open):
    """A setting that a program may ask its user for."""

    id: str
    display_name: str
    field_type: Literal["text", "secret", "choice", "boolean"] = "text"
    prompt: str
    env_var: str | None = None
    choices: list[str] | None = None
    required: bool = True
    default: str | None = None
    show_when: dict[str, str] | None = None
    """Other settings, and the values they must have for this one to be asked for."""
    requires_model: bool = False
    """To be asked for after a model was chosen."""


class ProviderInfo(_Open):
    """A provider, what it can do and what it needs."""

    id: str
    display_name: str
    credential_env_vars: list[str] = Field(default_factory=list)
    capabilities: list[str] = Field(default_factory=list)
    defaults: dict[str, Any] = Field(default_factory=dict)
    config_fields: list[ConfigField] = Field(default_factory=list)
