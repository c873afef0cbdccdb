"""How a provider is set up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.errors import ConfigurationError
from providers.scrubbing import bare


@dataclass(frozen=True, kw_only=True, repr=False)
class ProviderConfig:
    """How a provider is set up. What is None is left to the environment (see `get_provider`), then to the provider
    and the vendor; 0 is a value. Its repr shows neither the key nor what `extra` holds.

    Raises: ConfigurationError: A value cannot be used.
    """

    api_key: str | None = None
    base_url: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    """Of the answer."""
    timeout: float | None = None
    """Seconds for one attempt."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Of one provider alone; see its page. `max_retries` is read by each."""

    def __post_init__(self) -> None:
        for name in ("api_key", "base_url", "model"):
            if not isinstance(given := getattr(self, name), str | None):
                raise ConfigurationError(f"{name} is a {type(given).__name__}; give a string, or None")
        if not isinstance(self.extra, Mapping):
            raise ConfigurationError(f"extra is a {type(self.extra).__name__}; give a mapping of options")
        if self.timeout is not None and not (_finite(self.timeout) and self.timeout > 0):
            raise ConfigurationError(f"timeout {self.timeout!r} cannot be used; give seconds above 0, or None")
        if self.temperature is not None and not _finite(self.temperature):
            raise ConfigurationError(f"temperature {self.temperature!r} cannot be used; give a number, or None")
        if self.max_tokens is not None and (type(self.max_tokens) is not int or self.max_tokens < 0):
            raise ConfigurationError(f"max_tokens {self.max_tokens!r} cannot be used; give a whole number, or None")
        object.__setattr__(self, "extra", dict(self.extra))

    def __repr__(self) -> str:
        shown = [
            f"{name}={value!r}"
            for name in ("model", "temperature", "max_tokens", "timeout")
            if (value := getattr(self, name)) is not None
        ]
        if self.base_url is not None:
            shown.insert(0, f"base_url={bare(self.base_url)!r}")
        if self.api_key is not None:
            shown.insert(0, "api_key='...'")
        if self.extra:
            shown.append(f"extra={{{', '.join(f'{key!r}: ...' for key in self.extra)}}}")
        return f"ProviderConfig({', '.join(shown)})"


def variable_prefix(name: str) -> str:
    """What the environment variables of provider *name* begin with: azure-openai gives AZURE_OPENAI."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
